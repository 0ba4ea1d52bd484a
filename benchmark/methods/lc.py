"""Learning-compression pruning (Carreira-Perpinan & Idelbayev, CVPR 2018), as Zimmer et al. compare with it."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.methods.declarations import DECAY, Declaration
from benchmark.methods.scratch import FromScratch
from benchmark.pruning.flat import mask_smallest
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class LC(FromScratch):
    """Weight decay acts only on the weights outside the current (1 - S) n of largest |w|.

    Those shrink towards zero while the others are free, until the final prune. The selection is new in each iteration.
    How far they get follows from `decay`.
    """

    declaration = Declaration(
        "benchmark.methods.lc:LC",
        from_dense=False,
        retrains=False,
        defaults={"decay": 1.0},
        accepted=DECAY,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.outside = round(self.target * self.masks.total)
        self.current, self.strength = self.flat.vector(), self.flat.vector()
        self.bracket = Bracket()

    def parameter_groups(self) -> list[dict[str, Any]]:
        prunable, rest = super().parameter_groups()
        return [{**prunable, "weight_decay": 0.0}, rest]

    @torch.no_grad()
    def after_backward(self) -> None:
        self.current.take(self.masks.weights)
        mask_smallest(self.current, self.outside, magnitude=True, bracket=self.bracket, out=self.strength)
        for (
            chunk
        ) in self.flat.chunks:  # 1 where a weight is among the largest: 0 there and the decay elsewhere, exactly
            self.strength.values[chunk].mul_(-self.weight_decay).add_(self.weight_decay)
        torch._foreach_addcmul_(self.gradients, self.current.parts, self.strength.parts)
