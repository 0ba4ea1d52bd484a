"""A page that needs nothing else: no network, no script, light and dark, printable."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.claims import Finding
from analysis.render import words
from analysis.render.sheet import Sheet
from analysis.tables import Column, Entry, Table

LEGEND = ("bold on colour", "underlined", "italic")
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #666; --rule: #bbb; --best: #dcefe2;
  --held: #1a7f37; --not-held: #b3261e; --undecided: #8a6100 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --faint: #a0a0a0; --rule: #555;
  --best: #1f4a2e; --held: #5ccf7f; --not-held: #ff8a80; --undecided: #e8b84a } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 84rem;
  margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88em; margin: .5rem 0 }
th, td { padding: .25rem .4rem; text-align: right; white-space: nowrap }
th[scope=row], thead th:first-child { text-align: left }
thead tr:last-child th, tbody tr:last-child > * { border-bottom: 1px solid var(--rule) }
thead tr:first-child th { border-top: 2px solid var(--rule) }
thead th { white-space: normal; vertical-align: bottom }
thead th[colspan] { text-align: center }
th.first, td.first { padding-left: 1.2rem }
.rank-1 { font-weight: 700; background: var(--best) }
.rank-2 .number { text-decoration: underline }
.rank-3 .number { font-style: italic }
.missing, .count, .caption, summary, tfoot { color: var(--faint) }
.caption p { margin: .15rem 0 }
.verdict { font-weight: 700 }
.held { color: var(--held) } .not-held { color: var(--not-held) } .undecided { color: var(--undecided) }
@media print {
  @page { size: landscape }
  body { max-width: none; margin: 0 }
  table { font-size: .7em }
  section { break-inside: avoid-page }
  section.long { break-inside: auto }
  details { display: none }
}
"""


def write(sheet: Sheet) -> str:
    title = escape(f"{sheet.sweep}, {sheet.problem}")
    body = sections(sheet)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def sections(sheet: Sheet, prefix: str = "") -> str:
    """The sheet without the page around it. `prefix` keeps the anchors of several sheets on a page apart."""
    return (
        "".join(table_section(table, prefix) for table in sheet.tables) + _claims(sheet, prefix) + _pairs(sheet, prefix)
    )


def table_section(table: Table, prefix: str = "") -> str:
    firsts = _first_columns(table)
    groups = "".join(
        f'<th scope="colgroup" colspan="{span}">{_unbroken(group)}</th>' if group else f'<td colspan="{span}"></td>'
        for group, span in table.groups
    )
    labels = "".join(
        f'<th scope="col"{_class("first" * first)}>{_unbroken(column.label)}</th>'
        for column, first in zip(table.columns, firsts, strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(row.label)}</th>{"".join(map(_cell, row.entries, table.columns, firsts))}</tr>\n'
        for row in table.rows
    )
    footer = "".join(_words_row(row.label, row.cells) for row in table.footer)
    caption = "".join(
        f"<p>{escape(text)}</p>" for text in (*words.notes(table), *table.caption, *words.legend(table, LEGEND))
    )
    return (
        f'<section id="{escape(prefix + table.key)}">\n<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n'
        f'<thead>\n<tr><td></td>{groups}</tr>\n<tr><th scope="col">{escape(table.stub)}</th>{labels}</tr>\n</thead>\n'
        f"<tbody>\n{rows}</tbody>\n{f'<tfoot>{footer}</tfoot>' if footer else ''}\n</table></div>\n"
        f'<div class="caption">{caption}</div>\n</section>\n'
    )


def _words_row(label: str, cells: Sequence[str]) -> str:
    texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(label)}</th>{texts}</tr>\n'


def _first_columns(table: Table) -> list[bool]:
    return [number == 0 or table.columns[number - 1].group != c.group for number, c in enumerate(table.columns)]


def _unbroken(label: str) -> str:
    """A number keeps its unit where a heading wraps."""
    return escape(label).replace(" %", "&nbsp;%")


def _class(*names: str) -> str:
    kept = " ".join(name for name in names if name)
    return f' class="{kept}"' if kept else ""


def _cell(entry: Entry, column: Column, first: bool) -> str:
    cell = words.cell(entry, column)
    number = cell.mean + (f" ± {cell.spread}" if cell.spread else "")
    names = _class(f"rank-{cell.mark}" if cell.mark else "", "missing" * (entry.mean is None), "first" * first)
    hover = [f"rank {entry.rank}"] if entry.rank else []
    hover += [f"n = {entry.n}"] if entry.n is not None else []
    title = f' title="{escape("; ".join([*hover, *entry.flags]))}"' if hover or entry.flags else ""
    suffix = f'<span class="count">{escape(cell.suffix)}</span>' if cell.suffix else ""
    runs = f' data-runs="{escape(" ".join(entry.runs))}"' if entry.runs else ""
    return f'<td{names}{title}{runs}><span class="number">{escape(number)}</span>{suffix}</td>'


def _claims(sheet: Sheet, prefix: str) -> str:
    if not sheet.findings:
        return ""
    items = "".join(
        f"<h2>{escape(title)}</h2>\n{''.join(map(_finding, findings))}"
        for title, findings in words.claims_by_title(sheet)
    )
    return (
        f'<section id="{escape(prefix)}claims" class="long">\n{items}'
        f'<div class="caption"><p>{escape(words.claims_caption(sheet))}</p></div>\n</section>\n'
    )


def _pairs(sheet: Sheet, prefix: str) -> str:
    if not sheet.pairs:
        return ""
    table = _folded(f"{len(sheet.pairs)} pairs", words.PAIR_HEADINGS, list(map(words.pair_cells, sheet.pairs)))
    return (
        f'<section id="{escape(prefix)}pairs" class="long">\n<h2>{escape(words.PAIRS_TITLE)}</h2>\n'
        f"<p>{escape(words.pairs_caption(sheet))}</p>\n{table}</section>\n"
    )


def _finding(finding: Finding) -> str:
    rows = list(map(words.comparison_cells, finding.comparisons))
    return (
        f'<p><span class="verdict {finding.verdict.replace(" ", "-")}">{escape(finding.verdict)}</span>: '
        f"{escape(finding.statement)}.<br>{escape(finding.figures)}. Test: {escape(finding.method)}.</p>\n"
        + _folded(f"{len(rows)} comparisons", words.COMPARISON_HEADINGS, rows)
    )


def _folded(summary: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(_words_row(label, cells) for label, *cells in rows)
    return (
        f'<details><summary>{escape(summary)}</summary><div class="wide"><table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div></details>\n"
    )
