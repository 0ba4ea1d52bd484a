"""`python -m benchmark.latency CELL...`: what pruning gained a finished cell's network on this machine, or cost it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError, escaped
from benchmark.measure.common import Device, Folder, Repeats, Threads, usable_device
from benchmark.results.atomic import write_output
from benchmark.results.store import Store
from benchmark.streams import make_console

app = cli.make_app()
console = make_console()
FILES = (".csv", ".json")


@app.command()
def latency(
    cells: Annotated[list[str], typer.Argument(metavar="CELL...", help="Ids of cells, or parts that no others have")],
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="The large batch; the small one is 1")] = 64,
    repeats: Repeats = 30,
    threads: Threads = 1,
    device: Device = "auto",
    data: Folder = None,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
    out: Annotated[Path | None, typer.Option(help="Write the numbers to a .csv or .json file as well")] = None,
) -> int:
    """Latency, memory, file size and energy of a network dense, masked, without its filters and with sparse kernels,
    by torch and by onnxruntime. Forms take turns; `x dense` below 1 is slower. docs/checkpoints.md has an example."""
    store = Store.open_existing(results)
    if out is not None and out.suffix not in FILES:
        raise UserError(f"--out {escaped(out)}: a file that ends in {' or '.join(FILES)}")
    if out is not None:
        cli.check_writable(out)
    there = usable_device(device)
    from benchmark import trained
    from benchmark.measure import latency as measured

    records = [trained.find(store, text) for text in cells]
    rows = []
    for record in records:
        try:
            finished = trained.load(store, record, data)
        except trained.OtherResult as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        of_cell = measured.measure(finished, there, sorted({1, batch}), repeats, threads)
        console.print(f"{record['id']}: {measured.heading(finished, there, batch, repeats, threads)}", soft_wrap=True)
        console.print(measured.table(of_cell))
        rows += of_cell
    if out is not None:
        write_output(out, (measured.to_csv if out.suffix == ".csv" else measured.to_json)(rows), "--out")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(app))
