"""How far a sweep is, from its results folder and at most one squeue call. Reads only, and imports no torch.

The cells of a sweep are those of its last submission to SLURM (and of those still open), which noted them with their
options and estimated costs; a sweep that was never submitted is read from its file.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmark.launch.queue import Job, NoSqueue, Queue, Unknown, live, read_queue
from benchmark.launch.submissions import Line, Submission, submissions
from benchmark.planning.grid import Sweep, load_problem, load_sweep
from benchmark.planning.plan import epochs_of
from benchmark.planning.tuning import current
from benchmark.problems.folder import complete
from benchmark.results.store import Store
from benchmark.yaml_files import stem_of

FRESH_SECONDS = 60.0
"""A claim whose heartbeat is older belongs to a process that is gone."""
SAMPLED_RECORDS = 30
STATES = ("done", "running", "queued", "failed", "left")
SACCT_SECONDS = 10


@dataclass(frozen=True)
class Asked:
    """Which cells of a sweep, as the sweep command was told: None and () are what its file says."""

    problem: str | None = None
    seeds: str | None = None
    only: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None

    @property
    def chosen(self) -> bool:
        """Whether these may be other cells than those of the last submission."""
        return bool(self.seeds is not None or self.only or self.settings)


@dataclass
class Progress:
    """counts: cells by state; seconds_left: of what runs and is queued, None if unknown; notes: lines for people.

    elsewhere: records of the sweep with another recipe or other seeds. unknown: why nobody knows what of it is queued,
    "" if that is known; ask_again: whether SLURM may tell later.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    dense: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    seconds_left: float | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elsewhere: int = 0
    unknown: str = ""
    ask_again: bool = False

    @property
    def cells(self) -> int:
        return sum(self.counts.values())

    @property
    def active(self) -> bool:
        """Whether anything may still change without a new command."""
        return bool(self.counts["running"] or self.counts["queued"] or self.dense["running"] or self.dense["queued"])

    @property
    def unclear(self) -> bool:
        """Whether a job may be queued or running that another look would find."""
        every = self.counts + self.dense
        return self.ask_again and every.total() > every["done"]


@dataclass(frozen=True)
class Folder:
    """What one look at a results folder and the queue found, for all of its sweeps.

    queue: None if unknown; note: why; ask_again: whether it may be known later.
    """

    store: Store
    done: set[str]
    claimed: set[str]
    failures: dict[str, dict[str, Any]]
    submissions: list[Submission]
    queue: Queue | None
    note: str
    ask_again: bool


def look(path: Path) -> Folder:
    """Reads the queue first: a job that ends meanwhile then has its records counted."""
    store = Store(path)
    found = submissions(store)
    queue: Queue | None = Queue()
    note, ask_again = "", False
    try:
        queue = read_queue(one.about["uid"] for one in found if not one.closed)
    except Unknown as error:
        queue, note, ask_again = None, f"what is queued is unknown: {error}", not isinstance(error, NoSqueue)
    failures = {failure["id"]: failure for failure in store.failures()}
    return Folder(store, store.ids(), _claimed(path), failures, found, queue, note, ask_again)


def progress(folder: Folder, name: str, asked: Asked | None = None) -> Progress:
    """Count the cells of one sweep. Raises UserError."""
    asked = asked or Asked()
    own = _own(folder, name, asked.problem)
    result = Progress(name)
    if folder.note and not all(one.closed for one in own):
        result = Progress(name, notes=[folder.note], unknown=folder.note, ask_again=folder.ask_again)
    relevant = [one for one in own if not one.closed or one is own[-1]]
    lines, jobs, lost = _lines(folder, relevant)
    if asked.chosen or not own:
        wanted = load_sweep(name, asked.problem, asked.seeds, asked.only, asked.settings, complete=complete(asked.data))
        lines = {line.id: lines.get(line.id, line) for line in _lines_of(wanted, folder.store)}
        jobs = {cell_id: job for cell_id, job in jobs.items() if cell_id in lines}
        lost = {cell_id: job for cell_id, job in lost.items() if cell_id in lines}
        result.elsewhere = _elsewhere(wanted, folder.done)
        if result.elsewhere:
            records = "1 record" if result.elsewhere == 1 else f"{result.elsewhere} records"
            result.notes.append(f"{records} with another recipe or other seeds here: repeat its --set and --seeds")
    remaining: list[Line] = []
    for line in lines.values():
        state = _state(line.id, folder, jobs)
        (result.dense if line.dense else result.counts)[state] += 1
        if state in ("running", "queued"):
            remaining.append(line)
    by_id = {job.id: job for job in jobs.values()}
    result.jobs = Counter("running" if job.running else job.state.lower() for job in by_id.values())
    result.failures = [folder.failures[name] for name in lines if name in folder.failures and name not in jobs]
    result.seconds_left = _seconds_left(folder, lines, remaining, by_id, own, result)
    reasons = Counter(job.reason for job in by_id.values() if not job.running)
    if reasons:
        waits = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        result.notes.append(f"waiting jobs, as SLURM says why: {waits}")
    if own and own[-1].stop_file.exists():
        result.notes.append("its last jobs were cancelled; the same sweep command goes on")
    silent = {name: job for name, job in lost.items() if _state(name, folder, jobs) == "left"}
    if silent:
        result.notes.append(_explain(silent))
    return result


def _own(folder: Folder, name: str, problem: str | None) -> list[Submission]:
    """Submissions of a sweep. Raises UserError for a problem that is unknown."""
    title = None if problem is None else load_problem(problem)[0].name
    own = [one for one in folder.submissions if one.about["sweep"] == stem_of(name)]
    return [one for one in own if title is None or one.about["problem"] == title]


def _elsewhere(wanted: Sweep, done: set[str]) -> int:
    """Records that are named as cells of the sweep are, but for the seed and for what the hash is of."""
    known = {cell.id for cell in wanted.cells}
    families = {_family(cell.id) for cell in wanted.cells if not cell.is_dense}
    return sum(name not in known and _family(name) in families for name in done)


def _family(cell_id: str) -> str:
    return cell_id.rpartition("-seed")[0]


def _state(name: str, folder: Folder, jobs: dict[str, Job]) -> str:
    if name in folder.done:
        return "done"
    if name in folder.claimed:
        return "running"
    if name in jobs:
        return "queued"
    return "failed" if name in folder.failures else "left"


def _lines(folder: Folder, own: list[Submission]) -> tuple[dict[str, Line], dict[str, Job], dict[str, str]]:
    """Cells by id; the queued or running job of each that has one; the ended job of each other that was submitted."""
    lines: dict[str, Line] = {}
    jobs: dict[str, Job] = {}
    ended: dict[str, str] = {}
    for one in own:
        current = live(one, folder.queue, note=False).jobs if folder.queue else {}
        noted = {chunk: job for number in range(len(one.arrays)) for chunk, job in (one.jobs(number) or {}).items()}
        for line in one.lines():
            if line.chunk >= 0 or line.id not in lines:
                lines[line.id] = line
            if line.chunk in current:
                jobs[line.id] = current[line.chunk]
                ended.pop(line.id, None)
            elif line.chunk in noted and folder.queue is not None and not (line.dense or one.stop_file.exists()):
                ended[line.id] = noted[line.chunk]
    return lines, jobs, ended


def _lines_of(wanted: Sweep, store: Store) -> Iterator[Line]:
    per_epoch = wanted.execution.seconds_per_epoch
    for cell in current(wanted, store).cells:
        seconds = None if per_epoch is None else per_epoch * epochs_of(cell, wanted.execution)
        yield Line(cell.is_dense, -1, seconds, cell.id)


def _seconds_left(
    folder: Folder,
    lines: dict[str, Line],
    remaining: list[Line],
    jobs: dict[str, Job],
    own: list[Submission],
    result: Progress,
) -> float | None:
    """Estimated cost of what is left to train, corrected by what finished cells really took, over those at work."""
    if not remaining:
        return 0.0
    ratios = []
    for name in islice((name for name in lines if name in folder.done and lines[name].seconds), SAMPLED_RECORDS):
        record = folder.store.read(name)
        if record is not None:
            ratios.append(record["seconds"]["total"] / (lines[name].seconds or 1.0))
    known = [line.seconds for line in remaining if line.seconds is not None]
    running = sum(job.running for job in jobs.values()) * (own[-1].profile.workers if own else 1)
    at_work = running if jobs else result.counts["running"] + result.dense["running"]
    if len(known) < len(remaining) or not at_work:
        return None
    return sum(known) * (statistics.median(ratios) if ratios else 1.0) / at_work


def _explain(silent: dict[str, str]) -> str:
    jobs = sorted(set(silent.values()))
    shown = ", ".join(jobs[:5]) + (", ..." if len(jobs) > 5 else "")
    return (
        f"{len(silent)} cells were in jobs that ended without a report ({shown}: {_states(jobs[:200])}); "
        "the same sweep command submits them again"
    )


def _states(jobs: list[str]) -> str:
    """What sacct says of ended jobs, in one call; many clusters have none, or keep it from users."""
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={','.join(jobs)}"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=SACCT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "why is not known, sacct does not answer here"
    found = Counter(line.split(" ")[0] for line in done.stdout.splitlines() if line)
    if done.returncode or not found:
        return "why is not known, there is no accounting (sacct) here"
    return ", ".join(f"{count} {state}" for state, count in found.most_common())


def _claimed(path: Path) -> set[str]:
    """Cells that somebody trains now."""
    now = time.time()
    found = set()
    for claim in (path / "claims").glob("*/*.*"):
        try:
            if now - claim.stat().st_mtime < FRESH_SECONDS:
                found.add(claim.name.rpartition(".")[0])
        except OSError:
            continue  # released this moment
    return found
