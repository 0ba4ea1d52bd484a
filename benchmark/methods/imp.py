"""Iterative magnitude pruning (Han et al. 2015), and one-shot pruning as its one-cycle case."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Cycle:
    """One cycle of prune and retrain.

    sparsity: after its pruning; dense: learning rates of the dense phase, shape (n,); span: the iterations that ALLR's
    d2 compares this cycle's `iterations` with.
    """

    number: int
    sparsity: float
    iterations: int
    schedule: str
    dense: LearningRates
    dense_warmup: int
    span: int


def split(total: int, cycles: int) -> list[int]:
    """Iterations of each cycle: the same for all, and the last one takes the remainder."""
    each = total // cycles
    return [each] * (cycles - 1) + [total - each * (cycles - 1)]


def prune(method: Method, cycle: Cycle) -> LearningRates:
    """Prune to the cycle's sparsity, measure "pruned", note the cycle; returns the learning rates of its retraining.

    The schedule sees d1, the relative distance that this cycle's pruning moved the weights, and d2 = iterations / span
    (Zimmer et al. 2023, ALLR).
    """
    context, masks = method.context, method.masks
    before = norm(context.network, context.hyperparameters["norm"] == "all")
    alive = masks.alive
    removed = masks.prune_to(cycle.sparsity)
    moved = norm_of_difference(removed)
    context.recalibrate()
    accuracy = context.measure("pruned")
    retraining = Retraining(
        dense=cycle.dense,
        dense_warmup=cycle.dense_warmup,
        iterations=cycle.iterations,
        relative_distance=relative_distance(before, moved, 1 - masks.alive / alive),
        budget_share=min(cycle.iterations / cycle.span, 1.0),
    )
    rates = learning_rates(cycle.schedule, retraining)
    context.note(
        {
            "cycle": cycle.number,
            "sparsity": masks.sparsity,
            "iterations": cycle.iterations,
            "d1": retraining.relative_distance,
            "d2": retraining.budget_share,
            "d": peak_fraction(retraining),
            "peak": float(rates.max(initial=0.0)),
            "pruned_validation_accuracy": accuracy["validation"],
            "pruned_test_accuracy": accuracy["test"],
        }
    )
    return rates


class IMP(Method):
    """Prune the smallest weights of the whole network, retrain, repeat.

    The budget is the total over the cycles; ALLR's d2 is a cycle's epochs over T.
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
        self.lengths = split(
            cell.budget.iterations(context.problem.epochs, context.iterations_per_epoch), len(self.ladder)
        )

    def begin(self, phase: int) -> LearningRates:
        context = self.context
        assert context.cell.schedule is not None
        return prune(
            self,
            Cycle(
                number=phase,
                sparsity=self.ladder[phase],
                iterations=self.lengths[phase],
                schedule=context.cell.schedule,
                dense=context.dense_rates,
                dense_warmup=context.dense_warmup,
                span=len(context.dense_rates),
            ),
        )

    def after_step(self) -> None:
        self.masks.apply_()
