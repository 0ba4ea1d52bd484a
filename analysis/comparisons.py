"""Rows of a table compared pair by pair over all of its columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.claims import Evidence, per_seed, versus_on_average
from analysis.statistics import ALPHA, TESTED_SEEDS, Difference

NAMED = 12
"""Pairs that a sentence names at most; all of them are in the list."""


@dataclass(frozen=True)
class Pair:
    """Two rows compared over the columns in which both have records, of one sparsity and as many epochs.

    Args:
        first, second: their labels.
        difference: the first minus the second, in the unit of the metric, averaged over the columns within a seed;
            positive where the first is better.
        p: two-sided, corrected for the number of pairs; NaN below TESTED_SEEDS.
        improvement: probability that a run of the first beats one of the second in the same column (ties one half),
            averaged over the columns; not paired.
        first_leads: whether the ranks of the differences speak for the first; one run that fell far may turn the mean.
    """

    first: str
    second: str
    difference: Difference
    p: float
    improvement: float
    first_leads: bool = True

    @property
    def ahead(self) -> str:
        """The row that is clearly better, or "undecided"."""
        if math.isnan(self.p) or self.p >= ALPHA:
            return "undecided"
        return self.first if self.first_leads else self.second


def pairs(evidence: Evidence) -> tuple[Pair, ...]:
    """Every pair of rows that share a column (and differ in one factor); the row higher up comes first."""
    compared = []
    for first, second in itertools.combinations(evidence.rows, 2):
        columns = [column for column in evidence.columns if _share(evidence, first, second, column)]
        if not columns or not _comparable(evidence, first, second):
            continue
        differences = per_seed(versus_on_average(first, second, columns), evidence)
        share = statistics.probability_of_improvement(
            [(evidence.measured_at(first, *column), evidence.measured_at(second, *column)) for column in columns]
        )
        compared.append((first, second, differences, share))
    tests = _two_sided([differences for _, _, differences, _ in compared])
    return tuple(
        Pair(first, second, statistics.paired_difference(differences), p, share, leads)
        for (first, second, differences, share), (p, leads) in zip(compared, tests, strict=True)
    )


def _two_sided(differences: Sequence[pd.Series]) -> list[tuple[float, bool]]:
    """(p, whether the first leads) of every pair: either sign is a comparison of its own, and all are corrected for."""
    if not differences:
        return []
    table = pd.concat(differences, axis=1).to_numpy(dtype=float)
    above, below = np.split(statistics.corrected_p(statistics.signed_rank_p(np.hstack([table, -table]))), 2)
    return list(zip(np.minimum(above, below).tolist(), (above < below).tolist(), strict=True))


def _comparable(evidence: Evidence, first: str, second: str) -> bool:
    if not evidence.factors:
        return True
    both = zip(evidence.factors[first], evidence.factors[second], strict=True)
    return sum(a != b for a, b in both if a and b) == 1


def _share(evidence: Evidence, first: str, second: str, column: tuple[float, str]) -> bool:
    """Whether both rows have records in the column, and these one sparsity and as many epochs, as far as is known."""
    keys = (first, *column), (second, *column)
    if not all(len(evidence.measured_at(*key)) for key in keys):
        return False
    return evidence.as_sparse(*keys) and evidence.as_long(*keys)


def summary(pairs: tuple[Pair, ...]) -> str:
    """One sentence: how many pairs are decided, and which if they are few."""
    seeds = max((pair.difference.n for pair in pairs), default=0)
    if seeds < TESTED_SEEDS:
        have = "seed has" if seeds == 1 else "seeds have"
        return (
            f"All {len(pairs)} pairs are undecided: at most {seeds} {have} both rows, "
            f"and a test is made from {TESTED_SEEDS} up"
        )
    decided = [
        f"{pair.ahead} over {pair.second if pair.ahead == pair.first else pair.first}"
        for pair in pairs
        if pair.p < ALPHA
    ]
    named = f": {', '.join(decided)}" if 0 < len(decided) <= NAMED else ""
    return f"{len(decided)} of {len(pairs)} pairs differ clearly{named}"
