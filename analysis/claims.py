"""What a claim of the paper is, and how evidence decides it; claims_table1.py and claims_table2.py list the claims.

A claim is a set of paired comparisons, one difference in accuracy points a seed. It is held only if every comparison
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

Verdict = Literal["held", "not held", "undecided"]
At = Callable[[str, float, str], Any]
"""(row, sparsity, budget) -> accuracy in per cent: a Series over seeds, or a number for the published table."""
Key = tuple[str, float, str]
"""Row of the table (a schedule or a method), sparsity, budget ("" where there is none)."""


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by. Accuracies in per cent."""

    accuracy: Mapping[Key, pd.Series]
    """Per key a Series over seeds; what is missing has no value."""
    rows: tuple[str, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[str, ...]
    published: Mapping[Key, float]
    learning_rates: Mapping[Key, pd.Series] = field(default_factory=dict)
    """Fingerprints of the learning rates used, in the same form as `accuracy`."""
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a row is made of, where it is of several things: then rows are compared that differ in one of them.

    "" where a row has no such thing, as a method has not all hyperparameters: that alone is no difference.
    """
    reached: Mapping[Key, float] = field(default_factory=dict)
    """Sparsities that a column's rows ended at, where these differ: then rows are compared where they are alike."""
    epochs: Mapping[Key, float] = field(default_factory=dict)
    """Retraining epochs in all where a budget is that of each cycle: rows are compared where they have as many."""

    def ours(self, row: str, sparsity: float, budget: str) -> pd.Series:
        return self.accuracy.get((row, sparsity, budget), pd.Series(dtype=float))

    def theirs(self, row: str, sparsity: float, budget: str) -> float:
        return self.published.get((row, sparsity, budget), math.nan)

    @property
    def columns(self) -> list[tuple[float, str]]:
        return [(sparsity, budget) for sparsity in self.sparsities for budget in self.budgets]


@dataclass(frozen=True)
class Contrast:
    """A difference that a claim is about; `of` is applied to our accuracies and to the published ones alike."""

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
    key: str
    statement: str
    verdict: Verdict
    figures: str
    """One line: the differences, their number, n and p values, or why there is no verdict."""
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
    return np.asarray(contrast.of(evidence.ours), dtype=float)


# Verdicts


def directional(
    key: str, statement: str, contrasts: Sequence[Contrast], evidence: Evidence, remark: str = ""
) -> Finding:
    """Held if every contrast is above 0, not held if any is below, by paired t-tests."""
    values = [per_seed(contrast, evidence) for contrast in contrasts]
    adjusted = statistics.holm([statistics.paired_difference(value).p for value in values])
    comparisons = compared(contrasts, values, adjusted, evidence)
    verdict: Verdict = "undecided"
    if any(is_below(comparison) for comparison in comparisons):
        verdict = "not held"
    elif comparisons and all(is_above(comparison) for comparison in comparisons):
        verdict = "held"
    figures = "; ".join(figures_of(comparisons, signs(comparisons)))
    return Finding(key, statement, verdict, figures, f"paired t-tests, Holm-corrected{remark}", comparisons)


def compared(
    contrasts: Sequence[Contrast], values: Sequence[np.ndarray], adjusted: Sequence[float], evidence: Evidence
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(contrast.label, statistics.paired_difference(value), p, float(contrast.of(evidence.theirs)))
        for contrast, value, p in zip(contrasts, values, adjusted, strict=True)
    )


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
            (evidence.ours(name, s, b).to_numpy(), evidence.ours(other, s, b).to_numpy())
            for s, b in evidence.columns
            for other in others
        ]
        share = statistics.probability_of_improvement(pairs)
        shares.append(f"{name} {'-' if math.isnan(share) else format(share, '.2f')}")
    return f"probability of improvement over the others: {', '.join(shares)}"


def figures_of(comparisons: Sequence[Comparison], counts: str) -> list[str]:
    """The range of the differences, ours and published, with n and the largest p value of those tested."""
    seeds = [comparison.difference.n for comparison in comparisons]
    means = [comparison.difference.mean for comparison in comparisons if comparison.difference.n]
    if not means:
        return ["No records to compare"]
    parts = [f"Differences {_range(means)} points"]
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
