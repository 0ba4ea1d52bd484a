"""Dynamic sparse training (Liu, Xu, Shi, Cheung & So, ICLR 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods.declarations import DECAY, Declaration, Numbers
from benchmark.methods.scratch import Transformed
from benchmark.pruning.flat import Segments
from benchmark.training.method import Context

LEAST_DENSITY = 0.01
"""A layer with no more than this fraction of its weights left restarts with thresholds of 0 (the code of Liu et al.).
"""


def surrogate(x: Tensor) -> Tensor:
    """Stands in for the derivative of the step function: 2 - 4|x| up to |x| = 0.4, 0.4 up to |x| = 1, then 0."""
    distance = x.abs()
    slope = torch.mul(distance, -4).add_(2).clamp_min_(0.4)
    # The comparison is written as floats: multiplying by bools takes torch three times as long.
    return slope.mul_(torch.le(distance, 1, out=distance))


class DST(Transformed):
    """The network computes with w * step(|w| - t); one threshold t per output unit is learned with w (in a transposed
    convolution, whose first dimension is that of the inputs, one per input channel).

    With G the gradient at the masked weight, m the mask and h the surrogate at |w| - t:
        dL/dw = G (m + |w| h),   dL/dt = - sum over the unit of G w h - alpha exp(-t).
    The last term comes from the penalty alpha sum exp(-t), which drives the thresholds up. Weight decay acts on w
    alone. The sparsity is not set: it follows from `alpha`.
    """

    declaration = Declaration(
        "benchmark.methods.dst:DST", defaults={"alpha": 1e-4, "decay": 1.0}, accepted={"alpha": Numbers(0), **DECAY}
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.alpha = context.number("alpha")
        self.units = Segments(self.flat, by_unit=True)
        self.layers = Segments(self.flat, by_unit=False)
        self.thresholds = nn.Parameter(torch.zeros(self.units.count, device=self.flat.device))
        sizes = torch.tensor([units for units, _ in self.units.shapes], device=self.flat.device)
        self.layer_of_unit = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        self.columns = self.units.columns(self.thresholds.detach())
        self.distance = self.units.rows(self.flat.vector().values)
        self.step = self.layers.rows(self.flat.vector().values)
        self.work = self.flat.vector()
        self.by_unit = self.units.rows(self.work.values)
        self.gradient = self.flat.vector()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.thresholds], "weight_decay": 0.0}]

    def own_parameters(self) -> list[Tensor]:
        return [self.thresholds]

    def transform(self) -> None:
        self._compare()
        empty = self.layers.sums(self.step) <= LEAST_DENSITY * self.layers.lengths
        # Asking an accelerator whether a layer is empty would mean to wait for it: there all is compared once more.
        if self.flat.device.type != "cpu" or bool(empty.any()):
            self.thresholds.data.masked_fill_(empty[self.layer_of_unit], 0)
            self._compare()
        torch.mul(self.trained.values, self.step.values, out=self.work.values)
        self.work.give(self.masks.weights)

    def _compare(self) -> None:
        """distance = |w| - t, step = step(distance)."""
        distance = self.distance.values
        torch.abs(self.trained.values, out=distance)
        self.units.subtract_(self.distance, self.columns)
        torch.gt(distance, 0, out=self.step.values)

    @torch.no_grad()
    def after_backward(self) -> None:
        gradients = self.gradients
        self.gradient.take(gradients)
        for chunk in self.flat.chunks:
            weight, gradient = self.trained.values[chunk], self.gradient.values[chunk]
            slope = surrogate(self.distance.values[chunk]).mul_(weight)
            torch.mul(gradient, slope, out=self.work.values[chunk])  # G w h
            gradient.mul_(slope.abs_().add_(self.step.values[chunk]))
        self.gradient.give(gradients)
        self.thresholds.grad = -self.units.sums(self.by_unit) - self.alpha * torch.exp(-self.thresholds.detach())
