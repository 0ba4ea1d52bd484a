"""A method from outside the package whose state is in the process's global generators, and ones that break."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import torch

from benchmark.methods import Declaration
from benchmark.training.method import Method
from benchmark.training.schedules import LearningRates


class Dice(Method):
    """Shakes a weight with all three global generators: resumes exactly only if their states are kept."""

    declaration: ClassVar[Declaration] = Declaration(
        "tests.faults.injected_methods:Dice", from_dense=False, retrains=False
    )

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates

    @torch.no_grad()
    def before_iteration(self, k: int) -> None:
        thrown = random.random() + float(np.random.rand()) + float(torch.rand(()))
        next(iter(self.weights.values())).add_(1e-3 * (thrown - 1.5))

    def finish(self) -> None:
        assert self.context.cell.sparsity is not None
        self.masks.prune_to(self.context.cell.sparsity)


class NaN(Dice):
    """Breaks the weights in mid-run."""

    declaration: ClassVar[Declaration] = Declaration(
        "tests.faults.injected_methods:NaN", from_dense=False, retrains=False
    )

    @torch.no_grad()
    def before_iteration(self, k: int) -> None:
        if k == 10:
            next(iter(self.weights.values())).fill_(float("nan"))
