"""What runs elsewhere say of a table: where the means of other seeds will lie, and how the same seeds ended there."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.render.sheet import Sheet
from analysis.statistics import CONFIDENCE, mean_of_others, paired_difference
from analysis.tables import Entry, Table, TextRow

DASH = "–"
INTERVALS = f"{CONFIDENCE:.0%} prediction intervals, from the runs of the table above (normal values)."


def of_other_seeds(sheet: Sheet, count: int) -> Sheet:
    """With a second table: where the mean of `count` other seeds will lie, for every ranked column; a dash where there
    are fewer than two runs."""
    table, kept = sheet.tables[0], _ranked(sheet.tables[0])
    rows = [
        TextRow(row.label, tuple(_range(row.entries[i], count, table.columns[i].decimals) for i in kept))
        for row in table.rows
    ]
    return _with(sheet, f"where the mean of {count} other seeds will lie", "elsewhere", rows, [INTERVALS])


def of_another_machine(sheet: Sheet, there: Sheet) -> Sheet:
    """With two more tables: the means there and whether they lie where those of as many other seeds would, and what
    the runs of the same seeds differ by."""
    table, kept = sheet.tables[0], _ranked(sheet.tables[0])
    entries_there = {row.label: row.entries for row in there.tables[0].rows}
    nowhere = (Entry(None, None, None),) * len(table.columns)
    means, differences, fits = [], [], []
    for row in table.rows:
        pairs = [(row.entries[i], entries_there.get(row.label, nowhere)[i], table.columns[i].decimals) for i in kept]
        words = tuple(_placed(*pair) for pair in pairs)
        fits += [" not in " not in word for word in words if " in " in word]
        means.append(TextRow(row.label, words))
        differences.append(TextRow(row.label, tuple(_paired(sheet, there, *pair) for pair in pairs)))
    runs = sorted({entry.n for entries in entries_there.values() for entry in entries if entry.n})
    caption = [
        f"The mean of {' or '.join(map(str, runs))} runs there, and the {CONFIDENCE:.0%} prediction interval for the "
        "mean of as many other seeds, from the runs of the table above (normal values).",
        f"{sum(fits)} of {len(fits)} means lie in theirs; of 100 independent ones 95 would; these share networks.",
        *(line for line in there.tables[0].caption if line.startswith("Records:")),
    ]
    sheet = _with(sheet, "the same seeds there minus here", "same-seeds", differences, [
        f"Mean difference of the seeds that both have, in the unit of the table, with Student's {CONFIDENCE:.0%} "
        "interval, each on its own.",
    ])  # fmt: skip
    return _with(sheet, "on another machine", "another", means, caption)


def _with(sheet: Sheet, title: str, key: str, rows: list[TextRow], caption: list[str]) -> Sheet:
    first, *rest = sheet.tables
    dashes = ["–: it takes two runs or more to say."] if any(DASH in row.cells for row in rows) else []
    columns = tuple(first.columns[place] for place in _ranked(first))
    names = (f"{first.key}-{key}", f"{first.title}: {title}", first.stub)
    second = Table(*names, columns, (), tuple(rows), (*caption, *dashes))
    return replace(sheet, tables=(first, second, *rest))


def _ranked(table: Table) -> list[int]:
    return [place for place, column in enumerate(table.columns) if column.ranked]


def _range(here: Entry, count: int, decimals: int) -> str:
    if here.n is None:  # the sweep does not ask for it
        return ""
    if here.mean is None or here.std is None:
        return DASH
    low, high = (round(end, decimals) for end in mean_of_others(here.mean, here.std, here.n, count))
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def _placed(here: Entry, there: Entry, decimals: int) -> str:
    expected = _range(here, there.n or 1, decimals)
    if expected in ("", DASH):
        return expected
    if there.mean is None:
        return DASH
    low, high = map(float, expected.split(" to "))
    mean = round(there.mean, decimals)
    return f"{mean:.{decimals}f} {'in' if low <= mean <= high else 'not in'} {expected}"


def _paired(sheet: Sheet, other: Sheet, here: Entry, there: Entry, decimals: int) -> str:
    if here.n is None:
        return ""
    difference = paired_difference(_by_seed(other, there) - _by_seed(sheet, here))
    if not difference.has_interval:
        return DASH
    return f"{difference.mean:+.{decimals}f} ({difference.low:+.{decimals}f} to {difference.high:+.{decimals}f})"


def _by_seed(sheet: Sheet, entry: Entry) -> pd.Series:
    runs = sheet.records[sheet.records["id"].isin(entry.runs)]
    return sheet.metric.shown(runs.set_index("seed")["final_test"])
