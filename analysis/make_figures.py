"""Figures out of records: python -m analysis.make_figures [figure1|budget|methods|speedup|schedules|latency|...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis import captions, figures
from analysis.axes import sweep_axes
from analysis.figures import FORMATS, Drawing, Figure, Selection, encode
from analysis.options import NoRecords, ProblemOption, ResultsOption, WandbOption, nothing, warn
from analysis.paper.figures import FIGURES, ORDER
from analysis.sources import Source
from analysis.wandb_runs import open_source
from benchmark.cli import main, make_app
from benchmark.errors import UserError
from benchmark.planning.grid import SWEEPS, sweep_names
from benchmark.results.atomic import write_output

NAMES = tuple(figure.name for figure in FIGURES)

app = make_app()


@app.command()
def make_figures(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(NAMES)}, or all. Default: all with records.")
    ] = None,
    results: ResultsOption = Path("results"),
    sweep: Annotated[
        str | None, typer.Option(help="Sweep whose records to draw. Default: the first fitting one with records.")
    ] = None,
    problem: ProblemOption = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only cells such as schedule=ALLR,sparsity=0.9; may be repeated.")
    ] = None,
    from_wandb: WandbOption = None,
    formats: Annotated[str, typer.Option("--format", help=f"Any of {','.join(FORMATS)}.")] = ",".join(FORMATS),
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("results/figures"),
) -> None:
    """Draw figures and print, for each, its files and what it shows."""
    suffixes = _parse_formats(formats)
    chosen = _parse_names(names or [])
    place = open_source(results, from_wandb, whole=True)
    explicit = bool(names) and "all" not in (names or [])
    made = 0
    left_out: list[UserError] = []
    for figure in chosen:
        try:
            drawings = draw(figure, place, sweep, problem, only or [])
        except UserError as error:
            if explicit:
                raise
            left_out.append(error)
            continue
        for drawing in drawings:
            _write(drawing, suffixes, output)
            made += 1
    if not made:
        raise next((reason for reason in left_out if not isinstance(reason, NoRecords)), None) or nothing(
            sweep or "table1", place, problem
        )
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)


def draw(
    figure: Figure, place: Source, sweep: str | None = None, problem: str | None = None, only: Sequence[str] = ()
) -> list[Drawing]:
    """The figure, once for every recipe that there are records of.

    Raises UserError if there are none, or if the figure is not about the sweep.
    """
    refused, accepted = None, sweep
    for name in [sweep] if sweep else [name for name in figure.sweeps if (SWEEPS / f"{name}.yaml").is_file()]:
        try:
            axes = sweep_axes(name, only=only)
        except UserError as error:
            if sweep or not only:
                raise
            refused = UserError(f"sweep {name}: {error}")  # the next may have such cells
            continue
        accepted = name
        figures.check(figure, axes)
        records = place.of_sweep(axes, problem)
        warn(place.problems(axes) if records is None else records.problems)
        if records is not None:
            selections = figures.selections(records, axes, ORDER, problem, bool(only))
            return [_captioned(figures.draw(figure, selection), selection, only) for selection in selections]
    if refused and accepted is None:
        raise refused
    raise nothing(accepted or figure.sweeps[0], place, problem)


def _captioned(drawing: Drawing, selection: Selection, only: Sequence[str]) -> Drawing:
    """With where its records are from; a figure of chosen cells has a name of its own, beside that of all."""
    group = selection.group
    stem, chosen = captions.filtered_name(drawing.name, only), captions.filtered(only)
    source = captions.provenance(group.every, group.problems)
    return Drawing(stem, drawing.figure, (*drawing.sentences, *chosen, captions.problem(group.recipe), source))


def _write(drawing: Drawing, suffixes: Sequence[str], folder: Path) -> None:
    for suffix in suffixes:
        write_output(folder / f"{drawing.name}.{suffix}", encode(drawing, suffix), "--output")
    print(folder / f"{drawing.name}.{'|'.join(suffixes)}")
    for sentence in drawing.sentences:
        print(f"    {sentence}")


def _parse_names(names: Sequence[str]) -> list[Figure]:
    for name in names:
        if name not in NAMES and name != "all":
            of_sweep = f"; --sweep {name} draws those of that sweep" if name in sweep_names() else ""
            raise UserError(f"figure {name!r} is unknown: any of {', '.join(NAMES)}, or all{of_sweep}")
    chosen = NAMES if not names or "all" in names else tuple(dict.fromkeys(names))
    return [FIGURES[NAMES.index(name)] for name in chosen]


def _parse_formats(text: str) -> list[str]:
    chosen = [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in FORMATS:
            raise UserError(f"--format {name!r} is unknown: any of {','.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


if __name__ == "__main__":
    sys.exit(main(app))
