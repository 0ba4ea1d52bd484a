"""What goes into a report, before anyone writes it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axes import sweep_axes, without_parts
from analysis.figures import Drawing, Figure, Selection, draw, encode, selections
from analysis.layout import Layout, sheets_of
from analysis.options import unknown
from analysis.render.sheet import Sheet
from analysis.sources import Source
from benchmark.errors import UserError
from benchmark.metric import Metric
from benchmark.planning.grid import sweep_names


@dataclass(frozen=True)
class Picture:
    """A drawn figure as SVG, and the selection that it was drawn of, for an interactive one in its place."""

    figure: Figure
    drawing: Drawing
    svg: bytes
    selection: Selection


@dataclass(frozen=True)
class Report:
    """
    Args:
        frame: every record, columns as in analysis.frames.
        whole: the records themselves by id, as each sweep has them.
        failures: of cells that have no record.
        sheets: a sheet a sweep and recipe.
        pictures: a picture a figure and recipe.
        problems: what could not be read, a line each.
        source: where the records are from.
        metrics: of the recipes, by Problem.identity.
    """

    frame: pd.DataFrame
    whole: Sequence[Mapping[str, Mapping[str, Any]]]
    failures: Sequence[Mapping[str, Any]]
    sheets: Sequence[Sheet]
    pictures: Sequence[Picture]
    problems: Sequence[str]
    source: str
    metrics: Mapping[str, Metric]

    def record(self, name: str) -> Mapping[str, Any]:
        """The record of an id, empty where it cannot be read any more."""
        return next(filter(None, (records.get(name) for records in self.whole)), {})


def gather(
    place: Source,
    layouts: Sequence[Layout],
    figures: Sequence[Figure],
    order: Sequence[Sequence[str]],
    problem: str | None = None,
    more: Sequence[str] = (),
) -> Report:
    """Everything that is known. Raises UserError if that is nothing.

    Args:
        place: where the records are.
        layouts, figures, order: how to lay sweeps out, what to draw, and the names that have a place in the style.
        problem: that one alone.
        more: sweep files beside those of sweeps/.
    """
    every = place.everything()
    replaced = {Path(name).stem for name in more}
    names = [*(name for name in sweep_names() if name not in replaced), *more]
    sweeps = [(axes, place.of_sweep(axes, problem)) for axes in map(sweep_axes, names)]
    known = without_parts([(axes, records) for axes, records in sweeps if records is not None])
    frames = [every.frame, *(records.frame for _, records in known)]
    frame = pd.concat(frames).drop_duplicates("id").reset_index(drop=True)
    failures = list(every.failures)
    if problem is not None:
        # an id begins with the problem's name, and so may another problem's name
        longer = tuple(f"{name}-" for name in frame["problem"].unique() if name.startswith(f"{problem}-"))
        ids = [str(fault["id"]) for fault in failures]
        kept = [name.startswith(f"{problem}-") and not name.startswith(longer) for name in ids]
        failures = [fault for fault, of_problem in zip(failures, kept, strict=True) if of_problem]
        frame = frame[frame["problem"] == problem].reset_index(drop=True)
    if frame.empty and not failures:
        on = f" of {problem}" if problem else ""
        advice = unknown(problem) or ": `python -m benchmark.sweep table1` makes some"
        raise UserError(f"no records{on} in {place.label}{advice}")
    metrics = {**every.metrics}
    parts: dict[str, list[Selection]] = {}
    for axes, records in known:
        metrics |= records.metrics
        parts[axes.name] = selections(records, axes, order, problem)
    problems = [line for records in (every, *(records for _, records in known)) for line in records.problems]
    return Report(
        frame,
        [every.whole, *(records.whole for _, records in known)],
        failures,
        [sheet for axes, records in known for sheet in sheets_of(layouts, records, axes, problem)],
        _pictures(figures, parts),
        list(dict.fromkeys(problems)),
        place.label,
        metrics,
    )


def _pictures(figures: Sequence[Figure], parts: Mapping[str, Sequence[Selection]]) -> list[Picture]:
    """Every figure of the first sweep with records that it is about, a picture a recipe."""
    pictures = []
    for figure in figures:
        about = [
            name for name in (*figure.sweeps, *parts) if parts.get(name) and figure.about(parts[name][0].group.axes)
        ]
        for selection in parts[about[0]] if about else ():
            try:
                drawing = draw(figure, selection)
            except UserError:  # these records have nothing of the kind
                continue
            pictures.append(Picture(figure, drawing, encode(drawing, "svg"), selection))
    return pictures
