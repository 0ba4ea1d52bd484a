"""The interactive figures: plotly.js traces as plain JSON. Every point names the records behind it (customdata)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.claims import per_cent
from analysis.envelope import Step
from analysis.figures import figure1
from analysis.figures.accuracy import row_names, shown, sparsity_axis
from analysis.figures.drawing import COLOURS, Selection, over_seeds, positions, scaled
from analysis.report.gather import Picture

Plot = dict[str, Any]
"""{"data": [...], "layout": {...}} as plotly.js takes it; colours of paper and text are the page's."""
DASHES = ("solid", "dash", "solid", "solid", "solid", "solid", "solid", "dash", "dot")
SYMBOLS = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "x",
    "triangle-left",
    "triangle-right",
)


def plot_of(picture: Picture) -> Plot | None:
    """The interactive form of a picture; None for those that say everything as they are."""
    make = PLOTS.get(picture.kind)
    return make(picture.selection) if make else None


def budget(selection: Selection) -> Plot:
    cells = selection.cells[selection.cells["budget"] != ""]
    cells = cells.assign(row=row_names(selection, cells), x=cells["epochs"].round(2))
    sparsities = sorted(cells["sparsity"].unique())
    traces, layout = [], _layout("", "test accuracy in per cent")
    layout["grid"] = {"rows": 1, "columns": len(sparsities), "pattern": "independent"}
    for number, sparsity in enumerate(sparsities, 1):
        suffix = "" if number == 1 else str(number)
        own = cells[cells["sparsity"] == sparsity]
        for row, place in positions(own["row"].unique()).items():
            trace = _line(own[own["row"] == row], "x", row, place)
            traces.append({**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showlegend": number == 1})
        layout.setdefault(f"yaxis{suffix}", {})
        layout[f"xaxis{suffix}"] = {"title": {"text": f"retraining epochs, {per_cent(sparsity)} sparsity"}}
    return {"data": traces, "layout": layout}


def methods(selection: Selection) -> Plot:
    cells = shown(selection)
    x, title = sparsity_axis(cells)
    cells = cells.assign(x=x.round(2))
    traces = [_line(cells[cells["row"] == row], "x", row, n) for row, n in positions(cells["row"].unique()).items()]
    layout = _layout(title, "test accuracy in per cent")
    return {"data": traces, "layout": _zoomed(layout, cells)}


def speedup(selection: Selection) -> Plot:
    cells = shown(selection).dropna(subset=["speedup", "final_test"])
    cells = cells.assign(x=cells.groupby(["row", "sparsity"])["speedup"].transform("mean").round(2))
    traces = [_line(cells[cells["row"] == row], "x", row, n) for row, n in positions(cells["row"].unique()).items()]
    layout = _layout("theoretical speedup", "test accuracy in per cent")
    return {"data": traces, "layout": _zoomed(layout, cells)}


def envelope(selection: Selection) -> Plot:
    """A panel a sparsity: every run, the envelope, the level of the baseline."""
    found = figure1.parts(selection)
    traces, layout = [], _layout("", "test accuracy in per cent")
    layout["grid"] = {"rows": 1, "columns": len(found), "pattern": "independent"}
    for number, part in enumerate(found, 1):
        suffix = "" if number == 1 else str(number)
        own = [_every_run(part), _best_so_far(part), *_baseline(part)]
        traces += [{**t, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showlegend": number == 1} for t in own]
        title = f"retraining epochs, {part.title}<br>{part.heading}"
        ticks = {"tickvals": figure1.TICKS, "ticktext": [str(tick) for tick in figure1.TICKS]}
        layout[f"xaxis{suffix}"] = {"title": {"text": title, "font": {"size": 11}}, "type": "log", **ticks}
        layout.setdefault(f"yaxis{suffix}", {})
    return {"data": traces, "layout": layout}


def _every_run(part: figure1.Part) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "every run",
        "x": [run.epochs for run in part.runs],
        "y": [round(100 * run.test, 3) for run in part.runs],
        "text": [f"{run.setting}, seed {run.seed}" for run in part.runs],
        "customdata": [run.id for run in part.runs],
        "marker": {"color": figure1.ENVELOPE, "opacity": 0.3, "size": 5},
        "hovertemplate": "%{text}<br>%{x} epochs: %{y:.2f} %<extra></extra>",
    }


def _best_so_far(part: figure1.Part) -> dict[str, Any]:
    """A step's customdata are the ids of its records."""
    ids = [
        " ".join(
            run.id
            for run in part.runs
            if (run.setting, run.epochs) == (step.setting, step.epochs) and run.seed in part.seeds
        )
        for step in part.steps
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "best so far, selected on validation accuracy",
        "x": [step.epochs for step in part.steps],
        "y": [round(100 * step.mean, 3) for step in part.steps],
        "error_y": {"type": "data", "array": [_bar(step) for step in part.steps], "thickness": 1},
        "text": [f"{step.setting}, n = {step.n}" for step in part.steps],
        "customdata": ids,
        "line": {"color": figure1.ENVELOPE, "shape": "hv"},
        "hovertemplate": "%{text}<br>from %{x} epochs on: %{y:.2f} %<extra></extra>",
    }


def _bar(step: Step) -> float | None:
    return round(100 * step.std, 3) if step.n > 1 else None


def _baseline(part: figure1.Part) -> list[dict[str, Any]]:
    if part.baseline is None or not part.runs:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"iterative baseline ({figure1.BASELINE})",
            "x": [min(run.epochs for run in part.runs), max(run.epochs for run in part.runs)],
            "y": [round(100 * part.baseline.mean, 3)] * 2,
            "line": {"color": figure1.BASELINE_COLOUR, "dash": "dash"},
            "hoverinfo": "name+y",
        }
    ]


PLOTS: dict[str, Callable[[Selection], Plot]] = {
    "figure1": envelope,
    "budget": budget,
    "methods": methods,
    "speedup": speedup,
}


def _line(cells: pd.DataFrame, x: str, label: str, place: int) -> dict[str, Any]:
    """A line over `x` of means with their deviations; a point's customdata are the ids of its records."""
    points = cells.sort_values("seed").groupby(x)
    tests = points["final_test"]
    mean, std = (tests.mean() * 100).round(3), (tests.std() * 100).round(3)  # NaN of one run: no bar
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label,
        "x": [float(value) for value in mean.index],
        "y": mean.where(mean.notna(), None).tolist(),
        "error_y": {"type": "data", "array": std.astype(object).where(std.notna(), None).tolist(), "thickness": 1},
        "text": [
            f"{label}, n = {count}<br>{level:.2f}{f' ± {bar:.2f}' if count > 1 else ''}"
            for count, level, bar in zip(tests.count(), mean, std, strict=True)
        ],
        "customdata": points["id"].agg(" ".join).tolist(),
        "line": {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place % len(DASHES)]},
        "marker": {"symbol": SYMBOLS[place % len(SYMBOLS)]},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _zoomed(layout: dict[str, Any], cells: pd.DataFrame) -> dict[str, Any]:
    """As the figure at first: without what collapsed, which a reader finds by zooming out (a double click)."""
    _, limits = scaled(over_seeds(cells, ["row", "sparsity"], "final_test"))
    return {**layout, "yaxis": {**layout["yaxis"], "range": limits}} if limits else layout


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "legend": {"orientation": "h", "y": -0.25},
        "margin": {"t": 20, "r": 20, "l": 60, "b": 60},
        "height": 420,
        "hovermode": "closest",
    }
