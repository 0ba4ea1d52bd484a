"""Where the time of cells goes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.launch.machine import share_out
from benchmark.measure.common import usable_device
from benchmark.measure.timing import timed
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import starts
from benchmark.problems.folder import complete
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from benchmark.worker import Worker


def per_cell(
    name: str, problem: str | None, settings: Mapping[str, Any], data: Path | None, device: str, count: int
) -> list[tuple[float, float, float]]:
    """(all, training, evaluation) seconds of cells that one worker runs one after the other, the first left out."""
    usable_device(device)
    sweep = load_sweep(name, problem, seeds=1, settings=settings, complete=complete(data))
    threads = share_out(sweep.execution.threads, None, device).run.threads
    seconds = []
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        store = Store.open_for_writing(Path(folder))
        worker = Worker(store, RunOptions(device, threads, data=data))
        cells = sweep.cells[: count + 1]
        for dense in starts(cells):
            worker.run(dense)
        for cell in cells:
            whole, _ = timed(lambda: worker.run(cell))  # noqa: B023
            record = store.read(cell.id)
            assert record is not None
            seconds.append((whole.wall, record["seconds"]["training"], record["seconds"]["evaluation"]))
    return seconds[1:]
