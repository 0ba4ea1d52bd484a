"""How far a sweep is, from its results folder and at most one squeue call. Reads only, and imports no torch.

The cells of a sweep are those of its last submission to SLURM (and of those still open), which noted them with their
options and estimated costs; a sweep that was never submitted is read from its file.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmark.launch.slurm.queue import SlurmJob
from benchmark.launch.slurm.state import SlurmState, explain, read_state, submitted_cells
from benchmark.launch.slurm.submissions import Line, Submission
from benchmark.planning.grid import Sweep, load_problem, load_sweep
from benchmark.planning.plan import epochs_of
from benchmark.planning.tuning import current
from benchmark.problems.folder import complete
from benchmark.results.store import Store
from benchmark.yaml_files import stem_of

SAMPLED_RECORDS = 30
STATES = ("done", "running", "queued", "failed", "left")


@dataclass(frozen=True)
class Asked:
    """Which cells of a sweep, by the options of the sweep command; None and () are what its file says.

    Args:
        problem: the name of one, or a file.
        seeds: how many, or which.
        only: cells to keep.
        settings: fields of the recipe.
        data: the folder of the images.
    """

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
class SweepProgress:
    """How far a sweep is.

    Args:
        name: of the sweep.
        counts: its cells by state, without the dense runs.
        dense: its dense runs by state.
        jobs: of SLURM, by state.
        seconds_left: of what runs and is queued; None if unknown.
        failures: of cells that neither run nor wait again.
        notes: lines for people.
        elsewhere: records of the sweep with another recipe or other seeds.
        unknown: why nobody knows what of it is queued; "" if that is known.
        ask_again: whether SLURM may tell later.
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
class ResultsFolder:
    """What one look at a results folder and the queue found, for all of its sweeps.

    Args:
        store: the results folder.
        state: which cells run and which are queued.
        done: ids of the cells with a record.
        failures: by cell id.
    """

    store: Store
    state: SlurmState
    done: set[str]
    failures: dict[str, dict[str, Any]]


def look(path: Path) -> ResultsFolder:
    """Reads the queue and the locks first: a cell that ends meanwhile then has its record counted."""
    store = Store(path)
    state = read_state(store)
    return ResultsFolder(store, state, store.ids(), {failure["id"]: failure for failure in store.failures()})


def progress(folder: ResultsFolder, name: str, asked: Asked | None = None) -> SweepProgress:
    """Count the cells of one sweep. Raises UserError."""
    asked = asked or Asked()
    submissions = _submissions(folder, name, asked.problem)
    result = SweepProgress(name)
    if folder.state.unknown and not all(submission.closed for submission in submissions):
        result.unknown = f"what is queued is unknown: {folder.state.unknown}"
        result.ask_again = folder.state.ask_again
        result.notes.append(result.unknown)
    relevant = [submission for submission in submissions if not submission.closed or submission is submissions[-1]]
    cells = submitted_cells(folder.state, relevant)
    if asked.chosen or not submissions:
        sweep = load_sweep(name, asked.problem, asked.seeds, asked.only, asked.settings, complete=complete(asked.data))
        cells = cells.only({line.id: line for line in _lines_of(sweep, folder.store)})
        result.elsewhere = _elsewhere(sweep, folder.done)
        if result.elsewhere:
            records = "1 record" if result.elsewhere == 1 else f"{result.elsewhere} records"
            result.notes.append(f"{records} with another recipe or other seeds here: repeat its --set and --seeds")
    remaining: list[Line] = []
    for line in cells.lines.values():
        state = _state(line.id, folder)
        (result.dense if line.dense else result.counts)[state] += 1
        if state in ("running", "queued"):
            remaining.append(line)
    jobs = {job.id: job for job in cells.jobs.values()}
    result.jobs = Counter("running" if job.running else job.state.lower() for job in jobs.values())
    result.failures = [folder.failures[name] for name in cells.lines if _state(name, folder) == "failed"]
    result.seconds_left = _seconds_left(folder, cells.lines, remaining, jobs, submissions, result)
    result.notes += _notes(folder, submissions, jobs, cells.ended)
    return result


def _notes(
    folder: ResultsFolder, submissions: list[Submission], jobs: dict[str, SlurmJob], ended: dict[str, str]
) -> list[str]:
    """What SLURM says of the jobs of a sweep. jobs: by their id; ended: ids of jobs by that of their cell."""
    notes = []
    reasons = Counter(job.reason for job in jobs.values() if not job.running)
    if reasons:
        waits = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        notes.append(f"waiting jobs, as SLURM says why: {waits}")
    if submissions and submissions[-1].stop_file.exists():
        notes.append("its last jobs were cancelled; the same sweep command goes on")
    silent = {name: job for name, job in ended.items() if _state(name, folder) == "left"}
    if silent:
        notes.append(explain(silent))
    return notes


def _submissions(folder: ResultsFolder, name: str, problem: str | None) -> list[Submission]:
    """Those of a sweep. Raises UserError for a problem that is unknown."""
    title = None if problem is None else load_problem(problem)[0].name
    sweep = stem_of(name)
    of_sweep = [submission for submission in folder.state.submissions if submission.about["sweep"] == sweep]
    return [submission for submission in of_sweep if title is None or submission.about["problem"] == title]


def _elsewhere(sweep: Sweep, done: set[str]) -> int:
    """Records that are named as cells of the sweep are, but for the seed and for what the hash is of."""
    known = {cell.id for cell in sweep.cells}
    families = {_family(name) for name in known}
    return sum(name not in known and _family(name) in families for name in done)


def _family(cell_id: str) -> str:
    return cell_id.rpartition("-seed")[0]


def _state(name: str, folder: ResultsFolder) -> str:
    if name in folder.done:
        return "done"
    return folder.state.of(name) or ("failed" if name in folder.failures else "left")


def _lines_of(sweep: Sweep, store: Store) -> Iterator[Line]:
    per_epoch = sweep.execution.seconds_per_epoch
    for cell in current(sweep, store).cells:
        seconds = None if per_epoch is None else per_epoch * epochs_of(cell, sweep.execution)
        yield Line(False, -1, seconds, cell.id)


def _seconds_left(
    folder: ResultsFolder,
    lines: dict[str, Line],
    remaining: list[Line],
    jobs: dict[str, SlurmJob],
    submissions: list[Submission],
    result: SweepProgress,
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
    running = sum(job.running for job in jobs.values()) * (submissions[-1].profile.workers if submissions else 1)
    at_work = running if jobs else result.counts["running"] + result.dense["running"]
    if len(known) < len(remaining) or not at_work:
        return None
    return sum(known) * (statistics.median(ratios) if ratios else 1.0) / at_work
