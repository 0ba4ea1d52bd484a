"""From the tasks of a plan to SLURM jobs: short cells packed into chunks, chunks into arrays. Imports no submitit."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmark.cells import Cell
from benchmark.launch.slurm.profile import Profile
from benchmark.planning.grid import Execution
from benchmark.planning.plan import PlannedTask, epochs_of
from benchmark.results.store import Store

SAMPLED_RECORDS = 20
"""Records of each method that a cost estimate is made of."""
MOST_GROUPS = 32
"""Arrays that wait for different dense runs; with more dense runs, several share an array."""
UNKNOWN_SECONDS = 1800.0
"""What a cell of unknown cost counts as."""


@dataclass(frozen=True)
class Costs:
    """Seconds per epoch: by method where records tell, else of all methods; None where nothing is known."""

    by_method: Mapping[str, float] = field(default_factory=dict)
    other: float | None = None

    def seconds(self, task: PlannedTask) -> float | None:
        per_epoch = self.by_method.get(task.cell.method, self.other)
        return None if per_epoch is None else task.epochs * per_epoch


def learn_costs(cells: Iterable[Cell], done: frozenset[str], store: Store, execution: Execution, device: str) -> Costs:
    """What finished cells of the sweep took, set-up included, on the kind of device asked for if any ran there."""
    sampled: dict[str, list[Cell]] = {}
    for cell in (cell for cell in cells if cell.id in done) if done else ():
        chosen = sampled.setdefault(cell.method, [])
        if len(chosen) < SAMPLED_RECORDS:
            chosen.append(cell)
    measured: dict[str, dict[str, list[float]]] = {}
    for cell in itertools.chain.from_iterable(sampled.values()):
        record, epochs = store.read(cell.id), epochs_of(cell, execution)
        if record is not None and epochs:
            by_method = measured.setdefault(record["provenance"]["device"], {})
            by_method.setdefault(cell.method, []).append(record["seconds"]["total"] / epochs)
    per_epoch = measured.get(device) or next(iter(measured.values()), {})
    medians = {method: statistics.median(values) for method, values in per_epoch.items()}
    return Costs(medians, statistics.median(medians.values()) if medians else execution.seconds_per_epoch)


@dataclass(frozen=True)
class Chunk:
    """The cells of one job. seconds: of all its cells one after the other; None where nothing is known."""

    tasks: tuple[PlannedTask, ...]
    seconds: float | None


@dataclass(frozen=True)
class Array:
    """Chunks that are submitted together. after: numbers of chunks, and ids of jobs, that must end well before."""

    kind: str
    chunks: tuple[int, ...]
    after_chunks: tuple[int, ...] = ()
    after_jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobLayout:
    """All jobs of one submission; an array refers to chunks by their number here."""

    chunks: tuple[Chunk, ...]
    arrays: tuple[Array, ...]

    def job_seconds(self, profile: Profile) -> float | None:
        """Estimated run time of all jobs together."""
        seconds = [chunk.seconds for chunk in self.chunks]
        known = [value for value in seconds if value is not None]
        return sum(known) / profile.workers if len(known) == len(seconds) else None


def lay_out(
    tasks: Sequence[PlannedTask], costs: Costs, profile: Profile, array_size: int, dense_jobs: Mapping[str, str]
) -> JobLayout:
    """Dense runs first; the cells of each in chunks that wait for it.

    array_size: tasks of an array at most (MaxArraySize). dense_jobs: jobs that train dense runs already, by cell id.
    """
    dense = [task for task in tasks if task.cell.is_dense]
    capacity = profile.chunk_seconds * profile.workers
    chunks = _pack(dense, costs, capacity, profile.max_jobs)
    home = {task.cell.id: number for number, chunk in enumerate(chunks) for task in chunk.tasks}
    arrays = [Array("dense", part) for part in _split(range(len(chunks)), array_size)]
    groups = _groups((task for task in tasks if not task.cell.is_dense), home, dense_jobs)
    room = max(profile.max_jobs - len(chunks), len(groups))
    for (after_chunks, after_jobs), members in _pack_groups(groups, costs, capacity, room):
        numbers = range(len(chunks), len(chunks) + len(members))
        chunks += members
        arrays += [Array("cells", part, after_chunks, after_jobs) for part in _split(numbers, array_size)]
    return JobLayout(tuple(chunks), tuple(arrays))


_Key = tuple[tuple[int, ...], tuple[str, ...]]
_Groups = list[tuple[_Key, list[PlannedTask]]]


def _groups(tasks: Iterable[PlannedTask], home: Mapping[str, int], dense_jobs: Mapping[str, str]) -> _Groups:
    """Tasks by what they wait for, so that one dense run that fails holds up no cell of another."""
    groups: dict[_Key, list[PlannedTask]] = {}
    for task in tasks:
        dense = task.after or ""
        key: _Key = ((home[dense],), ()) if dense in home else ((), (dense_jobs[dense],) if dense in dense_jobs else ())
        groups.setdefault(key, []).append(task)
    free = [(key, members) for key, members in groups.items() if key == ((), ())]
    waiting = [(key, members) for key, members in groups.items() if key != ((), ())]
    size = -(-len(waiting) // MOST_GROUPS) or 1
    merged: _Groups = []
    for start in range(0, len(waiting), size):
        part = waiting[start : start + size]
        key = (tuple(n for k, _ in part for n in k[0]), tuple(j for k, _ in part for j in k[1]))
        merged.append((key, [task for _, members in part for task in members]))
    return free + merged


def _pack_groups(groups: _Groups, costs: Costs, capacity: float, room: int) -> list[tuple[_Key, list[Chunk]]]:
    """Chunks of each group; larger ones than asked for where there would be more than `room`."""
    while True:
        packed = [(key, _fill(members, costs, capacity)) for key, members in groups]
        count = sum(len(chunks) for _, chunks in packed)
        if count <= room:
            return packed
        capacity *= max(1.05, count / room)


def _pack(tasks: Sequence[PlannedTask], costs: Costs, capacity: float, room: int) -> list[Chunk]:
    return _pack_groups([(((), ()), list(tasks))], costs, capacity, max(room, 1))[0][1] if tasks else []


def _fill(tasks: Sequence[PlannedTask], costs: Costs, capacity: float) -> list[Chunk]:
    """Tasks in their order, each chunk filled up to `capacity`."""
    chunks: list[Chunk] = []
    current: list[PlannedTask] = []
    filled, known = 0.0, True
    for family in _families(tasks):
        seconds = [costs.seconds(task) for task in family]
        cost = sum(UNKNOWN_SECONDS if value is None else value for value in seconds)
        if current and filled + cost > capacity:
            chunks.append(Chunk(tuple(current), filled if known else None))
            current, filled, known = [], 0.0, True
        current += family
        filled += cost
        known = known and None not in seconds
    if current:
        chunks.append(Chunk(tuple(current), filled if known else None))
    return chunks


def _families(tasks: Sequence[PlannedTask]) -> Iterable[list[PlannedTask]]:
    """Tasks that go on where others end, with those: in one job the longer waits, in two both train the beginning."""
    behind = {task.cell.id: task.behind for task in tasks if task.behind is not None}
    if not behind:
        return ([task] for task in tasks)
    families: dict[str, list[PlannedTask]] = {}
    for task in tasks:
        first = task.cell.id
        while first in behind:
            first = behind[first]
        families.setdefault(first, []).append(task)
    return families.values()


def _split(numbers: range, size: int) -> list[tuple[int, ...]]:
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]
