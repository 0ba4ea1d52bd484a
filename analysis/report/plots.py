"""The interactive figures: plotly.js traces as plain JSON. Every point names the records behind it (customdata)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from analysis.claims import per_cent
from analysis.figures.accuracy import row_names, shown, sparsity_axis, with_speedup
from analysis.figures.drawing import COLOURS, Places, Selection, errors, over_seeds, positions, scaled
from analysis.paper import figure1
from analysis.paper.envelope import Step
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
    places = positions(cells["row"].unique())
    traces, layout = [], _layout("", "test accuracy in per cent")
    layout["grid"] = {"rows": 1, "columns": len(sparsities), "pattern": "independent"}
    for number, sparsity in enumerate(sparsities, 1):
        suffix = "" if number == 1 else str(number)
        own, axis = _lines(cells[cells["sparsity"] == sparsity], places)
        traces += [{**t, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showlegend": number == 1} for t in own]
        layout[f"yaxis{suffix}"] = {**layout.get(f"yaxis{suffix}", {}), **axis}
        layout[f"xaxis{suffix}"] = {"title": {"text": f"retraining epochs, {per_cent(sparsity)} sparsity"}}
    return {"data": traces, "layout": layout}


def methods(selection: Selection) -> Plot:
    cells = shown(selection)
    x, title = sparsity_axis(cells)
    return _panel(cells.assign(x=x.round(2)), title)


def speedup(selection: Selection) -> Plot:
    cells, _ = with_speedup(selection)
    x = cells.groupby(["row", "sparsity"])["speedup"].transform("mean")
    return _panel(cells.assign(x=x.round(2)), "theoretical speedup")


def _panel(cells: pd.DataFrame, title: str) -> Plot:
    traces, axis = _lines(cells, positions(cells["row"].unique()))
    layout = _layout(title, "test accuracy in per cent")
    return {"data": traces, "layout": {**layout, "yaxis": {**layout["yaxis"], **axis}}}


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
        "x": [run.epochs for run in part.points],
        "y": [round(100 * run.test, 3) for run in part.points],
        "text": [f"{run.setting}, seed {run.seed}" for run in part.points],
        "customdata": [run.id for run in part.points],
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


def _lines(cells: pd.DataFrame, places: Places) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A line a row over "x", and what the y axis needs so that collapsed runs do not squeeze the others."""
    by = ["row", "sparsity", "x"]  # two sparsities can have one speedup
    table, limits = scaled(over_seeds(cells, by, "final_test"))
    runs = cells.sort_values("seed").groupby(by)["id"].agg(" ".join)
    table["runs"] = [runs[key] for key in table[by].itertuples(index=False, name=None)]
    lines = [_line(table[table["row"] == row].sort_values("x"), row, place, limits) for row, place in places.items()]
    return lines, {"range": limits} if limits else {}


def _line(table: pd.DataFrame, label: str, place: int, limits: tuple[float, float] | None) -> dict[str, Any]:
    """Means with their deviations; a point's customdata are the ids of its records.

    What is outside of the axis is marked just above its lower edge, and its text says where it is.
    """
    edge = limits[0] + 0.02 * (limits[1] - limits[0]) if limits else math.nan
    low, high = errors(table)  # NaN of one run and of what is outside: no bar
    texts = []
    for entry in table.to_dict("records"):
        bar = f" ± {entry['std']:.2f}" if entry["count"] > 1 else ""
        fell = f"<br>below the axis: {entry['collapsed']} of {entry['count']} runs collapsed" * entry["outside"]
        texts.append(f"{label}, n = {entry['count']}<br>{entry['mean']:.2f}{bar}{fell}")
    symbol = SYMBOLS[place % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label,
        "x": table["x"].tolist(),
        "y": _plain(table["mean"].where(~table["outside"], edge)),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": _plain(high),
            "arrayminus": _plain(low),
            "thickness": 1,
        },
        "text": texts,
        "customdata": table["runs"].tolist(),
        "line": {"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place % len(DASHES)]},
        "marker": {
            "symbol": ["triangle-down-open" if outside else symbol for outside in table["outside"]],
            "size": [12 if outside else 6 for outside in table["outside"]],
        },
        "hovertemplate": "%{text}<extra></extra>",
    }


def _plain(values: Iterable[float]) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [None if math.isnan(value) else round(float(value), 3) for value in values]


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "legend": {"orientation": "h", "y": -0.25},
        "margin": {"t": 20, "r": 20, "l": 60, "b": 60},
        "height": 420,
        "hovermode": "closest",
    }
