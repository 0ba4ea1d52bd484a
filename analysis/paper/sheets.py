"""The sheets of sweeps: what every command shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.axes import Axes, sweep_axes, without_parts
from analysis.frames import Records
from analysis.layout import sheets_of
from analysis.options import nothing, warn
from analysis.paper.layouts import LAYOUTS
from analysis.render.sheet import Sheet
from analysis.sources import Results, Source
from benchmark.planning.grid import sweep_names


def make_sheets(
    names: Sequence[str],
    source: Path | Source,
    problem: str | None = None,
    seeds: str | None = None,
    only: Sequence[str] = (),
) -> list[Sheet]:
    """The sheets of the named sweeps, or of all that have records; warnings go to stderr. Raises UserError."""
    place = Results(source) if isinstance(source, Path) else source
    chosen = {name: sweep_axes(name, seeds, only) for name in names or sweep_names()}
    sweeps: list[tuple[Axes, Records]] = []
    warnings: dict[str, None] = {}
    for name, axes in chosen.items():
        records = place.of_sweep(axes, problem)
        warnings |= dict.fromkeys(place.problems(axes) if records is None else records.problems)
        if records is None and names:
            warn(list(warnings))
            raise nothing(name, place, problem, seeds)
        sweeps += [(axes, records)] if records else []
    warn(list(warnings))
    shown = sweeps if names else without_parts(sweeps)
    sheets = [sheet for axes, records in shown for sheet in sheets_of(LAYOUTS, records, axes, problem)]
    if not sheets:
        raise nothing("table1", place, problem, seeds)
    return sheets
