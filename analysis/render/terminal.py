"""For a terminal: colours, and marks that survive without them; group by group where it is narrow."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from analysis.claims import Finding
from analysis.render.sheet import (
    CLAIMS_CAPTION,
    CLAIMS_TITLE,
    COMPARISON_HEADINGS,
    Sheet,
    comparison_words,
    legend,
    notes,
    words,
)
from analysis.tables import Column, Entry, Table

STYLES = {1: "bold green", 2: "underline", 3: "italic"}
VERDICTS = {"held": "green", "not held": "red", "undecided": "yellow"}
PLAIN_WIDTH = 170
"""Columns of a text that no terminal limits: enough for both tables of the paper."""


def show(sheet: Sheet, console: Console, details: bool = False) -> None:
    """Print the sheet. `details` adds every comparison behind the claims."""
    for table in sheet.tables:
        _show_table(table, console)
    if sheet.findings:
        console.print(Text(CLAIMS_TITLE, style="bold"))
        for finding in sheet.findings:
            _show_finding(finding, console, details)
        console.print(Padding(Text(CLAIMS_CAPTION, style="dim"), (1, 0, 1, 0)))


def plain(sheet: Sheet) -> str:
    """The same without colours, for a file."""
    console = Console(file=io.StringIO(), width=PLAIN_WIDTH, color_system=None, highlight=False)
    show(sheet, console, details=True)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _show_table(table: Table, console: Console) -> None:
    console.print(Text(table.title, style="bold"))
    whole = _drawn(table)
    if console.measure(whole).minimum <= console.width:
        console.print(whole)
    else:
        start = 0
        for _, span in table.groups:
            console.print(_drawn(table.part(start, start + span)))
            start += span
    for sentence in (*notes(table), *table.caption, legend(["#1", "#2", "#3"])):
        console.print(Text(sentence, style="dim"))
    console.print()


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_footer=False, pad_edge=False)
    drawn.add_column(Text(f"\n{table.stub}"), no_wrap=True)
    for number, column in enumerate(table.columns):
        first = number == 0 or table.columns[number - 1].group != column.group
        drawn.add_column(Text(f"{column.group if first else ''}\n{column.label}"), no_wrap=True)
    for number, row in enumerate(table.rows):
        cells = [_cell(entry, column) for entry, column in zip(row.entries, table.columns, strict=True)]
        drawn.add_row(Text(row.label), *cells, end_section=bool(table.footer) and number == len(table.rows) - 1)
    for footer in table.footer:
        drawn.add_row(Text(footer.label), *(Text(cell) for cell in footer.cells), style="dim")
    return drawn


def _cell(entry: Entry, column: Column) -> Text:
    said = words(entry, column)
    number = said.mean + (f" ±{said.spread}" if said.spread else "")
    text = Text(number, style=STYLES.get(said.mark or 0, ""))
    if said.mark:
        text.append(f" #{said.mark}")
    return text.append(said.suffix)


def _show_finding(finding: Finding, console: Console, details: bool) -> None:
    line = Text(f"{finding.verdict:<10}", style=f"bold {VERDICTS[finding.verdict]}")
    console.print(Padding(line.append(f" {finding.statement}", style="default not bold"), (1, 0, 0, 2)))
    console.print(Padding(Text(f"{finding.figures}. Test: {finding.method}."), (0, 0, 0, 13)))
    if details:
        drawn = RichTable(*COMPARISON_HEADINGS, box=box.SIMPLE_HEAD)
        for comparison in finding.comparisons:
            drawn.add_row(*(Text(cell) for cell in comparison_words(comparison)))
        console.print(Padding(drawn, (0, 0, 0, 12)))
