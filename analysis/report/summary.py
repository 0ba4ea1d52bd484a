"""What a reader came for, on one screen: the claims, the best of every column, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.claims import Finding, seeds_words
from analysis.groups import REMARKS
from analysis.render import words
from analysis.render.sheet import Sheet
from analysis.report.gather import Report
from analysis.statistics import TESTED_SEEDS
from analysis.tables import Table, score_columns
from benchmark.metric import Metric

MOST_CLAIMS = 12
"""As many have a line each on the first screen, with their differences."""


def write(report: Report) -> str:
    parts = (
        ("claims", "The paper's claims", _claims),
        ("best", "The best of each column, ± over seeds", _best),
        ("missing", "Missing, or gone wrong", _missing),
    )
    return "".join(f'<div id="{key}"><h2>{escape(title)}</h2>\n{make(report)}</div>\n' for key, title, make in parts)


def _link(sheet: Sheet, part: str = "") -> str:
    return f'<a href="#{escape(sheet.slug + part)}">{escape(sheet.sweep)}, {escape(sheet.problem)}</a>'


def _claims(report: Report) -> str:
    """A line each with its difference and what is missing; of many claims the verdicts, problems side by side."""
    findings = [(sheet, finding) for sheet in report.sheets for finding in sheet.findings]
    if not findings:
        return "<p>They are about none of these sweeps.</p>\n"
    if len(findings) > MOST_CLAIMS:
        return _side_by_side(report.sheets)
    rows = []
    for sheet in report.sheets:
        first = f'<th scope="rowgroup" rowspan="{len(sheet.findings)}">{_link(sheet, "-claims")}</th>'
        for finding in sheet.findings:
            texts = (finding.statement, effect(finding, sheet.metric), lacking(finding))
            rows.append(first + _verdict(finding.verdict) + "".join(f"<td>{escape(text)}</td>" for text in texts))
            first = ""
    return grid(("sweep", "verdict", "claim", "difference", "what is missing"), rows)


def _side_by_side(sheets: Sequence[Sheet]) -> str:
    problems, claims = words.verdicts_by_problem([sheet for sheet in sheets if sheet.findings])
    rows, before = [], ""
    for (sweep, statement), verdicts in claims.items():
        name = "" if sweep == before else escape(sweep)
        cells = "".join(_verdict(verdicts.get(problem, "")) for problem in problems)
        rows.append(f'<th scope="row">{name}</th><td>{escape(statement)}</td>{cells}')
        before = sweep
    return grid(("sweep", "claim", *map(escape, problems)), rows)


def _verdict(verdict: str) -> str:
    return f'<td class="verdict {verdict.replace(" ", "-")}">{escape(verdict)}</td>'


def effect(finding: Finding, metric: Metric) -> str:
    """The range of the differences that the claim is about, and over how many seeds."""
    known = [comparison.difference for comparison in finding.comparisons if comparison.difference.n]
    if not known:
        return words.MISSING
    low, high = (f"{pick(difference.mean for difference in known):+.2f}" for pick in (min, max))
    seeds = seeds_words([difference.n for difference in known])
    return f"{low}{f' to {high}' if low != high else ''} {metric.behind_differences}, {seeds}"


def lacking(finding: Finding) -> str:
    """Why there is no verdict; nothing where there is one."""
    if finding.verdict != "undecided":
        return ""
    seeds = [comparison.difference.n for comparison in finding.comparisons]
    few = sum(n < TESTED_SEEDS for n in seeds)
    if few == len(seeds):
        more = TESTED_SEEDS - max(seeds, default=0)
        return f"{more} more seed{'s' if more > 1 else ''}: tested from {TESTED_SEEDS} up"
    if few:
        return f"{few} of {len(seeds)} comparisons have fewer than {TESTED_SEEDS} seeds"
    return finding.needed


# The best of every column


def _best(report: Report) -> str:
    if not report.sheets:
        return "<p>No table.</p>\n"
    tables, sentences = [], []
    judged = [sheet for sheet in report.sheets if sheet.findings]  # of many sweeps those that claims are about
    for sheet in judged or report.sheets:
        said = _said_by_figures(report, sheet)
        sentences += [f"<p>{_link(sheet)}: {escape(sentence)}</p>\n" for sentence in said]
        tables += [_best_of(sheet)] if not said and _is_ranked(sheet) else []
    return f'<div class="beside">{"".join(tables)}</div>\n{"".join(sentences)}'


def _is_ranked(sheet: Sheet) -> bool:
    """Whether all columns have a best; some have none where rows differ in their epochs, as in Figure 1."""
    table = sheet.tables[0]
    return all(table.columns[place].ranked for place in score_columns(table))


def _said_by_figures(report: Report, sheet: Sheet) -> list[str]:
    """What figures of the sheet's records say of the best in its place."""
    return [
        sentence
        for picture in report.pictures
        if picture.figure.best
        and (picture.selection.group.axes.name, picture.selection.group.recipe.identity) == (sheet.sweep, sheet.recipe)
        for sentence in picture.figure.best(picture.selection)
    ]


def _best_of(sheet: Sheet) -> str:
    """A row a group of columns, such as a sparsity; across its columns, such as budgets."""
    table = sheet.tables[0]
    places = score_columns(table)
    labels = dict.fromkeys(table.columns[place].label for place in places)
    rows: dict[str, dict[str, str]] = {}
    for place in places:
        column = table.columns[place]
        rows.setdefault(column.group, {})[column.label] = _first(table, place)
    lines = [
        f'<th scope="row">{escape(group)}</th>' + "".join(cells.get(label, "<td></td>") for label in labels)
        for group, cells in rows.items()
    ]
    metric = sheet.metric
    heading = f"{_link(sheet)}<br>{escape(f'test {metric.label}{metric.in_unit}{metric.direction}')}"
    return grid((heading, *map(escape, labels)), lines)


def _first(table: Table, place: int) -> str:
    column = table.columns[place]
    best = [row for row in table.rows if row.entries[place].rank == 1]
    if not best:
        return f"<td>{words.MISSING if column.ranked else 'not ranked'}</td>"
    cell = words.cell(best[0].entries[place], column)
    number = cell.mean + (f" ± {cell.spread}" if cell.spread and len(best) == 1 else "")
    runs = " ".join(name for row in best for name in row.entries[place].runs)
    names = ", ".join(row.label for row in best)
    return f'<td data-runs="{escape(runs)}"><b>{escape(names)}</b> {escape(number + cell.suffix)}</td>'


# What is missing


def _missing(report: Report) -> str:
    gaps = [(sheet, _gaps(sheet)) for sheet in report.sheets]
    lines = [f"<p>{_link(sheet)}: {escape('; '.join(parts))}.</p>\n" for sheet, parts in gaps if parts]
    for (what, fault), faults, target in (
        (("failed cell", "without a record"), report.failures, "failures"),
        (("file", "that could not be used"), report.problems, "unusable"),
    ):
        if faults:
            link = f'<a href="#{target}">{seeds_words([len(faults)], what)} {fault}</a>'
            lines.insert(0, f'<p class="not-held">{link}</p>\n')
    return "".join(lines) or "<p>Nothing.</p>\n"


def _gaps(sheet: Sheet) -> list[str]:
    """What of the sweep's own table has no record or too few seeds, and runs that did not end as they should."""
    table = sheet.tables[0]
    entries = [row.entries[place] for row in table.rows for place in score_columns(table)]
    asked = [(entry.n, entry.expected or 0) for entry in entries if entry.n is not None]
    absent = sum(n == 0 for n, _ in asked)
    partial = [n for n, expected in asked if 0 < n < expected]
    most = max((n for n, _ in asked), default=0)
    gaps = [f"{absent} of {len(asked)} entries have no record"] if absent else []
    if partial:
        gaps.append(f"{len(partial)} of {len(asked)} entries have {seeds_words(partial)} of {asked[0][1]}")
    if 0 < most < TESTED_SEEDS:
        gaps.append(f"{seeds_words([most])} at most, {TESTED_SEEDS - most} too few for a test")
    ended = [(int((sheet.records["status"] == status).sum()), remark) for status, remark in REMARKS.items()]
    return gaps + [f"{seeds_words([count], 'run')} {remark}" for count, remark in ended if count]


def grid(headings: Sequence[str], rows: Sequence[str]) -> str:
    """Headings and the cells of the rows are HTML."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f'<table class="words"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n'
