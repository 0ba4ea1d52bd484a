"""What every format draws, and the words that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from analysis.claims import Comparison, Finding, p_words
from analysis.comparisons import Pair, summary
from analysis.statistics import ALPHA, CONFIDENCE, TESTED_SEEDS, Difference
from analysis.tables import MARKED_RANKS, Column, Entry, Table

MISSING = "–"
"""No record of what was asked for; what nobody asked for is blank."""
FLAG = "†"
SHOWN_FLAGS = 12


@dataclass(frozen=True)
class Sheet:
    """The tables of one sweep on one recipe, and what they say about the paper's claims."""

    slug: str
    """Stem of its files, such as table1-digits."""
    sweep: str
    problem: str
    recipe: str
    tables: tuple[Table, ...]
    findings: tuple[Finding, ...] = ()
    pairs: tuple[Pair, ...] = ()
    """The rows of the first table compared."""
    pairing: str = "one seed, one dense network"
    """What runs of one seed share, which makes them pairs."""
    records: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    """What the sheet was made of, for exports: columns as in analysis.records."""


@dataclass(frozen=True)
class Words:
    """An entry in words. `spread` is "" where there is none, `count` as in 1/3 where seeds are missing."""

    mean: str
    spread: str
    count: str
    mark: int | None
    """1, 2 or 3 for the best three of a column."""
    flagged: bool

    @property
    def suffix(self) -> str:
        return "".join(part for part in (FLAG * self.flagged, f" {self.count}" * bool(self.count)))


def words(entry: Entry, column: Column) -> Words:
    if entry.mean is None:
        return Words("" if entry.n is None else MISSING, "", "", None, bool(entry.flags))
    spread = "" if entry.std is None else f"{entry.std:.{column.decimals}f}"
    count = f"{entry.n}/{entry.expected}" if entry.is_partial else ""
    mark = entry.rank if entry.rank is not None and entry.rank <= MARKED_RANKS else None
    return Words(f"{entry.mean:.{column.decimals}f}", spread, count, mark, bool(entry.flags))


def legend(marks: Sequence[str]) -> str:
    """What the marks of a format mean."""
    return f"Marks: {', '.join(marks)} are the best three of a column; means that print alike share a mark."


def notes(table: Table) -> list[str]:
    """What the † of a table stand for, a line for the entries of a row and group that have the same."""
    columns: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in table.rows:
        for column, entry in zip(table.columns, row.entries, strict=True):
            if entry.flags:
                columns.setdefault((row.label, column.group, entry.flags), []).append(column.label)
    found = [
        f"{FLAG} {', '.join(filter(None, (label, group, *labels)))}: {'; '.join(flags)}"
        for (label, group, flags), labels in columns.items()
    ]
    more = len(found) - SHOWN_FLAGS
    return found[:SHOWN_FLAGS] + ([f"{FLAG} and {more} entries more"] if more > 0 else [])


CLAIMS_TITLE = "The paper's claims"


def claims_caption(sheet: Sheet) -> str:
    return (
        f"Differences are in accuracy points, paired over seeds ({sheet.pairing}). A claim is held or not held where "
        f"tests at the {ALPHA:.0%} level say so, and undecided otherwise: always with fewer than {TESTED_SEEDS} seeds. "
        f"Intervals are {CONFIDENCE:.0%}, each on its own, from two seeds up."
    )


COMPARISON_HEADINGS = ("comparison", "difference", f"{CONFIDENCE:.0%} interval", "p (Holm)", "n", "published")


def comparison_words(comparison: Comparison) -> tuple[str, ...]:
    """Cells under COMPARISON_HEADINGS."""
    difference = comparison.difference
    return (
        comparison.label,
        _signed(difference.mean),
        *_interval_and_p(difference, comparison.p),
        str(difference.n),
        _signed(comparison.published),
    )


PAIRS_TITLE = "Rows compared"
PAIR_HEADINGS = ("rows", "difference", f"{CONFIDENCE:.0%} interval", "p (Holm)", "n", "P(improvement)", "clearly ahead")


def pairs_caption(pairs: Sequence[Pair]) -> str:
    return (
        f"{summary(tuple(pairs))}. Differences are in accuracy points, averaged over the columns that both rows have "
        f"and paired over seeds, with {CONFIDENCE:.0%} intervals of their own from two seeds up; from {TESTED_SEEDS} "
        f"up a paired t-test at the {ALPHA:.0%} level, Holm-corrected over all pairs. P(improvement): probability that "
        "a run of the first row beats one of the second, averaged over these columns (Mann-Whitney, as in rliable)."
    )


def pair_words(pair: Pair) -> tuple[str, ...]:
    """Cells under PAIR_HEADINGS."""
    difference = pair.difference
    return (
        f"{pair.first} - {pair.second}",
        _signed(difference.mean),
        *_interval_and_p(difference, pair.p),
        str(difference.n),
        MISSING if math.isnan(pair.improvement) else f"{pair.improvement:.2f}",
        pair.ahead,
    )


def _interval_and_p(difference: Difference, p: float) -> tuple[str, str]:
    interval = f"{difference.low:+.2f} to {difference.high:+.2f}" if difference.has_interval else MISSING
    return interval, MISSING if math.isnan(p) else p_words(p).removeprefix("p ").removeprefix("= ")


def _signed(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:+.2f}"
