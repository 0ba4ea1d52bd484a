"""What a table is, before anyone draws it: columns in groups, rows of entries, ranks, caption.

Pure values and functions, general enough for both tables of the paper: `table1.py` says what goes into them and
`render.py` how they look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from analysis.statistics import mean_of_others, rank_correlation

MARKED_RANKS = 3
"""How many of a column's best entries are marked."""


@dataclass(frozen=True)
class Column:
    """One column. Columns of equal `group` stand side by side under that heading; an empty group has none."""

    group: str
    label: str
    decimals: int = 2
    ranked: bool = True
    """Whether its best entries, the highest, are marked."""


@dataclass(frozen=True)
class Entry:
    """A mean over seeds, in the unit of its column. `n` is None where the source does not say it (published tables)."""

    mean: float | None
    std: float | None
    n: int | None
    expected: int | None = None
    rank: int | None = None
    flags: tuple[str, ...] = ()
    """What a reader must know about the runs behind it, such as "1 of 3 runs collapsed"."""
    runs: tuple[str, ...] = ()
    """Ids of the records behind it."""
    competes: bool = True
    """Whether it can have a rank; not what is of another kind than the rest of its column."""

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
    key: str
    """Short name, for the CSV export and for anchors."""
    title: str
    stub: str
    """What the rows are: the heading of their labels."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[TextRow, ...] = ()
    caption: tuple[str, ...] = ()
    """Sentences."""

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
        means = [entry.mean if column.ranked and entry.competes else None for entry in entries]
        places = ranks(means, column.decimals)
        columns.append([replace(entry, rank=place) for entry, place in zip(entries, places, strict=True)])
    rows = tuple(
        replace(row, entries=tuple(column[number] for column in columns)) for number, row in enumerate(table.rows)
    )
    return replace(table, rows=rows)


def elsewhere(table: Table, others: int) -> Table:
    """Where the mean of `others` further seeds, or of as many on another kind of processor, will lie (95 %), for every
    ranked column; a dash where fewer than two runs say so."""

    def words(entry: Entry, column: Column) -> str:
        if entry.mean is None or entry.std is None or entry.n is None:
            return "–"
        low, high = mean_of_others(entry.mean, entry.std, entry.n, others)
        return f"{low:.{column.decimals}f} to {high:.{column.decimals}f}"

    kept = [index for index, column in enumerate(table.columns) if column.ranked]
    columns = tuple(table.columns[index] for index in kept)
    rows = tuple(
        TextRow(row.label, tuple(words(row.entries[index], table.columns[index]) for index in kept))
        for row in table.rows
    )
    return Table(
        f"{table.key}-elsewhere",
        f"{table.title}: where the mean of {others} other seeds will lie",
        table.stub,
        columns,
        (),
        rows,
        (
            "95% prediction intervals, from the runs of the table above (normal values). Another kind of processor "
            "gives other dense networks, as other seeds do.",
        ),
    )


def winners(table: Table, index: int) -> tuple[str, ...]:
    """Labels of the rows that share rank 1 in column `index`; none in a column without entries."""
    return tuple(row.label for row in table.rows if row.entries[index].rank == 1)


def agreement(ours: Table, theirs: Table) -> tuple[TextRow, ...]:
    """How far two tables of the same columns agree in each ranked one, over the rows of `theirs`: a footer for it."""
    correlations: list[str] = []
    here: list[str] = []
    agrees: list[str] = []
    for index, column in enumerate(theirs.columns):
        if not column.ranked:
            for words in (correlations, here, agrees):
                words.append("")
            continue
        own_means = {row.label: row.entries[index].mean for row in ours.rows}
        value, _ = rank_correlation(
            [own_means[row.label] for row in theirs.rows], [row.entries[index].mean for row in theirs.rows]
        )
        correlations.append("–" if math.isnan(value) else f"{value:+.2f}")
        own, other = winners(ours, index), winners(theirs, index)
        here.append(", ".join(own) or "–")
        agrees.append("–" if not own or not other else "yes" if set(own) & set(other) else "no")
    return (
        TextRow("rank correlation", tuple(correlations)),
        TextRow("winner here", tuple(here)),
        TextRow("winner agrees", tuple(agrees)),
    )
