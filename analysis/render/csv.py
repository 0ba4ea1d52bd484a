"""One row per entry, row of words, comparison or sentence: for spreadsheets and scripts.

Means and deviations are in the unit of their column, unrounded. In the table "claims" `mean` is a difference in the
unit of the metric, positive where the first is better, with its interval `low` to `high`, `p` the p value that it is as
the claim says, `p_against` that of the opposite, corrected for the number of comparisons, and `text` the verdict of the
claim; in "pairs" `p` is two-sided and corrected for their number, and `text` the row that is clearly ahead.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from analysis.render.sheet import Sheet
from analysis.statistics import Difference

FIELDS = (
    *("sweep", "problem", "recipe", "table", "row", "group", "column"),
    *("mean", "std", "low", "high", "p", "p_against", "n", "expected", "rank", "text"),
)


def write(sheet: Sheet) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in (*_tables(sheet), *_claims(sheet), *_pairs(sheet)):
        writer.writerow({"sweep": sheet.sweep, "problem": sheet.problem, "recipe": sheet.recipe, **row})
    return stream.getvalue()


def _tables(sheet: Sheet) -> Iterator[dict[str, object]]:
    for table in sheet.tables:
        for row in table.rows:
            for column, entry in zip(table.columns, row.entries, strict=True):
                yield {
                    **{"table": table.key, "row": row.label, "group": column.group, "column": column.label},
                    **{"mean": _number(entry.mean), "std": _number(entry.std)},
                    **{"n": entry.n, "expected": entry.expected, "rank": entry.rank, "text": "; ".join(entry.flags)},
                }
        for footer in table.footer:
            for column, cell in zip(table.columns, footer.cells, strict=True):
                names = {"row": footer.label, "group": column.group, "column": column.label}
                yield {"table": table.key, **names, "text": cell}
        for sentence in (table.title, *table.caption):
            yield {"table": table.key, "row": "caption", "text": sentence}


def _claims(sheet: Sheet) -> Iterator[dict[str, object]]:
    for finding in sheet.findings:
        verdict = f"{finding.verdict}: {finding.statement}. {finding.figures}. Test: {finding.method}."
        yield {"table": "claims", "row": finding.key, "text": verdict}
        for comparison in finding.comparisons:
            numbers = _difference(comparison.difference, comparison.p) | {"p_against": _number(comparison.against)}
            yield {"table": "claims", "row": finding.key, "column": comparison.label, **numbers}


def _pairs(sheet: Sheet) -> Iterator[dict[str, object]]:
    for pair in sheet.pairs:
        row = {"table": "pairs", "row": f"{pair.first} - {pair.second}"}
        yield {**row, "column": "mean of the columns", **_difference(pair.difference, pair.p), "text": pair.ahead}
        yield {**row, "column": "probability of improvement", "mean": _number(pair.improvement)}


def _difference(difference: Difference, p: float) -> dict[str, object]:
    numbers = {"mean": difference.mean, "low": difference.low, "high": difference.high, "p": p}
    return {**{name: _number(value) for name, value in numbers.items()}, "n": difference.n}


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(round(value, 10))
