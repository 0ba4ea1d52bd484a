"""What publishing a cell to Weights & Biases costs, by made-up records that are kept offline and deleted."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.cells import Budget, Cell, Problem
from benchmark.measure.synthetic import HISTORY, synthetic_record
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.runs import Settings

EPOCHS = 30


def publish_made_up(count: int) -> Iterator[str]:
    """A line about `count` made-up records of EPOCHS epochs, published offline, after one to warm up."""
    os.environ.pop("WANDB_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open_for_writing(folder)
        ids = [store.commit(made_up_record(seed))["id"] for seed in range(count + 1)]
        publisher = Publisher(Settings(store.path, "offline"))
        started = time.perf_counter()
        _send_and_wait(publisher, ids[:1])
        ready = time.perf_counter()
        _send_and_wait(publisher, ids[1:])
        seconds = (time.perf_counter() - ready) / count
        summary = publisher.close()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield (
        f"{seconds:.4f} s per cell offline ({count} cells of {EPOCHS} epochs, {summary.left} left); once for all cells "
        f"{ready - started:.2f} s to start; processor time of both {usage.ru_utime + usage.ru_stime:.2f} s"
    )


def _send_and_wait(publisher: Publisher, cell_ids: Sequence[str]) -> None:
    for cell_id in cell_ids:
        publisher.add(cell_id, "measure/made-up")
    while publisher.pending:
        time.sleep(0.001)


def made_up_record(seed: int, epochs: int = EPOCHS) -> Record:
    """A record of the usual size without any training, for measuring and for tests."""
    problem = Problem(name="made-up", dataset="none", model="none", epochs=1000)
    cell = Cell(problem, "IMP", seed, "ALLR", 0.9, Budget.parse("2.22%"))
    curve = [1 / (epoch + 2 + seed) for epoch in range(epochs)]
    both = {"test": 1 - curve[-1], "validation": 1 - curve[-1] / 2}
    stages = {"dense": both, "pruned": {"test": 0.1, "validation": 0.12}, "final": both}
    history = {
        "epoch": list(range(1, epochs + 1)),
        "iteration": [17 * (epoch + 1) for epoch in range(epochs)],
        **{column: curve for column in (*HISTORY, "validation_accuracy")},
    }
    cycles = [{"cycle": 0, "sparsity": 0.9, "d1": 0.3, "d2": 0.02, "d": 0.3, "iterations": 17 * epochs}]
    changes: dict[str, Any] = {"accuracy": stages, "loss": stages, "cycles": cycles, "history": history, "remarks": []}
    return synthetic_record(cell, 0.5, **changes)
