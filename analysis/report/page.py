"""The report as one HTML file: no network, readable with scripts off, everything from records escaped.

A content security policy names the hashes of the two scripts, plotly.js and report.js, so that nothing else can run in
the page, and allows no address of any kind.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from analysis.render import html
from analysis.report import listing, summary
from analysis.report.data import page_data
from analysis.report.gather import Picture, Report

TITLE = "Pruning and retraining: report"
PLACE = ("problem", "device_type", "device", "host", "commit", "dirty", "code", "versions")
"""What tells apart where and how records were made."""


def write(report: Report, beside: str = "") -> str:
    """The page. beside: the name of a file that lists all records, where the page does not."""
    ids = listing.listed(report)
    plots = {
        item.drawing.name: listing.of_plot(item.figure.plot(item.selection), ids)
        for item in report.pictures
        if item.figure.plot
    }
    library, script = get_plotlyjs(), _asset("report.js")
    parts = [
        ("summary", "Summary", summary.write(report)),
        *_sheets(report, ids),
        ("figures", "Figures", "".join(_picture(picture, plots) for picture in report.pictures)),
        ("cells", "All cells", _cells(report, ids, beside)),
        ("failures", "Failures", "".join(map(_failure, itertools.count(), report.failures))),
        ("unusable", "Files that could not be used", _list(report.problems)),
        ("provenance", "Where the records are from", _provenance(report)),
    ]
    shown = [part for part in parts if part[2]]
    links = "".join(f'<li><a href="#{escape(key)}">{escape(title)}</a></li>' for key, title, _ in shown)
    body = "".join(
        f'<section id="{escape(key)}" class="part"><h1>{escape(title)}</h1>\n{content}</section>\n'
        for key, title, content in shown
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(TITLE)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(library, script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{html.STYLE}{_asset('report.css')}</style>\n</head>\n<body>\n"
        f"<header><p>{escape(TITLE)}</p><nav><ul>{links}</ul></nav></header>\n<main>\n{body}</main>\n"
        '<aside id="inspector" hidden aria-live="polite"></aside>\n'
        f'<script type="application/json" id="data">{page_data(report, ids, plots)}</script>\n'
        f'<script type="text/plain" id="library">{library}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _policy(*scripts: str) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'"


def _asset(name: str) -> str:
    return (files("analysis") / "report" / name).read_text(encoding="utf-8")


# Where the records are from


def _provenance(report: Report) -> str:
    frame = report.frame
    counts = [f"{len(frame)} records", f"{len(report.failures)} cells that failed and have none"]
    counts += [f"{count} {status}" for status, count in frame["status"].value_counts().items() if status != "ok"]
    hours = frame["seconds"].sum() / 3600
    sentence = f"From {report.source}: {', '.join(counts)}; {hours:.2f} hours of training and evaluation in all."
    rows = []
    for key, part in frame.groupby(list(PLACE), sort=True):
        problem, kind, device, host, commit, dirty, code, versions = map(str, key)
        name = device if device == kind else f"{kind} {device}".strip()
        changed = " with uncommitted changes" if dirty == "True" else ""
        words = ", ".join(f"{package} {version}" for package, version in json.loads(versions).items())
        span = f"{part['start'].min()[:16]} to {part['end'].max()[:16]}" if part["start"].min() else ""
        time = f"{part['seconds'].sum() / 3600:.2f} {'GPU' if kind == 'cuda' else 'CPU'}-hours"
        rows.append([problem, name, host, f"{commit[:7]}{changed}", code, words, str(len(part)), time, span])
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    headings = ("problem", "device", "host", "commit", "code", "versions", "cells", "time", "from, to")
    return f'<p>{escape(sentence)}</p>\n<div class="wide">{summary.grid(headings, cells)}</div>\n'


# Tables and figures


def _sheets(report: Report, ids: Collection[str]) -> list[tuple[str, str, str]]:
    return [
        (sheet.slug, f"{sheet.sweep}, {sheet.problem}", html.sections(listing.of_sheet(sheet, ids), f"{sheet.slug}-"))
        for sheet in report.sheets
    ]


def _picture(picture: Picture, plots: Mapping[str, Any]) -> str:
    """The static figure; a script puts the interactive one in its place where there is one."""
    drawing = picture.drawing
    source = base64.b64encode(picture.svg).decode()
    live = f' data-plot="{escape(drawing.name)}"' if drawing.name in plots else ""
    caption = "".join(f"<p>{escape(sentence)}</p>" for sentence in drawing.sentences)
    alt = escape(f"{drawing.name}: {drawing.sentences[0]}")
    return (
        f'<figure id="figure-{escape(drawing.name)}"{live}><h2>{escape(drawing.name)}</h2>'
        f'<img alt="{alt}" src="data:image/svg+xml;base64,{source}">'
        f'<figcaption class="caption">{caption}</figcaption></figure>\n'
    )


# Cells and failures


def _cells(report: Report, ids: Collection[str], beside: str) -> str:
    """Listed records and every failure, a row each; scripts make it sortable and filterable."""
    rows = list(map(_row, listing.rows(report, ids)))
    rows += [_failed_row(number, failure) for number, failure in enumerate(report.failures)]
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in listing.COLUMNS)
    rest = len(report.frame) - len(ids)
    where = f"; {beside}, beside this page, lists all" if beside else ""
    cut = f"<p>{len(ids)} of {len(report.frame)} records, some of every entry of the tables{escape(where)}.</p>\n"
    return (
        f'{cut if rest else ""}<p class="tools" hidden><label>Filter <input id="filter" type="search" '
        'placeholder="words, such as ALLR 0.9"></label> <label>Status <select id="status"><option value="">all</option>'
        '</select></label> <output id="count"></output></p>\n'
        f'<div class="wide"><table id="list"><thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody>'
        "</table></div>\n"
    )


def _row(texts: tuple[str, ...]) -> str:
    status, name = texts[listing.COLUMNS.index("status")], texts[-1]
    marked = "" if status == "ok" else ' class="remarkable"'
    return f'<tr data-runs="{escape(name)}"{marked}>{"".join(f"<td>{escape(text)}</td>" for text in texts)}</tr>\n'


def _failed_row(number: int, failure: Mapping[str, Any]) -> str:
    empty = {column: "" for column in listing.COLUMNS} | {"status": "failed"}
    cells = "".join(f"<td>{escape(text)}</td>" for text in list(empty.values())[:-1])
    name = escape(str(failure.get("id")))
    return f'<tr class="failed">{cells}<td><a href="#failure-{number}">{name}</a></td></tr>\n'


def _failure(number: int, failure: Mapping[str, Any]) -> str:
    cause = " ".join(filter(None, (str(failure.get(key) or "") for key in ("cause", "message"))))
    texts = "".join(
        f"<h3>{escape(heading)}</h3><pre>{escape(_text(failure[key]))}</pre>"
        for key, heading in (("traceback", "Traceback"), ("log", "End of the log"))
        if failure.get(key)
    )
    when = f"Attempt {failure.get('attempt', 1)}, {failure.get('time', '')}"
    return (
        f'<details id="failure-{number}"><summary><b>{escape(str(failure.get("id")))}</b>: {escape(cause)}</summary>'
        f"<p>{escape(when)}</p>{texts}</details>\n"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=1)


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
