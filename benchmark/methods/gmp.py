"""Gradual magnitude pruning (Zhu & Gupta 2017)."""

from __future__ import annotations

import torch

from benchmark.methods.declarations import COUNT, DECAY, Declaration
from benchmark.methods.limits import leaves_two_intervals
from benchmark.methods.scratch import Transformed
from benchmark.pruning.gradual import cubic
from benchmark.training.method import Context


def pruning_steps(context: Context) -> dict[int, float]:
    """{iteration: sparsity from there on}: `cubic`, a step every `interval` epochs."""
    interval, epochs, target = int(context.number("interval")), context.problem.epochs, context.cell.sparsity
    assert target is not None
    per_epoch = context.iterations_per_epoch
    return cubic(target, epochs * per_epoch, interval * per_epoch)


class GMP(Transformed):
    """Every `interval` epochs prune the smallest weights, more of them early than late (`pruning_steps`).

    They are the smallest of the whole network, as in Zimmer et al.; Zhu and Gupta prune each layer to the same
    sparsity. Pruned weights stay zero and their momentum is cleared. With `returning` they are not set to zero: the
    network computes without them and their loss gradient is zero, so that weight decay alone moves them, but every
    pruning step selects among all weights anew, and a pruned weight returns when others have become smaller (the
    authors' `allow_recovering`).
    """

    declaration = Declaration(
        "benchmark.methods.gmp:GMP",
        defaults={"interval": 1, "returning": False, "decay": 1.0},
        accepted={"interval": COUNT, **DECAY},
        check=leaves_two_intervals,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.steps = pruning_steps(context)
        self.returning = bool(context.hyperparameters["returning"])
        self.settled = not self.returning  # else the network computes with the trained weights themselves

    @torch.no_grad()
    def before_iteration(self, k: int) -> None:
        if k not in self.steps:
            return
        if self.returning:
            self.masks.select(self.steps[k])
        else:
            self.masks.prune_to(self.steps[k])
        self.masks.clear(self.optimizer)

    def transform(self) -> None:
        self.masks.apply_()

    @torch.no_grad()
    def after_backward(self) -> None:
        if self.returning:
            torch._foreach_mul_(self.gradients, self.masks.tensors)

    def after_step(self) -> None:
        if not self.returning:
            self.masks.apply_()
