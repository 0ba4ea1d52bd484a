"""Accuracy, and the batch-norm pass that precedes it after pruning.

Both cache their results by the state of the network: all schedules and budgets of a sparsity start from the same pruned
network, which a worker measures once, not once a cell. On CIFAR-10 that saves half of a cell's time outside training.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.problems.batches import Batches
from benchmark.training.group import ALONE, Group
from benchmark.training.precision import autocast

RECALIBRATION_EPOCH = -1
"""The epoch whose batches the batch-norm pass reads; training never sees it, since its epochs start at 0."""


def _digest(*tensors: Tensor) -> str:
    content = hashlib.blake2b()
    for tensor in tensors:
        content.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


@torch.no_grad()
def evaluate(network: nn.Module, data: Batches, split: str, group: Group = ALONE) -> tuple[float, float]:
    """(accuracy as a fraction, mean cross-entropy) on the "validation" or "test" split, on all ranks together."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    # Apple's GPUs have no float64.
    loss = torch.zeros((), dtype=torch.float32 if data.device.type == "mps" else torch.float64, device=data.device)
    count = torch.zeros((), dtype=torch.int64)
    key = ""
    with autocast(data.problem.precision, data.device):
        for images, labels in data.evaluation_batches(split):
            logits = network(images).float()
            if not key and group.ranks == 1:
                # The first logits belong to the key, since a method may keep a part of the state outside the network.
                key = f"{split} {_digest(*network.state_dict().values(), logits)}"
                if key in data.remembered:
                    break
            correct += (logits.argmax(1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
    network.train()
    if key in data.remembered:
        return data.remembered[key]
    correct, loss, count = group.total(correct, loss, count)
    result = correct.item() / count.item(), loss.item() / count.item()
    if key:
        data.remembered[key] = result
    return result


@torch.no_grad()
def recalibrate(network: nn.Module, data: Batches, seed: int) -> None:
    """Re-estimate all batch-norm statistics as plain averages over `recalibration_batches` training batches.

    The authors' code does this after pruning and before it measures accuracy. Here it is a field of the recipe, the
    same for every method; 0 batches turn it off.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    batches = min(data.problem.recalibration_batches, data.iterations_per_epoch)
    if not batches or not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # None makes torch take a cumulative average
    network.train()
    alone = data.shard[1] == 1
    state, key = _digest(*network.state_dict().values()) if alone else "", ""
    with autocast(data.problem.precision, data.device):
        for images, labels in data.training_batches(seed, RECALIBRATION_EPOCH, 0, batches):
            if alone and not len(labels):
                continue  # not one image of the batch could be read
            outputs = network(images)
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
