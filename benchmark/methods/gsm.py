"""Global sparse momentum SGD (Ding, Ding, Zhou, Guo, Han & Liu, NeurIPS 2019)."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.methods.declarations import DECAY, Declaration, Numbers
from benchmark.methods.limits import momentum_of_sgd
from benchmark.methods.scratch import FromScratch
from benchmark.pruning.flat import mask_smallest
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class GSM(FromScratch):
    """Each iteration keeps the loss gradient of only the Q = (1 - S) n weights with the largest |w * dL/dw|.

    The others move by weight decay and momentum alone and shrink towards zero, until the final prune removes them.
    `momentum` is that of the prunable weights (Ding et al. use 0.98); batch norm and biases keep the recipe's, and
    their gradients, where the code of Zimmer et al. ranks them with the weights. It is Nesterov's where the recipe says
    so, as in their code; Ding et al. have the plain one.
    """

    declaration = Declaration(
        "benchmark.methods.gsm:GSM",
        defaults={"momentum": 0.98, "decay": 1.0},
        accepted={"momentum": Numbers(0, 1, open_above=True), **DECAY},
        check=momentum_of_sgd,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.passive = round(self.target * self.masks.total)
        self.importance, self.live = self.flat.vector(), self.flat.vector()
        self.bracket = Bracket()

    def parameter_groups(self) -> list[dict[str, Any]]:
        prunable, rest = super().parameter_groups()
        return [{**prunable, "momentum": self.context.number("momentum")}, rest]

    @torch.no_grad()
    def after_backward(self) -> None:
        gradients = self.gradients
        self.importance.take(self.masks.weights)
        torch._foreach_mul_(self.importance.parts, gradients)
        mask_smallest(self.importance, self.passive, magnitude=True, bracket=self.bracket, out=self.live)
        torch._foreach_mul_(gradients, self.live.parts)
