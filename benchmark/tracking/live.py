"""Cells in W&B while they train: `--tracking live`, for runs of hours.

The local log comes first: each epoch's row is appended to live/<ab>/<cell id>.jsonl in the results folder, and the W&B
run shows what is in that file. A cell that goes on after a requeue therefore shows its whole curve and no epoch twice,
whatever the server still knows of it. The run is provisional: once the cell has a record, the run that is made of it
replaces this one, and the log is removed. Imports no torch, and wandb only when needed.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.results.records import SCHEMA, Record
from benchmark.results.store import Store
from benchmark.tracking.runs import Answer, Job, Settings, begin_run

if TYPE_CHECKING:
    import wandb

ENDED_EARLY = 1
"""Exit code that a provisional run ends with, so that W&B does not take it for a finished one."""


def log_path(store: Store, cell_id: str) -> Path:
    return store.file("live", cell_id, ".jsonl")


def append(store: Store, cell_id: str, row: Mapping[str, float]) -> None:
    """Add an epoch's row to the local log. Raises OSError."""
    path = log_path(store, cell_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    finite = {key: value for key, value in row.items() if math.isfinite(value)}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(finite) + "\n")


def read(store: Store, cell_id: str) -> list[dict[str, float]]:
    """The rows of a cell so far, each epoch once, though epochs after a checkpoint are trained and logged again."""
    rows = {}
    try:
        lines = log_path(store, cell_id).read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
            rows[row["iteration"]] = row
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill
    return [rows[iteration] for iteration in sorted(rows)]


class Follower:
    """In the sweep's process: which cells have trained for so long that they should be shown. Costs a short write."""

    def __init__(self, store: Store, live_after: float):
        self.store = store
        self.live_after = live_after
        self._since: dict[str, float] = {}

    def note(self, cell_id: str, row: Mapping[str, float]) -> bool:
        """Keep an epoch's row in the local log; whether the cell should be shown. Raises nothing."""
        since = self._since.setdefault(cell_id, time.monotonic())
        with contextlib.suppress(OSError):  # a full disk ends training by itself, and not because of this
            append(self.store, cell_id, row)
        return time.monotonic() - since >= self.live_after


class LiveRuns:
    """In the publishing process: the provisional runs that are open."""

    def __init__(self, store: Store, settings: Settings):
        self.store = store
        self.settings = settings
        self._open: dict[str, tuple[wandb.Run, int]] = {}

    def show(self, job: Job) -> Answer:
        """Bring the run of a cell up to its local log. Raises what wandb raises."""
        rows = read(self.store, job.cell_id)
        if self.store.has(job.cell_id) or not rows:
            return Answer("shown")  # finished meanwhile: its own run follows
        if job.cell_id not in self._open:
            self._open[job.cell_id] = (begin_run(_provisional(job), job.group, self.settings, "online"), 0)
        run, logged = self._open[job.cell_id]
        for row in rows[logged:]:
            run.log(row)
        self._open[job.cell_id] = (run, len(rows))
        return Answer("shown", "online", url=run.url or "")

    def end(self, cell_id: str) -> None:
        """End the run of a cell, whose final one comes now. Raises what wandb raises."""
        run, _ = self._open.pop(cell_id, (None, 0))
        if run is not None:
            run.finish(exit_code=ENDED_EARLY)

    def close(self) -> None:
        for cell_id in list(self._open):
            with contextlib.suppress(Exception):
                self.end(cell_id)


def _provisional(job: Job) -> Record:
    """As much of a record as there is of a cell that still trains."""
    return {"schema": SCHEMA, "id": job.cell_id, "cell": job.cell, "parent": None, "provenance": {}}
