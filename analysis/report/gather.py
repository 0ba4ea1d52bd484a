"""What goes into a report, before anyone writes it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures import FIGURES, Drawing, Selection, draw, encode, selections
from analysis.paper.layouts import sheets_of
from analysis.records import Source, of_their_own, sweep_axes
from analysis.render.sheet import Sheet
from benchmark.errors import UserError
from benchmark.planning.grid import SWEEPS


@dataclass(frozen=True)
class Picture:
    """A drawn figure as SVG, and the selection that it was drawn of, for an interactive one in its place."""

    kind: str
    drawing: Drawing
    svg: bytes
    selection: Selection


@dataclass(frozen=True)
class Report:
    frame: pd.DataFrame
    """Every record, columns as in analysis.records."""
    whole: Mapping[str, Mapping[str, Any]]
    """The same by id, with what is inside."""
    failures: Sequence[Mapping[str, Any]]
    sheets: Sequence[Sheet]
    pictures: Sequence[Picture]
    problems: Sequence[str]
    """What could not be read."""
    source: str


def gather(place: Source, problem: str | None = None, more: Sequence[str] = ()) -> Report:
    """Everything that is known of `problem`, or of all problems, with the tables of sweeps/ and of `more` sweep files.

    Raises UserError if that is nothing.
    """
    every = place.everything()
    own = {Path(name).stem for name in more}
    names = [*(path.stem for path in sorted(SWEEPS.glob("*.yaml")) if path.stem not in own), *more]
    found = [(axes, place.of_sweep(axes, problem)) for axes in map(sweep_axes, names)]
    known = of_their_own([(axes, records) for axes, records in found if records is not None])
    frames = [every.frame, *(records.frame for _, records in known)]
    frame = pd.concat(frames).drop_duplicates("id").reset_index(drop=True)
    if problem is not None:
        frame = frame[frame["problem"] == problem].reset_index(drop=True)
    failures = [one for one in every.failures if problem is None or str(one["id"]).startswith(f"{problem}-")]
    if frame.empty and not failures:
        on = f" of {problem}" if problem else ""
        raise UserError(f"no records{on} in {place.label}: `python -m benchmark.sweep table1` makes some")
    whole = {**every.whole}
    parts: dict[str, list[Selection]] = {}
    for axes, records in known:
        whole |= records.whole
        parts[axes.name] = selections(records, axes, problem)
    problems = [line for records in (every, *(records for _, records in known)) for line in records.problems]
    return Report(
        frame,
        {name: whole[name] for name in frame["id"] if name in whole},
        failures,
        [sheet for axes, records in known for sheet in sheets_of(records, axes, problem)],
        _pictures(parts),
        list(dict.fromkeys(problems)),
        place.label,
    )


def _pictures(parts: Mapping[str, Sequence[Selection]]) -> list[Picture]:
    """Every figure of the first sweep with records that it is about, a picture a recipe."""
    pictures = []
    for kind, figure in FIGURES.items():
        about = [
            name for name in (*figure.sweeps, *parts) if parts.get(name) and figure.about(parts[name][0].group.axes)
        ]
        for selection in parts[about[0]] if about else ():
            try:
                drawing = draw(kind, selection)
            except UserError:  # these records have nothing of the kind
                continue
            pictures.append(Picture(kind, drawing, encode(drawing, "svg"), selection))
    return pictures
