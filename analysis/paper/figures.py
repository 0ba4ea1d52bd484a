"""The figures by name, and how the paper orders schedules and methods in them."""

from __future__ import annotations

import json

from analysis import settings
from analysis.axes import Axes
from analysis.figures import Figure, latency, runs, scores
from analysis.paper import figure1, rates, variants_figure
from analysis.paper.claims_table1 import SCHEDULES
from analysis.paper.table2 import METHODS
from analysis.report import plots
from benchmark.methods.limits import WHOLE_FILTERS

ORDER = (SCHEDULES, METHODS)
"""The place of a name is its colour and marker, in every figure."""
CYCLES = ("cycles", "ladder")
CRITERIA = ("criterion", "stages")
"""Hyperparameters that say in how many steps, and what, is pruned."""


def varies(axes: Axes, names: tuple[str, ...]) -> bool:
    """Whether the settings of a sweep that retrains differ in one of these hyperparameters."""
    grid = [settings.values_of(text) for text in axes.hyperparameters]
    return axes.retrains and len({json.dumps([values.get(name) for name in names]) for values in grid}) > 1


def has_cycles(axes: Axes) -> bool:
    return axes.retrains and any(name in text for text in axes.hyperparameters for name in CYCLES)


def has_criteria(axes: Axes) -> bool:
    return varies(axes, CRITERIA) and len(axes.schedules) > 1


def has_filters(axes: Axes) -> bool:
    return any(settings.values_of(text).get("criterion") in WHOLE_FILTERS for text in axes.hyperparameters)


def has_rows(axes: Axes) -> bool:
    """Whether a line of a method or schedule is one thing: no cycles, and no criteria times schedules, are mixed."""
    return not varies(axes, CYCLES) and not has_criteria(axes)


def has_budgets(axes: Axes) -> bool:
    return has_rows(axes) and any(axes.budgets)


def has_masks(axes: Axes) -> bool:
    """Whether all runs of a method at one sparsity prune alike."""
    return not varies(axes, (*CYCLES, *CRITERIA))


def has_distances(axes: Axes) -> bool:
    return axes.retrains and not varies(axes, CRITERIA)


ROWS = "methods or schedules side by side, without cycles or several criteria"
BUDGETS = f"budgets, with {ROWS}"
BOTH = ("table2", "table1")
FIGURES = (
    Figure(
        "figure1", figure1.draw, has_cycles, "cycles of iterative pruning", ("figure1",), figure1.plot, figure1.best
    ),
    Figure("budget", scores.budget, has_budgets, BUDGETS, ("table1",), plots.budget),
    Figure("methods", scores.methods, has_rows, ROWS, BOTH, plots.methods),
    Figure("speedup", scores.speedup, has_rows, ROWS, BOTH, plots.speedup),
    Figure(
        "variants",
        variants_figure.draw,
        has_criteria,
        "several criteria, each with several schedules",
        ("retraining_variants",),
    ),
    Figure("latency", latency.latency, has_filters, "criteria that prune whole filters", ("retraining_variants",)),
    Figure("schedules", rates.schedules, has_budgets, BUDGETS, ("table1",)),
    Figure("distance", rates.distance, has_distances, "schedules, with one criterion", ("figure1", "table1")),
    Figure("layers", runs.layers, has_masks, "methods side by side, without cycles or criteria", BOTH),
    Figure("curves", runs.curves, has_rows, ROWS, ("table1", "table2")),
)
