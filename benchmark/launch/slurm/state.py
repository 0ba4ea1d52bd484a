"""Which cells SLURM has queued or running, by the submissions in the results folder and one squeue call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.launch.slurm.queue import NoSqueue, Queue, SlurmJob, Unknown, ask, live, read_queue
from benchmark.launch.slurm.submissions import Line, Submission, submissions
from benchmark.results.store import Store

SACCT_SECONDS = 10
FRESH_SECONDS = 60.0
"""A lock whose heartbeat is older belongs to a process that is gone."""


@dataclass(frozen=True)
class SlurmState:
    """Which cells run, and which are in a job that waits or runs.

    Args:
        running: ids of the cells that a process trains now.
        queued: by id of a cell, the job that is to train it.
        submissions: of the results folder, oldest first.
        queue: None if SLURM does not say what is queued.
        unknown: why it does not, else "".
        ask_again: whether it may say so later.
    """

    running: frozenset[str]
    queued: Mapping[str, str]
    submissions: tuple[Submission, ...]
    queue: Queue | None
    unknown: str = ""
    ask_again: bool = False

    def of(self, cell_id: str) -> str | None:
        """ "running", "queued" or None."""
        if cell_id in self.running:
            return "running"
        return "queued" if cell_id in self.queued else None


def read_state(store: Store) -> SlurmState:
    everything = tuple(submissions(store))
    open_ones = [submission for submission in everything if not submission.closed]
    try:
        queue = read_queue(submission.about["uid"] for submission in open_ones)
    except Unknown as error:
        return SlurmState(locked(store), {}, everything, None, str(error), not isinstance(error, NoSqueue))
    queued: dict[str, str] = {}
    for submission in open_ones:
        queued.update({name: job.id for name, job in live(submission, queue, note=False).job_of_cell().items()})
    return SlurmState(locked(store), queued, everything, queue)


def locked(store: Store) -> frozenset[str]:
    """Ids of the cells that somebody trains now, by their locks."""
    now = time.time()
    names = set()
    for lock in (store.path / "claims").glob("*/*.*"):
        try:
            if now - lock.stat().st_mtime < FRESH_SECONDS:
                names.add(lock.name.rpartition(".")[0])
        except OSError:
            continue  # released this moment
    return frozenset(names)


@dataclass
class SubmittedCells:
    """What submissions say of their cells, by cell id.

    Args:
        lines: each cell, with its cost as it was estimated.
        jobs: the queued or running job of each that has one.
        ended: the id of the ended job of each other that was submitted.
    """

    lines: dict[str, Line]
    jobs: dict[str, SlurmJob]
    ended: dict[str, str]

    def only(self, lines: dict[str, Line]) -> SubmittedCells:
        """Of these cells alone, with what is known of each."""
        return SubmittedCells(
            {name: self.lines.get(name, line) for name, line in lines.items()},
            {name: job for name, job in self.jobs.items() if name in lines},
            {name: job for name, job in self.ended.items() if name in lines},
        )


def submitted_cells(state: SlurmState, chosen: list[Submission]) -> SubmittedCells:
    """What some of the submissions of `state` say."""
    cells = SubmittedCells({}, {}, {})
    for submission in chosen:
        current = live(submission, state.queue, note=False).jobs if state.queue else {}
        arrays = (submission.jobs(number) or {} for number in range(len(submission.arrays)))
        noted = {chunk: job for jobs in arrays for chunk, job in jobs.items()}
        for line in submission.lines():
            if line.chunk >= 0 or line.id not in cells.lines:
                cells.lines[line.id] = line
            if line.chunk in current:
                cells.jobs[line.id] = current[line.chunk]
                cells.ended.pop(line.id, None)
            elif line.chunk in noted and state.queue is not None and not (line.dense or submission.stop_file.exists()):
                cells.ended[line.id] = noted[line.chunk]
    return cells


def explain(ended: Mapping[str, str]) -> str:
    """A line about cells without a record or failure, by the ids of their ended jobs."""
    jobs = sorted(set(ended.values()))
    shown = ", ".join(jobs[:5]) + (", ..." if len(jobs) > 5 else "")
    return (
        f"{len(ended)} cells were in jobs that ended without a report ({shown}: {_accounting(jobs[:200])}); "
        "the same sweep command submits them again"
    )


def _accounting(jobs: list[str]) -> str:
    """What sacct says of ended jobs, in one call; many clusters have none, or keep it from users."""
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={','.join(jobs)}"]
    try:
        done = ask(*command, seconds=SACCT_SECONDS)
    except Unknown:
        return "why is not known, sacct does not answer here"
    counts = Counter(line.split(" ")[0] for line in done.stdout.splitlines() if line)
    if done.returncode or not counts:
        return "why is not known, there is no accounting (sacct) here"
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())
