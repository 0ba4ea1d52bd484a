"""Figures out of records: python -m analysis.make_figures [figure1|budget|methods|speedup|schedules|distance|...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis import captions, figures
from analysis.figures import FIGURES, FORMATS, Drawing, Selection, encode
from analysis.make_tables import nothing, warn
from analysis.records import Source, sweep_axes
from analysis.wandb_runs import open_source
from benchmark.cells import UNSAFE
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.planning.grid import SWEEPS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def make_figures(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(FIGURES)}, or all. Default: all with records.")
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Results folder, store, folder of .jsonl files, or one of them.")
    ] = Path("results"),
    sweep: Annotated[
        str | None, typer.Option(help="Sweep whose records to draw. Default: the first fitting one with records.")
    ] = None,
    problem: Annotated[str | None, typer.Option(help="Only this problem. Default: all with records.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only cells such as schedule=ALLR,sparsity=0.9; may be repeated.")
    ] = None,
    from_wandb: Annotated[
        str | None, typer.Option(help="Read Weights & Biases: a folder of offline runs, or ENTITY/PROJECT.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", help=f"Any of {','.join(FORMATS)}.")] = ",".join(FORMATS),
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("results/figures"),
) -> None:
    """Draw figures and print, for each, its files and what it shows."""
    suffixes = _parse_formats(formats)
    chosen = _parse_names(names or [])
    place = open_source(results, from_wandb, whole=True)
    explicit = bool(names) and "all" not in (names or [])
    made = 0
    for name in chosen:
        try:
            drawings = draw(name, place, sweep, problem, only or [])
        except UserError as error:
            if explicit:
                raise
            print(f"left out: {error}", file=sys.stderr)
            continue
        for drawing in drawings:
            _write(drawing, suffixes, output)
            made += 1
    if not made:
        raise nothing(sweep or "table1", place, problem)


def draw(
    name: str, place: Source, sweep: str | None = None, problem: str | None = None, only: Sequence[str] = ()
) -> list[Drawing]:
    """The named figure, once for every recipe that there are records of.

    Raises UserError if there are none, or if the figure is not about the sweep.
    """
    wanted = FIGURES[name].sweeps
    for candidate in [sweep] if sweep else [one for one in wanted if (SWEEPS / f"{one}.yaml").is_file()]:
        axes = sweep_axes(candidate, only=only)
        figures.check(name, axes)
        records = place.of_sweep(axes, problem)
        warn(place.problems(axes) if records is None else records.problems)
        if records is not None:
            found = figures.selections(records, axes, problem, bool(only))
            return [_captioned(figures.draw(name, selection), selection, only) for selection in found]
    raise nothing(sweep or wanted[0], place, problem)


def _captioned(drawing: Drawing, selection: Selection, only: Sequence[str]) -> Drawing:
    """With where its records are from; a figure of chosen cells has a name of its own, beside that of all."""
    group = selection.group
    stem = drawing.name + "".join(f"-{UNSAFE.sub('-', text)}" for text in only)
    filtered = [f"Only {' and '.join(only)}."] if only else []
    source = captions.provenance(group.every, group.problems)
    return Drawing(stem, drawing.figure, (*drawing.sentences, *filtered, captions.problem(group.recipe), source))


def _write(drawing: Drawing, suffixes: Sequence[str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in suffixes:
            (folder / f"{drawing.name}.{suffix}").write_bytes(encode(drawing, suffix))
    except OSError as error:
        raise UserError(f"--output {folder}: cannot write there ({error.strerror or error})") from None
    print(folder / f"{drawing.name}.{'|'.join(suffixes)}")
    for sentence in drawing.sentences:
        print(f"    {sentence}")


def _parse_names(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in FIGURES and name != "all":
            raise UserError(f"figure {name!r} is unknown: any of {', '.join(FIGURES)}, or all")
    return list(FIGURES) if not names or "all" in names else list(dict.fromkeys(names))


def _parse_formats(text: str) -> list[str]:
    chosen = [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in FORMATS:
            raise UserError(f"--format {name!r} is unknown: any of {','.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


if __name__ == "__main__":
    sys.exit(main(app))
