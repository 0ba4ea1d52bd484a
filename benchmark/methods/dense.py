"""The dense run: what everything else is compared with, and what IMP starts from."""

from __future__ import annotations

from benchmark.training.method import Method
from benchmark.training.schedules import LearningRates


class Dense(Method):
    """Plain training with the recipe's learning rates."""

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates
