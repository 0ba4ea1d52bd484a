"""Accuracy, and the batch-norm pass that precedes it after pruning."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional

from benchmark.problems.batches import Batches
from benchmark.training.group import ALONE, Group

RECALIBRATION_EPOCH = -1
"""The epoch of the data order that the batch-norm pass reads; training starts at 0, so it is nobody else's."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision as the recipe says: weights stay float32, bf16 computes in bfloat16 where that is safe."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def evaluate(network: nn.Module, data: Batches, split: str, group: Group = ALONE) -> tuple[float, float]:
    """(accuracy as a fraction, mean cross-entropy) on the "validation" or "test" split, on all ranks together."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    # Apple's GPUs have no float64.
    loss = torch.zeros((), dtype=torch.float32 if data.device.type == "mps" else torch.float64, device=data.device)
    count = torch.zeros((), dtype=torch.int64)
    with autocast(data.problem.precision, data.device):
        for images, labels in data.evaluation_batches(split):
            logits = network(images).float()
            correct += (logits.argmax(1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
    network.train()
    correct, loss, count = group.total(correct, loss, count)
    return correct.item() / count.item(), loss.item() / count.item()


@torch.no_grad()
def recalibrate(network: nn.Module, data: Batches, seed: int) -> None:
    """Re-estimate all batch-norm statistics as plain averages over `recalibration_batches` training batches.

    The authors' code does this after pruning, before it measures accuracy; here it is a field of the recipe, the same
    for every method. 0 batches turns it off.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    batches = min(data.problem.recalibration_batches, data.iterations_per_epoch)
    if not batches or not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way of asking for a cumulative average
    network.train()
    with autocast(data.problem.precision, data.device):
        for images, _ in data.training_batches(seed, RECALIBRATION_EPOCH, 0, batches):
            network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
