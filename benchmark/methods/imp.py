"""Iterative magnitude pruning (Han et al. 2015), and one-shot pruning as its one-cycle case."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.methods.ladders import ladder, trunk
from benchmark.pruning.masks import norm, norm_of_difference
from benchmark.training.method import Context, Method
from benchmark.training.schedules import (
    LearningRates,
    Retraining,
    learning_rates,
    peak_fraction,
    relative_distance,
)


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
        self.ladder = ladder(str(chosen["ladder"]), cell.sparsity, int(chosen["cycles"]))
        self.phases = len(self.ladder)
        self.keeps_optimizer = chosen["momentum"] == "kept"
        total = cell.budget.iterations(context.problem.epochs, context.iterations_per_epoch, self.phases)
        self.lengths = split(total, self.phases)

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

    def trunk(self, phase: int) -> str | None:
        return trunk(self.context.cell, self.context.hyperparameters, phase)
