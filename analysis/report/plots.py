"""The interactive figures: plotly.js traces as plain JSON. Every point names the records behind it (customdata)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.claims import per_cent
from analysis.figures.drawing import COLOURS, Places, Selection, axis_title, beyond, errors, over_seeds, scaled
from analysis.figures.scores import row_names, shown, sparsity_axis, with_speedup
from benchmark.metric import Metric

Plot = dict[str, Any]
"""{"data": [...], "layout": {...}} as plotly.js takes it; colours of paper and text are the page's."""
Panel = tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]
"""Its traces, its x axis, and what its y axis has beside the title."""
DASHES = ("solid", "dash", "solid", "solid", "solid", "solid", "solid", "dash", "dot")
SYMBOLS = (
    *("circle", "square", "triangle-up", "diamond", "triangle-down"),
    *("cross", "x", "triangle-left", "triangle-right"),
)


def budget(selection: Selection) -> Plot:
    cells = selection.cells[selection.cells["budget"] != ""]
    cells = cells.assign(row=row_names(selection, cells), x=cells["epochs"].round(2))
    places = selection.positions(cells["row"].unique())
    panels = []
    for sparsity in sorted(cells["sparsity"].unique()):
        lines, y = _lines(cells[cells["sparsity"] == sparsity], places, selection.metric)
        panels.append((lines, {"title": {"text": f"retraining epochs, {per_cent(sparsity)} sparsity"}}, y))
    return side_by_side(panels, selection.metric)


def side_by_side(panels: Sequence[Panel], metric: Metric) -> Plot:
    """A plot of several panels from left to right."""
    traces, layout = [], _layout("", axis_title(metric))
    layout["grid"] = {"rows": 1, "columns": len(panels), "pattern": "independent"}
    for number, (lines, x, y) in enumerate(panels, 1):
        suffix = "" if number == 1 else str(number)
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showlegend": number == 1}
        traces += [{**line, **axes} for line in lines]
        layout[f"yaxis{suffix}"] = {**layout.get(f"yaxis{suffix}", {}), **y}
        layout[f"xaxis{suffix}"] = x
    return {"data": traces, "layout": layout}


def methods(selection: Selection) -> Plot:
    cells = shown(selection)
    x, title = sparsity_axis(cells)
    return _panel(selection, cells.assign(x=x.round(2)), title)


def speedup(selection: Selection) -> Plot:
    cells, _ = with_speedup(selection)
    x = cells.groupby(["row", "sparsity"])["speedup"].transform("mean")
    return _panel(selection, cells.assign(x=x.round(2)), "theoretical speedup")


def _panel(selection: Selection, cells: pd.DataFrame, title: str) -> Plot:
    traces, axis = _lines(cells, selection.positions(cells["row"].unique()), selection.metric)
    layout = _layout(title, axis_title(selection.metric))
    return {"data": traces, "layout": {**layout, "yaxis": {**layout["yaxis"], **axis}}}


def _lines(cells: pd.DataFrame, places: Places, metric: Metric) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A line a row over "x", and what the y axis needs so that collapsed runs do not squeeze the others."""
    by = ["row", "sparsity", "x"]  # two sparsities can have one speedup
    table, limits = scaled(over_seeds(cells, by, metric), metric)
    runs = cells.sort_values("seed").groupby(by)["id"].agg(" ".join)
    table["runs"] = [runs[key] for key in table[by].itertuples(index=False, name=None)]
    lines = [
        _line(table[table["row"] == row].sort_values("x"), row, place, limits, metric) for row, place in places.items()
    ]
    return lines, {"range": limits} if limits else {}


def _line(
    table: pd.DataFrame, label: str, place: int, limits: tuple[float, float] | None, metric: Metric
) -> dict[str, Any]:
    """Means with their deviations; a point's customdata are the ids of its records.

    What is outside of the axis is marked just inside of its worse edge, and its text says where it is.
    """
    worst, best = (limits or (math.nan, math.nan))[:: 1 if metric.higher_is_better else -1]
    edge = worst + 0.02 * (best - worst)
    low, high = errors(table)  # NaN of one run and of what is outside: no bar
    texts = []
    for entry in table.to_dict("records"):
        bar = f" ± {entry['std']:.2f}" if entry["count"] > 1 else ""
        fell = f"{entry['collapsed']} of {entry['total']} runs collapsed"
        fell = f"<br>{beyond(metric)} the axis: {fell}" if entry["outside"] else ""
        texts.append(f"{label}, n = {entry['count']}<br>{entry['mean']:.2f}{bar}{fell}")
    symbol = SYMBOLS[place % len(SYMBOLS)]
    sizes = [12 if outside else 6 for outside in table["outside"]]
    arrow = "triangle-down-open" if metric.higher_is_better else "triangle-up-open"
    symbols = [arrow if outside else symbol for outside in table["outside"]]
    return trace(
        "lines+markers",
        label,
        table["x"].tolist(),
        _plain(table["mean"].where(~table["outside"], edge)),
        error_y={"type": "data", "symmetric": False, "array": _plain(high), "arrayminus": _plain(low), "thickness": 1},
        text=texts,
        customdata=table["runs"].tolist(),
        line={"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place % len(DASHES)]},
        marker={"symbol": symbols, "size": sizes},
        hovertemplate="%{text}<extra></extra>",
    )


def _plain(values: Iterable[float]) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [None if math.isnan(value) else round(float(value), 3) for value in values]


def trace(kind: str, name: str, x: Sequence[float], y: Sequence[float | None], **look: Any) -> dict[str, Any]:
    """`kind`: "lines", "markers" or "lines+markers"."""
    return {"type": "scatter", "mode": kind, "name": name, "x": x, "y": y, **look}


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "legend": {"orientation": "h", "y": -0.25},
        "margin": {"t": 20, "r": 20, "l": 60, "b": 60},
        "height": 420,
        "hovermode": "closest",
    }
