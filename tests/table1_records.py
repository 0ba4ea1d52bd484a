"""Made-up records of table1, for tests of what is made of records. No network was trained for any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmark.cells import Cell, Problem
from benchmark.measure.reading import synthetic_record
from benchmark.planning.grid import load_sweep
from benchmark.results.store import Store

MADE_UP = Problem(name="madeup", dataset="nothing", model="nonet", epochs=90)
SCHEDULES = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")


def table1_cells(problem: Problem = MADE_UP, seeds: Iterable[int] = (0, 1, 2)) -> list[Cell]:
    cells = load_sweep("table1", seeds=[0]).cells
    return [Cell(problem, c.method, seed, c.schedule, c.sparsity, c.budget) for seed in seeds for c in cells]


def table1_records(
    accuracy: Callable[[Cell], float], problem: Problem = MADE_UP, seeds: Iterable[int] = (0, 1, 2)
) -> list[dict[str, Any]]:
    """Every cell of the sweep with `accuracy(cell)`, a fraction, as final test accuracy; dense networks reach 0.95."""
    records = [record_of(cell, accuracy(cell)) for cell in table1_cells(problem, seeds)]
    return [*(record_of(Cell.dense(problem, seed), 0.95) for seed in seeds), *records]


def record_of(cell: Cell, accuracy: float, **changes: Any) -> dict[str, Any]:
    record = synthetic_record(cell, accuracy, **changes)
    if not cell.is_dense:
        record["accuracy"]["dense"] = {"test": 0.95, "validation": 0.95}
    return record


def by_rank(cell: Cell) -> float:
    """ALLR best, then LLR and so on, every schedule a point apart; seeds differ by 0.2 points."""
    return 0.8 + 0.01 * SCHEDULES.index(str(cell.schedule)) + 0.002 * cell.seed


def fill(store: Path, records: Iterable[dict[str, Any]]) -> None:
    live = Store(store)
    with mock.patch("os.fsync"):  # nobody waits for a disk to keep what was made up
        for record in records:
            live.commit(record)
