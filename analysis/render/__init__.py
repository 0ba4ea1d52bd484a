"""A sheet of tables and findings in every format that somebody reads."""

from __future__ import annotations

from collections.abc import Callable

from analysis.render import csv, html, latex, markdown, per_record, terminal
from analysis.render.sheet import Sheet

SUFFIXES: dict[str, str] = {
    "terminal": ".txt",
    "markdown": ".md",
    "latex": ".tex",
    "html": ".html",
    "csv": ".csv",
    "records": ".records.csv",
    "parquet": ".parquet",
}

WRITERS: dict[str, Callable[[Sheet], str]] = {
    "terminal": terminal.plain,
    "markdown": markdown.write,
    "latex": latex.write,
    "html": html.write,
    "csv": csv.write,
    "records": per_record.write_csv,
}
"""What goes into files; `terminal.show` prints to a terminal with its colours and width."""

BINARY_WRITERS: dict[str, Callable[[Sheet], bytes]] = {"parquet": per_record.write_parquet}

__all__ = ["BINARY_WRITERS", "SUFFIXES", "WRITERS", "Sheet", "csv", "terminal"]
