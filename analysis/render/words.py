"""The words that all formats share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.claims import Comparison, Finding, p_words
from analysis.comparisons import Pair, summary
from analysis.render.sheet import Sheet
from analysis.statistics import ALPHA, CONFIDENCE, TESTED_SEEDS, Difference
from analysis.tables import MARKED_RANKS, Column, Entry, Table
from benchmark.metric import ACCURACY, Metric

MISSING = "–"
"""No record of what was asked for; what nobody asked for is blank."""
FLAG = "†"
SHOWN_FLAGS = 12


@dataclass(frozen=True)
class TextCell:
    """An entry in words.

    Args:
        mean: a number, or MISSING.
        spread: "" where there is none.
        count: as in 1/3, where seeds are missing.
        mark: 1, 2 or 3 for the best three of a column.
        flagged: whether a note says something of its runs.
    """

    mean: str
    spread: str
    count: str
    mark: int | None
    flagged: bool

    @property
    def suffix(self) -> str:
        return "".join(part for part in (FLAG * self.flagged, f" {self.count}" * bool(self.count)))


def cell(entry: Entry, column: Column) -> TextCell:
    if entry.mean is None:
        return TextCell("" if entry.n is None else MISSING, "", "", None, bool(entry.flags))
    spread = "" if entry.std is None else f"{entry.std:.{column.decimals}f}"
    count = f"{entry.n}/{entry.expected}" if entry.is_partial else ""
    mark = entry.rank if entry.rank is not None and entry.rank <= MARKED_RANKS else None
    return TextCell(f"{entry.mean:.{column.decimals}f}", spread, count, mark, bool(entry.flags))


def legend(table: Table, marks: Sequence[str]) -> list[str]:
    """What the marks of a format mean, where the table has any."""
    if all(entry.rank is None for row in table.rows for entry in row.entries):
        return []
    return [f"Marks: {', '.join(marks)} are the best three of a column; means that print alike share a mark."]


def notes(table: Table) -> list[str]:
    """What the † of a table stand for, a line for the entries of a row and group that have the same."""
    columns: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in table.rows:
        for column, entry in zip(table.columns, row.entries, strict=True):
            if entry.flags:
                columns.setdefault((row.label, column.group, entry.flags), []).append(column.label)
    lines = [
        f"{FLAG} {', '.join(filter(None, (label, group, *labels)))}: {'; '.join(flags)}"
        for (label, group, flags), labels in columns.items()
    ]
    more = len(lines) - SHOWN_FLAGS
    return lines[:SHOWN_FLAGS] + ([f"{FLAG} and {more} entries more"] if more > 0 else [])


CLAIMS_TITLE = "The paper's claims"
CONSTRUCTION_TITLE = "True by construction"


def claims_by_title(sheet: Sheet) -> list[tuple[str, list[Finding]]]:
    """The claims under their headings: what could have come out otherwise, and apart from it what could not."""
    parts: dict[str, list[Finding]] = {}
    for finding in sheet.findings:
        title = CONSTRUCTION_TITLE if finding.verdict == "by construction" else CLAIMS_TITLE
        parts.setdefault(title, []).append(finding)
    return list(parts.items())


def verdicts_by_problem(sheets: Sequence[Sheet]) -> tuple[list[str], dict[tuple[str, str], dict[str, str]]]:
    """(problems, {(sweep, claim): {problem: verdict}}); one with several recipes in a sweep is named with each."""
    count = Counter((sheet.sweep, sheet.problem) for sheet in sheets)
    several = {problem for (_, problem), recipes in count.items() if recipes > 1}
    names = [f"{sheet.problem} {sheet.recipe}" if sheet.problem in several else sheet.problem for sheet in sheets]
    claims: dict[tuple[str, str], dict[str, str]] = {}
    for sheet, name in zip(sheets, names, strict=True):
        for finding in sheet.findings:
            claims.setdefault((sheet.sweep, finding.statement), {})[name] = finding.verdict
    return list(dict.fromkeys(names)), claims


def claims_caption(sheet: Sheet) -> str:
    return (
        f"Differences are in {_differences(sheet.metric)}, paired over seeds ({sheet.pairing}). A claim is held "
        f"where a test at the {ALPHA:.0%} level shows all of it, not held where one shows the opposite of any part, "
        f"and undecided otherwise: always with fewer than {TESTED_SEEDS} seeds. Tests are Wilcoxon's signed-rank tests "
        "by sign flips of whole seeds, one-sided: p of each comparison for the claim on its own, as all of them must "
        "be small, and against it corrected for their number (Westfall and Young). However far a run fell, its "
        f"difference has at most the greatest rank. Intervals are Student's, {CONFIDENCE:.0%}, each on its own, from "
        "two seeds up: they decide nothing."
        f"{_carried_over(sheet.metric)}"
    )


def _differences(metric: Metric) -> str:
    """The unit of differences, and their sign where it is not that of the values."""
    return metric.of_differences + ("" if metric.higher_is_better else ", positive where the first is better")


def _carried_over(metric: Metric) -> str:
    """That claims about accuracy are judged by another metric, and which ones cannot be."""
    if metric == ACCURACY:
        return ""
    margins = "" if metric.has_points else f" Those with a margin in points are left out: {metric.label} has no points."
    return f" The claims were published for accuracy, and are judged here by {metric.label}.{margins}"


COMPARISON_HEADINGS = ("comparison", "difference", f"{CONFIDENCE:.0%} interval", "p for", "p against", "n", "published")


def comparison_cells(comparison: Comparison) -> tuple[str, ...]:
    """Cells under COMPARISON_HEADINGS."""
    difference = comparison.difference
    return (
        comparison.label,
        _signed(difference.mean),
        _interval(difference),
        _p(comparison.p),
        _p(comparison.against),
        str(difference.n),
        _signed(comparison.published),
    )


PAIRS_TITLE = "Rows compared"
PAIR_HEADINGS = ("rows", "difference", f"{CONFIDENCE:.0%} interval", "p", "n", "P(improvement)", "clearly ahead")


def pairs_caption(sheet: Sheet) -> str:
    return (
        f"{summary(sheet.pairs)}. Differences are in {_differences(sheet.metric)}, averaged over the columns that both "
        f"rows have and paired over seeds, with Student's {CONFIDENCE:.0%} intervals of their own from two "
        f"seeds up; from {TESTED_SEEDS} up a signed-rank test by sign flips of whole seeds at the {ALPHA:.0%} level, "
        "two-sided and corrected for the number of pairs (Westfall and Young), which no pair can pass with five seeds. "
        "P(improvement): "
        "probability that a run of the first row beats one of the second, averaged over these columns (Mann-Whitney, "
        "as in rliable)."
    )


def pair_cells(pair: Pair) -> tuple[str, ...]:
    """Cells under PAIR_HEADINGS."""
    difference = pair.difference
    return (
        f"{pair.first} - {pair.second}",
        _signed(difference.mean),
        _interval(difference),
        _p(pair.p),
        str(difference.n),
        MISSING if math.isnan(pair.improvement) else f"{pair.improvement:.2f}",
        pair.ahead,
    )


def _interval(difference: Difference) -> str:
    return f"{difference.low:+.2f} to {difference.high:+.2f}" if difference.has_interval else MISSING


def _p(p: float) -> str:
    return MISSING if math.isnan(p) else p_words(p).removeprefix("p ").removeprefix("= ")


def _signed(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:+.2f}"
