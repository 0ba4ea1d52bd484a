"""The metric on the test images against budget, sparsity and speedup."""

from __future__ import annotations

import textwrap
from typing import cast

import numpy as np
import pandas as pd

from analysis.choice import chosen
from analysis.claims import per_cent
from analysis.figures import drawing
from analysis.figures.drawing import Drawing, Places, Selection
from analysis.groups import is_at, reached
from analysis.labels import row_labels, trained_with
from benchmark.errors import UserError
from benchmark.metric import Metric


def budget(selection: Selection) -> Drawing:
    """A panel a sparsity, a line a schedule."""
    metric, cells = selection.metric, selection.cells[selection.cells["budget"] != ""]
    if cells.empty:
        raise UserError("figure budget: these records have no budget; it is for sweeps that retrain")
    cells = cells.assign(row=row_names(selection, cells))
    rows = rows_of(selection, cells, "budget")
    sparsities = sorted(cells["sparsity"].unique())
    figure, grid = drawing.panels(len(sparsities), share_y=False)
    outside, counts = [], []
    for panel, sparsity in zip(grid, sparsities, strict=True):
        table, limits = drawing.scaled(
            drawing.over_seeds(cells[cells["sparsity"] == sparsity], ["row", "epochs"], metric), metric
        )
        for row, position in rows.items():
            drawing.draw_line(panel, table[table["row"] == row], "epochs", position, row)
        outside += drawing.point_outside(panel, table, limits, "epochs", rows, metric)
        counts += table["count"].tolist()
        panel.set_title(f"{per_cent(sparsity)} sparsity")
        panel.set_xlabel("retraining epochs")
        ticks = sorted(table["epochs"].unique())
        if len(ticks) <= 6:
            panel.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    grid[0].set_ylabel(drawing.axis_title(metric))
    drawing.legend_below(figure, grid[0], most=_abreast(rows))
    sentence = (
        f"Final test {metric.label} against the retraining budget, a panel a sparsity; the panels' scales differ."
    )
    return Drawing("budget", figure, (sentence, drawing.seeds_sentence(counts, metric), *_outside(outside, metric)))


def methods(selection: Selection) -> Drawing:
    """One panel, a line a method (and schedule), side by side where they have the same sparsity."""
    metric, cells = selection.metric, shown(selection)
    rows = rows_of(selection, cells, "methods")
    x, title = sparsity_axis(cells)
    target = not removes_filters(cells)
    figure, (panel,) = drawing.panels(1, height=3.2, wide=True)
    table, limits = drawing.scaled(drawing.over_seeds(cells, ["row", "sparsity"], metric), metric)
    table["x"] = cells.assign(x=x).groupby(["row", "sparsity"], sort=False)["x"].first().to_numpy()
    steps = np.diff(np.unique(table["x"]))
    apart = 0.28 * float(steps.min()) / len(rows) if target and len(steps) else 0.0
    for place, (row, position) in enumerate(rows.items()):
        line = table[table["row"] == row].sort_values("x")
        beside = line["x"] + apart * (place - (len(rows) - 1) / 2)
        panel.errorbar(
            beside, line["mean"], yerr=drawing.errors(line), label=row, elinewidth=0.8, **drawing.line_style(position)
        )
    outside = drawing.point_outside(panel, table, limits, "x", rows, metric)
    panel.set_xlabel(title)
    panel.set_ylabel(drawing.axis_title(metric))
    if target:
        panel.set_xticks(sorted(table["x"].unique()))
        panel.xaxis.grid(False)
    drawing.legend_below(figure, panel, most=_abreast(rows))
    aside = " Lines are moved aside so that bars do not cover each other." if apart else ""
    sentence = f"Final test {metric.label} against sparsity{_shown_words(selection)}.{aside}"
    seeds = drawing.seeds_sentence(table["count"], metric, "bar")
    away = _away(cells) if target else []
    return Drawing("methods", figure, (sentence, seeds, *_outside(outside, metric, " %"), *away))


def _away(cells: pd.DataFrame) -> list[str]:
    """Which points are runs that ended at another sparsity than the one that they stand at."""
    away = []
    for key, runs in cells.groupby(["row", "sparsity"], sort=False):
        row, target = cast(tuple[str, float], key)
        if not is_at(runs, target):
            away.append(f"{row} at {per_cent(target)} ({per_cent(round(reached(runs), 3))})")
    return [f"Ended at another sparsity: {', '.join(away)}."] * bool(away)


def speedup(selection: Selection) -> Drawing:
    """One panel; a line a method through its sparsities, since methods reach different speedups at one sparsity."""
    metric, (cells, left_out) = selection.metric, with_speedup(selection)
    rows = rows_of(selection, cells, "speedup")
    figure, (panel,) = drawing.panels(1, height=3.2, wide=True)
    table = drawing.over_seeds(cells, ["row", "sparsity", "hyperparameters"], metric)
    speeds = cells.groupby(["row", "sparsity", "hyperparameters"], sort=False)["speedup"]
    table["x"], table["x_std"] = speeds.mean().to_numpy(), speeds.std().fillna(0.0).to_numpy()
    for row, position in rows.items():
        line = table[table["row"] == row].sort_values("x")
        look = {"label": row, "elinewidth": 0.7, **drawing.line_style(position)}
        panel.errorbar(line["x"], line["mean"], xerr=line["x_std"], yerr=drawing.errors(line), **look)
    note = "".join(f"\n{textwrap.fill(text, 100)}" for text in left_out)
    panel.set_xlabel(f"theoretical speedup (dense MACs / remaining MACs){note}")
    panel.set_ylabel(drawing.axis_title(metric))
    drawing.legend_below(figure, panel, most=_abreast(rows))
    sentence = (
        f"Final test {metric.label} against theoretical speedup{_shown_words(selection)}, a point a sparsity: "
        f"{', '.join(per_cent(value) for value in sorted(cells['sparsity'].unique()))}."
    )
    return Drawing("speedup", figure, (sentence, drawing.seeds_sentence(table["count"], metric, "bar"), *left_out))


def with_speedup(selection: Selection) -> tuple[pd.DataFrame, list[str]]:
    """The records that have a speedup, without the points of which a run collapsed, and a sentence that names these.

    A network that is mostly zero by accident is fast for nothing. Raises UserError if no point is left.
    """
    cells = shown(selection).dropna(subset=["speedup", "final_test"])
    if cells.empty:
        raise UserError("figure speedup: these records have no speedup")
    points = (cells["status"] == "collapsed").groupby([cells["row"], cells["sparsity"]], sort=False)
    kept = cells[~points.transform("any")]
    if kept.empty:
        raise UserError("figure speedup: runs collapsed at every point")
    named = [
        f"{row} at {per_cent(sparsity)} ({count} of {size})"
        for (row, sparsity), count, size in points.agg(["sum", "size"]).itertuples(name=None)
        if count
    ]
    return kept, [f"Left out, since runs collapsed there: {', '.join(named)}."] * bool(named)


def _outside(entries: list[str], metric: Metric, unit: str = "") -> list[str]:
    """`entries`: as `point_outside` names them; `unit` follows their x."""
    if not entries:
        return []
    named = ", ".join(text.replace(" (", f"{unit} (", 1) for text in entries)
    return [f"{drawing.beyond(metric).capitalize()} the axis: {named}."]


def shown(selection: Selection) -> pd.DataFrame:
    """The records with their "row": chosen settings of a sweep of methods, else the largest budget of each schedule."""
    if selection.group.axes.from_scratch:
        kinds = trained_with(_decay(selection), (cell[:2] for cell in selection.group.axes.cells))
        winners = [runs for contest, runs in chosen(selection.group).items() if contest[:2] in kinds]
        if not winners:
            raise UserError(f"the figures of {selection.group.axes.name}: no setting is chosen yet")
        cells = pd.concat(winners)
        return cells.assign(row=cells["method"])
    cells = selection.cells
    retrained = cells[cells["budget"] != ""]
    if len(retrained):
        longest = retrained.groupby("budget")["epochs"].max().idxmax()
        cells = cells[cells["budget"].isin(["", longest])]
    return cells.assign(row=row_names(selection, cells))


def _shown_words(selection: Selection) -> str:
    if selection.group.axes.from_scratch:
        decay = _decay(selection)
        learning_rates = f", learning rates with a {decay} decay" if decay else ""
        return f", settings chosen on validation {selection.metric.label}{learning_rates}"
    budgets = ", ".join(text for text in shown(selection)["budget"].unique() if text)
    return f" at a budget of {budgets}" if budgets else ""


def _decay(selection: Selection) -> str:
    """Of the learning rates of the methods shown, where the sweep has several; BIMP's is linear in any case."""
    return max(selection.group.axes.schedules)


def row_names(selection: Selection, cells: pd.DataFrame) -> pd.Series:
    """What tells lines apart: the schedule, with the method and the setting where there are several."""
    axes = selection.group.axes
    if len(axes.hyperparameters) > 1 and not axes.from_scratch and not axes.tuning_seeds:
        labels = row_labels(axes)
        kinds = zip(cells["method"], cells["schedule"], cells["hyperparameters"], strict=True)
        return pd.Series([labels[kind] for kind in kinds], index=cells.index, dtype=object)
    names = cells["schedule"].where(cells["schedule"] != "", cells["method"])
    return names if cells["method"].nunique() == 1 else (cells["method"] + " " + cells["schedule"]).str.strip()


def rows_of(selection: Selection, cells: pd.DataFrame, figure: str) -> dict[str, int]:
    """Places in the style of the rows of `cells`, settings in the sweep's order.

    Raises UserError for more than can be told apart.
    """
    axes = selection.group.axes
    labels = [] if axes.from_scratch else list(row_labels(axes).values())
    place = {name: n for n, label in reversed([*enumerate(labels)]) for name in (label, label.rpartition(", ")[0])}
    rows = selection.positions(sorted(cells["row"].unique(), key=lambda name: (place.get(name, -1), name)))
    if len(rows) > len(drawing.COLOURS):
        raise UserError(f"figure {figure}: {len(rows)} lines are too many for one figure; choose some with --only")
    return rows


def sparsity_axis(cells: pd.DataFrame) -> tuple[pd.Series, str]:
    """Per record its x in per cent, and the axis' title: the target, or what the line's runs reach where it differs."""
    if not removes_filters(cells):
        return 100 * cells["sparsity"], "sparsity in per cent (target)"
    reached = cells.groupby(["row", "sparsity"])["sparsity_reached"].transform("mean")
    return 100 * reached, "per cent of the prunable weights that are zero"


def removes_filters(cells: pd.DataFrame) -> bool:
    """Whether some cells prune whole filters, of which a sparsity is the fraction of filters and not of weights."""
    return bool(cells["hyperparameters"].str.contains("filters").any())


def _abreast(rows: Places) -> int:
    """Entries of a legend beside each other: long names need room."""
    return 6 if max(map(len, rows)) <= 10 else 3
