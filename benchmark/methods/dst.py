"""Dynamic sparse training (Liu, Xu, Shi, Cheung & So, ICLR 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods.scratch import Transformed
from benchmark.pruning.flat import Segments
from benchmark.training.method import Context

LEAST_DENSITY = 0.01
"""Thresholds of a layer start again from 0 where no more than this fraction of it is left (Liu et al., section 4.3)."""


def surrogate(x: Tensor) -> Tensor:
    """What stands for the derivative of the step at x: 2 - 4|x| up to |x| = 0.4, 0.4 up to |x| = 1, then 0."""
    distance = x.abs()
    return torch.mul(distance, -4).add_(2).clamp_min_(0.4).mul_(distance <= 1)


class DST(Transformed):
    """The network computes with w * step(|w| - t); one threshold t per output unit is learned with w.

    With G the gradient at the masked weight, m the mask and h the surrogate at |w| - t:
        dL/dw = G (m + |w| h),   dL/dt = - sum over the unit of G w h - alpha exp(-t),
    the last term from the penalty alpha sum exp(-t), which drives the thresholds up. Weight decay acts on w alone,
    once. Nothing asks for a sparsity: it follows from `alpha`.
    """

    def __init__(self, context: Context):
        super().__init__(context)
        self.alpha = context.number("alpha")
        self.units = Segments(self.flat, by_unit=True)
        self.layers = Segments(self.flat, by_unit=False)
        self.thresholds = nn.Parameter(torch.zeros(self.units.count, device=self.flat.device))
        sizes = torch.tensor([units for units, _ in self.units.shapes], device=self.flat.device)
        self.layer_of_unit = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        self.distance = self.flat.vector().values
        self.used = self.flat.vector()
        self.gradient = self.flat.vector()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.thresholds], "weight_decay": 0.0}]

    def own_parameters(self) -> list[Tensor]:
        return [self.thresholds]

    def transform(self) -> None:
        self._compare()
        empty = self.layers.sums(self.used.values) <= LEAST_DENSITY * self.layers.lengths
        # To ask whether any layer is empty would wait for an accelerator; there everything is compared once more.
        if self.flat.device.type != "cpu" or bool(empty.any()):
            self.thresholds.data.masked_fill_(empty[self.layer_of_unit], 0)
            self._compare()
        self.used.values.mul_(self.trained.values)
        self.used.give(self.masks.weights)

    def _compare(self) -> None:
        """distance = |w| - t, used = step(distance)."""
        thresholds = self.thresholds.detach()
        for chunk in self.flat.chunks:
            distance = torch.abs(self.trained.values[chunk], out=self.distance[chunk])
            distance.sub_(self.units.spread(thresholds, chunk))
            torch.gt(distance, 0, out=self.used.values[chunk])

    @torch.no_grad()
    def after_backward(self) -> None:
        gradients = self.gradients
        self.gradient.take(gradients)
        for chunk in self.flat.chunks:
            weight, gradient = self.trained.values[chunk], self.gradient.values[chunk]
            slope = surrogate(self.distance[chunk]).mul_(weight)
            torch.mul(gradient, slope, out=self.used.values[chunk])  # from here on `used` is G w h
            gradient.mul_(slope.mul_(weight.sign()).add_(self.distance[chunk] > 0))
        self.gradient.give(gradients)
        self.thresholds.grad = -self.units.sums(self.used.values) - self.alpha * torch.exp(-self.thresholds.detach())
