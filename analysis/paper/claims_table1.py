"""The paper's claims about Table 1, retraining schedules, each a small function from evidence to a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from analysis import claims
from analysis.claims import At, Contrast, Evidence, Finding, column_words, per_cent
from analysis.verdicts import Half, directional, equivalence, judged
from benchmark.metric import ACCURACY

SCHEDULES = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")
"""Rows of the published table, which the claims are about."""
LARGE = ("SLR", "CLR", "LLR", "ALLR")
"""Schedules that start retraining at a large learning rate."""
EQUIVALENCE_MARGIN = 0.05
"""Points within which LRW and FT count as equal; the published rows agree to 0.01."""

GAP = f"; the gap is the mean of {', '.join(LARGE)} minus FT, within a seed"
OTHER_SPARSITIES = "; at 70 and 80 % the gaps of the paper's own means do not all shrink with budget"


def lrw_equals_ft(evidence: Evidence) -> Finding:
    """Both retrain at the last dense learning rate as long as the budget fits into the dense run's last plateau.

    Where all pairs of runs did and ended alike, they are the same runs by construction, and nothing is found out.
    """
    contrasts = [claims.versus("LRW", "FT", sparsity, budget) for sparsity, budget in evidence.columns]
    same = [_same_runs(evidence, *column) for column in evidence.columns]
    statement = "LRW equals FT at these budgets"
    finding = equivalence("lrw-equals-ft", statement, contrasts, evidence, EQUIVALENCE_MARGIN, _same_rates(evidence))
    if not (same and all(same)):
        return finding
    reason = (
        "none, as both used the same learning rates from the same pruned network: the budgets fit into the dense run's "
        "last plateau, so that what LRW rewinds to is the rate that FT keeps"
    )
    figures = "; ".join(claims.figures_of(evidence, finding.comparisons, "the same runs") + _same_rates(evidence))
    return Finding(finding.key, statement, "by construction", figures, reason, finding.comparisons, "", finding.hardest)


def large_rates_beat_ft(evidence: Evidence) -> Finding:
    sparsity = max(evidence.sparsities)
    contrasts = [
        claims.versus(name, "FT", sparsity, budget) for name in LARGE for budget in _budgets(evidence, sparsity)
    ]
    statement = f"At {per_cent(sparsity)} sparsity every large-learning-rate schedule ({', '.join(LARGE)}) beats FT"
    return directional("large-rates-beat-ft", statement, contrasts, evidence)


def allr_is_best(evidence: Evidence) -> Finding:
    """The paper's headline: ALLR has the highest published mean in each of the nine columns.

    Averaged over the columns, as one by one they are decided by fractions of a point.
    """
    others = [name for name in SCHEDULES if name != "ALLR"]
    contrasts = [claims.versus_on_average("ALLR", other, evidence.columns) for other in others]
    return directional(
        "allr-is-best",
        "ALLR is best: above every other schedule (averaged over the columns)",
        contrasts,
        evidence,
        f"; {_values(evidence)} averaged over the columns within a seed",
        extra=[_top_columns(evidence, ("ALLR",))],
    )


def linear_on_top(evidence: Evidence) -> Finding:
    """Averaged over the columns: one by one they are decided by fractions of a point, in as many tests as entries."""
    linear = ("ALLR", "LLR")
    others = [name for name in SCHEDULES if name not in linear]
    pairs = [(name, other) for name in linear for other in others]
    contrasts = [claims.versus_on_average(*pair, evidence.columns) for pair in pairs]
    return judged(
        "linear-on-top",
        "ALLR or LLR is on top (averaged over the columns)",
        contrasts,
        evidence,
        [[Half(pairs.index((name, other))) for other in others] for name in linear],
        [[Half(pairs.index((name, other)), above=False) for name in linear] for other in others],
        f"signed-rank tests of ALLR and of LLR against every other schedule, {_values(evidence)} averaged over the "
        "columns within a seed: one of the two above all others, or another schedule above both",
        [_top_columns(evidence, linear), claims.improvement(evidence, linear, others)],
    )


def gap_shrinks_with_budget(evidence: Evidence) -> Finding:
    """At the highest sparsity, since the published table does not show it at the others."""
    sparsity = max(evidence.sparsities)
    contrasts = [
        _gap_change((sparsity, short), (sparsity, long)) for short, long in pairwise(_budgets(evidence, sparsity))
    ]
    statement = (
        f"At {per_cent(sparsity)} sparsity the gap of the large-learning-rate schedules to FT shrinks with budget"
    )
    return directional("gap-shrinks-with-budget", statement, contrasts, evidence, GAP + OTHER_SPARSITIES)


def gap_grows_with_sparsity(evidence: Evidence) -> Finding:
    contrasts = [
        _gap_change((high, budget), (low, budget))
        for budget in evidence.budgets
        for low, high in pairwise(sparsity for sparsity, other in evidence.columns if other == budget)
    ]
    statement = "The gap of the large-learning-rate schedules to FT grows with sparsity"
    return directional("gap-grows-with-sparsity", statement, contrasts, evidence, GAP)


CLAIMS = (
    large_rates_beat_ft,
    allr_is_best,
    linear_on_top,
    gap_shrinks_with_budget,
    gap_grows_with_sparsity,
    lrw_equals_ft,
)
MARGINS = (lrw_equals_ft,)
"""The claims that have a margin in points."""


def _budgets(evidence: Evidence, sparsity: float) -> list[str]:
    return [budget for other, budget in evidence.columns if other == sparsity]


def _gap_change(larger: tuple[float, str], smaller: tuple[float, str]) -> Contrast:
    def gap(at: At, column: tuple[float, str]) -> Any:
        return sum(at(name, *column) for name in LARGE) / len(LARGE) - at("FT", *column)

    return Contrast(
        f"gap, {column_words(*larger)} minus {column_words(*smaller)}",
        lambda at: gap(at, larger) - gap(at, smaller),
        tuple(((name, *column), ("FT", *column)) for name in LARGE for column in (larger, smaller)),
    )


def _same_runs(evidence: Evidence, sparsity: float, budget: str) -> bool:
    """Whether LRW and FT had the same learning rates and scores in every seed, of one or more."""
    differences = evidence.measured_at("LRW", sparsity, budget) - evidence.measured_at("FT", sparsity, budget)
    seeds = differences.dropna().index
    rates = _rates_agree(evidence, sparsity, budget).reindex(seeds)  # NaN where a record does not say its rates
    return len(seeds) > 0 and bool((differences[seeds] == 0).all() and rates.eq(True).all())


def _rates_agree(evidence: Evidence, sparsity: float, budget: str) -> pd.Series:
    """Per seed whether LRW used the very learning rates of FT, where records say both."""
    both = [evidence.learning_rates.get((name, sparsity, budget)) for name in ("LRW", "FT")]
    if both[0] is None or both[1] is None:
        return pd.Series(dtype=object)
    pair = pd.concat(both, axis=1, join="inner").dropna()
    return pair.iloc[:, 0] == pair.iloc[:, 1]


def _same_rates(evidence: Evidence) -> list[str]:
    """How many LRW runs used the very learning rates of their FT run, where records say it."""
    agree = [_rates_agree(evidence, *column) for column in evidence.columns]
    pairs, same = sum(map(len, agree)), sum(int(column.sum()) for column in agree)
    return [f"same learning rates in {same} of {pairs} pairs of runs"] if pairs else []


def _values(evidence: Evidence) -> str:
    return "accuracies" if evidence.metric == ACCURACY else f"{evidence.metric.label} values"


def _top_columns(evidence: Evidence, names: Sequence[str]) -> str:
    """In how many columns the best mean, as printed, is one of `names`."""
    top = filled = 0
    for sparsity, budget in evidence.columns:
        means = {name: evidence.measured_at(name, sparsity, budget).mean() for name in SCHEDULES}
        means = {name: round(mean, 2) for name, mean in means.items() if not math.isnan(mean)}
        if means:
            filled += 1
            top += any(means.get(name) == max(means.values()) for name in names)
    return f"{'highest' if evidence.metric.higher_is_better else 'lowest'} mean in {top} of {filled} columns"
