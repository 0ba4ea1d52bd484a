"""The metric on the test images against measured latency, and the front of what is both fastest and best."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import settings
from analysis.claims import per_cent
from analysis.figures import drawing
from analysis.figures.drawing import Drawing, Selection
from analysis.labels import of_setting, row_labels
from benchmark.errors import UserError
from benchmark.methods.limits import WHOLE_FILTERS
from benchmark.metric import Metric

MILLISECONDS = 1e3
DENSE = "dense"
LARGEST, SMALLEST = 6.0, 3.0
"""Markers, in points: the more is pruned, the smaller."""


def latency(selection: Selection) -> Drawing:
    """A point for each setting and sparsity, with the schedule and budget that are best in validation."""
    points = table(selection)
    metric = selection.metric
    rows = selection.positions(points["row"].unique())
    figure, (panel,) = drawing.panels(1, height=3.2, wide=True)
    best = front(points, metric)
    panel.plot(best["x"], best["mean"], drawstyle="steps-post", color="0.75", linewidth=1.0, zorder=0)
    sparsities = sorted(set(points["sparsity"]) - {0.0})
    sizes = {0.0: LARGEST, **dict(zip(sparsities, np.linspace(LARGEST, SMALLEST, len(sparsities)), strict=True))}
    for row, position in rows.items():
        look = {**drawing.line_style(position), "linestyle": "none", "elinewidth": 0.7, "label": row}
        for sparsity, of_row in points[points["row"] == row].groupby("sparsity"):
            errors = drawing.errors(of_row)
            panel.errorbar(of_row["x"], of_row["mean"], yerr=errors, markersize=sizes[sparsity], **look)
    for sparsity in sparsities:
        label = f"{per_cent(sparsity)} pruned"
        panel.plot([], [], "o", color="0.6", markersize=sizes[sparsity], label=label)
    batch = selection.group.recipe.batch_size
    panel.set_xlabel(f"forward pass of {batch} examples, milliseconds")
    panel.set_ylabel(drawing.axis_title(metric))
    drawing.legend_below(figure, panel, most=3)
    sentence = (
        f"Final test {metric.label} against measured latency, one point for each setting and sparsity, with the "
        "schedule and budget that are best in validation. Latency: the median masked network's, times the share that "
        "the smaller network took of it in turns; without single weights a network computes as a dense one does. "
        "Grey: no other point is as fast and better."
    )
    return Drawing("latency", figure, (sentence, drawing.seeds_sentence(points["count"], metric, "bar")))


def table(selection: Selection) -> pd.DataFrame:
    """Of each point its row, sparsity, x in milliseconds and the columns of `drawing.over_seeds`.

    Raises UserError if no latency was measured.
    """
    group, metric = selection.group, selection.metric
    cells = group.tested.dropna(subset=["final_test"])
    masked = cells["latency_masked"].median()
    if pd.isna(masked):
        raise UserError("figure latency: these records have no latency; it is measured where whole filters are pruned")
    labels: dict[tuple[str, str], str] = {}
    for (name, schedule, text), label in row_labels(group.axes).items():
        labels.setdefault((name, text), of_setting(label, schedule))
    points = [_point(DENSE, group.dense.assign(sparsity=0.0), masked, metric)] if len(group.dense) else []
    for (method, setting, _), runs in cells.groupby(["method", "hyperparameters", "sparsity"], sort=False):
        share = (runs["latency_smaller"] / runs["latency_masked"]).median()  # taken in turns: what else ran cancels out
        if pd.isna(share) and settings.values_of(str(setting)).get("criterion") in WHOLE_FILTERS:
            continue  # nobody measured it
        seconds = masked if pd.isna(share) else share * masked
        points.append(_point(labels[str(method), str(setting)], _best_in_validation(runs, metric), seconds, metric))
    return pd.concat(points, ignore_index=True)


def front(points: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The points of which no other is as fast and better, the fastest first."""
    quality = metric.oriented(points["mean"])
    ordered = points.assign(quality=quality).sort_values(["x", "quality"], ascending=[True, False])
    return ordered[ordered["quality"] > ordered["quality"].cummax().shift(fill_value=-float("inf"))]


def _best_in_validation(runs: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    kinds = runs.groupby(["schedule", "budget"], sort=False)
    quality = metric.oriented(kinds["final_validation"].mean())
    return runs if quality.isna().all() else kinds.get_group(quality.idxmax())


def _point(row: str, runs: pd.DataFrame, seconds: float, metric: Metric) -> pd.DataFrame:
    return drawing.over_seeds(runs.assign(row=row), ["row", "sparsity"], metric).assign(x=MILLISECONDS * seconds)
