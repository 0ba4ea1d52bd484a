"""Criteria: what chooses the weights that are pruned. Single weights here, whole filters in `filters`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.pruning.masks import Masks, Score

Difference = tuple[list[Tensor], list[Tensor]]
"""theta - theta_p, what pruning took away: (prunable weight tensors, biases and batch norms that lost channels)."""


class Criterion(ABC):
    """Chooses weights and prunes them."""

    @abstractmethod
    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        """Prune until `sparsity` of the dense network is gone. generator: on the CPU."""

    @abstractmethod
    def apply_(self) -> None:
        """Set what was pruned to zero again; called after every step of the optimizer."""

    @property
    def target(self) -> float | None:
        """The sparsity of the weights that it leads to; None if that is the one asked for."""
        return None

    def smaller(self) -> nn.Module | None:
        """The network without its removed filters, None if single weights were pruned."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the masks of the prunable weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # noqa: B027


class Unstructured(Criterion):
    """Prunes the single weights with the smallest scores in the whole network.

    score: None for magnitude, which the masks read off the weights without a copy.
    """

    def __init__(self, masks: Masks, score: Score | None = None):
        self.masks, self.score = masks, score

    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        scores = None if self.score is None else self.score(self.masks.weights, generator)
        return self.masks.prune_to(sparsity, scores), []

    def apply_(self) -> None:
        self.masks.apply_()
