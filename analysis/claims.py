"""What a published claim is, and how evidence decides it.

A claim is about paired comparisons, one difference a seed in the unit of the metric, positive where the first is
better. It says of each what it has to be above or below. It is held if a test at the 5 % level shows that all of it is
so, not held if one shows the opposite of any part, and undecided otherwise: always with fewer than five seeds. A claim
is true or it is not, so only one of the two tests can err, and a wrong verdict has a chance of 5 % at most. What cannot
be otherwise is no finding: it is "by construction".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from analysis import statistics
from analysis.statistics import ALPHA, TESTED_SEEDS, Difference
from benchmark.cells import plain
from benchmark.metric import ACCURACY, Metric
from benchmark.results.records import TARGET_MARGIN

Verdict = Literal["held", "not held", "undecided", "by construction"]
At = Callable[[str, float, str], Any]
"""(row, sparsity, budget) -> scores of which higher ones are better: a Series over seeds, or a published number."""
Key = tuple[str, float, str]
"""Row of the table (a schedule or a method), sparsity, budget ("" where there is none)."""
NOTHING = pd.Series(dtype=float)


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by.

    Args:
        scores: values of the metric as tables show them, per key a Series over seeds; what is missing has no value.
        rows, sparsities, budgets: of the table, in its order.
        asked: its columns; None where every sparsity has every budget.
        published: per key a mean accuracy in per cent.
        learning_rates: fingerprints of the learning rates used, in the same form as `scores`.
        factors: what a row is made of, where it is of several things; only rows that differ in one are compared. ""
            where a row has no such thing, as a method has not all hyperparameters: that alone is no difference.
        reached: sparsities that a column's rows ended at, where these differ; rows are compared where they are alike.
        epochs: in all, where a budget is that of each cycle; rows are compared where they have as many.
        metric: what the scores are values of.
        validation: values of the metric by which settings are selected, in the same form as `scores`.
    """

    scores: Mapping[Key, pd.Series]
    rows: tuple[str, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[str, ...]
    published: Mapping[Key, float]
    learning_rates: Mapping[Key, pd.Series] = field(default_factory=dict)
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reached: Mapping[Key, float] = field(default_factory=dict)
    epochs: Mapping[Key, float] = field(default_factory=dict)
    metric: Metric = ACCURACY
    validation: Mapping[Key, pd.Series] = field(default_factory=dict)
    asked: Sequence[tuple[float, str]] | None = None

    def measured_at(self, row: str, sparsity: float, budget: str) -> pd.Series:
        """Oriented, so that a positive difference is an improvement whatever the metric."""
        return self._oriented.get((row, sparsity, budget), NOTHING)

    @cached_property
    def _oriented(self) -> dict[Key, pd.Series]:
        return {key: self.metric.oriented(scores) for key, scores in self.scores.items()}

    def published_at(self, row: str, sparsity: float, budget: str) -> float:
        """NaN where the scores are no accuracies, which a published number says nothing about."""
        return self.published.get((row, sparsity, budget), math.nan) if self.metric == ACCURACY else math.nan

    def as_sparse(self, first: Key, second: Key) -> bool:
        """Whether both ended at one sparsity, as far as is known."""
        reached = [self.reached.get(key, math.nan) for key in (first, second)]
        return not abs(reached[0] - reached[1]) > TARGET_MARGIN

    def as_long(self, first: Key, second: Key) -> bool:
        """Whether both were trained for as many epochs, as far as is known; 0.01 is rounding."""
        epochs = [self.epochs.get(key, math.nan) for key in (first, second)]
        return not abs(epochs[0] - epochs[1]) > 0.01

    @property
    def columns(self) -> Sequence[tuple[float, str]]:
        if self.asked is not None:
            return self.asked
        return [(sparsity, budget) for sparsity in self.sparsities for budget in self.budgets]


@dataclass(frozen=True)
class Contrast:
    """A difference that a claim is about.

    Args:
        label: in words.
        of: the difference, of measured scores and published ones alike.
        alike: what must have been as sparse as each other, and trained for as long.
    """

    label: str
    of: Callable[[At], Any]
    alike: tuple[tuple[Key, Key], ...] = ()

    def is_fair(self, evidence: Evidence) -> bool:
        return all(evidence.as_sparse(*keys) and evidence.as_long(*keys) for keys in self.alike)


@dataclass(frozen=True)
class Comparison:
    """A contrast with its figures.

    Args:
        label: of the contrast.
        difference: mean and interval.
        p: that it is as the claim says, one-sided; NaN where nothing is tested: too few seeds, or the same runs.
        published: the same difference of the published means; NaN where the paper has no such column.
        against: p value of the opposite, one-sided, corrected for the number of comparisons.
    """

    label: str
    difference: Difference
    p: float
    published: float
    against: float = math.nan


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Args:
        key: short name, for exports.
        statement: the claim.
        verdict: what the tests say of it.
        figures: one line: the differences, their number, n and p values, or why there is no verdict.
        method: the test, or why there is nothing to test.
        comparisons: the differences that the claim is about.
        needed: how many seeds would decide it, in words; "" where it is decided or nothing is known.
        hardest: place of the comparison that speaks least for the claim.
    """

    key: str
    statement: str
    verdict: Verdict
    figures: str
    method: str
    comparisons: tuple[Comparison, ...]
    needed: str = ""
    hardest: int = 0


# Contrasts


def versus(first: str, second: str, sparsity: float, budget: str) -> Contrast:
    return Contrast(
        f"{first} - {second}, {column_words(sparsity, budget)}",
        lambda at: at(first, sparsity, budget) - at(second, sparsity, budget),
        (((first, sparsity, budget), (second, sparsity, budget)),),
    )


def versus_on_average(first: str, second: str, columns: Sequence[tuple[float, str]]) -> Contrast:
    """Without a value for a seed in which either has no record in some column."""
    return Contrast(
        f"{first} - {second}, mean of the columns",
        lambda at: sum(at(first, *column) - at(second, *column) for column in columns) / len(columns),
        tuple(((first, *column), (second, *column)) for column in columns),
    )


def per_seed(contrast: Contrast, evidence: Evidence) -> pd.Series:
    """The difference over seeds; empty where what is compared was not as sparse, or not trained for as long."""
    difference = contrast.of(evidence.measured_at) if contrast.is_fair(evidence) else None
    return pd.Series(dtype=float) if difference is None else difference.astype(float)


# Figures


def is_above(comparison: Comparison) -> bool:
    return comparison.p < ALPHA


def is_below(comparison: Comparison) -> bool:
    return comparison.against < ALPHA


def signs(comparisons: Sequence[Comparison], bound: str = "0") -> str:
    above, below = sum(map(is_above, comparisons)), sum(map(is_below, comparisons))
    return f"{above} of {len(comparisons)} clearly above {bound}, {below} below"


def improvement(evidence: Evidence, names: Sequence[str], others: Sequence[str]) -> str:
    """Probability that a run of each of `names` beats a run of any of `others`, over all columns."""
    shares = []
    for name in names:
        pairs = [
            (evidence.measured_at(name, s, b).to_numpy(), evidence.measured_at(other, s, b).to_numpy())
            for s, b in evidence.columns
            for other in others
        ]
        share = statistics.probability_of_improvement(pairs)
        shares.append(f"{name} {'-' if math.isnan(share) else format(share, '.2f')}")
    return f"probability of improvement over the others: {', '.join(shares)}"


def figures_of(evidence: Evidence, comparisons: Sequence[Comparison], counts: str) -> list[str]:
    """The range of the differences, measured and published, and over how many seeds."""
    seeds = [comparison.difference.n for comparison in comparisons]
    means = [comparison.difference.mean for comparison in comparisons if comparison.difference.n]
    if not means:
        return ["No records to compare"]
    parts = [f"Differences {_range(means)} {evidence.metric.behind_differences}"]
    published = [comparison.published for comparison in comparisons if not math.isnan(comparison.published)]
    if published:
        parts[0] += f" (published {_range(published)})"
    few = f": too few for a test, which is made from {TESTED_SEEDS} up" if max(seeds) < TESTED_SEEDS else ""
    parts.append(f"n = {seeds_words(seeds)}{few}")
    if max(seeds) >= TESTED_SEEDS:
        parts.append(counts)
    return parts


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):+.2f}", f"{max(values):+.2f}"
    return low if low == high else f"{low} to {high}"


def seeds_words(counts: Sequence[int], what: str = "seed") -> str:
    """Numbers of seeds, or of what else, as one range: 3 seeds, or 1 to 3 seeds."""
    low, high = min(counts), max(counts)
    return f"{high} {what}{'' if high == 1 else 's'}" if low == high else f"{low} to {high} {what}s"


def column_words(sparsity: float, budget: str) -> str:
    return f"{per_cent(sparsity)} at {budget_words(budget)}" if budget else per_cent(sparsity)


def p_words(p: float) -> str:
    return "no test" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def budget_words(budget: str) -> str:
    return budget.replace("%", " %")


def per_cent(fraction: float) -> str:
    """With as many digits as tell it from every other fraction."""
    return f"{(Decimal(plain(fraction)) * 100).normalize():f} %"
