"""The metric of a network, and the batch-norm pass that precedes it after pruning.

Both cache their results by the state of the network: all schedules and budgets of a sparsity start from the same pruned
network, which a worker measures once, not once a cell. On CIFAR-10 that saves half of a cell's time outside training.
"""

from __future__ import annotations

import hashlib
import numbers

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.problems.batches import Batches
from benchmark.tasks.task import Sums, Task, predict
from benchmark.training.group import ALONE, Group
from benchmark.training.precision import autocast

RECALIBRATION_EPOCH = -1
"""The epoch whose batches the batch-norm pass reads; training never sees it, since its epochs start at 0."""


def _digest(*tensors: Tensor) -> str:
    """Hash of their bytes. From an accelerator they are copied at once: every copy would wait for it."""
    content = hashlib.blake2b()
    parts = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]
    for part in parts if parts[0].device.type == "cpu" else [torch.cat(parts).cpu()]:
        content.update(part.numpy().data)
    return content.hexdigest()


def number_of(task: Task, sums: Sums) -> float:
    """The task's metric. Raises UserError where a task of one's own gives no number, or one beyond the bounds."""
    value, metric = task.value(sums), task.metric
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UserError(f"metric {metric.label}: its value is a {type(value).__name__}, not a number")
    low, high = metric.limits
    if value < low or value > high:
        raise UserError(f"metric {metric.label}: {value:g} is not between its bounds {low:g} and {high:g}")
    return float(value)


def add(sums: Sums, parts: Sums) -> None:
    """Add those of a batch to the sums so far, in place. Raises UserError where they are not as many."""
    if len(parts) != len(sums):
        raise UserError(f"the task's zeros are {len(sums)} tensors, its sums {len(parts)}")
    for total, part in zip(sums, parts, strict=True):
        total += part


def loss_of(task: Task, sums: Sums) -> float:
    """The mean loss, also of a task whose `mean_loss` gives a tensor."""
    return float(task.mean_loss(sums))


@torch.no_grad()
def evaluate(network: nn.Module, task: Task, data: Batches, split: str, group: Group = ALONE) -> tuple[float, float]:
    """(the task's metric, mean loss) on the "validation" or "test" split, on all ranks together."""
    network.eval()
    sums = task.zeros(data.device)
    key = ""
    with autocast(data.problem.precision, data.device):
        for inputs, targets in data.evaluation_batches(split):
            outputs = predict(network, inputs).float()
            if not key and group.ranks == 1:
                # The first outputs belong to the key, since a method may keep a part of the state outside the network.
                key = f"{split} {_digest(*network.state_dict().values(), outputs)}"
                if key in data.remembered:
                    break
            add(sums, task.sums(network, inputs, outputs, targets))
    network.train()
    if key in data.remembered:
        return data.remembered[key]
    sums = group.total(*sums)
    result = number_of(task, sums), loss_of(task, sums)
    if key:
        data.remembered[key] = result
    return result


@torch.no_grad()
def recalibrate(network: nn.Module, data: Batches, seed: int) -> None:
    """Re-estimate all batch-norm statistics as plain averages over `recalibration_batches` training batches.

    After pruning and before accuracy is measured. The code of Zimmer et al. lets the running averages move over the
    training set there, so that its last batches count most; plain averages are ours. 0 batches turn it off.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    batches = min(data.problem.recalibration_batches, data.iterations_per_epoch)
    if not batches or not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    alone = data.shard[1] == 1
    done = 0
    state, key = _digest(*network.state_dict().values()) if alone else "", ""
    with autocast(data.problem.precision, data.device):
        for inputs, targets in data.training_batches(seed, RECALIBRATION_EPOCH, 0, batches):
            if alone and not len(targets):
                continue  # not one image of the batch could be read
            done += 1
            for norm in norms:  # a cumulative average; None for `momentum` would read a counter from the device
                norm.momentum = 1 / done
            outputs = predict(network, inputs)
            if not key and alone:
                key = f"recalibration {seed} {state} {_digest(outputs.float())}"
                if key in data.remembered:
                    break
    statistics = [buffer for norm in norms for buffer in norm.buffers()]
    if key in data.remembered:
        for buffer, value in zip(statistics, data.remembered[key], strict=True):
            buffer.copy_(value)
    elif key:
        data.remembered[key] = [buffer.clone() for buffer in statistics]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
