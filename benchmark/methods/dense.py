"""The dense run: what everything else is compared with, and what IMP starts from."""

from __future__ import annotations

from benchmark.methods.declarations import Declaration
from benchmark.training.method import Method
from benchmark.training.schedules import LearningRates


class Dense(Method):
    """Plain training with the recipe's learning rates."""

    declaration = Declaration(
        "benchmark.methods.dense:Dense",
        from_dense=False,
        retrains=False,
    )

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates
