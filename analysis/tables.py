"""What a table is, before anyone draws it: columns in groups, rows of entries, ranks, caption.

Pure values and functions: a layout says what goes into a table, `render/` how it looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from analysis.statistics import rank_correlation

MARKED_RANKS = 3
"""How many of a column's best entries are marked."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        group: columns of one group stand side by side under that heading; an empty group has none.
        label: its own heading.
        decimals: of its means and deviations.
        ranked: whether its best entries are marked.
        is_score: whether its entries are values of the metric.
        higher_is_better: which entries are the best.
    """

    group: str
    label: str
    decimals: int = 2
    ranked: bool = True
    is_score: bool = True
    higher_is_better: bool = True


@dataclass(frozen=True)
class Entry:
    """A mean over seeds, in the unit of its column.

    Args:
        mean, std: None where there is none.
        n: number of runs; None where the source does not say it, as published tables.
        expected: runs of a complete entry.
        rank: 1 for the best of its column.
        flags: what a reader must know about the runs behind it, such as "1 of 3 runs collapsed".
        runs: ids of the records behind it.
        competes: whether it can have a rank; not what is of another kind than the rest of its column,
            and no mean that misses a run without a value.
    """

    mean: float | None
    std: float | None
    n: int | None
    expected: int | None = None
    rank: int | None = None
    flags: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    competes: bool = True

    @property
    def is_partial(self) -> bool:
        return self.n is not None and self.expected is not None and self.n < self.expected


NOT_ASKED = Entry(None, None, n=None)
"""Of what a sweep does not ask for, or a published table does not have."""


@dataclass(frozen=True)
class Row:
    label: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class TextRow:
    """A row of words under the entries, such as who won a column."""

    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """
    Args:
        key: short name, for the CSV export and for anchors.
        title: as a heading.
        stub: what the rows are: the heading of their labels.
        columns, rows: from the left and from the top; a row has an entry a column.
        footer: rows of words under them.
        caption: sentences.
    """

    key: str
    title: str
    stub: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[TextRow, ...] = ()
    caption: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.entries) != len(self.columns):
                raise ValueError(f"row {row.label!r} has {len(row.entries)} entries for {len(self.columns)} columns")
        for footer in self.footer:
            if len(footer.cells) != len(self.columns):
                raise ValueError(f"row {footer.label!r} has {len(footer.cells)} cells for {len(self.columns)} columns")

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Group headings from left to right, each with the number of columns that it spans."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return tuple(spans)

    def entries_of(self, index: int) -> tuple[Entry, ...]:
        """The entries of column `index`, from the top."""
        return tuple(row.entries[index] for row in self.rows)

    def part(self, start: int, stop: int) -> Table:
        """The same rows with columns start .. stop - 1 only, for narrow pages."""
        return replace(
            self,
            columns=self.columns[start:stop],
            rows=tuple(replace(row, entries=row.entries[start:stop]) for row in self.rows),
            footer=tuple(replace(row, cells=row.cells[start:stop]) for row in self.footer),
        )


def entry(
    values: Sequence[float], expected: int | None, flags: tuple[str, ...] = (), runs: tuple[str, ...] = ()
) -> Entry:
    """Mean and sample standard deviation (ddof = 1) of one value a seed; no deviation of fewer than two."""
    if not len(values):
        return Entry(None, None, 0, expected, flags=flags, runs=runs)
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Entry(float(np.mean(values)), std, len(values), expected, flags=flags, runs=runs)


def ranks(means: Sequence[float | None], decimals: int) -> list[int | None]:
    """1 for the highest mean. Means that print alike share the better rank, and the next one counts them all."""
    printed = np.array([math.nan if mean is None else round(mean, decimals) for mean in means])
    order = stats.rankdata(-printed, method="min", nan_policy="omit")
    return [None if math.isnan(rank) else int(rank) for rank in order]


def ranked(table: Table) -> Table:
    """The table with the ranks of every ranked column filled in."""
    columns = []
    for index, column in enumerate(table.columns):
        entries = table.entries_of(index)
        sign = 1 if column.higher_is_better else -1
        competing = [entry.mean if column.ranked and entry.competes else None for entry in entries]
        if sum(mean is not None for mean in competing) < 2:  # nothing to be better than
            competing = [None] * len(competing)
        places = ranks([None if mean is None else sign * mean for mean in competing], column.decimals)
        columns.append([replace(entry, rank=place) for entry, place in zip(entries, places, strict=True)])
    rows = tuple(
        replace(row, entries=tuple(column[number] for column in columns)) for number, row in enumerate(table.rows)
    )
    return replace(table, rows=rows)


def score_columns(table: Table) -> list[int]:
    """Places of the columns that are values of the metric."""
    return [place for place, column in enumerate(table.columns) if column.is_score]


def winners(table: Table, index: int) -> tuple[str, ...]:
    """Labels of the rows that share rank 1 in column `index`; none in a column without entries."""
    return tuple(row.label for row in table.rows if row.entries[index].rank == 1)


def agreement(measured: Table, published: Table, name: Callable[[str], str] = str) -> tuple[TextRow, ...]:
    """A footer for `published`: how far two tables of the same columns agree in each ranked one, over its rows.

    name: what `published` calls a row of `measured`, by its label.
    """
    repeated = _repeated(measured)
    columns = [
        _agreement(measured, published, index, name, repeated) if column.ranked else ("", "", "")
        for index, column in enumerate(published.columns)
    ]
    labels = ("rank correlation", "winner here", "winner agrees")
    return tuple(TextRow(label, tuple(column[place] for column in columns)) for place, label in enumerate(labels))


def _agreement(
    measured: Table, published: Table, index: int, name: Callable[[str], str], repeated: set[str]
) -> tuple[str, str, str]:
    """The three cells under column `index`. Rows that ended at another sparsity are not compared, nor those
    that are the same runs as an earlier one (`repeated`)."""

    def mean(row: Row) -> float | None:
        return row.entries[index].mean if row.entries[index].competes else None

    means = {row.label: mean(row) for row in measured.rows if row.label not in repeated}
    value = rank_correlation([means.get(row.label) for row in published.rows], [mean(row) for row in published.rows])
    known = {row.label for row in published.rows}
    rivals = replace(measured, rows=tuple(row for row in measured.rows if name(row.label) in known))
    here, there = winners(ranked(rivals), index), winners(published, index)
    agrees = "–" if not here or not there else "yes" if {name(label) for label in here} & set(there) else "no"
    return "–" if math.isnan(value) else f"{value:+.2f}", ", ".join(here) or "–", agrees


def _repeated(table: Table) -> set[str]:
    """Labels of the rows that have the entries of an earlier one in all columns: the same runs by another name.

    Of single runs ties are too common to say so."""
    rows = [
        (row.label, [(entry.mean, entry.std, entry.n) for entry in row.entries])
        for row in table.rows
        if all(entry.std is not None for entry in row.entries)
    ]
    return {
        label for place, (label, entries) in enumerate(rows) if any(entries == earlier for _, earlier in rows[:place])
    }
