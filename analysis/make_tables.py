"""Tables out of records: python -m analysis.make_tables [table1] [table2] [--format markdown,latex,csv,...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis import captions
from analysis.aggregates import aggregates
from analysis.elsewhere import of_another_machine, of_other_seeds
from analysis.options import ProblemOption, ResultsOption, WandbOption
from analysis.paper.sheets import make_sheets
from analysis.render import BINARY_WRITERS, SUFFIXES, WRITERS, Sheet, terminal
from analysis.wandb_runs import open_source
from benchmark.cli import main, make_app
from benchmark.errors import UserError
from benchmark.results.atomic import write_output

ONE_HEADER = ("csv", "records")
"""Formats of which several sheets make one file: a header is not said again before columns have changed."""

app = make_app()


@app.command()
def make_tables(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Sweeps, such as table1, or files of your own. Default: all with records."),
    ] = None,
    results: ResultsOption = Path("results"),
    problem: ProblemOption = None,
    seeds: Annotated[
        str | None, typer.Option(help="Only these, as in the sweep: a count (5) or a list (0,3,7). Default: all.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Any of {','.join((*WRITERS, *BINARY_WRITERS))}. Default: terminal; with --output all but parquet.",
        ),
    ] = None,
    from_wandb: WandbOption = None,
    recipe: Annotated[
        str | None, typer.Option(help="Only this recipe of a problem, by the hash in captions and file names.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only these cells of a sweep, as the sweep takes them: schedule=ALLR,sparsity=0.9."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write files into this folder rather than print.")] = None,
    elsewhere: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE",
            help="Also where the mean of N other seeds, or of another processor's, will lie; "
            "or a file of records from there: whether its means lie there.",
        ),
    ] = None,
    aggregate: Annotated[
        bool, typer.Option("--aggregate", help="Also each row in one number over all columns, with intervals.")
    ] = False,
    details: Annotated[bool, typer.Option("--details", help="Print every comparison behind the claims.")] = False,
) -> None:
    """Print or write the tables of the sweeps for which there are records.

    Live records (RESULTS/runs) come first; a sweep without any is read from RESULTS/reference.
    """
    chosen = _parse_formats(formats, list(WRITERS) if output else ["terminal"], output is not None)
    if only and not names:
        raise UserError(f"--only {only[0]}: of which sweep? Name it, as in: make_tables table1 --only {only[0]}")
    sheets = make_sheets(names or [], open_source(results, from_wandb), problem, seeds, only or ())
    if recipe is not None:
        sheets = _of_recipe(sheets, recipe)
    if elsewhere is not None:
        sheets = _with_others(sheets, elsewhere, names or [], problem, only or ())
    sheets = [_with_filter(sheet, only or ()) for sheet in sheets]
    if aggregate:
        sheets = [replace(sheet, tables=(sheet.tables[0], aggregates(sheet), *sheet.tables[1:])) for sheet in sheets]
    if output:
        write_files(sheets, chosen, output)
        return
    print_sheets(sheets, chosen, details)


def _with_filter(sheet: Sheet, only: Sequence[str]) -> Sheet:
    """Named after the cells that were chosen, and with a sentence about them."""
    first, *rest = sheet.tables
    first = replace(first, caption=(*first.caption, *captions.filtered(only)))
    return replace(sheet, slug=captions.filtered_name(sheet.slug, only), tables=(first, *rest))


def _of_recipe(sheets: list[Sheet], recipe: str) -> list[Sheet]:
    if not (chosen := [sheet for sheet in sheets if sheet.recipe == recipe]):
        raise UserError(f"--recipe {recipe}: there are {', '.join(dict.fromkeys(sheet.recipe for sheet in sheets))}")
    return chosen


def _with_others(
    sheets: list[Sheet], elsewhere: str, names: list[str], problem: str | None, only: Sequence[str]
) -> list[Sheet]:
    """Each sheet with where the means of other runs will lie, or with how those of a file ended."""
    if elsewhere.isdecimal() and int(elsewhere):
        return [of_other_seeds(sheet, int(elsewhere)) for sheet in sheets]
    if not Path(elsewhere).exists():
        raise UserError(
            f"--elsewhere {elsewhere}: a count of seeds above 0, or a file of records, as export writes them"
        )
    try:
        others = {sheet.slug: sheet for sheet in make_sheets(names, Path(elsewhere), problem, only=only)}
    except UserError as error:
        raise UserError(f"--elsewhere: {str(error).removeprefix('--results ')}") from None
    if not others.keys() & {sheet.slug for sheet in sheets}:
        raise UserError(f"--elsewhere {elsewhere}: no records of {', '.join(sheet.slug for sheet in sheets)}")
    return [of_another_machine(sheet, others[sheet.slug]) if sheet.slug in others else sheet for sheet in sheets]


def _parse_formats(text: str | None, default: list[str], to_files: bool) -> list[str]:
    chosen = default if text is None else [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in WRITERS and name not in BINARY_WRITERS:
            raise UserError(f"--format {name!r} is unknown: any of {','.join((*WRITERS, *BINARY_WRITERS))}")
        if name in BINARY_WRITERS and not to_files:
            raise UserError(f"--format {name} is a file of bytes: say where with --output FOLDER")
    return list(dict.fromkeys(chosen))


def print_sheets(sheets: list[Sheet], formats: list[str], details: bool = False) -> None:
    """To stdout. In a pipe there are no colours and nothing limits the width."""
    for name in formats:
        before = ""
        for sheet in sheets:
            if name == "terminal" and sys.stdout.isatty():
                terminal.show(sheet, Console(highlight=False), details)
            elif name == "terminal":
                sys.stdout.write(terminal.plain(sheet, details))
            else:
                text = WRITERS[name](sheet)
                header, _, rows = text.partition("\n")
                sys.stdout.write(rows if name in ONE_HEADER and header == before else text)
                before = header


def write_files(sheets: list[Sheet], formats: list[str], folder: Path) -> None:
    """One file a sheet and format; prints their names. Raises UserError if the folder cannot be written."""
    for sheet in sheets:
        for name in formats:
            path = folder / (sheet.slug + SUFFIXES[name])
            write_output(path, (BINARY_WRITERS if name in BINARY_WRITERS else WRITERS)[name](sheet), "--output")
            print(path)


if __name__ == "__main__":
    sys.exit(main(app))
