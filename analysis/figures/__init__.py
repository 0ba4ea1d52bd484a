"""What a figure is: a function from the records of a sweep to a drawing, and which sweeps it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis import (
    captions,
    plain_matplotlib,  # noqa: F401 - before anything else imports matplotlib
)
from analysis.axes import Axes
from analysis.figures.drawing import FORMATS, Drawing, Selection, encode, style
from analysis.frames import Records
from analysis.groups import groups
from benchmark.errors import UserError


@dataclass(frozen=True)
class Figure:
    """
    Args:
        name: what users call it.
        draw: raises UserError where the records have nothing of the kind.
        about: whether it is for what a sweep varies.
        subject: which sweeps those are.
        sweeps: of these the first that has records is drawn, unless another is asked for.
        plot: the interactive form, as plotly.js takes it; None for a figure that says everything as it is.
        best: what it says of the best, in sentences; None where a table says it.
    """

    name: str
    draw: Callable[[Selection], Drawing]
    about: Callable[[Axes], bool]
    subject: str
    sweeps: tuple[str, ...]
    plot: Callable[[Selection], dict[str, Any]] | None = None
    best: Callable[[Selection], Sequence[str]] | None = None


def selections(
    records: Records, axes: Axes, order: Sequence[Sequence[str]], problem: str | None = None, narrowed: bool = False
) -> list[Selection]:
    """What there is to draw of a sweep, one a recipe."""
    return [Selection(group, records.whole, narrowed, order) for group in groups(records, axes, problem)]


def draw(figure: Figure, selection: Selection) -> Drawing:
    """The figure; its stem says of which problem, and of which recipe where that is not the problem's own.

    Raises UserError if the sweep is not one that the figure is about, or its records have nothing of the kind.
    """
    check(figure, selection.group.axes)
    with style():
        drawing = figure.draw(selection)
    return replace(drawing, name=f"{drawing.name}-{captions.recipe_name(selection.group.recipe)}")


def check(figure: Figure, axes: Axes) -> None:
    """Raises UserError if the figure is not about what the sweep varies."""
    if not figure.about(axes):
        raise UserError(f"figure {figure.name}: it is for sweeps of {figure.subject}, which {axes.name} is not")


__all__ = ["FORMATS", "Drawing", "Figure", "Selection", "check", "draw", "encode", "selections", "style"]
