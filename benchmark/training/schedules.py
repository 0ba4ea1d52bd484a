"""Learning rates of the dense run and of retraining (Table 1), one value per iteration, in closed form.

Every function is pure and returns float64. torch's schedulers are not used: since torch 1.11 `SequentialLR` repeats an
iteration at its milestone, so that a linear decay ends early and a cosine overshoots its peak.

A new schedule is a function of a `Retraining` and a line in `SCHEDULES`. One from outside this package is a function
that sweeps name "module:function".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.imports import load

if TYPE_CHECKING:  # `benchmark.api` uses schedules and needs no recipes
    from benchmark.cells import Problem

LearningRates = NDArray[np.float64]
"""One learning rate per iteration."""

OVERSHOOT = 1e-9
"""How far rounding may lift a schedule from outside above the dense peak, relative to it."""


WARMUP_SHARE = 0.1
"""Of the iterations of retraining."""
WARMUP_DIGITS = 6
"""A share of the iterations is whole to so many digits: 0.29 times 100 is a little less than 29."""


def dense_learning_rates(problem: Problem, iterations_per_epoch: int, epochs: float | None = None) -> LearningRates:
    """Learning rates of the dense run, shape (n,), n = round(epochs * iterations_per_epoch).

    Warm-up: iteration i = 0 .. W_d-1 has (i + 1) / W_d of the decayed rate, so that the first iteration moves the
    weights and the last one has the full rate. (The paper says no more than "5 epochs linear warm-up".)
    Decay: "step" multiplies by gamma at each milestone, counted from the start of the run. "linear" and "cosine" go
    from the full rate to 0 over the R iterations after the warm-up; iteration W_d + k is k / R of the way.

    epochs: of a run that is not as long as the problem's (BIMP's dense phase); milestones stay where they are.
    """
    n = round((problem.epochs if epochs is None else epochs) * iterations_per_epoch)
    if n < 1:
        raise ValueError(f"a dense run of {epochs!r} epochs of {iterations_per_epoch} iterations has no iteration")
    warmup = dense_warmup_iterations(problem, iterations_per_epoch, n)
    iteration = np.arange(n)
    progress = np.maximum(iteration - warmup, 0) / max(n - warmup, 1)
    if problem.decay == "step":
        milestones = [round(milestone * iterations_per_epoch) for milestone in problem.milestones]
        rates = problem.learning_rate * problem.gamma ** np.searchsorted(milestones, iteration, side="right")
    elif problem.decay == "linear":
        rates = problem.learning_rate * (1 - progress)
    else:
        rates = problem.learning_rate * (1 + np.cos(np.pi * progress)) / 2
    ramp = np.minimum((iteration + 1) / max(warmup, 1), 1)
    return np.asarray(rates * ramp, dtype=np.float64)


def dense_warmup_iterations(problem: Problem, iterations_per_epoch: int, iterations: int) -> int:
    """Iterations of the dense run's warm-up, at most all of its `iterations`."""
    return min(round(problem.warmup_epochs * iterations_per_epoch), iterations)


def relative_distance(norm_before: float, norm_difference: float, sparsity: float) -> float:
    """ALLR's d1 = ||theta - theta_p|| / (||theta|| sqrt(s)): how far pruning moved the weights.

    norm_before: ||theta|| just before pruning. norm_difference: ||theta - theta_p||. sparsity: s, the fraction that
    this cycle pruned of the weights alive. The result is 0 if nothing was pruned, and at most 1 for magnitude pruning;
    random pruning can exceed 1.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity {sparsity!r} of a pruning step: a number from 0 up to, but not including, 1")
    if not (math.isfinite(norm_before) and math.isfinite(norm_difference) and norm_before >= 0 <= norm_difference):
        raise ValueError(f"norms {norm_before!r} and {norm_difference!r} are not finite and non-negative")
    if sparsity == 0 or norm_difference == 0:
        return 0.0
    return norm_difference / (norm_before * math.sqrt(sparsity))


@dataclass(frozen=True, eq=False)
class Retraining:
    """What a schedule may use.

    Args:
        dense: learning rates of the dense run, shape (n,).
        dense_warmup: iterations of the dense run's warm-up.
        iterations: N, the length of this retraining phase.
        relative_distance: d1, 0 if nothing was pruned.
        budget_share: d2 = min(T_rt / T, 1).
        warmup_share: W / N.
    """

    dense: LearningRates
    dense_warmup: int
    iterations: int
    relative_distance: float = 0.0
    budget_share: float = 0.0
    warmup_share: float = WARMUP_SHARE

    def __post_init__(self) -> None:
        dense = np.array(self.dense, dtype=np.float64)
        dense.flags.writeable = False
        object.__setattr__(self, "dense", dense)
        if dense.ndim != 1 or dense.size == 0 or not np.isfinite(dense).all() or (dense < 0).any():
            raise ValueError("the dense learning rates must be a non-empty vector of finite, non-negative numbers")
        if not 0 <= self.dense_warmup <= dense.size:
            raise ValueError(f"a dense warm-up of {self.dense_warmup} iterations in a run of {dense.size}")
        if self.iterations < 0:
            raise ValueError(f"{self.iterations} iterations of retraining")
        if not (math.isfinite(self.relative_distance) and self.relative_distance >= 0):
            raise ValueError(f"relative distance d1 = {self.relative_distance!r}, expected a non-negative number")
        if not 0 <= self.budget_share <= 1:
            raise ValueError(f"budget share d2 = {self.budget_share!r}, expected a number from 0 to 1")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warm-up share {self.warmup_share!r}, expected a number from 0 to 1")

    @property
    def eta_max(self) -> float:
        """Largest learning rate of the dense run."""
        return float(self.dense.max())

    @property
    def eta_min(self) -> float:
        """Smallest learning rate of the dense run after its own warm-up (its last one if it is all warm-up)."""
        settled = self.dense[self.dense_warmup :]
        return float(settled.min() if settled.size else self.dense[-1])

    @property
    def warmup(self) -> int:
        """W = floor(0.1 N), iterations of the warm-up of retraining, or of another share of N."""
        return math.floor(round(self.warmup_share * self.iterations, WARMUP_DIGITS))


Schedule = Callable[[Retraining], LearningRates]
"""Gives the N learning rates of a retraining phase, each from 0 to eta_max."""


def _decay_steps(retraining: Retraining) -> tuple[NDArray[np.int64], int]:
    """(k = 0 .. R-1, R): the iterations after the warm-up."""
    remaining = retraining.iterations - retraining.warmup
    return np.arange(remaining), remaining


def _after_warmup(retraining: Retraining, peak: float, decay: LearningRates) -> LearningRates:
    """Half a cosine from 0 at iteration 0 towards `peak`, which iteration W reaches, then `decay`, shape (R,)."""
    warmup = retraining.warmup
    rise = peak * ((1 - np.cos(np.pi * np.arange(warmup) / warmup)) / 2) if warmup else np.empty(0)
    return np.concatenate([rise, decay])


def fine_tuning(retraining: Retraining) -> LearningRates:
    """FT (Han et al. 2015): constant at the dense run's smallest learning rate after its warm-up."""
    return np.full(retraining.iterations, retraining.eta_min)


def fine_tuning_last(retraining: Retraining) -> LearningRates:
    """FT as the paper's poster has it: constant at the last dense learning rate.

    An option, not the default: "benchmark.training.schedules:fine_tuning_last". It equals FT wherever the dense run
    ends on its smallest rate, as every recipe of the paper does.
    """
    return np.full(retraining.iterations, retraining.dense[-1])


def learning_rate_rewinding(retraining: Retraining) -> LearningRates:
    """LRW (Renda et al. 2020): the last N learning rates of the dense run as they are; refused where it has fewer."""
    n = retraining.dense.size
    if retraining.iterations > n:
        raise UserError(
            f"schedule LRW replays the last iterations of the dense run, which has {n}, not {retraining.iterations}: "
            "use a budget of at most 100%"
        )
    return retraining.dense[n - retraining.iterations :].copy()


def scaled_rewinding(retraining: Retraining) -> LearningRates:
    """SLR (Le & Hua 2021): the dense schedule, its warm-up replaced by eta_max, in R iterations instead of n.

    Longer retraining than the dense run stretches it.
    """
    k, remaining = _decay_steps(retraining)
    dense = retraining.dense.copy()
    dense[: retraining.dense_warmup] = retraining.eta_max
    return _after_warmup(retraining, retraining.eta_max, dense[k * dense.size // max(remaining, 1)])


def cyclic(retraining: Retraining) -> LearningRates:
    """CLR (Le & Hua 2021): half a cosine from eta_max towards eta_min, one cycle."""
    k, remaining = _decay_steps(retraining)
    peak, floor = retraining.eta_max, retraining.eta_min
    # eta_min + (A - eta_min)(1 + cos) / 2, written from the peak down so that rounding cannot pass it.
    decay = peak - (peak - floor) * ((1 - np.cos(np.pi * k / max(remaining, 1))) / 2)
    return _after_warmup(retraining, peak, decay)


def linear(retraining: Retraining) -> LearningRates:
    """LLR (Zimmer et al.): a straight line from eta_max towards 0, which the iteration after the last would reach."""
    return _line(retraining, retraining.eta_max)


def adaptive_linear(retraining: Retraining) -> LearningRates:
    """ALLR (Zimmer et al.): LLR from d * eta_max, d = max(d1, d2)."""
    return _line(retraining, peak_fraction(retraining) * retraining.eta_max)


def _line(retraining: Retraining, peak: float) -> LearningRates:
    k, remaining = _decay_steps(retraining)
    return _after_warmup(retraining, peak, peak * (1 - k / max(remaining, 1)))


def peak_fraction(retraining: Retraining) -> float:
    """ALLR's d = max(d1, d2), cut at 1: random pruning can move the weights by more than d1 = 1 allows for."""
    return min(max(retraining.relative_distance, retraining.budget_share), 1.0)


SCHEDULES: dict[str, Schedule] = {
    "FT": fine_tuning,
    "LRW": learning_rate_rewinding,
    "SLR": scaled_rewinding,
    "CLR": cyclic,
    "LLR": linear,
    "ALLR": adaptive_linear,
}


def resolve(name: str) -> Schedule:
    """The schedule of that name: one of `SCHEDULES`, or "module:function" for one from outside this package."""
    if name in SCHEDULES:
        return SCHEDULES[name]
    accepted = f"use one of {', '.join(SCHEDULES)}, or 'module:function' for one of your own"
    module, _, function = name.partition(":")
    if not (module and function) or module.startswith("."):
        raise UserError(f"unknown schedule {name!r}: {accepted}")
    try:
        schedule = load(name, f"schedule {name!r}")
    except UserError as error:
        raise UserError(f"{error}: {accepted}") from error
    if not callable(schedule):
        raise UserError(f"schedule {name!r} is no function: {accepted}")
    return schedule  # type: ignore[no-any-return]


def learning_rates(name: str, retraining: Retraining) -> LearningRates:
    """The N learning rates of the named schedule, checked: shape (N,), finite, from 0 to eta_max."""
    rates = np.asarray(resolve(name)(retraining), dtype=np.float64)
    if rates.shape != (retraining.iterations,):
        raise UserError(
            f"schedule {name!r} gave shape {rates.shape}, expected one learning rate for each of the "
            f"{retraining.iterations} iterations"
        )
    wrong = np.flatnonzero(~((rates >= 0) & (rates <= retraining.eta_max * (1 + OVERSHOOT))))
    if wrong.size:
        i = int(wrong[0])
        raise UserError(
            f"schedule {name!r} gave {rates[i]} at iteration {i}, expected a learning rate from 0 to "
            f"{retraining.eta_max:g}, the largest of the dense run"
        )
    return rates
