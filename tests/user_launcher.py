"""Cells in processes of `concurrent.futures`: what docs/launchers.md shows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmark.cells import Cell
from benchmark.errors import CannotGoOn, UserError
from benchmark.launch.events import Event, Failed, Finished, Started
from benchmark.launch.launcher import Launcher, Work
from benchmark.launch.running import run
from benchmark.planning.plan import PlannedTask
from benchmark.results.store import Store
from benchmark.training.options import RunOptions


def train(folder: Path, cell: Cell, options: RunOptions) -> tuple[Any, ...]:
    from benchmark.launch.serving import attempt
    from benchmark.worker import Worker

    return attempt(Worker(Store(folder), options), cell, lambda iteration, row: None, lambda: False)


class Futures:
    def __init__(self, store: Store, workers: int, options: RunOptions):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmark.launch.preload"])  # torch, once for all
        self.store, self.executor = store, ProcessPoolExecutor(workers, context)
        self.options = options

    def run(self, tasks: Sequence[PlannedTask]) -> Iterator[Event]:
        for dense in (True, False):  # dense runs first: the others start from their records
            cells = [task.cell for task in tasks if task.cell.is_dense == dense]
            futures = {self.executor.submit(train, self.store.path, cell, self.options): cell for cell in cells}
            yield from map(Started, cells)
            for future in as_completed(futures):
                cell, (kind, *values) = futures[future], future.result()
                if kind == "stop":
                    raise CannotGoOn(values[0])
                if kind == "failed":
                    self.store.add_failure(cell.id, *values)
                yield Failed(cell, *values[:2]) if kind == "failed" else Finished(cell, values[0] == "done")

    def stop(self) -> None:
        self.executor.shutdown(cancel_futures=True)


class Processes(Launcher):
    def submit(self, work: Work) -> int:
        workers, asked = self.options.workers or 2, self.options
        options = RunOptions("cpu", 1, asked.checkpoint_seconds, work.data, asked.validate_every, asked.keep)
        return run(work, workers, lambda: Futures(work.store, workers, options))

    def cancel(self, work: Work) -> int:
        raise UserError("--cancel: Ctrl-C ends a sweep of this launcher")
