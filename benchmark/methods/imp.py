"""Iterative magnitude pruning (Han et al. 2015), and one-shot pruning as its one-cycle case."""

from __future__ import annotations

import math

from benchmark.errors import UserError
from benchmark.pruning.masks import norm, norm_of_difference
from benchmark.training.method import Context, Method
from benchmark.training.schedules import (
    LearningRates,
    Retraining,
    learning_rates,
    peak_fraction,
    relative_distance,
)

RENDA_FRACTION = 0.2
"""Renda et al. 2020 prune 20 % of the remaining weights in every cycle."""


def ladder(kind: str, sparsity: float, cycles: int) -> list[float]:
    """Sparsity after each cycle, the last one exactly `sparsity`.

    "even": each of `cycles` cycles prunes 1 - (1 - S)^(1/n) of the weights that are alive. "renda": 20 % of them in
    each cycle, as many cycles as that takes, the last one only what is missing; `cycles` does not matter.
    """
    if kind == "even":
        return [1 - (1 - sparsity) ** (cycle / cycles) for cycle in range(1, cycles)] + [sparsity]
    if kind == "renda":
        needed = math.ceil(math.log(1 - sparsity) / math.log(1 - RENDA_FRACTION) - 1e-9)
        return [1 - (1 - RENDA_FRACTION) ** cycle for cycle in range(1, needed)] + [sparsity]
    raise UserError(f"method IMP: hyperparameter ladder is {kind!r}; it takes 'even' or 'renda'")


class IMP(Method):
    """Prune the smallest weights of the whole network, retrain, repeat.

    The budget is the total over the cycles, split evenly in iterations, the last cycle takes the remainder. In each
    cycle the schedule sees d1, the relative distance that this cycle's pruning moved the weights, and d2, this cycle's
    epochs over T (Zimmer et al. 2023, ALLR).
    """

    def __init__(self, context: Context):
        super().__init__(context)
        cell, chosen = context.cell, context.hyperparameters
        assert cell.sparsity is not None
        assert cell.budget is not None
        cycles = int(chosen["cycles"])
        if cycles < 1:
            raise UserError(f"method IMP: hyperparameter cycles is {cycles}; it takes a count from 1 up")
        self.ladder = ladder(str(chosen["ladder"]), cell.sparsity, cycles)
        self.phases = len(self.ladder)
        self.keeps_optimizer = chosen["momentum"] == "kept"
        self.total = cell.budget.iterations(context.problem.epochs, context.iterations_per_epoch)

    def begin(self, phase: int) -> LearningRates:
        context, cell = self.context, self.context.cell
        assert cell.schedule is not None
        before = norm(context.network, self.context.hyperparameters["norm"] == "all")
        alive = self.masks.alive
        removed = self.masks.prune_to(self.ladder[phase])
        moved = norm_of_difference(removed)
        context.recalibrate()
        accuracy = context.measure("pruned")
        each = self.total // self.phases
        iterations = each if phase < self.phases - 1 else self.total - each * (self.phases - 1)
        retraining = Retraining(
            dense=context.dense_rates,
            dense_warmup=context.dense_warmup,
            iterations=iterations,
            relative_distance=relative_distance(before, moved, 1 - self.masks.alive / alive),
            budget_share=min(iterations / len(context.dense_rates), 1.0),
        )
        rates = learning_rates(cell.schedule, retraining)
        context.note(
            {
                "cycle": phase,
                "sparsity": self.masks.sparsity,
                "iterations": iterations,
                "d1": retraining.relative_distance,
                "d2": retraining.budget_share,
                "d": peak_fraction(retraining),
                "peak": float(rates.max(initial=0.0)),
                "pruned_validation_accuracy": accuracy["validation"],
                "pruned_test_accuracy": accuracy["test"],
            }
        )
        return rates

    def after_step(self) -> None:
        self.masks.apply_()
