"""Language modelling: the next symbol of a text, measured by the perplexity of a symbol."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.metric import PERPLEXITY
from benchmark.tasks.task import Inputs, Sums, Targets, Task, floating

LARGEST = 700.0
"""Of a mean cross-entropy, in nats: exp of a larger one is no number."""
LEAST_GAIN = 0.05
"""Share of the unigram model's perplexity by which a network must be better to have learned anything."""


class LanguageModelling(Task):
    """outputs: logits (b, length, symbols); targets: int64 (b, length), the inputs one symbol later."""

    metric = PERPLEXITY

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.problem.label_smoothing
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.max(2).indices == targets).sum()  # argmax takes twice as long on a processor

    def zeros(self, device: torch.device) -> Sums:
        """(cross-entropy, symbols), shape () each."""
        loss = torch.zeros((), dtype=floating(device), device=device)
        return loss, torch.zeros((), dtype=torch.int64, device=device)

    def sums(self, network: nn.Module, inputs: Inputs, outputs: Tensor, targets: Tensor) -> Sums:
        loss = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")
        return loss, torch.tensor(targets.numel())

    def value(self, sums: Sums) -> float:
        mean = self.mean_loss(sums)
        return math.exp(min(mean, LARGEST)) if math.isfinite(mean) else math.inf

    def chance(self, targets: Targets) -> float:
        """The perplexity of the unigram model: it predicts each symbol by how often it occurs in training."""
        shares = targets.target_counts().double()
        shares = shares[shares > 0] / shares.sum()
        return math.exp(-(shares * shares.log()).sum().item())

    def is_chance(self, value: float, targets: Targets) -> bool:
        return not value < (1 - LEAST_GAIN) * self.chance(targets)
