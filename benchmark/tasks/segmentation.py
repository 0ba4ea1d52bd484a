"""Semantic segmentation: a class for every pixel, measured by the mean intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.errors import UserError
from benchmark.metric import MEAN_IOU
from benchmark.tasks.symbols import IGNORED
from benchmark.tasks.task import Inputs, Sums, Targets, Task, floating


class Segmentation(Task):
    """outputs: logits (b, classes, height, width); targets: int64 (b, height, width)."""

    metric = MEAN_IOU

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """0 where no pixel has a label."""
        smoothing = self.problem.label_smoothing
        total = functional.cross_entropy(
            outputs, targets, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
        )
        return total / self.units(targets).clamp(min=1)

    def units(self, targets: Tensor) -> Tensor:
        return (targets != IGNORED).sum()

    def zeros(self, device: torch.device) -> Sums:
        """(cross-entropy, pixels) of shape (), and the confusion matrix: pixels by (class, predicted class)."""
        classes = self.problem.classes
        loss = torch.zeros((), dtype=floating(device), device=device)
        pixels = torch.zeros((), dtype=torch.int64, device=device)
        return loss, pixels, torch.zeros(classes, classes, dtype=torch.int64, device=device)

    def sums(self, network: nn.Module, inputs: Inputs, outputs: Tensor, targets: Tensor) -> Sums:
        classes = self.problem.classes
        if outputs.shape[1] != classes:
            raise UserError(f"task segmentation: the network gives {outputs.shape[1]} outputs a pixel, not {classes}")
        loss = functional.cross_entropy(outputs, targets, ignore_index=IGNORED, reduction="sum")
        # One bin more takes the ignored pixels, so that no tensor has a size that the host would have to wait for.
        pairs = torch.where(targets == IGNORED, classes * classes, targets * classes + outputs.argmax(1))
        bins = torch.zeros(classes * classes + 1, dtype=torch.int64, device=targets.device)
        bins.scatter_add_(0, pairs.flatten(), torch.ones_like(pairs).flatten())
        return loss, self.units(targets), bins[:-1].view(classes, classes)

    def value(self, sums: Sums) -> float:
        """Mean over the classes that occur, as labels or predictions."""
        confusion = sums[2].double()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        present = union > 0
        return (confusion.diagonal()[present] / union[present]).mean().item()

    def chance(self, targets: Targets) -> float:
        """Of a network that sees the most frequent class everywhere: all others have an intersection of 0."""
        counts = targets.target_counts()[: self.problem.classes].double()
        return (counts.max() / counts.sum() / (counts > 0).sum()).item()
