"""For a README or an issue: GitHub's tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.claims import Finding
from analysis.render import words
from analysis.render.sheet import Sheet
from analysis.tables import Column, Entry, Table

MARKS = {1: "**{}**", 2: "<ins>{}</ins>", 3: "*{}*"}
LEGEND = ("**bold**", "<ins>underlined</ins>", "*italic*")


def write(sheet: Sheet) -> str:
    parts = [_table(table) for table in sheet.tables]
    if sheet.findings:
        for title, findings in words.claims_by_title(sheet):
            parts.append(f"### {title}\n\n{''.join(map(_finding, findings))}")
        parts.append(f"{escape(words.claims_caption(sheet))}\n")
    if sheet.pairs:
        rows = [[escape(cell) for cell in words.pair_cells(pair)] for pair in sheet.pairs]
        table = _folded(f"{len(rows)} pairs", words.PAIR_HEADINGS, rows)
        parts.append(f"### {words.PAIRS_TITLE}\n\n{escape(words.pairs_caption(sheet))}\n\n{table}")
    return "\n".join(parts)


def escape(text: str) -> str:
    """Markup in a value is shown, not obeyed; a cell stays on its line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text).split())


def _table(table: Table) -> str:
    headings = [_heading(column) for column in table.columns]
    rows = [
        [escape(row.label), *(_cell(entry, column) for entry, column in zip(row.entries, table.columns, strict=True))]
        for row in table.rows
    ]
    rows += [[f"*{escape(row.label)}*", *map(escape, row.cells)] for row in table.footer]
    sentences = [escape(sentence) for sentence in (*words.notes(table), *table.caption)]
    caption = "<br>\n".join([*sentences, *words.legend(table, LEGEND)])
    return f"### {escape(table.title)}\n\n{grid([escape(table.stub), *headings], rows)}\n{caption}\n"


def _heading(column: Column) -> str:
    return "<br>".join(escape(part) for part in (column.group, column.label) if part)


def _cell(entry: Entry, column: Column) -> str:
    cell = words.cell(entry, column)
    number = cell.mean + (f" ± {cell.spread}" if cell.spread else "")
    return MARKS.get(cell.mark or 0, "{}").format(number) + cell.suffix


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(headings) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (headings, rule, *rows))


def _finding(finding: Finding) -> str:
    rows = [[escape(cell) for cell in words.comparison_cells(comparison)] for comparison in finding.comparisons]
    return (
        f"**{finding.verdict}**: {escape(finding.statement)}.<br>\n{escape(finding.figures)}. "
        f"Test: {escape(finding.method)}.\n\n{_folded(f'{len(rows)} comparisons', words.COMPARISON_HEADINGS, rows)}\n"
    )


def _folded(summary: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<details><summary>{summary}</summary>\n\n{grid(headings, rows)}\n</details>\n"
