"""Dynamic pruning with feedback (Lin, Stich, Barba, Dmitriev & Jaggi, ICLR 2020)."""

from __future__ import annotations

from benchmark.methods.declarations import COUNT, DECAY, Declaration
from benchmark.methods.gmp import pruning_steps
from benchmark.methods.limits import leaves_two_intervals
from benchmark.methods.scratch import Transformed
from benchmark.pruning.gradual import PERIOD, due
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context


class DPF(Transformed):
    """w <- w - lr * g(w * m): the gradient at the masked weights updates the dense ones, so pruned weights can return.

    The mask m keeps the largest |w| of the whole network. Every 16 iterations it is selected anew, at the sparsity of
    GMP's `pruning_steps`.
    """

    declaration = Declaration(
        "benchmark.methods.dpf:DPF",
        defaults={"interval": 1, "decay": 1.0},
        accepted={"interval": COUNT, **DECAY},
        check=leaves_two_intervals,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.steps = pruning_steps(context)
        self.bracket = Bracket()

    def before_iteration(self, k: int) -> None:
        if k % PERIOD == 0 and (sparsity := due(self.steps, k)) > 0:
            self.masks.select(sparsity, bracket=self.bracket)

    def transform(self) -> None:
        self.masks.apply_()

    def settle(self) -> None:
        if self.masks.missing(self.target):  # no new masks were due since sparsity rose last
            self.masks.select(self.target)
        super().settle()
