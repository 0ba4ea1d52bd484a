"""What was submitted to SLURM, as files in the results folder, so that any later command knows it. Imports no submitit.

submissions/<id>/submission.json    the intent, written before sbatch: sweep, who, commit, profile, arrays
                 cells.txt          one line a cell of the sweep: kind, chunk (-1: not in here), seconds, id
                 chunks/<n>.json    the cells of job n
                 jobs/<array>.json  ids of the jobs, written after sbatch; or why it refused
                 attempts/<n>.jsonl every start and end of job n
                 log/               submitit's files and the jobs' output
                 STOP               ends its jobs, with checkpoints saved
                 closed             nothing of it is queued or running any more
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.launch.slurm.chunks import Array, Chunk, Costs, JobLayout
from benchmark.launch.slurm.profile import Profile
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import PlannedTask
from benchmark.results import atomic
from benchmark.results.provenance import code_hash, commit
from benchmark.results.store import Store
from benchmark.tracking.runs import Mode

SCHEMA = 1
KEYS = {"uid", "user", "sweep", "problem", "profile", "arrays", "results", "time", "code"}
"""What is read of a submission.json."""


@dataclass(frozen=True)
class Line:
    """One cell as status needs it. chunk: the job of this submission that trains it, -1 for none."""

    dense: bool
    chunk: int
    seconds: float | None
    id: str


class Submission:
    """One submission on disk."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def id(self) -> str:
        return self.folder.name

    @cached_property
    def about(self) -> dict[str, Any]:
        """Raises UserError."""
        path = self.folder / "submission.json"
        try:
            values = json.loads(path.read_bytes())
            if not isinstance(values, dict) or not values.keys() >= KEYS:
                raise ValueError("it is no submission of this suite")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); move its folder away, and its jobs are unknown"
            ) from None
        return values

    @cached_property
    def profile(self) -> Profile:
        # as Profile dumps them, times are seconds, which its validators would take for minutes
        values = {**self.about["profile"], "extra": {}}  # sbatch took them, perhaps by rules of another version
        for key in ("time", "chunk", "warning", "checkpoint", "hang"):
            values[key] = f"{values[key]} s"
        return Profile.model_validate(values)

    @property
    def arrays(self) -> list[Array]:
        return [
            Array(a["kind"], tuple(a["chunks"]), tuple(a["after_chunks"]), tuple(a["after_jobs"]))
            for a in self.about["arrays"]
        ]

    def job_name(self, array: int) -> str:
        return f"{self.about['sweep']}.{self.id}.{array}"

    @property
    def stop_file(self) -> Path:
        return self.folder / "STOP"

    @property
    def closed(self) -> bool:
        return (self.folder / "closed").exists()

    def close(self) -> None:
        (self.folder / "closed").touch()

    def lines(self) -> Iterator[Line]:
        for text in (self.folder / "cells.txt").read_text().splitlines():
            kind, chunk, seconds, name = text.split("\t")
            yield Line(kind == "d", int(chunk), float(seconds) if seconds else None, name)

    def add_jobs(self, array: int, jobs: Mapping[int, str], refused: str | None = None) -> None:
        content = json.dumps({"jobs": {str(chunk): job for chunk, job in jobs.items()}, "refused": refused})
        atomic.replace_file(self.folder / "jobs" / f"{array}.json", content.encode())

    def jobs(self, array: int) -> dict[int, str] | None:
        """Job ids of an array by chunk; None if nobody knows whether sbatch was reached."""
        try:
            values = json.loads((self.folder / "jobs" / f"{array}.json").read_bytes())
        except FileNotFoundError:
            return None
        return {int(chunk): job for chunk, job in values["jobs"].items()}

    def tasks(self, chunk: int) -> list[tuple[PlannedTask, float | None]]:
        """The cells of one job, each with its estimated seconds."""
        values = json.loads((self.folder / "chunks" / f"{chunk}.json").read_bytes())
        return [
            (PlannedTask(Cell.from_json({**task["cell"], "problem": values["problem"]}), task["epochs"], task["after"],
                  task["behind"]), task["seconds"])
            for task in values["tasks"]
        ]  # fmt: skip


def write_intent(
    store: Store,
    sweep: Sweep,
    layout: JobLayout,
    costs: Costs,
    profile: Profile,
    data: Path | None,
    tracking: Mode = "auto",
) -> Submission:
    """Put everything about a submission on disk before sbatch is called."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{re.sub(r'[^A-Za-z0-9]', '', getpass.getuser())}-{secrets.token_hex(3)}"
    submission = Submission((store.path / "submissions" / name).absolute())
    for part in ("chunks", "jobs", "attempts", "log"):
        (submission.folder / part).mkdir(parents=True)
    for number, chunk in enumerate(layout.chunks):
        content = _chunk_json(chunk, sweep.problem.model_dump(mode="json"), costs)
        (submission.folder / "chunks" / f"{number}.json").write_text(content)
    with open(submission.folder / "cells.txt", "w") as lines:
        lines.writelines(_cell_lines(sweep, layout, costs))
    head, dirty = commit()
    about = {
        "schema": SCHEMA,
        "sweep": sweep.name,
        "problem": sweep.problem.name,
        "user": getpass.getuser(),
        "uid": os.getuid(),
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": head,
        "dirty": dirty,
        "code": code_hash(),
        "results": str(store.path.absolute()),
        "data": None if data is None else str(data.absolute()),
        "threads": sweep.execution.threads,
        "tracking": tracking,
        "profile": profile.model_dump(mode="json"),
        "arrays": [asdict(array) for array in layout.arrays],
    }
    atomic.replace_file(submission.folder / "submission.json", json.dumps(about, indent=1).encode())
    return submission


def submissions(store: Store) -> list[Submission]:
    """Those of a results folder, oldest first."""
    folder = store.path / "submissions"
    if not folder.is_dir():
        return []
    return [Submission(path) for path in sorted(folder.iterdir()) if (path / "submission.json").exists()]


def _chunk_json(chunk: Chunk, problem: dict[str, Any], costs: Costs) -> str:
    tasks = [
        {
            "cell": task.cell.without_problem(),
            "epochs": task.epochs,
            "after": task.after,
            "behind": task.behind,
            "seconds": costs.seconds(task),
        }
        for task in chunk.tasks
    ]
    return json.dumps({"problem": problem, "tasks": tasks})


def _cell_lines(sweep: Sweep, layout: JobLayout, costs: Costs) -> Iterator[str]:
    inside = set()
    for number, chunk in enumerate(layout.chunks):
        for task in chunk.tasks:
            name = task.cell.id
            inside.add(name)
            seconds = costs.seconds(task)
            shown = "" if seconds is None else f"{seconds:.4g}"
            yield f"{'d' if task.cell.is_dense else 'c'}\t{number}\t{shown}\t{name}\n"
    for cell in sweep.cells:
        if (name := cell.id) not in inside:
            yield f"c\t-1\t\t{name}\n"
