"""Iterative magnitude pruning (Han et al. 2015); one cycle of it is one-shot pruning. Other criteria plug in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmark.methods.declarations import COUNT, NORM, SHARES, Declaration, Numbers, Words
from benchmark.methods.ladders import cycles, trunk
from benchmark.methods.limits import leaves_a_weight_or_filters
from benchmark.problems.seeds import generator
from benchmark.pruning.criteria import Criterion, Unstructured
from benchmark.pruning.filters import Filters
from benchmark.pruning.gradual import cycle_lengths, ladder
from benchmark.pruning.masks import norm, norm_of_difference, random_scores
from benchmark.training.method import Context, Method
from benchmark.training.schedules import (
    WARMUP_SHARE,
    LearningRates,
    Retraining,
    learning_rates,
    peak_fraction,
    relative_distance,
)


@dataclass(frozen=True, eq=False)
class Cycle:
    """One cycle of pruning and retraining.

    Args:
        number: from 0.
        sparsity: after its pruning.
        iterations: of its retraining.
        schedule: name of the retraining schedule.
        dense: learning rates of the dense phase, shape (n,).
        dense_warmup: iterations of that phase's warm-up.
        span: iterations that `iterations` is divided by in ALLR's d2.
        peak: what the schedule's learning rates are multiplied by, at most 1.
        warmup_share: of `iterations`.
    """

    number: int
    sparsity: float
    iterations: int
    schedule: str
    dense: LearningRates
    dense_warmup: int
    span: int
    peak: float = 1.0
    warmup_share: float = WARMUP_SHARE


def prune(method: Method, cycle: Cycle, criterion: Criterion) -> LearningRates:
    """Prune to the cycle's sparsity, measure the metric "pruned", add a line to the record's cycles.

    Returns the learning rates of the cycle's retraining. The schedule gets ALLR's d1, the relative distance by which
    this pruning moved the weights, and d2 = iterations / span (Zimmer et al. 2023).
    """
    context, masks = method.context, method.masks
    everything = context.hyperparameters["norm"] == "all"
    before = norm(context.network, everything)
    alive = masks.alive
    stream = generator(context.cell.seed, context.problem.dataset, "criterion", cycle.number)
    weights, vectors = criterion.prune_to(cycle.sparsity, stream)
    moved = norm_of_difference(weights + vectors if everything else weights)
    context.recalibrate()
    pruned = context.measure("pruned")
    retraining = Retraining(
        dense=cycle.dense,
        dense_warmup=cycle.dense_warmup,
        iterations=cycle.iterations,
        relative_distance=relative_distance(before, moved, 1 - masks.alive / alive),
        budget_share=min(cycle.iterations / cycle.span, 1.0),
        warmup_share=cycle.warmup_share,
    )
    rates = cycle.peak * learning_rates(cycle.schedule, retraining)
    context.note(
        {
            "cycle": cycle.number,
            "sparsity": masks.sparsity,
            "iterations": cycle.iterations,
            "d1": retraining.relative_distance,
            "d2": retraining.budget_share,
            "d": peak_fraction(retraining),
            "peak": float(rates.max(initial=0.0)),
            f"pruned_validation_{context.metric.name}": pruned["validation"],
            f"pruned_test_{context.metric.name}": pruned["test"],
        }
    )
    return rates


CRITERIA: dict[str, Callable[[Method], Criterion]] = {
    "magnitude": lambda method: Unstructured(method.masks),
    "random": lambda method: Unstructured(method.masks, random_scores),
    "filters": lambda method: _filters(method, random=False),
    "random_filters": lambda method: _filters(method, random=True),
}


def _filters(method: Method, random: bool) -> Filters:
    problem = method.context.problem
    image = (problem.channels, problem.image_size, problem.image_size)
    stages = str(method.context.hyperparameters["stages"])
    return Filters(method.context.network, image, method.masks, random, stages)


class IMP(Method):
    """Prune the smallest weights of the whole network, retrain, repeat.

    The budget is the total over the cycles; ALLR's d2 is a cycle's epochs over T. Hyperparameters:
        cycles, ladder: how many cycles, and the sparsity after each (benchmark.pruning.gradual).
        momentum: "fresh" at every cycle, or "kept".
        norm: the weights that ALLR's d1 is taken over, "all" or "prunable".
        criterion: what is pruned: weights by "magnitude" or at "random", "filters" of the smallest L1 norm, or
            "random_filters" (Le & Hua 2021). For filters the cell's sparsity is the fraction that every prunable layer
            loses (benchmark.pruning.filters); the sparsity of the weights follows from it.
        stages: "6/3/1" lets the stages of a network lose different fractions of filters, the first all of the sparsity;
            "A" to "D" are Le and Hua's layouts for ResNet-56.
        peak, warmup: what a tuned schedule is free in: a factor of its learning rates, at most 1, and the share of the
            retraining that is warm-up.
    """

    declaration = Declaration(
        "benchmark.methods.imp:IMP",
        from_dense=True,
        retrains=True,
        defaults={
            **{"cycles": 1, "ladder": "even", "momentum": "fresh", "norm": "all"},
            **{"criterion": "magnitude", "stages": "even"},
            **{"peak": 1.0, "warmup": 0.1},
        },
        accepted={
            "cycles": COUNT,
            "ladder": Words("even", "renda"),
            "momentum": Words("fresh", "kept"),
            "norm": NORM,
            "criterion": Words("magnitude", "random", "filters", "random_filters"),
            "stages": SHARES,
            "peak": Numbers(0, 1, open_below=True),
            "warmup": Numbers(0, 1, open_above=True),
        },
        cycles=cycles,
        trunk=trunk,
        check=leaves_a_weight_or_filters,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        cell, chosen = context.cell, context.hyperparameters
        assert cell.sparsity is not None
        assert cell.budget is not None
        self.criterion = CRITERIA[str(chosen["criterion"])](self)
        self.ladder = ladder(str(chosen["ladder"]), cell.sparsity, int(chosen["cycles"]))
        self.phases = len(self.ladder)
        self.keeps_optimizer = chosen["momentum"] == "kept"
        total = cell.budget.iterations(context.problem.epochs, context.iterations_per_epoch, self.phases)
        self.lengths = cycle_lengths(total, self.phases)

    def begin(self, phase: int) -> LearningRates:
        context = self.context
        assert context.cell.schedule is not None
        cycle = Cycle(
            number=phase,
            sparsity=self.ladder[phase],
            iterations=self.lengths[phase],
            schedule=context.cell.schedule,
            dense=context.dense_rates,
            dense_warmup=context.dense_warmup,
            span=len(context.dense_rates),
            peak=context.number("peak"),
            warmup_share=context.number("warmup"),
        )
        return prune(self, cycle, self.criterion)

    def after_step(self) -> None:
        self.criterion.apply_()

    @property
    def target_sparsity(self) -> float | None:
        return super().target_sparsity if self.criterion.target is None else self.criterion.target

    def smaller(self) -> nn.Module | None:
        return self.criterion.smaller()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "criterion": self.criterion.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.criterion.load_state_dict(state["criterion"])

    def trunk(self, phase: int) -> str | None:
        return trunk(self.context.cell, self.context.hyperparameters, phase)
