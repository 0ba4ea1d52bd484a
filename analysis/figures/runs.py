"""What single runs look like inside: sparsity of each layer, and training curves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.claims import budget_words, per_cent, seeds_words
from analysis.figures.drawing import WIDTH, Drawing, Selection, legend_below, line_style, panels
from analysis.figures.scores import shown
from analysis.frames import CELL
from benchmark.errors import UserError

MOST_CURVES = 9
"""Curves that can be told apart."""


def layers(selection: Selection) -> Drawing:
    """A panel a sparsity; the layers from input to output across, a line a method."""
    cells = shown(selection)
    zeros = {name: _layer_sparsity(selection, name) for name in cells["id"]}
    cells = cells[[bool(zeros[name]) for name in cells["id"]]]
    if cells.empty:
        raise UserError("figure layers: these records do not say the sparsity of each layer")
    names = list(next(zeros[name] for name in cells["id"]))
    sparsities = sorted(cells["sparsity"].unique())
    methods = selection.positions(cells["method"].unique())
    figure, grid = panels(len(sparsities), height=2.7)
    counts: list[int] = []
    for panel, sparsity in zip(grid, sparsities, strict=True):
        for method, position in methods.items():
            runs = cells[(cells["sparsity"] == sparsity) & (cells["method"] == method)]
            if runs.empty:
                continue
            table = pd.DataFrame([zeros[name] for name in runs["id"]], columns=names) * 100
            mean, std, x = table.mean(), table.std(), np.arange(len(names))
            counts.append(len(runs))
            look = line_style(position)
            panel.plot(x, mean, label=method, **look)
            if len(runs) > 1:
                panel.fill_between(x, mean - std, mean + std, color=look["color"], alpha=0.13, linewidth=0)
        panel.axhline(sparsity * 100, color="#888888", linewidth=0.7, linestyle=(0, (1, 2)), label="target, all layers")
        panel.set_title(f"target {per_cent(sparsity)}")
        step = math.ceil(len(names) / 14)  # labels of more would touch each other
        panel.set_xticks(np.arange(0, len(names), step), [_short(name) for name in names[::step]], rotation=90)
    grid[0].set_ylabel("sparsity in per cent")
    legend_below(figure, grid[0])
    over = (
        f"Mean and band of one sample standard deviation over {seeds_words(counts, 'run')}."
        if max(counts) > 1
        else "A line is one run."
    )
    return Drawing("layers", figure, ("Sparsity of each layer, from input to output.", over))


def curves(selection: Selection) -> Drawing:
    """Learning rate, training loss and validation of every epoch; a line a cell, mean over its seeds."""
    cells = _few(selection)
    histories = {name: history for name in cells["id"] if (history := _history(selection, name)) is not None}
    cells = cells[cells["id"].isin(histories)]
    if cells.empty:
        raise UserError("figure curves: these records have no history")
    figure = Figure(figsize=(WIDTH, 2.7))
    grid = list(figure.subplots(1, 3))
    metric = selection.metric
    parts = (
        ("learning_rate", "learning rate", 1.0),
        ("train_loss", "training loss", 1.0),
        (f"validation_{metric.name}", f"val. {metric.label_and_unit}", metric.scale),
    )
    labels = _labels(cells)
    counts = [curve["seed"].nunique() for _, curve in cells.groupby(labels)]
    for label, position in selection.positions(labels.unique()).items():
        names = list(cells["id"][labels == label])
        for panel, (key, _, scale) in zip(grid, parts, strict=True):
            values = _mean([histories[name] for name in names], key) * scale
            look = {**line_style(position), "markersize": 2.5 if len(values) <= 30 else 0}
            panel.plot(values.index, values, label=label, **look)
    for panel, (_, title, _) in zip(grid, parts, strict=True):
        panel.set_xlabel("epoch")
        panel.set_title(title)
    if all(value > 0 for line in grid[1].lines for value in line.get_ydata()):
        grid[1].set_yscale("log")
    legend_below(figure, grid[0])
    common = _common(cells)
    sentence = f"Training curves{f' ({common})' if common else ''}, means over {seeds_words(counts)}."
    return Drawing("curves", figure, (sentence,))


def _few(selection: Selection) -> pd.DataFrame:
    """The reader's choice, or else the highest sparsity at its longest budget."""
    cells = selection.cells if selection.narrowed else shown(selection)
    if not selection.narrowed:
        cells = cells[cells["sparsity"] == cells["sparsity"].max()]
    count = _labels(cells).nunique()
    if count > MOST_CURVES:
        raise UserError(f"figure curves: {count} cells are too many for one figure; choose some with --only")
    return cells


def _words(cells: pd.DataFrame) -> pd.DataFrame:
    """The axes of the cells in words."""
    sparsities = cells["sparsity"].map(lambda value: "" if math.isnan(value) else per_cent(value))
    return cells[list(CELL)].assign(sparsity=sparsities, budget=cells["budget"].map(budget_words))


def _labels(cells: pd.DataFrame) -> pd.Series:
    """What differs between the cells, in words; seeds do not count."""
    words = _words(cells)
    differing = [axis for axis in CELL if words[axis].nunique() > 1] or ["method"]
    return words[differing].apply(lambda row: " ".join(filter(None, row)) or "defaults", axis=1)


def _common(cells: pd.DataFrame) -> str:
    words = _words(cells)
    return ", ".join(words[axis].iloc[0] for axis in CELL if words[axis].nunique() == 1 and words[axis].iloc[0])


def _history(selection: Selection, name: str) -> dict[str, NDArray[np.float64]] | None:
    """The columns of a record's history that are drawn, beside "epoch"; None where it has none."""
    history = (selection.whole.get(name) or {}).get("history")
    keys = ("epoch", "learning_rate", "train_loss", f"validation_{selection.metric.name}")
    return {key: np.array(history.get(key, []), dtype=float) for key in keys} if history else None


def _mean(histories: list[dict[str, NDArray[np.float64]]], key: str) -> pd.Series:
    """By epoch, over the histories that have a value there: not every epoch need have a validation."""
    values = [history[key] for history in histories]
    epochs = [history["epoch"][: len(column)] for history, column in zip(histories, values, strict=True)]
    return pd.Series(np.concatenate(values)).groupby(np.concatenate(epochs)).mean().dropna()


def _layer_sparsity(selection: Selection, name: str) -> dict[str, float]:
    layers = ((selection.whole.get(name) or {}).get("sparsity") or {}).get("layers") or {}
    return {layer: counts["zeros"] / counts["weights"] for layer, counts in layers.items() if counts["weights"]}


def _short(name: str) -> str:
    return name.removesuffix(".weight").replace("blocks.", "b").replace("layers.", "l")
