"""Classification of images: cross-entropy, and the share of images that are classified right."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.metric import ACCURACY
from benchmark.tasks.task import Inputs, Sums, Targets, Task, floating


class Classification(Task):
    """outputs: logits (b, classes); targets: int64 (b,)."""

    metric = ACCURACY

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=self.problem.label_smoothing)

    def zeros(self, device: torch.device) -> Sums:
        """(cross-entropy, images, images classified right), shape () each."""
        loss = torch.zeros((), dtype=floating(device), device=device)
        count = torch.zeros((), dtype=torch.int64, device=device)
        return loss, count, count.clone()

    def sums(self, network: nn.Module, inputs: Inputs, outputs: Tensor, targets: Tensor) -> Sums:
        loss = functional.cross_entropy(outputs, targets, reduction="sum")
        return loss, torch.tensor(len(targets)), self.correct(outputs, targets)

    def value(self, sums: Sums) -> float:
        return sums[2].item() / sums[1].item()

    def chance(self, targets: Targets) -> float:
        """The share of the most frequent class."""
        counts = targets.target_counts().double()
        return float(counts.max() / counts.sum())
