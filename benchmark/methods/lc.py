"""Learning-compression pruning (Carreira-Perpinan & Idelbayev, CVPR 2018), in the form that Zimmer et al. compare."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.methods.declarations import DECAY, Declaration
from benchmark.methods.scratch import FromScratch
from benchmark.pruning.flat import mask_smallest
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class LC(FromScratch):
    """Weight decay acts on all weights but the (1 - S) n of the largest |w|, which each iteration selects anew.

    The others shrink towards zero until the final prune removes them; `decay` says how fast. The n are the prunable
    weights: biases and batch norm always decay, where the code of Zimmer et al. ranks them with the weights. With AdamW
    the decay is decoupled from the gradient, as AdamW's own is (Loshchilov and Hutter, ICLR 2019, algorithm 2).
    """

    declaration = Declaration("benchmark.methods.lc:LC", defaults={"decay": 1.0}, accepted=DECAY)

    def __init__(self, context: Context):
        super().__init__(context)
        self.decaying = round(self.target * self.masks.total)
        self.current, self.strength = self.flat.vector(), self.flat.vector()
        self.bracket = Bracket()

    def parameter_groups(self) -> list[dict[str, Any]]:
        prunable, rest = super().parameter_groups()
        return [{**prunable, "weight_decay": 0.0}, rest]

    @torch.no_grad()
    def after_backward(self) -> None:
        self.current.take(self.masks.weights)
        mask_smallest(self.current, self.decaying, magnitude=True, bracket=self.bracket, out=self.strength)
        for chunk in self.flat.chunks:
            # From 1 for the largest weights and 0 for the others to exactly 0 and the decay.
            self.strength.values[chunk].mul_(-self.weight_decay).add_(self.weight_decay)
        if self.context.problem.optimizer == "adamw":
            self.current.values.mul_(self.strength.values).mul_(-self.optimizer.param_groups[0]["lr"])
            torch._foreach_add_(self.masks.weights, self.current.parts)
        else:
            torch._foreach_addcmul_(self.gradients, self.current.parts, self.strength.parts)
