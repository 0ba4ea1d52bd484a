"""Paired comparisons over seeds, and what they decide.

Two schedules of one seed start from the same dense network and see the same batches, so their difference is taken
within the seed. It is tested by Wilcoxon's signed-rank test (1945), exactly: were the two alike, a seed's difference
would as soon have the other sign, so every sign flip of the seeds is as likely as what was seen. That asks for seeds
that are independent and differences that are symmetric around the bound under test; it asks for no normal values.
However far a run fell, its difference has at most the greatest rank.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

TESTED_SEEDS = 5
"""With fewer seeds nothing is tested: 2^-5 is the first exact p value below ALPHA."""
CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
"""With which `seeds_needed` would decide."""
DIGITS = 9
"""Differences of per cents carry errors of about 1e-14; alike to so many digits they are equal."""
EXACT_SEEDS = 13
"""Up to which all 2^n sign flips are counted; of more seeds FLIPS random ones, the same in every call."""
FLIPS = 9_999


@dataclass(frozen=True)
class Difference:
    """Mean of n paired differences and its confidence interval (from two up); NaN for what n is too small.

    The interval is Student's, which one run far from the others widens; no verdict hangs on it.
    """

    n: int
    mean: float
    low: float = math.nan
    high: float = math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean, from the interval; NaN where there is none."""
        return (self.high - self.mean) / _t_quantile(self.n) if self.has_interval else math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


def _finite(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=float)
    return values[np.isfinite(values)]


def paired_difference(differences: ArrayLike) -> Difference:
    """Of one difference a seed; seeds without a number are left out. The interval of equal differences is a point."""
    values = _finite(differences)
    n = len(values)
    if n == 0:
        return Difference(0, math.nan)
    mean = float(values.mean())
    if n < 2:
        return Difference(n, mean)
    half = _t_quantile(n) * float(values.std(ddof=1)) / math.sqrt(n)
    return Difference(n, mean, mean - half, mean + half)


def _t_quantile(n: int) -> float:
    """Half the width of the interval of n values, in standard errors."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))


# Tests


def signed_rank_p(differences: ArrayLike) -> NDArray[np.float64]:
    """One-sided p values of Wilcoxon's signed-rank test for differences above 0, and what they are under sign flips.

    Differences of 0 have a rank and no sign (Pratt 1959), ties share their mean rank, and a seed without a number takes
    no part. A seed's sign flips in all comparisons at once, which keeps how these hang together.

    Args:
        differences: (seeds, comparisons), NaN where there is none.

    Returns:
        (flips, comparisons): first row what was seen, one row a sign flip; NaN for comparisons of fewer than
        TESTED_SEEDS seeds.
    """
    values = np.round(np.atleast_2d(np.asarray(differences, dtype=float)), DIGITS)
    ranks = np.nan_to_num(stats.rankdata(np.abs(values), axis=0, nan_policy="omit"))
    signed_ranks = np.nan_to_num(np.sign(values)) * ranks
    # halves of whole numbers: exact, whatever the order; in parts, since of very many seeds it is hundreds of megabytes
    sums = np.concatenate([part.astype(float) @ signed_ranks for part in np.array_split(_flips(len(values)), 64)])
    p = stats.rankdata(-sums, method="max", axis=0) / len(sums)
    return np.where(np.isfinite(values).sum(axis=0) < TESTED_SEEDS, math.nan, p)


@lru_cache(maxsize=4)
def _flips(seeds: int) -> NDArray[np.int8]:
    """(flips, seeds) of 1 and -1, the first row all 1."""
    signs = np.array([1, -1], np.int8)
    if seeds <= EXACT_SEEDS:
        return np.array(list(itertools.product(signs, repeat=seeds)), np.int8).reshape(2**seeds, seeds)
    generator = np.random.default_rng(0)
    return np.vstack([np.ones(seeds, np.int8), *(generator.choice(signs, seeds) for _ in range(FLIPS))])


def any_of_all_p(p: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> float:
    """p value of "in some group every comparison is above 0".

    All of a group: the largest of its p values needs no correction, as each of them must be small (the
    intersection-union test, Berger 1982). Some of the groups: the smallest p value against the smallest ones that sign
    flips have (Westfall and Young 1993), for the worst choice of a comparison from each group.

    Args:
        p: of `signed_rank_p`.
        groups: columns of `p`; a group with an untested comparison takes no part, and NaN is returned if none is left.
    """
    tested = [group for group in groups if group and not np.isnan(p[0, list(group)]).any()]
    if not tested:
        return math.nan
    seen = min(max(p[0, place] for place in group) for group in tested)
    return float(max((p[:, list(chosen)].min(axis=1) <= seen).mean() for chosen in itertools.product(*tested)))


def corrected_p(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(comparisons,): each p value of `signed_rank_p` as the smallest of so many (Westfall and Young 1993)."""
    tested = ~np.isnan(p[0])
    smallest = p[:, tested].min(axis=1) if tested.any() else np.empty(0)
    return np.array([(smallest <= value).mean() if value == value else math.nan for value in p[0]])


def seeds_needed(differences: ArrayLike, alpha: float = ALPHA) -> float:
    """How many seeds would show a difference above 0 with the power POWER, at the effect that is seen.

    Noether (1987) for the signed-rank test: (z(1 - alpha) + z(POWER))^2 / (3 (share - 1/2)^2), where `share` is that of
    the pairs of seeds whose two differences have a sum above 0. Where all of them have, that formula asks for twice too
    many: then it is the number that can reach `alpha` at all, which is the least in any case. Infinite
    where no effect in this direction is seen, NaN below three seeds.
    """
    values = np.round(_finite(differences), DIGITS)
    if len(values) < 3:
        return math.nan
    ordered, count = np.sort(values), len(values)
    above = int((count - np.searchsorted(ordered, -ordered, "right")).sum() - (values > 0).sum()) // 2  # pairs of two
    below = int(np.searchsorted(ordered, -ordered, "left").sum() - (values < 0).sum()) // 2
    share = ((above - below) / math.comb(count, 2) + 1) / 2
    if share <= 0.5:
        return math.inf
    least = math.ceil(-math.log2(alpha))
    z = stats.norm.ppf(1 - alpha) + stats.norm.ppf(POWER)
    return least if share == 1 else max(math.ceil(z**2 / (3 * (share - 0.5) ** 2)), least)


def mean_of_others(mean: float, std: float, n: int, others: int) -> tuple[float, float]:
    """Prediction interval (95 %) for the mean of `others` further runs, from mean and deviation of n, two or more.

    Of normal values: mean ± t std sqrt(1/n + 1/others), t of n - 1 degrees of freedom. Another kind of processor gives
    other dense networks, as other seeds do: its mean is one of other runs.
    """
    half = _t_quantile(n) * std * math.sqrt(1 / n + 1 / others)
    return mean - half, mean + half


def rank_correlation(first: Sequence[float | None], second: Sequence[float | None]) -> float:
    """Spearman's rank correlation over the rows that both have; NaN of fewer than three, or where all tie."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < 3 or any(len({pair[side] for pair in pairs}) == 1 for side in (0, 1)):
        return math.nan
    a, b = zip(*pairs, strict=True)
    return float(stats.spearmanr(a, b).statistic)


def improvement(*columns: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Share of pairs of runs, one of each row, in which the first row's is higher; ties one half; mean of the columns.

    columns: those of the first row, then as many of the second; runs along `axis`, the last one.
    """
    half = len(columns) // 2
    differences = (a[..., :, None] - b[..., None, :] for a, b in zip(columns[:half], columns[half:], strict=True))
    return np.mean([(np.sign(difference) + 1).mean(axis=(-2, -1)) / 2 for difference in differences], axis=0)


def probability_of_improvement(columns: Sequence[tuple[ArrayLike, ArrayLike]]) -> float:
    """P(a run of the first beats a run of the second), ties one half, averaged over columns.

    As in rliable (Agarwal et al., NeurIPS 2021): the Mann-Whitney statistic over the number of pairs of runs, not
    paired over seeds. Columns in which either has no run are left out; NaN if none remains.
    """
    both = [(a, b) for a, b in ((_finite(first), _finite(second)) for first, second in columns) if len(a) and len(b)]
    return float(np.mean([_share_above(a, b) for a, b in both])) if both else math.nan


def _share_above(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """`improvement` of one column, without a table of all pairs."""
    ordered = np.sort(second)
    twice = sum(int(np.searchsorted(ordered, first, side).sum()) for side in ("left", "right"))
    return twice / (len(first) * len(second)) / 2
