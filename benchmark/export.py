"""`python -m benchmark.export NAME`: the records of a sweep as one compact file, to commit and to share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import starts
from benchmark.planning.tuning import current
from benchmark.problems.folder import complete
from benchmark.results.atomic import CannotWrite
from benchmark.results.records import Record, result
from benchmark.results.store import UNREADABLE, Store, read_compact, write_compact

app = cli.make_app()


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A sweep of sweeps/ (table1) or a file of your own (mine.yaml)")],
    problem: Annotated[str | None, typer.Option(help="A problem of sweeps/problems/, or a file of your own")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (5) or which (0,3,7)")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe, as in the sweep")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the images, where the sweep was told one")] = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
    output: Annotated[Path, typer.Option(help="The folder to write to")] = Path("results/reference"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file even if it holds records that the new one does not")
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="Keep what the file holds beside it: seeds that another machine trained")
    ] = False,
) -> int:
    """Write the sweep's records and those of its dense runs to OUTPUT/NAME-PROBLEM.jsonl, one a line.

    Exit code 1 says that some cells have no record yet. A file that holds other records stays as it is. Of a cell with
    a record in both places --add keeps that of the file, and says where their results differ.
    """
    if force and add:
        raise UserError("--force replaces the file, --add keeps what it holds: give one of them")
    if results.exists() and not results.is_dir():
        raise UserError(f"--results {results}: that is a file, not a results folder")
    store = Store(results)
    settings = cli.parse_settings(set_ or [])
    sweep = current(load_sweep(name, problem, seeds, settings=settings, complete=complete(data)), store)
    by_id = {cell.id: store.read(cell.id) for cell in [*sweep.cells, *starts(sweep.cells)]}
    records = [record for record in by_id.values() if record is not None]
    for line in store.problems:
        if UNREADABLE in line:  # what is there is not left out of a file that others will read
            raise UserError(f"{line}; once it can, the same command goes on")
        print(f"warning: {line}", file=sys.stderr)
    if not records:
        raise UserError(
            f"--results {results}: no records of {name} there; `python -m benchmark.sweep {name}` makes them"
        )
    path = output / f"{sweep.name}-{sweep.problem.name}.jsonl"
    if add:
        records = _added(path, records)
    elif not force:
        _refuse_loss(path, records)
    try:
        write_compact(path, records)
    except (OSError, CannotWrite) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise UserError(f"--output {output}: cannot write there ({getattr(cause, 'strerror', cause)})") from None
    written = sum(record["id"] in by_id for record in records)
    others = len(records) - written
    print(f"{path}: {written} of {len(by_id)} records{f', beside {others} of other cells' if others else ''}")
    return 0 if written == len(by_id) else 1


def _added(path: Path, records: Sequence[Record]) -> list[Record]:
    """The records that `path` holds, and those of `records` of other cells. Raises UserError for lines that nothing
    reads."""
    held, unusable = _held(path)
    if unusable:
        raise UserError(f"--output {path.parent}: {unusable[0]}; --add would lose it")
    for record in records:
        if result(held.setdefault(record["id"], record)) != result(record):
            print(f"warning: {record['id']}: {path} has another result, which stays", file=sys.stderr)
    return list(held.values())


def _refuse_loss(path: Path, records: Sequence[Record]) -> None:
    """Raises UserError if `path` holds results that are not among `records`, or lines that nothing reads: those of
    another recipe or machine, or of more cells, are often the only copy that is committed."""
    held, unusable = _held(path)
    new = {record["id"]: result(record) for record in records}
    lost = sum(new.get(name) != result(record) for name, record in held.items()) + len(unusable)
    if lost:
        raise UserError(
            f"--output {path.parent}: {path} is there, and {lost} of its {len(held) + len(unusable)} records would be "
            f"lost, since they are not among the {len(records)} to export; give another folder with --output DIR, "
            "--add to keep them, or --force to replace the file"
        )


def _held(path: Path) -> tuple[dict[str, Record], list[str]]:
    """(records by id, a line for each that cannot be used) of a file, nothing where there is none. Raises UserError."""
    unusable: list[str] = []
    try:
        return {record["id"]: record for record in read_compact(path, unusable)}, unusable
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UserError(f"--output {path.parent}: {path} cannot be read ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(cli.main(app))
