"""How long it takes to read records into Table 1: python -m benchmark.measure.reading [--records 100000].

Makes a store of synthetic records, results of nothing, in a temporary folder, reads it as `make_tables` does, prints
the seconds and deletes it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.make_tables import make_sheets
from benchmark.cells import Cell
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.planning.grid import load_sweep
from benchmark.results.records import encode
from benchmark.results.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def benchmark_reading(
    records: Annotated[int, typer.Option(help="How many synthetic records.")] = 100_000,
    folder: Annotated[Path | None, typer.Option(help="Where to make the temporary store.")] = None,
) -> None:
    """Time reading a store of synthetic records into the table."""
    if records < 1:
        raise UserError(f"--records {records}: a number above 0")
    with tempfile.TemporaryDirectory(prefix="synthetic-results-", dir=folder) as path:
        store = Store(Path(path) / "runs")
        size = 0
        for cell in itertools.islice(synthetic_cells(), records):
            file = store.record_path(cell.id)
            file.parent.mkdir(parents=True, exist_ok=True)
            size += file.write_bytes(encode(synthetic_record(cell, random.Random(cell.id).random())))  # noqa: S311
        print(f"synthetic store of {records} records, {size / 1e6:.0f} MB, {size / records / 1e3:.1f} kB each")
        start = time.perf_counter()
        sheets = make_sheets(["table1"], Path(path))
        seconds = time.perf_counter() - start
        n = max(entry.n or 0 for row in sheets[0].tables[0].rows for entry in row.entries)
        print(f"read into Table 1 (up to {n} seeds an entry) in {seconds:.2f} s: {records / seconds:.0f} records/s")


def synthetic_cells() -> Iterator[Cell]:
    """Cells of table1, seed after seed without end, the dense run of each seed first."""
    sweep = load_sweep("table1", seeds=[0])
    for seed in itertools.count():
        yield Cell.dense(sweep.problem, seed)
        yield from (cell.with_seed(seed) for cell in sweep.cells)


def synthetic_record(cell: Cell, accuracy: float, **changes: Any) -> dict[str, Any]:
    """A record in the form and of the size of a real one, with `accuracy` (a fraction) as its final test accuracy."""
    weights = hashlib.sha256(f"{cell.problem.identity} {cell.seed}".encode()).hexdigest()
    final = {"test": accuracy, "validation": accuracy}
    stages = ("final",) if cell.is_dense else ("dense", "pruned", "final")
    epochs = list(range(cell.problem.epochs if cell.is_dense else 10))
    layers = {f"stage{n}.conv.weight": {"weights": 1000 + n, "zeros": 900, "macs": 3456} for n in range(10)}
    curve = [round(0.1 / (1 + n), 6) for n in range(100)]
    history = ("learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    record = {
        "schema": 1,
        "id": cell.id,
        "cell": cell.to_json(),
        "parent": None if cell.is_dense else {"id": "synthetic", "weights_sha256": weights},
        "status": "ok",
        "remarks": ["synthetic"],
        "accuracy": {stage: dict(final) for stage in stages},
        "loss": {stage: {"test": 0.5, "validation": 0.5} for stage in stages},
        "sparsity": {"target": cell.sparsity, "learned": None, "prunable": cell.sparsity, "layers": layers},
        "macs": {"dense": 123456, "sparse": 12345.6, "speedup": 10.0},
        "images_per_second": 12345.6,
        "learning_rate": {
            "iterations": 100,
            "peak": 0.1,
            "sha256": hashlib.sha256(str(cell.budget).encode()).hexdigest(),
            "sampled": {"iteration": list(range(100)), "value": curve},
        },
        "cycles": [],
        "history": {"epoch": epochs, **{key: [0.123456] * len(epochs) for key in history}},
        "seconds": {"total": 0.9, "training": 0.7, "evaluation": 0.1},
        "iterations": {"total": _iterations(cell), "per_epoch": 17},
        "provenance": {
            "commit": "0" * 40,
            "dirty": False,
            "code": "synthetic",
            "versions": {"python": "3.11.0", "torch": "0.0.0"},
            "device": "cpu",
            "device_name": "synthetic",
            "host": "synthetic",
        },
    }
    return {**record, **changes}


def _iterations(cell: Cell) -> int:
    return cell.problem.epochs * 17 if cell.budget is None else cell.budget.iterations(cell.problem.epochs, 17)


if __name__ == "__main__":
    sys.exit(main(app, prints_only=True))
