"""Soft threshold weight reparameterization, STR (Kusupati, Ramanujan, Somani et al., ICML 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods.declarations import DECAY, Declaration, Numbers
from benchmark.methods.scratch import Transformed
from benchmark.pruning.flat import Segments
from benchmark.training.method import Context


class STR(Transformed):
    """The network computes with w' = sign(w) relu(|w| - sigmoid(s_l)); one s_l per weight tensor is learned with w.

    With G = dL/dw':
        dL/dw = G where w' is not zero, else 0,   dL/ds_l = -sigmoid'(s_l) sum over the layer of sign(w') G.
    Nothing asks for a sparsity: it follows from where s starts (`s_init`) and from the weight decay (`decay`), which
    acts on s as it does on the weights.
    """

    declaration = Declaration(
        "benchmark.methods.str_:STR",
        from_dense=False,
        retrains=False,
        defaults={"s_init": -4.0, "decay": 1.0},
        accepted={"s_init": Numbers(), **DECAY},
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.layers = Segments(self.flat, by_unit=False)
        start = torch.full((self.layers.count,), context.number("s_init"), device=self.flat.device)
        self.s = nn.Parameter(start)
        self.threshold = torch.empty_like(start)
        self.columns = self.layers.columns(self.threshold)
        self.excess = self.layers.rows(self.flat.vector().values)
        self.used = self.flat.vector()
        self.by_layer = self.layers.rows(self.used.values)
        self.gradient = self.flat.vector()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.s], "weight_decay": self.weight_decay}]

    def own_parameters(self) -> list[Tensor]:
        return [self.s]

    def transform(self) -> None:
        torch.sigmoid(self.s.detach(), out=self.threshold)
        torch.abs(self.trained.values, out=self.excess.values)
        self.layers.subtract_(self.excess, self.columns)
        for chunk in self.flat.chunks:
            sign = torch.sign(self.trained.values[chunk], out=self.used.values[chunk])
            sign.mul_(self.excess.values[chunk].relu_())
        self.used.give(self.masks.weights)

    @torch.no_grad()
    def after_backward(self) -> None:
        gradients = self.gradients
        self.gradient.take(gradients)
        for chunk in self.flat.chunks:
            gradient = self.gradient.values[chunk]
            sign = self.used.values[chunk].sign_()  # from here on `used` is sign(w') G
            alive = sign.abs()
            sign.mul_(gradient)
            gradient.mul_(alive)
        self.gradient.give(gradients)
        threshold = self.s.detach().sigmoid()
        self.s.grad = -threshold * (1 - threshold) * self.layers.sums(self.by_layer)
