"""Rows of a table compared pair by pair over all of its columns."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from analysis import statistics
from analysis.claims import Evidence, per_seed, versus_on_average
from analysis.statistics import ALPHA, TESTED_SEEDS, Difference


@dataclass(frozen=True)
class Pair:
    """Mean difference of the first row to the second, in accuracy points averaged over the columns within a seed.

    p: Holm-corrected over all pairs, NaN below TESTED_SEEDS. improvement: probability that a run of the first beats
    one of the second in the same column (ties one half), averaged over the columns; not paired.
    """

    first: str
    second: str
    difference: Difference
    p: float
    improvement: float

    @property
    def ahead(self) -> str:
        """The row that is clearly better, or "undecided"."""
        if math.isnan(self.p) or self.p >= ALPHA:
            return "undecided"
        return self.first if self.difference.mean > 0 else self.second


def pairs(evidence: Evidence) -> tuple[Pair, ...]:
    """Every pair of rows that have records; the row that is higher up comes first."""
    rows = [row for row in evidence.rows if any(len(evidence.ours(row, *column)) for column in evidence.columns)]
    found = []
    for first, second in itertools.combinations(rows, 2):
        difference = statistics.paired_difference(
            per_seed(versus_on_average(first, second, evidence.columns), evidence)
        )
        share = statistics.probability_of_improvement(
            [(evidence.ours(first, *column), evidence.ours(second, *column)) for column in evidence.columns]
        )
        found.append((first, second, difference, share))
    adjusted = statistics.holm([difference.p for _, _, difference, _ in found])
    return tuple(
        Pair(first, second, difference, p, share)
        for (first, second, difference, share), p in zip(found, adjusted, strict=True)
    )


def summary(found: tuple[Pair, ...]) -> str:
    """One sentence: how many pairs are decided, and which."""
    seeds = max((pair.difference.n for pair in found), default=0)
    if seeds < TESTED_SEEDS:
        return (
            f"All {len(found)} pairs are undecided: at most {seeds} seeds have every column, "
            f"and a test is made from {TESTED_SEEDS} up"
        )
    decided = [
        f"{pair.ahead} over {pair.second if pair.ahead == pair.first else pair.first}"
        for pair in found
        if pair.p < ALPHA
    ]
    named = f": {', '.join(decided)}" if decided else ""
    return f"{len(decided)} of {len(found)} pairs differ clearly{named}"
