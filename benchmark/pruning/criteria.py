"""Criteria: what chooses the weights that are pruned. Single weights here, whole filters in `filters`."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.pruning.masks import SCORES, Masks

Difference = tuple[list[Tensor], list[Tensor]]
"""theta - theta_p, what pruning took away: (prunable weight tensors, biases and batch norms that lost channels)."""


class Criterion(Protocol):
    """Chooses weights and prunes them. `state_dict` is what a checkpoint needs beside the masks of the weights."""

    @property
    def target(self) -> float | None:
        """The sparsity of the weights that it leads to; None if that is the one asked for."""

    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        """Prune until `sparsity` of the dense network is gone. generator: on the CPU."""

    def apply_(self) -> None:
        """Set what was pruned to zero again; called after every step of the optimizer."""

    def smaller(self) -> nn.Module | None:
        """The network without its removed filters, None if single weights were pruned."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Unstructured:
    """Prunes the single weights with the smallest scores in the whole network. score: a name in masks.SCORES."""

    target = None

    def __init__(self, masks: Masks, score: str = "magnitude"):
        self.masks = masks
        self.score = None if score == "magnitude" else SCORES[score]
        """None for magnitude, which the masks read off the weights without a copy."""

    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        scores = None if self.score is None else self.score(self.masks.weights, generator)
        return self.masks.prune_to(sparsity, scores), []

    def apply_(self) -> None:
        self.masks.apply_()

    def smaller(self) -> nn.Module | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
