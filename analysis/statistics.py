"""Paired comparisons over seeds, in scipy's terms.

Two schedules of one seed start from the same dense network and see the same batches, so their difference is taken
within the seed and tested with the paired t-test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

TESTED_SEEDS = 5
"""With fewer seeds nothing is tested: a verdict is "undecided", beside differences and their intervals."""
CONFIDENCE = 0.95
ALPHA = 0.05
ROUNDING = 1e-9
"""Differences of per cents carry errors of about 1e-14; within this they are equal."""


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences, its confidence interval (from two up) and the two-sided p value (TESTED_SEEDS up).

    NaN for what n is too small.
    """

    n: int
    mean: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


def _finite(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=float)
    return values[np.isfinite(values)]


def paired_difference(differences: ArrayLike) -> Difference:
    """Paired t-test of one difference a seed against 0; seeds without a number are left out.

    Differences that are all equal have no spread for a t-test, which accuracies on a small test set can be by
    chance: their interval is the point itself, and p comes from the exact sign-flip test (p = 1 if all are 0).
    """
    values = _finite(differences)
    n = len(values)
    if n == 0:
        return Difference(0, math.nan)
    mean = float(values.mean())
    if n < 2:
        return Difference(n, mean)
    tested = n >= TESTED_SEEDS
    if _is_constant(values):
        return Difference(n, mean, mean, mean, min(1.0, 2 * _sign_flip_p(abs(values))) if tested else math.nan)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return Difference(n, mean, float(interval.low), float(interval.high), float(test.pvalue) if tested else math.nan)


def mean_of_others(mean: float, std: float, n: int, others: int) -> tuple[float, float]:
    """Prediction interval (95 %) for the mean of `others` further runs, from mean and deviation of n, two or more.

    Of normal values: mean ± t std sqrt(1/n + 1/others), t of n - 1 degrees of freedom. Another kind of processor gives
    other dense networks, as other seeds do: its mean is one of other runs.
    """
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std * math.sqrt(1 / n + 1 / others)
    return mean - half, mean + half


def equivalence_p(differences: ArrayLike, margin: float) -> float:
    """p value of two one-sided paired t-tests (TOST) for a mean difference inside ±margin; NaN below TESTED_SEEDS.

    The larger of the two p values; of differences that are all equal, also at 0, see `above_p`.
    """
    return float(np.maximum(above_p(differences, -margin), below_p(differences, margin)))


def beyond_p(differences: ArrayLike, margin: float) -> float:
    """p value (two-sided) for a mean difference outside ±margin: the opposite of `equivalence_p`, with its rules."""
    either = np.minimum(above_p(differences, margin), below_p(differences, -margin))
    return float(np.minimum(1.0, 2 * either))


def above_p(differences: ArrayLike, bound: float) -> float:
    """One-sided p value of the paired t-test for a mean difference above `bound`; NaN below TESTED_SEEDS.

    Differences that are all equal have no spread for a t-test. Theirs is the exact sign-flip test: p = 2^-n where they
    are above, so that n seeds never say more than n signs can, and 1 otherwise.
    """
    values = _finite(differences)
    if len(values) < TESTED_SEEDS:
        return math.nan
    if _is_constant(values):
        return _sign_flip_p(values - bound)
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)


def below_p(differences: ArrayLike, bound: float) -> float:
    """As `above_p`, for a mean difference below `bound`."""
    return above_p(-np.asarray(differences, dtype=float), -bound)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order; NaN stays NaN and counts as a comparison.

    scipy 1.17 has false_discovery_control (Benjamini-Hochberg) but no Holm; this is its definition.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")  # NaN last
    steps = np.arange(len(p), 0, -1)
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps * p[order]), 1.0)
    return [float(value) for value in adjusted]


def rank_correlation(first: Sequence[float | None], second: Sequence[float | None]) -> tuple[float, int]:
    """Spearman's rank correlation over the rows that both have, and their number; NaN below three or if all tie."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < 3 or any(len({pair[side] for pair in pairs}) == 1 for side in (0, 1)):
        return math.nan, len(pairs)
    a, b = zip(*pairs, strict=True)
    return float(stats.spearmanr(a, b).statistic), len(pairs)


def probability_of_improvement(columns: Sequence[tuple[ArrayLike, ArrayLike]]) -> float:
    """P(a run of the first beats a run of the second), ties one half, averaged over columns.

    As in rliable (Agarwal et al., NeurIPS 2021): the Mann-Whitney statistic over the number of pairs of runs, not
    paired over seeds. Columns in which either has no run are left out; NaN if none remains.
    """
    shares = []
    for first, second in columns:
        a, b = _finite(first), _finite(second)
        if len(a) and len(b):
            shares.append(stats.mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b)))
    return float(np.mean(shares)) if shares else math.nan


def _is_constant(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) < ROUNDING)


def _sign_flip_p(values: NDArray[np.float64]) -> float:
    """Exact one-sided p value of equal `values` above 0: of the 2^n choices of their signs only one has such a mean."""
    return 0.5 ** len(values) if values.min() > ROUNDING else 1.0
