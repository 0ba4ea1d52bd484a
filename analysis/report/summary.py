"""What a reader came for, on one screen: the claims, the best of every column, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.claims import Finding, seeds_words
from analysis.groups import REMARKS
from analysis.paper import figure1
from analysis.render.sheet import MISSING, Sheet, words
from analysis.report.gather import Report
from analysis.statistics import ALPHA, TESTED_SEEDS
from analysis.tables import Table


def write(report: Report) -> str:
    parts = (
        ("claims", "The paper's claims", _claims),
        ("best", "The best of each column: test accuracy in per cent, ± over seeds", _best),
        ("missing", "Missing, or gone wrong", _missing),
    )
    return "".join(f'<div id="{key}"><h2>{escape(title)}</h2>\n{make(report)}</div>\n' for key, title, make in parts)


def _link(sheet: Sheet, part: str = "") -> str:
    return f'<a href="#{escape(sheet.slug + part)}">{escape(sheet.sweep)}, {escape(sheet.problem)}</a>'


def _claims(report: Report) -> str:
    rows = [
        (f'<th scope="rowgroup" rowspan="{len(sheet.findings)}">{_link(sheet, "-claims")}</th>' * (number == 0))
        + f'<td class="verdict {finding.verdict.replace(" ", "-")}">{escape(finding.verdict)}</td>'
        + "".join(f"<td>{escape(text)}</td>" for text in (finding.statement, effect(finding), lacking(finding)))
        for sheet in report.sheets
        for number, finding in enumerate(sheet.findings)
    ]
    headings = ("sweep", "verdict", "claim", "difference in points", "what is missing")
    return grid(headings, rows) if rows else "<p>They are about none of these sweeps.</p>\n"


def effect(finding: Finding) -> str:
    """The range of the differences that the claim is about, and over how many seeds."""
    known = [comparison.difference for comparison in finding.comparisons if comparison.difference.n]
    if not known:
        return MISSING
    low, high = (f"{pick(one.mean for one in known):+.2f}" for pick in (min, max))
    return f"{low}{f' to {high}' if low != high else ''}, {seeds_words([one.n for one in known])}"


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
    chance = sum(comparison.p >= ALPHA for comparison in finding.comparisons)
    return f"{chance} of {len(seeds)} comparisons are left to chance" if chance else "its comparisons disagree"


# The best of every column


def accuracies(table: Table) -> list[int]:
    """Places of the columns that are accuracies: those that are called so, or all."""
    every = range(len(table.columns))
    return [place for place in every if table.columns[place].label == "accuracy"] or list(every)


def _best(report: Report) -> str:
    found, sentences = [], []
    for sheet in report.sheets:
        parts = _envelopes(report, sheet)
        sentences += [f"<p>{_link(sheet)}: {escape(part.sentence)}</p>\n" for part in parts]
        found += [] if parts else [_best_of(sheet)]
    return (
        f'<div class="beside">{"".join(found)}</div>\n{"".join(sentences)}' if report.sheets else "<p>No table.</p>\n"
    )


def _envelopes(report: Report, sheet: Sheet) -> list[figure1.Part]:
    """Of a sheet of cycles, whose columns have no ranks, what Figure 1 says of each sparsity."""
    for picture in report.pictures:
        group = picture.selection.group
        if picture.kind == "figure1" and (group.axes.name, group.recipe.identity) == (sheet.sweep, sheet.recipe):
            return figure1.parts(picture.selection)
    return []


def _best_of(sheet: Sheet) -> str:
    """A row a group of columns, such as a sparsity; across its columns, such as budgets."""
    table = sheet.tables[0]
    places = accuracies(table)
    labels = dict.fromkeys(table.columns[place].label for place in places)
    rows: dict[str, dict[str, str]] = {}
    for place in places:
        column = table.columns[place]
        rows.setdefault(column.group, {})[column.label] = _first(table, place)
    lines = [
        f'<th scope="row">{escape(group)}</th>' + "".join(own.get(label, "<td></td>") for label in labels)
        for group, own in rows.items()
    ]
    return grid((_link(sheet), *map(escape, labels)), lines)


def _first(table: Table, place: int) -> str:
    column = table.columns[place]
    best = [row for row in table.rows if row.entries[place].rank == 1]
    if not best:
        return f"<td>{MISSING if column.ranked else 'not ranked'}</td>"
    said = words(best[0].entries[place], column)
    number = said.mean + (f" ± {said.spread}" if said.spread and len(best) == 1 else "")
    runs = " ".join(name for row in best for name in row.entries[place].runs)
    names = ", ".join(row.label for row in best)
    return f'<td data-runs="{escape(runs)}"><b>{escape(names)}</b> {escape(number + said.suffix)}</td>'


# What is missing


def _missing(report: Report) -> str:
    lines = [f"<p>{_link(sheet)}: {escape('; '.join(_gaps(sheet)) or 'nothing')}.</p>\n" for sheet in report.sheets]
    for (what, so), found, target in (
        (("failed cell", "without a record"), report.failures, "failures"),
        (("file", "that could not be used"), report.problems, "unusable"),
    ):
        if found:
            lines.insert(0, f'<p class="not-held"><a href="#{target}">{seeds_words([len(found)], what)} {so}</a></p>\n')
    return "".join(lines) or "<p>Nothing.</p>\n"


def _gaps(sheet: Sheet) -> list[str]:
    """What of the sweep's own table has no record or too few seeds, and runs that did not end as they should."""
    table = sheet.tables[0]
    entries = [row.entries[place] for row in table.rows for place in accuracies(table)]
    asked = [(entry.n, entry.expected or 0) for entry in entries if entry.n is not None]
    absent = sum(n == 0 for n, _ in asked)
    partial = [n for n, expected in asked if 0 < n < expected]
    most = max((n for n, _ in asked), default=0)
    found = [f"{absent} of {len(asked)} entries have no record"] if absent else []
    if partial:
        found.append(f"{len(partial)} of {len(asked)} entries have {seeds_words(partial)} of {asked[0][1]}")
    if 0 < most < TESTED_SEEDS:
        found.append(f"{seeds_words([most])} at most, {TESTED_SEEDS - most} too few for a test")
    ended = [(int((sheet.records["status"] == status).sum()), said) for status, said in REMARKS.items()]
    return found + [f"{seeds_words([count], 'run')} {said}" for count, said in ended if count]


def grid(headings: Sequence[str], rows: Sequence[str]) -> str:
    """Headings and the cells of the rows are HTML."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f'<table class="words"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n'
