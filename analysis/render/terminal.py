"""For a terminal: colours, and marks that survive without them; group by group where it is narrow."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from analysis.claims import Finding
from analysis.render import words
from analysis.render.sheet import Sheet
from analysis.tables import Column, Entry, Table

STYLES = {1: "bold green", 2: "underline", 3: "italic"}
VERDICTS = {"held": "green", "not held": "red", "undecided": "yellow", "by construction": "blue"}
TEXT_WIDTH = 110
"""Columns of a sentence, at most: longer lines are hard to read."""


def show(sheet: Sheet, console: Console, details: bool = False) -> None:
    """Print the sheet. `details` adds every comparison behind the claims."""
    for table in sheet.tables:
        _show_table(table, console)
    if sheet.findings:
        for title, findings in words.claims_by_title(sheet):
            console.print(Text(title, style="bold"))
            for finding in findings:
                _show_finding(finding, console, details)
            console.print()
        console.print(_sentence(words.claims_caption(sheet), console, 0, "dim"))
        console.print()
    if sheet.pairs:
        console.print(Text(words.PAIRS_TITLE, style="bold"))
        if details:
            _show_grid(words.PAIR_HEADINGS, [words.pair_cells(pair) for pair in sheet.pairs], console, 0)
        console.print(_sentence(words.pairs_caption(sheet), console, 0, "dim"))
        console.print()


def plain(sheet: Sheet, details: bool = True) -> str:
    """The same without colours and as wide as the tables need, for a file or a pipe."""
    stream = io.StringIO()
    console = Console(file=stream, color_system=None, highlight=False)
    console.width = max([TEXT_WIDTH, *(_width(_drawn(table), console) for table in sheet.tables)])
    show(sheet, console, details)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _show_table(table: Table, console: Console) -> None:
    console.print(Text(table.title, style="bold"))
    start = 0
    whole = _width(_drawn(table), console) <= console.width
    for span in [len(table.columns)] if whole else [span for _, span in table.groups]:
        console.print(_drawn(table.part(start, start + span)))
        start += span
    for sentence in (*words.notes(table), *table.caption, *words.legend(table, ["#1", "#2", "#3"])):
        console.print(_sentence(sentence, console, 0, "dim"))
    console.print()


def _width(table: RichTable, console: Console) -> int:
    """Columns that the table takes where nothing limits it."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _sentence(text: str | Text, console: Console, indent: int, style: str = "") -> Padding:
    """Wrapped at TEXT_WIDTH, later lines under the first."""
    spare = max(0, console.width - TEXT_WIDTH)
    return Padding(Text(text, style) if isinstance(text, str) else text, (0, spare, 0, indent))


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
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
    cell = words.cell(entry, column)
    number = cell.mean + (f" ±{cell.spread}" if cell.spread else "")
    text = Text().append(number, style=STYLES.get(cell.mark or 0, ""))  # not on the whole, or the padding is styled too
    return text.append(f" #{cell.mark}" if cell.mark else "").append(cell.suffix)


def _show_finding(finding: Finding, console: Console, details: bool) -> None:
    verdict = Text(f"{finding.verdict:<10}", style=f"bold {VERDICTS[finding.verdict]}")
    console.print()
    console.print(_sentence(verdict.append(f" {finding.statement}", style="default not bold"), console, 2))
    console.print(_sentence(f"{finding.figures}. Test: {finding.method}.", console, 13))
    if details:
        _show_grid(words.COMPARISON_HEADINGS, list(map(words.comparison_cells, finding.comparisons)), console, 12)


def _show_grid(headings: Sequence[str], rows: Sequence[Sequence[str]], console: Console, indent: int) -> None:
    drawn = RichTable(*headings, box=box.SIMPLE_HEAD)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console.print(Padding(drawn, (0, 0, 0, indent)))
