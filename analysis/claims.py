"""The paper's claims about Table 1, each a small function from evidence to a verdict.

A claim is a set of paired comparisons, one difference in accuracy points a seed. It is held only if every comparison
supports it and none is left to chance, not held if any contradicts it, and undecided otherwise: always with fewer
than three seeds. p values are Holm-corrected over the comparisons of the claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.statistics import ALPHA, MIN_SEEDS, Difference

LARGE = ("SLR", "CLR", "LLR", "ALLR")
"""Schedules that start retraining at a large learning rate."""
EQUIVALENCE_MARGIN = 0.05
"""Accuracy points within which LRW and FT count as equal; the published rows agree to 0.01."""

GAP = f"; the gap is the mean of {', '.join(LARGE)} minus FT, within a seed"
OTHER_SPARSITIES = "; at 70 and 80 % the gaps of the paper's own means do not all shrink with budget"

Verdict = Literal["held", "not held", "undecided"]
At = Callable[[str, float, str], Any]
"""(schedule, sparsity, budget) -> accuracy in per cent: a Series over seeds, or a number for the published table."""
Key = tuple[str, float, str]


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by. Accuracies in per cent."""

    accuracy: Mapping[Key, pd.Series]
    """Per (schedule, sparsity, budget) a Series over seeds; what is missing has no value."""
    schedules: tuple[str, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[str, ...]
    published: Mapping[Key, float]
    learning_rates: Mapping[Key, pd.Series] = field(default_factory=dict)
    """Fingerprints of the learning rates used, in the same form as `accuracy`."""

    def ours(self, schedule: str, sparsity: float, budget: str) -> pd.Series:
        return self.accuracy.get((schedule, sparsity, budget), pd.Series(dtype=float))

    def theirs(self, schedule: str, sparsity: float, budget: str) -> float:
        return self.published.get((schedule, sparsity, budget), math.nan)

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
    """Holm-corrected p value of what the claim says; NaN where there are too few seeds."""
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


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Every claim of CLAIMS, in the paper's order."""
    return tuple(claim(evidence) for claim in CLAIMS)


# The claims


def lrw_equals_ft(evidence: Evidence) -> Finding:
    """Both retrain at the last dense learning rate as long as the budget fits into the dense run's last plateau."""
    contrasts = [_versus("LRW", "FT", sparsity, budget) for sparsity, budget in evidence.columns]
    values = [_per_seed(contrast, evidence) for contrast in contrasts]
    inside = statistics.holm([statistics.equivalence_p(value, EQUIVALENCE_MARGIN) for value in values])
    outside = statistics.holm([statistics.beyond_p(value, EQUIVALENCE_MARGIN) for value in values])
    comparisons = _compared(contrasts, values, inside, evidence)
    equal = sum(p < ALPHA for p in inside)
    verdict: Verdict = "undecided"
    if any(p < ALPHA for p in outside):
        verdict = "not held"
    elif equal == len(inside):
        verdict = "held"
    counts = f"{equal} of {len(inside)} within ±{EQUIVALENCE_MARGIN} points"
    return Finding(
        "lrw-equals-ft",
        "LRW equals FT at these budgets",
        verdict,
        "; ".join(_figures(comparisons, counts) + _same_rates(evidence)),
        f"two one-sided paired t-tests per column, equivalence within ±{EQUIVALENCE_MARGIN} points, Holm-corrected",
        comparisons,
    )


def large_rates_beat_ft(evidence: Evidence) -> Finding:
    sparsity = max(evidence.sparsities)
    contrasts = [_versus(name, "FT", sparsity, budget) for name in LARGE for budget in evidence.budgets]
    statement = f"At {per_cent(sparsity)} sparsity every large-learning-rate schedule ({', '.join(LARGE)}) beats FT"
    return _directional("large-rates-beat-ft", statement, contrasts, evidence)


def linear_on_top(evidence: Evidence) -> Finding:
    """Averaged over the columns: one by one they are decided by fractions of a point, in as many tests as entries."""
    linear = ("ALLR", "LLR")
    others = [name for name in evidence.schedules if name not in linear]
    contrasts = [_versus_on_average(name, other, evidence.columns) for name in linear for other in others]
    values = [_per_seed(contrast, evidence) for contrast in contrasts]
    adjusted = statistics.holm([statistics.paired_difference(value).p for value in values])
    comparisons = _compared(contrasts, values, adjusted, evidence)
    rows = [comparisons[: len(others)], comparisons[len(others) :]]
    verdict: Verdict = "undecided"
    if any(all(_below(comparison) for comparison in rivals) for rivals in zip(*rows, strict=True)):
        verdict = "not held"
    elif others and any(all(_above(comparison) for comparison in row) for row in rows):
        verdict = "held"
    figures = _figures(comparisons, _signs(comparisons))
    figures += [_top_columns(evidence, linear), _improvement(evidence, linear, others)]
    return Finding(
        "linear-on-top",
        "ALLR or LLR is on top (averaged over the columns)",
        verdict,
        "; ".join(figures),
        "paired t-tests of ALLR and of LLR against every other schedule, accuracies averaged over the columns within a "
        "seed, Holm-corrected; held if one of the two beats all others, not held if another schedule beats both",
        comparisons,
    )


def gap_shrinks_with_budget(evidence: Evidence) -> Finding:
    """At the highest sparsity, since the published table does not show it at the others."""
    sparsity = max(evidence.sparsities)
    contrasts = [
        _gap_change((sparsity, short), (sparsity, long))
        for short, long in zip(evidence.budgets, evidence.budgets[1:], strict=False)
    ]
    statement = (
        f"At {per_cent(sparsity)} sparsity the gap of the large-learning-rate schedules to FT shrinks with budget"
    )
    return _directional("gap-shrinks-with-budget", statement, contrasts, evidence, GAP + OTHER_SPARSITIES)


def gap_grows_with_sparsity(evidence: Evidence) -> Finding:
    contrasts = [
        _gap_change((high, budget), (low, budget))
        for budget in evidence.budgets
        for low, high in zip(evidence.sparsities, evidence.sparsities[1:], strict=False)
    ]
    statement = "The gap of the large-learning-rate schedules to FT grows with sparsity"
    return _directional("gap-grows-with-sparsity", statement, contrasts, evidence, GAP)


CLAIMS: tuple[Callable[[Evidence], Finding], ...] = (
    lrw_equals_ft,
    large_rates_beat_ft,
    linear_on_top,
    gap_shrinks_with_budget,
    gap_grows_with_sparsity,
)


# Contrasts


def _versus(first: str, second: str, sparsity: float, budget: str) -> Contrast:
    return Contrast(
        f"{first} - {second}, {_column(sparsity, budget)}",
        lambda at: at(first, sparsity, budget) - at(second, sparsity, budget),
    )


def _versus_on_average(first: str, second: str, columns: Sequence[tuple[float, str]]) -> Contrast:
    """Without a value for a seed in which either has no record in some column."""
    return Contrast(
        f"{first} - {second}, mean of the columns",
        lambda at: sum(at(first, *column) - at(second, *column) for column in columns) / len(columns),
    )


def _gap_change(larger: tuple[float, str], smaller: tuple[float, str]) -> Contrast:
    def gap(at: At, column: tuple[float, str]) -> Any:
        return sum(at(name, *column) for name in LARGE) / len(LARGE) - at("FT", *column)

    return Contrast(f"gap, {_column(*larger)} minus {_column(*smaller)}", lambda at: gap(at, larger) - gap(at, smaller))


def _per_seed(contrast: Contrast, evidence: Evidence) -> np.ndarray:
    return np.asarray(contrast.of(evidence.ours), dtype=float)


# Verdicts


def _directional(
    key: str, statement: str, contrasts: Sequence[Contrast], evidence: Evidence, remark: str = ""
) -> Finding:
    """Held if every contrast is above 0, not held if any is below, by paired t-tests."""
    values = [_per_seed(contrast, evidence) for contrast in contrasts]
    adjusted = statistics.holm([statistics.paired_difference(value).p for value in values])
    comparisons = _compared(contrasts, values, adjusted, evidence)
    verdict: Verdict = "undecided"
    if any(_below(comparison) for comparison in comparisons):
        verdict = "not held"
    elif comparisons and all(_above(comparison) for comparison in comparisons):
        verdict = "held"
    figures = "; ".join(_figures(comparisons, _signs(comparisons)))
    return Finding(key, statement, verdict, figures, f"paired t-tests, Holm-corrected{remark}", comparisons)


def _compared(
    contrasts: Sequence[Contrast], values: Sequence[np.ndarray], adjusted: Sequence[float], evidence: Evidence
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(contrast.label, statistics.paired_difference(value), p, float(contrast.of(evidence.theirs)))
        for contrast, value, p in zip(contrasts, values, adjusted, strict=True)
    )


def _above(comparison: Comparison) -> bool:
    return comparison.p < ALPHA and comparison.difference.mean > 0


def _below(comparison: Comparison) -> bool:
    return comparison.p < ALPHA and comparison.difference.mean < 0


# Figures


def _signs(comparisons: Sequence[Comparison]) -> str:
    above, below = sum(map(_above, comparisons)), sum(map(_below, comparisons))
    return f"{above} of {len(comparisons)} clearly above 0, {below} below"


def _same_rates(evidence: Evidence) -> list[str]:
    """How many LRW runs used the very learning rates of their FT run, where records say it."""
    same = pairs = 0
    for sparsity, budget in evidence.columns:
        both = [evidence.learning_rates.get((name, sparsity, budget)) for name in ("LRW", "FT")]
        if both[0] is not None and both[1] is not None:
            pair = pd.concat(both, axis=1, join="inner").dropna()
            pairs += len(pair)
            same += int((pair.iloc[:, 0] == pair.iloc[:, 1]).sum())
    return [f"same learning rates in {same} of {pairs} pairs of runs"] if pairs else []


def _top_columns(evidence: Evidence, names: Sequence[str]) -> str:
    """In how many columns the highest mean, as printed, is one of `names`."""
    top = filled = 0
    for sparsity, budget in evidence.columns:
        means = {name: evidence.ours(name, sparsity, budget).mean() for name in evidence.schedules}
        means = {name: round(mean, 2) for name, mean in means.items() if not math.isnan(mean)}
        if means:
            filled += 1
            top += any(means.get(name) == max(means.values()) for name in names)
    return f"highest mean in {top} of {filled} columns"


def _improvement(evidence: Evidence, names: Sequence[str], others: Sequence[str]) -> str:
    """Probability that a run of each of `names` beats a run of another schedule, over all columns."""
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


def _figures(comparisons: Sequence[Comparison], counts: str) -> list[str]:
    """The range of the differences, ours and published, with n and the largest p value."""
    seeds = [comparison.difference.n for comparison in comparisons]
    means = [comparison.difference.mean for comparison in comparisons if comparison.difference.n]
    if not means:
        return ["No records to compare"]
    parts = [f"Differences {_range(means)} points"]
    published = [comparison.published for comparison in comparisons if not math.isnan(comparison.published)]
    if published:
        parts[0] += f" (published {_range(published)})"
    parts.append(f"n = {_count(seeds)}" + (": too few for a test" if max(seeds) < MIN_SEEDS else ""))
    if min(seeds) >= MIN_SEEDS:
        parts.append(f"largest {p_words(max(comparison.p for comparison in comparisons))}")
    if max(seeds) >= MIN_SEEDS:
        parts.append(counts)
    return parts


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):+.2f}", f"{max(values):+.2f}"
    return low if low == high else f"{low} to {high}"


def _count(seeds: Sequence[int]) -> str:
    low, high = min(seeds), max(seeds)
    return f"{high} seed{'' if high == 1 else 's'}" if low == high else f"{low} to {high} seeds"


def _column(sparsity: float, budget: str) -> str:
    return f"{per_cent(sparsity)} at {budget_words(budget)}"


def p_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def budget_words(budget: str) -> str:
    return budget.replace("%", " %")


def per_cent(fraction: float) -> str:
    return f"{fraction * 100:g} %"
