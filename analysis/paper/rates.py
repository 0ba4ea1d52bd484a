"""Learning-rate curves of all schedules, and what ALLR's d is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from analysis import settings
from analysis.claims import budget_words, per_cent, seeds_words
from analysis.figures.drawing import Drawing, Selection, first_of_rows, legend_below, line_style, panels
from benchmark.cells import Budget
from benchmark.errors import UserError
from benchmark.training.schedules import (
    SCHEDULES,
    Retraining,
    dense_learning_rates,
    dense_warmup_iterations,
    learning_rates,
    relative_distance,
)

DISTANCES = (("d1", "$d_1$", 4, "-", "s"), ("d2", "$d_2$", 1, "-", "^"), ("d", "$d$", 0, (0, (1, 1.5)), ""))
"""Of a cycle: name, label, place in the style, dash and marker."""
FINE = 100
"""Iterations of an epoch where no record says it: enough for smooth curves."""


def schedules(selection: Selection) -> Drawing:
    """The dense run's learning rates, then a panel a budget; ALLR with the mean distance d1 of the records."""
    recipe = selection.group.recipe
    per_epoch = selection.iterations_per_epoch() or FINE
    dense = dense_learning_rates(recipe, per_epoch)
    warmup = dense_warmup_iterations(recipe, per_epoch, len(dense))
    budgets = [text for text in selection.group.axes.budgets if text]
    names = selection.positions([*SCHEDULES, *sorted({cell[1] for cell in selection.group.axes.cells if cell[3]})])
    known = selection.group.every["distance"].dropna()
    distance = float(np.mean(known)) if len(known) else relative_distance(1.0, 0.4, 0.9)
    figure, grid = panels(1 + len(budgets), share_y=True)
    grid[0].plot(np.arange(len(dense)) / per_epoch, dense, color="#444444", label="dense run")
    grid[0].set_title("dense run")
    for panel, text in zip(grid[1:], budgets, strict=True):
        iterations = Budget.parse(text).iterations(recipe.epochs, per_epoch)
        share = min(iterations / len(dense), 1.0)
        retraining = Retraining(dense, warmup, iterations, relative_distance=distance, budget_share=share)
        for name, position in names.items():
            look: dict[str, Any] = {**line_style(position), "marker": "", "drawstyle": "default"}
            panel.plot(np.arange(iterations) / per_epoch, learning_rates(name, retraining), label=name, **look)
        panel.set_title(f"retraining, budget {budget_words(text)}")
    for panel in grid:
        panel.set_xlabel("epoch")
    for panel in first_of_rows(grid):
        panel.set_ylabel("learning rate")
    legend_below(figure, grid[-1])
    sentence = (
        f"Learning rate of every iteration, problem {recipe.name}; ALLR with d1 = {distance:.2f}"
        f"{', the mean of the records' if len(known) else ', an example'}."
    )
    return Drawing("schedules", figure, (sentence,))


def distance(selection: Selection) -> Drawing:
    """d1, d2 and d = max(d1, d2): along the cycles of iterative pruning, or against the budget of one-shot pruning."""
    cells = selection.cells
    cells = cells[cells["distance"].notna()]
    if cells.empty:
        raise UserError("figure distance: these records have no prune-retrain cycles")
    if "ALLR" in set(cells["schedule"]):
        cells = cells[cells["schedule"] == "ALLR"]
    iterative = bool((cells["cycles"] > 1).any())
    sparsities = sorted(cells["sparsity"].unique())
    figure, grid = panels(len(sparsities))
    counts = []
    for panel, sparsity in zip(grid, sparsities, strict=True):
        runs, detail = cells[cells["sparsity"] == sparsity], ""
        if iterative:
            runs = _most_cycles(runs)
            first = runs.iloc[0]
            words = (first["schedule"], settings.in_words(first["hyperparameters"]), budget_words(first["budget"]))
            detail = f"\n{', '.join(filter(None, words))}"
        table = _cycle_rows(runs, selection, iterative)
        counts += table.groupby("x")["seed"].nunique().tolist()
        for name, label, position, dash, marker in DISTANCES:
            means = table.groupby("x")[name].mean()
            look = {**line_style(position), "linestyle": dash, "marker": marker}
            panel.plot(means.index, means, label=label, **look)
        panel.set_title(f"{per_cent(sparsity)} sparsity{detail}")
        panel.set_xlabel("cycle" if iterative else "retraining epochs")
        panel.set_ylim(0, 1.05)
        ticks = sorted(table["x"].unique())
        if len(ticks) <= 10:
            panel.set_xticks(ticks)
        elif iterative:
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    grid[0].set_ylabel("fraction of the peak learning rate")
    legend_below(figure, grid[0])
    kind = "along the cycles of the runs with the most cycles" if iterative else "of one-shot pruning"
    sentence = f"ALLR's d = max(d1, d2), {kind}: d1 from how far pruning moved the weights, d2 the share of the budget."
    return Drawing("distance", figure, (sentence, f"Means over {seeds_words(counts)}."))


def _most_cycles(runs: pd.DataFrame) -> pd.DataFrame:
    """Of the runs with the most cycles those of one setting, at the longest budget."""
    runs = runs[runs["cycles"] == runs["cycles"].max()]
    runs = runs[runs["budget"] == runs["budget"].iloc[runs["epochs"].argmax()]]
    return runs[runs["hyperparameters"] == runs["hyperparameters"].iloc[0]]


def _cycle_rows(cells: pd.DataFrame, selection: Selection, iterative: bool) -> pd.DataFrame:
    rows = []
    for name, seed, epochs in zip(cells["id"], cells["seed"], cells["epochs"], strict=True):
        for cycle in (selection.whole.get(name) or {}).get("cycles") or ():
            x = cycle["cycle"] + 1 if iterative else epochs
            rows.append({"x": x, "seed": seed, **{key: cycle.get(key, math.nan) for key in ("d", "d1", "d2")}})
    return pd.DataFrame(rows, columns=["x", "seed", "d", "d1", "d2"])
