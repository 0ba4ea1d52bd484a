"""Which weights go: by magnitude or at random, one by one (here) or in whole filters (`filters`)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.pruning.masks import SCORES, Masks

Difference = tuple[list[Tensor], list[Tensor]]
"""theta - theta_p: of every prunable weight tensor, and of the biases and batch norms that lost something."""


class Criterion(Protocol):
    """A way to choose. Checkpoints keep the masks of the prunable weights; `state_dict` is what there is besides."""

    @property
    def target(self) -> float | None:
        """Sparsity that it leads to, where that is not the one asked for."""

    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        """Prune until `sparsity` is reached, counted from the dense network. The generator is a CPU one."""

    def apply_(self) -> None:
        """Keep at zero what was pruned: after every step of the optimizer."""

    def smaller(self) -> nn.Module | None:
        """The network without what was pruned, where taking it out leaves a smaller network of the same kind."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Unstructured:
    """Single weights, those of the smallest scores in the whole network: "magnitude" or "random" (masks.SCORES)."""

    target = None

    def __init__(self, masks: Masks, score: str = "magnitude"):
        self.masks = masks
        self.score = None if score == "magnitude" else SCORES[score]
        """None: the masks read magnitudes off the weights themselves."""

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
