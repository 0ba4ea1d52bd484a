"""The figures by name: a function from the records of a sweep to a drawing, and which sweeps it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from analysis import (
    captions,
    plain_matplotlib,  # noqa: F401 - before anything else imports matplotlib
)
from analysis.figures import accuracy, rates, runs
from analysis.figures.drawing import FORMATS, Drawing, Selection, encode, style
from analysis.groups import groups
from analysis.paper import figure1, table_variants
from analysis.records import Axes, Records
from benchmark.errors import UserError

CYCLES = ("cycles", "ladder")
CRITERIA = ("criterion", "stages")
"""Hyperparameters that say in how many steps, and what, is pruned."""


def varies(axes: Axes, names: tuple[str, ...]) -> bool:
    """Whether the settings of a sweep that retrains differ in one of these hyperparameters."""
    settings = [json.loads(text or "{}") for text in axes.hyperparameters]
    values = {json.dumps([own.get(name) for name in names]) for own in settings}
    return table_variants.fits(axes) and len(values) > 1


def has_cycles(axes: Axes) -> bool:
    return table_variants.fits(axes) and any(name in text for text in axes.hyperparameters for name in CYCLES)


def has_criteria(axes: Axes) -> bool:
    return varies(axes, CRITERIA) and len(axes.schedules) > 1


def has_rows(axes: Axes) -> bool:
    """Whether a line of a method or schedule is one thing: no cycles, and no criteria times schedules, are mixed."""
    return not varies(axes, CYCLES) and not has_criteria(axes)


def has_budgets(axes: Axes) -> bool:
    return has_rows(axes) and any(axes.budgets)


def has_masks(axes: Axes) -> bool:
    """Whether all runs of a method at one sparsity prune alike."""
    return not varies(axes, (*CYCLES, *CRITERIA))


def has_distances(axes: Axes) -> bool:
    return any(axes.schedules) and not varies(axes, CRITERIA)


@dataclass(frozen=True)
class Figure:
    """`about` says of a sweep whether it is for it, `subject` which those are.

    `sweeps`: of these the first that has records is drawn, unless another is asked for.
    """

    draw: Callable[[Selection], Drawing]
    about: Callable[[Axes], bool]
    subject: str
    sweeps: tuple[str, ...]


ROWS = "methods or schedules side by side, without cycles or several criteria"
FIGURES: dict[str, Figure] = {
    "figure1": Figure(figure1.draw, has_cycles, "cycles of iterative pruning", ("figure1",)),
    "budget": Figure(accuracy.budget, has_budgets, f"budgets, with {ROWS}", ("table1",)),
    "methods": Figure(accuracy.methods, has_rows, ROWS, ("table2", "table1")),
    "speedup": Figure(accuracy.speedup, has_rows, ROWS, ("table2", "table1")),
    "variants": Figure(
        accuracy.variants, has_criteria, "several criteria, each with several schedules", ("retraining_variants",)
    ),
    "schedules": Figure(rates.schedules, has_budgets, f"budgets, with {ROWS}", ("table1",)),
    "distance": Figure(rates.distance, has_distances, "schedules, with one criterion", ("figure1", "table1")),
    "layers": Figure(runs.layers, has_masks, "methods side by side, without cycles or criteria", ("table2", "table1")),
    "curves": Figure(runs.curves, has_rows, ROWS, ("table1", "table2")),
}


def selections(records: Records, axes: Axes, problem: str | None = None, narrowed: bool = False) -> list[Selection]:
    """What there is to draw of a sweep, one a recipe."""
    found = groups(records, axes, problem)
    wholes = [{name: records.whole[name] for name in group.every["id"] if name in records.whole} for group in found]
    return [Selection(group, whole, narrowed) for group, whole in zip(found, wholes, strict=True)]


def draw(name: str, selection: Selection) -> Drawing:
    """The named figure; its stem says of which problem, and of which recipe where that is not the problem's own.

    Raises UserError if the sweep is not one that the figure is about, or its records have nothing of the kind.
    """
    figure, recipe = FIGURES[name], selection.group.recipe
    check(name, selection.group.axes)
    with style():
        drawing = figure.draw(selection)
    stem = f"{drawing.name}-{recipe.name}" + ("" if captions.is_plain(recipe) else f"-{recipe.identity}")
    return replace(drawing, name=stem)


def check(name: str, axes: Axes) -> None:
    """Raises UserError if the figure is not about what the sweep varies."""
    if not FIGURES[name].about(axes):
        raise UserError(f"figure {name}: it is for sweeps of {FIGURES[name].subject}, which {axes.name} is not")


__all__ = ["FIGURES", "FORMATS", "Drawing", "Figure", "Selection", "check", "draw", "encode", "selections", "style"]
