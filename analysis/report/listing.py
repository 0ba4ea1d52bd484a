"""The records that a report lists one by one: all of a few thousand, of more some of every entry of its tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice, zip_longest
from typing import Any

from analysis import settings
from analysis.render.sheet import Sheet
from analysis.report.gather import Report
from benchmark.metric import Metric

MOST = 1400
"""Records that a page lists and describes, in 5 MB of it at most; browsers take seconds to open ten times that."""
COLUMNS = (
    *("problem", "method", "schedule", "sparsity", "budget", "settings", "seed", "status", "test", "validation"),
    *("metric", "speedup", "sparsity reached", "images/s", "seconds", "device", "commit", "id"),
)
"""Of the list of cells. Test and validation are values of the metric, in its unit."""


def listed(report: Report) -> frozenset[str]:
    """Ids of the records that the page lists: of more than MOST the first run of every entry, then the second, ..."""
    every = report.frame["id"]
    if len(every) <= MOST:
        return frozenset(every)
    entries = (
        entry.runs for sheet in report.sheets for table in sheet.tables for row in table.rows for entry in row.entries
    )
    turns = chain.from_iterable(zip_longest(*entries))
    known = set(every)
    ids = dict.fromkeys(name for name in chain(turns, every) if name in known)
    return frozenset(islice(ids, MOST))


def of_sheet(sheet: Sheet, ids: Collection[str]) -> Sheet:
    """The sheet with those of the runs behind its entries that are listed."""
    tables = tuple(
        replace(
            table,
            rows=tuple(
                replace(
                    row,
                    entries=tuple(
                        replace(entry, runs=tuple(r for r in entry.runs if r in ids)) for entry in row.entries
                    ),
                )
                for row in table.rows
            ),
        )
        for table in sheet.tables
    )
    return replace(sheet, tables=tables)


def of_plot(plot: Mapping[str, Any], ids: Collection[str]) -> dict[str, Any]:
    """The plot with those of the runs behind its points that are listed."""
    traces = [
        {
            **trace,
            "customdata": [" ".join(name for name in names.split() if name in ids) for names in trace["customdata"]],
        }
        if "customdata" in trace
        else trace
        for trace in plot["data"]
    ]
    return {**plot, "data": traces}


def rows(report: Report, ids: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Texts of COLUMNS of these records, in the order of the report."""
    frame = report.frame
    for values in frame[frame["id"].isin(ids)].to_dict("records"):
        yield _texts(values, report.metrics[values["identity"]])


def table(report: Report) -> str:
    """All records as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(report, set(report.frame["id"])))
    return stream.getvalue()


def _texts(values: Mapping[Any, Any], metric: Metric) -> tuple[str, ...]:
    test, validation = metric.shown(values["final_test"]), metric.shown(values["final_validation"])
    return (
        *(values["problem"], values["method"], values["schedule"], _number(values["sparsity"], "g"), values["budget"]),
        *(settings.in_words(values["hyperparameters"]), str(values["seed"]), values["status"]),
        *(_number(test, ".2f"), _number(validation, ".2f"), metric.label_and_unit),
        *(_number(values["speedup"], ".2f"), _number(values["sparsity_reached"], ".4f")),
        *(_number(values["images_per_second"], ".0f"), _number(values["seconds"], ".2f")),
        *(str(values["device"]), values["commit"][:7], str(values["id"])),
    )


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
