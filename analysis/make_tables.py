"""Tables out of records: python -m analysis.make_tables [table1] [--format terminal,markdown,latex,html,csv]."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis import captions, claims, table1
from analysis.records import Axes, Records, Results, sweep_axes
from analysis.render import SUFFIXES, WRITERS, Sheet, csv, terminal
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.grid import SWEEPS

WARNINGS = 50
"""How many unusable records are named one by one."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def make_tables(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Sweeps, such as table1, or files of your own. Default: all with records."),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Results folder, store, folder of .jsonl files, or one of them.")
    ] = Path("results"),
    problem: Annotated[str | None, typer.Option(help="Only this problem. Default: all with records.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Only these, as in the sweep: a count (5) or a list (0,3,7). Default: all.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help=f"Any of {','.join(WRITERS)}. Default: terminal; all with --output.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write files into this folder rather than print.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Print every comparison behind the claims.")] = False,
) -> None:
    """Print or write the tables of the sweeps for which there are records.

    Live records (RESULTS/runs) come first; a sweep without any is read from RESULTS/reference.
    """
    chosen = _parse_formats(formats, list(WRITERS) if output else ["terminal"])
    sheets = make_sheets(names or [], results, problem, seeds)
    if output:
        write_files(sheets, chosen, output)
        return
    try:
        print_sheets(sheets, chosen, details)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_sheets(
    names: Sequence[str], results: Path, problem: str | None = None, seeds: str | None = None
) -> list[Sheet]:
    """The sheets of the named sweeps, or of all that have records; warnings go to stderr. Raises UserError."""
    wanted = [sweep_axes(name, seeds) for name in names]
    for axes in wanted:
        if not table1.fits(axes):
            raise UserError(f"{axes.name}: there is no table for a sweep of several methods or without schedules yet")
    place = Results(results)
    sheets: list[Sheet] = []
    warnings: dict[str, None] = {}
    for axes in wanted or filter(table1.fits, (sweep_axes(path.stem, seeds) for path in sorted(SWEEPS.glob("*.yaml")))):
        records = place.of_sweep(axes, problem)
        warnings |= dict.fromkeys(place.problems(axes) if records is None else records.problems)
        if records is None and names:
            _warn(list(warnings))
            raise _nothing(axes.name, results, problem)
        sheets += _sheets(records, axes, problem) if records else []
    _warn(list(warnings))
    if not sheets:
        raise _nothing("table1", results, problem)
    return sheets


def _sheets(records: Records, axes: Axes, problem: str | None) -> list[Sheet]:
    sheets = []
    for group in table1.groups(records, axes, problem):
        recipe = group.recipe
        slug = f"{axes.name}-{recipe.name}" + ("" if captions.is_plain(recipe) else f"-{recipe.identity}")
        tables = [table1.measured(group)]
        if table1.has_published(axes):
            tables.append(table1.published(tables[0], axes))
        findings = claims.check(table1.evidence(group)) if table1.has_claims(axes) else ()
        sheets.append(Sheet(slug, axes.name, recipe.name, recipe.identity, tuple(tables), findings))
    return sheets


def _warn(lines: Sequence[str]) -> None:
    shown = [*lines[:WARNINGS], *([f"{len(lines) - WARNINGS} more of the kind"] if len(lines) > WARNINGS else [])]
    for line in shown:
        print(captions.printable(f"warning: {line}"), file=sys.stderr)


def _nothing(name: str, results: Path, problem: str | None) -> UserError:
    which = f"{name} on {problem}" if problem else name
    command = f"python -m benchmark.sweep {name}" + (f" --problem {problem}" if problem else "")
    return UserError(f"no records of {which} in {results}: `{command}` makes them")


def _parse_formats(text: str | None, default: list[str]) -> list[str]:
    chosen = default if text is None else [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in WRITERS:
            raise UserError(f"--format {name!r} is unknown: any of {','.join(WRITERS)}")
    return list(dict.fromkeys(chosen))


def print_sheets(sheets: list[Sheet], formats: list[str], details: bool = False) -> None:
    """To stdout. In a pipe there are no colours and nothing limits the width; what it cannot encode becomes "?"."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    for name in formats:
        for number, sheet in enumerate(sheets):
            if name == "terminal" and sys.stdout.isatty():
                terminal.show(sheet, Console(highlight=False), details)
            elif name == "terminal":
                sys.stdout.write(terminal.plain(sheet, details))
            else:
                sys.stdout.write(csv.write(sheet, header=number == 0) if name == "csv" else WRITERS[name](sheet))


def write_files(sheets: list[Sheet], formats: list[str], folder: Path) -> None:
    """One file a sheet and format; prints their names. Raises UserError if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sheet in sheets:
            for name in formats:
                path = folder / (sheet.slug + SUFFIXES[name])
                path.write_text(WRITERS[name](sheet), encoding="utf-8")
                print(path)
    except OSError as error:
        raise UserError(f"--output {folder}: cannot write there ({error.strerror or error})") from None


if __name__ == "__main__":
    sys.exit(main(app))
