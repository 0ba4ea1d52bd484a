"""`python -m benchmark.checkpoint CELL --format FORMAT --out FILE`: the trained network of a cell, to take away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError, escaped
from benchmark.results.atomic import write_output
from benchmark.results.store import Store

app = cli.make_app()


@app.command()
def checkpoint(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or a part of it that no other cell has")],
    out: Annotated[Path, typer.Option(help="The file to write")],
    format_: Annotated[
        str, typer.Option("--format", help="safetensors (weights), torch (a program with weights) or onnx")
    ] = "safetensors",
    compact: Annotated[
        bool, typer.Option("--compact", help="Without the removed filters, where whole filters were pruned")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="The folder of the images; default data/")] = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
) -> int:
    """Write the trained, pruned network of a finished cell with its record inside. docs/checkpoints.md shows how it
    loads without the suite.

    Where its weights were not kept (the sweep's --keep weights) the cell is trained again. Exit code 1 says that this
    gave other weights than those of the record; then nothing is written.
    """
    store = Store.open_existing(results)
    cli.check_writable(out)
    from benchmark import trained
    from benchmark.training.formats import check_format, encode

    check_format(format_, out)
    record = trained.find(store, cell)
    if compact and "smaller" not in record:
        raise UserError(
            f"--compact: {record['id']} did not lose whole filters, so that no smaller network has its layers; leave "
            "--compact out"
        )
    try:
        finished = trained.load(store, record, data)
    except trained.OtherResult as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    network = finished.compact() if compact else finished.network
    content = encode(format_, network, finished.example, finished.about())
    write_output(out, content, "--out")
    print(f"{escaped(out)}: {record['id']}, {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(app))
