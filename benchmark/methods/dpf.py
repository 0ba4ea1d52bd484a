"""Dynamic pruning with feedback (Lin, Stich, Barba, Dmitriev & Jaggi, ICLR 2020)."""

from __future__ import annotations

from benchmark.methods.declarations import COUNT, DECAY, Declaration
from benchmark.methods.gmp import pruning_steps
from benchmark.methods.limits import leaves_two_intervals
from benchmark.methods.scratch import Transformed
from benchmark.pruning.selection import Bracket
from benchmark.training.method import Context

PERIOD = 16
"""Iterations from one mask to the next (Lin et al. 2020, section 4)."""


class DPF(Transformed):
    """w <- w - lr * g(w * m): the gradient at the pruned weights updates the dense ones, so that a pruned weight can
    grow and return.

    The mask m keeps the largest |w| of the whole network. It is new every 16 iterations, at the sparsity that GMP's
    `pruning_steps` ask for by then.
    """

    declaration = Declaration(
        "benchmark.methods.dpf:DPF",
        from_dense=False,
        retrains=False,
        defaults={"interval": 1, "decay": 1.0},
        accepted={"interval": COUNT, **DECAY},
        check=leaves_two_intervals,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        self.steps = pruning_steps("DPF", context)
        self.bracket = Bracket()

    def sparsity(self, k: int) -> float:
        """Sparsity of the masks of iteration k."""
        return max((sparsity for start, sparsity in self.steps.items() if start <= k), default=0.0)

    def before_iteration(self, k: int) -> None:
        if k % PERIOD == 0 and self.sparsity(k) > 0:
            self.masks.select(self.sparsity(k), bracket=self.bracket)

    def transform(self) -> None:
        self.masks.apply_()
