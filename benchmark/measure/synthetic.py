"""Stores of made-up records, results of nothing, in the form and of the size of real ones. Imports no torch."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.cells import Cell
from benchmark.metric import ACCURACY, Metric
from benchmark.planning.grid import load_sweep
from benchmark.results.records import encode
from benchmark.results.store import Store

HISTORY = ("learning_rate", "train_loss", "train_accuracy", "validation_loss")


def fill(store: Store, count: int, one_curve: bool = True) -> int:
    """Put `count` records there; returns their bytes. one_curve: cells of a kind share their learning-rate curve."""
    size = 0
    for cell in itertools.islice(synthetic_cells(), count):
        record = synthetic_record(cell, 0.9 + 0.05 * random.Random(cell.id).random())  # noqa: S311
        if not one_curve:
            record["learning_rate"]["sha256"] = cell.id
        size += put(store, record)
    return size


def put(store: Store, record: Mapping[str, Any]) -> int:
    """Write a record with neither lock nor check, which would take most of the time; returns its bytes."""
    path = store.record_path(record["id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(encode(dict(record)))


def synthetic_cells() -> Iterator[Cell]:
    """Cells of table1, seed after seed without end, the dense run of each seed first."""
    sweep = load_sweep("table1", seeds=[0])
    for seed in itertools.count():
        yield Cell.dense(sweep.problem, seed)
        yield from (cell.with_seed(seed) for cell in sweep.cells)


def synthetic_record(cell: Cell, value: float | None, metric: Metric = ACCURACY, **changes: Any) -> dict[str, Any]:
    """A record in the form and of the size of a real one, with `value` of the metric in every measurement."""
    weights = hashlib.sha256(f"{cell.problem.identity} {cell.seed}".encode()).hexdigest()
    final = {"test": value, "validation": value}
    stages = ("final",) if cell.is_dense else ("dense", "pruned", "final")
    epochs = list(range(cell.problem.epochs if cell.is_dense else 10))
    layers = {f"stage{n}.conv.weight": {"weights": 1000 + n, "zeros": 900, "macs": 3456} for n in range(10)}
    curve = [round(0.1 / (1 + n), 6) for n in range(100)]
    record = {
        "schema": 1,
        "id": cell.id,
        "cell": cell.to_json(),
        "parent": None if cell.is_dense else {"id": "synthetic", "weights_sha256": weights},
        "status": "ok",
        "remarks": ["synthetic"],
        **({} if metric == ACCURACY else {"metric": metric.to_json()}),
        metric.name: {stage: dict(final) for stage in stages},
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
        "history": {
            "epoch": epochs,
            **{key: [0.123456] * len(epochs) for key in HISTORY},
            f"validation_{metric.name}": [value] * len(epochs),
        },
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
