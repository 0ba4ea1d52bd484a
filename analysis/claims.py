"""What a published claim is, and how evidence decides it.

A claim is a set of paired comparisons, one difference a seed in the unit of the metric, positive where the first is
better. It is held only if every comparison
supports it and none is left to chance, not held if any contradicts it, and undecided otherwise: always with fewer
than five seeds. p values are Holm-corrected over the comparisons of the claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.statistics import ALPHA, TESTED_SEEDS, Difference
from benchmark.cells import plain
from benchmark.metric import ACCURACY, Metric

Verdict = Literal["held", "not held", "undecided"]
At = Callable[[str, float, str], Any]
"""(row, sparsity, budget) -> scores of which higher ones are better: a Series over seeds, or a published number."""
Key = tuple[str, float, str]
"""Row of the table (a schedule or a method), sparsity, budget ("" where there is none)."""


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by.

    Args:
        scores: values of the metric as tables show them, per key a Series over seeds; what is missing has no value.
        rows, sparsities, budgets: of the table, in its order.
        published: per key a mean accuracy in per cent.
        learning_rates: fingerprints of the learning rates used, in the same form as `scores`.
        factors: what a row is made of, where it is of several things; only rows that differ in one are compared. ""
            where a row has no such thing, as a method has not all hyperparameters: that alone is no difference.
        reached: sparsities that a column's rows ended at, where these differ; rows are compared where they are alike.
        epochs: in all, where a budget is that of each cycle; rows are compared where they have as many.
        metric: what the scores are values of.
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

    def measured_at(self, row: str, sparsity: float, budget: str) -> pd.Series:
        """Oriented, so that a positive difference is an improvement whatever the metric."""
        return self.metric.oriented(self.scores.get((row, sparsity, budget), pd.Series(dtype=float)))

    def published_at(self, row: str, sparsity: float, budget: str) -> float:
        """NaN where the scores are no accuracies, which a published number says nothing about."""
        return self.published.get((row, sparsity, budget), math.nan) if self.metric == ACCURACY else math.nan

    @property
    def columns(self) -> list[tuple[float, str]]:
        return [(sparsity, budget) for sparsity in self.sparsities for budget in self.budgets]


@dataclass(frozen=True)
class Contrast:
    """A difference that a claim is about; `of` takes measured scores and published ones alike."""

    label: str
    of: Callable[[At], Any]


@dataclass(frozen=True)
class Comparison:
    label: str
    difference: Difference
    p: float
    """Holm-corrected p value of what the claim says; NaN where nothing is tested: too few seeds, or the same runs."""
    published: float
    """The same difference of the published means; NaN where the paper has no such column."""


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Args:
        key: short name, for exports.
        statement: the claim.
        verdict: what the tests say of it.
        figures: one line: the differences, their number, n and p values, or why there is no verdict.
        method: the test.
        comparisons: the differences that the claim is about.
    """

    key: str
    statement: str
    verdict: Verdict
    figures: str
    method: str
    comparisons: tuple[Comparison, ...]


# Contrasts


def versus(first: str, second: str, sparsity: float, budget: str) -> Contrast:
    return Contrast(
        f"{first} - {second}, {column_words(sparsity, budget)}",
        lambda at: at(first, sparsity, budget) - at(second, sparsity, budget),
    )


def versus_on_average(first: str, second: str, columns: Sequence[tuple[float, str]]) -> Contrast:
    """Without a value for a seed in which either has no record in some column."""
    return Contrast(
        f"{first} - {second}, mean of the columns",
        lambda at: sum(at(first, *column) - at(second, *column) for column in columns) / len(columns),
    )


def per_seed(contrast: Contrast, evidence: Evidence) -> np.ndarray:
    return np.asarray(contrast.of(evidence.measured_at), dtype=float)


# Verdicts


def verdict_of(refuted: Sequence[bool], supported: Sequence[bool]) -> Verdict:
    """Of a claim's comparisons: not held if any is refuted, held if there are some and all are supported."""
    if any(refuted):
        return "not held"
    return "held" if supported and all(supported) else "undecided"


def directional(
    key: str, statement: str, contrasts: Sequence[Contrast], evidence: Evidence, remark: str = ""
) -> Finding:
    """Held if every contrast is above 0, not held if any is below, by paired t-tests."""
    comparisons = compared(contrasts, evidence)
    verdict = verdict_of([*map(is_below, comparisons)], [*map(is_above, comparisons)])
    figures = "; ".join(figures_of(evidence, comparisons, signs(comparisons)))
    return Finding(key, statement, verdict, figures, f"paired t-tests, Holm-corrected{remark}", comparisons)


def compared(
    contrasts: Sequence[Contrast],
    evidence: Evidence,
    p_of: Callable[[np.ndarray], float] = lambda values: statistics.paired_difference(values).p,
    same: Sequence[bool] = (),
) -> tuple[Comparison, ...]:
    """With what `p_of` says of the differences over seeds, Holm-corrected; NaN for contrasts of the `same` runs."""
    values = [per_seed(contrast, evidence) for contrast in contrasts]
    skipped = same or [False] * len(contrasts)
    p_values = [math.nan if skip else p_of(value) for skip, value in zip(skipped, values, strict=True)]
    return tuple(
        Comparison(contrast.label, statistics.paired_difference(value), p, float(contrast.of(evidence.published_at)))
        for contrast, value, p in zip(contrasts, values, statistics.holm(p_values), strict=True)
    )


def refuted(contrasts: Sequence[Contrast], evidence: Evidence, p_of: Callable[[np.ndarray], float]) -> list[bool]:
    """Whether `p_of` says so of each, Holm-corrected."""
    return [comparison.p < ALPHA for comparison in compared(contrasts, evidence, p_of)]


def is_above(comparison: Comparison) -> bool:
    return comparison.p < ALPHA and comparison.difference.mean > 0


def is_below(comparison: Comparison) -> bool:
    return comparison.p < ALPHA and comparison.difference.mean < 0


# Figures


def signs(comparisons: Sequence[Comparison]) -> str:
    above, below = sum(map(is_above, comparisons)), sum(map(is_below, comparisons))
    return f"{above} of {len(comparisons)} clearly above 0, {below} below"


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
    """The range of the differences, measured and published, with n and the largest p value of those tested."""
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
    tested = [comparison.p for comparison in comparisons if not math.isnan(comparison.p)]
    if min(seeds) >= TESTED_SEEDS and tested:
        parts.append(f"largest {p_words(max(tested))}")
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
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def budget_words(budget: str) -> str:
    return budget.replace("%", " %")


def per_cent(fraction: float) -> str:
    """With as many digits as tell it from every other fraction."""
    return f"{(Decimal(plain(fraction)) * 100).normalize():f} %"
