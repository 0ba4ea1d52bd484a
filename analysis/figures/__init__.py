"""The figures by name: a function from the records of a sweep to a drawing, and the sweeps that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis import plain_matplotlib  # noqa: F401 - before anything else imports matplotlib
from analysis.figures import accuracy, figure1, rates, runs
from analysis.figures.drawing import FORMATS, Drawing, Selection, encode, style


@dataclass(frozen=True)
class Figure:
    """`sweeps`: of these the first that has records is drawn, unless another is asked for."""

    draw: Callable[[Selection], Drawing]
    sweeps: tuple[str, ...]


FIGURES: dict[str, Figure] = {
    "figure1": Figure(figure1.draw, ("figure1",)),
    "budget": Figure(accuracy.budget, ("table1",)),
    "methods": Figure(accuracy.methods, ("table2", "table1")),
    "speedup": Figure(accuracy.speedup, ("table2", "table1")),
    "variants": Figure(accuracy.variants, ("retraining_variants",)),
    "schedules": Figure(rates.schedules, ("table1", "figure1")),
    "distance": Figure(rates.distance, ("figure1", "table1")),
    "layers": Figure(runs.layers, ("table2", "table1")),
    "curves": Figure(runs.curves, ("table1", "table2")),
}

__all__ = ["FIGURES", "FORMATS", "Drawing", "Figure", "Selection", "encode", "style"]
