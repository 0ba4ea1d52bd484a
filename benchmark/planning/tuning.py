"""Sweeps that tune: every setting of a method runs with a few seeds, the best one of them with all the others.

Settings compete per `Contest` by the metric in validation; the test images have no say. Imports no torch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from benchmark.cells import Cell, Hyperparameters
from benchmark.errors import UserError
from benchmark.metric import metric_of
from benchmark.planning.grid import Sweep
from benchmark.results.records import Record
from benchmark.results.store import Store, read_compact

Contest = tuple[str, str, float | None, str]
"""(method, schedule, sparsity, budget), within which settings compete; "" for no schedule or budget."""
DIGITS = 9


@dataclass(frozen=True)
class Contestant:
    """A setting that competes.

    Args:
        setting: its hyperparameters, () for the defaults.
        scores: final validation by seed, oriented so that a higher one is better; over the seeds that are compared.
        on_target: whether all of these runs ended at the sparsity asked for.
    """

    setting: Hyperparameters
    scores: Mapping[int, float]
    on_target: bool

    @property
    def mean(self) -> float:
        """As equal as it prints: sums of other numbers differ in the last digits."""
        return round(statistics.fmean(self.scores.values()), DIGITS)


def choose(records: Iterable[Record]) -> dict[Contest, Hyperparameters]:
    """The setting that wins each contest: see `ranked`."""
    return {contest: contestants[0].setting for contest, contestants in ranked(records).items()}


def ranked(records: Iterable[Record]) -> dict[Contest, list[Contestant]]:
    """The settings of each contest, the best first.

    By the mean of their final validation over the seeds that all settings of a contest have (over all if there is no
    such seed), so that none wins by an easier seed. A run that ended with no finite value is worse than any. Settings
    with a run that missed the target come behind all that are on it: at another sparsity another accuracy is no merit.
    Of equal settings the default is the first, then the one whose record comes first.
    """
    contests: dict[Contest, dict[Hyperparameters, dict[int, Record]]] = {}
    for record in records:
        cell = record["cell"]
        setting = tuple(sorted(cell["hyperparameters"].items()))
        contest = cell["method"], cell["schedule"] or "", cell["sparsity"], cell["budget"] or ""
        contests.setdefault(contest, {}).setdefault(setting, {})[cell["seed"]] = record
    return {contest: _ranked(settings) for contest, settings in contests.items()}


def _ranked(settings: dict[Hyperparameters, dict[int, Record]]) -> list[Contestant]:
    common = set.intersection(*(set(runs) for runs in settings.values()))
    contestants = []
    for setting, runs in settings.items():
        compared = {seed: record for seed, record in runs.items() if seed in common or not common}
        missed = any(record.get("status") == "missed_target" for record in compared.values())
        scores = {seed: _score(record) for seed, record in compared.items()}
        contestants.append(Contestant(setting, scores, not missed))
    return sorted(contestants, key=lambda one: (not one.on_target, -one.mean, one.setting != ()))


def _score(record: Record) -> float:
    metric = metric_of(record)
    value = record[metric.name]["final"]["validation"]
    return -math.inf if value is None else float(metric.oriented(value))


@dataclass(frozen=True)
class Stages:
    """What of a sweep runs when.

    tuning: the cells whose records decide, all cells of a sweep that does not tune; chosen: those of the other seeds,
    for the contests that are decided; open: for each other contest and seed a cell that stands for the one to come.
    """

    tuning: tuple[Cell, ...]
    chosen: tuple[Cell, ...]
    open: tuple[Cell, ...]


def stages(sweep: Sweep, store: Store) -> Stages:
    """The sweep's cells as they stand: a contest is decided once all of its tuning cells have a record."""
    if not sweep.tuning_seeds:
        return Stages(sweep.cells, (), ())
    first = [cell for cell in sweep.cells if cell.seed in sweep.tuning_seeds]
    others = set(sweep.cells).difference(first)
    if not others:
        return Stages(tuple(first), (), ())
    records = [store.read(cell.id) for cell in first]
    undecided = {_contest(cell) for cell, record in zip(first, records, strict=True) if record is None}
    decided = choose(record for record in records if record is not None)
    chosen: list[Cell] = []
    placeholders: dict[tuple[Contest, int], Cell] = {}
    for cell in (cell for cell in sweep.cells if cell in others):
        if _contest(cell) in undecided:
            placeholders.setdefault((_contest(cell), cell.seed), cell)
        elif decided[_contest(cell)] == cell.hyperparameters:
            chosen.append(cell)
    return Stages(tuple(first), tuple(chosen), tuple(placeholders.values()))


def current(sweep: Sweep, store: Store) -> Sweep:
    """The sweep with the cells that can be named now: those that tune, then those that tuning has chosen."""
    known_stages = stages(sweep, store)
    return replace(sweep, cells=known_stages.tuning + known_stages.chosen)


def tuned_only(sweep: Sweep, store: Store) -> Sweep:
    """The sweep with nothing but the chosen settings, with all of its seeds.

    What the store has no records of is looked up in the reference runs beside it. Raises UserError where tuning is not
    complete.
    """
    if not sweep.tuning_seeds:
        raise UserError(f"--tuned-only: sweep {sweep.name} tunes nothing (its file has no tuning seeds)")
    first = [cell for cell in sweep.cells if cell.seed in sweep.tuning_seeds]
    reference = {record["id"]: record for record in _reference(sweep, store)}
    records = [store.read(cell.id) or reference.get(cell.id) for cell in first]
    missing = records.count(None)
    if missing:
        raise UserError(
            f"--tuned-only: {missing} of the {len(first)} tuning cells of sweep {sweep.name} have no record in "
            f"{store.path}: run the sweep without --tuned-only first"
        )
    decided = choose(record for record in records if record is not None)
    asked = [cell for cell in sweep.cells if cell.seed in sweep.seeds]
    cells = tuple(cell for cell in asked if decided[_contest(cell)] == cell.hyperparameters)
    return replace(sweep, cells=cells, tuning_seeds=())


def _reference(sweep: Sweep, store: Store) -> Iterator[Record]:
    path = store.path.parent / "reference" / f"{sweep.name}-{sweep.problem.name}.jsonl"
    if path.is_file():
        yield from read_compact(path)


def _contest(cell: Cell) -> Contest:
    return cell.method, cell.schedule or "", cell.sparsity, "" if cell.budget is None else str(cell.budget)
