"""Sweeps that tune: every setting of a method runs with a few seeds, the best one of them with all the others.

Settings compete per (method, sparsity) by the metric in validation; the test images have no say. Imports no torch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from benchmark.cells import Cell, Hyperparameters
from benchmark.errors import UserError
from benchmark.metric import metric_of
from benchmark.planning.grid import Sweep
from benchmark.results.records import Record
from benchmark.results.store import Store, read_compact

Contest = tuple[str, float | None]
"""(method, sparsity): the settings of a method compete for each sparsity on their own."""


def choose(records: Iterable[Record]) -> dict[Contest, Hyperparameters]:
    """The setting whose final validation is the best on average, for each method and sparsity.

    Means are over the seeds that all settings of a contest have (over all if there is no such seed), so that none wins
    by an easier seed. A run that ended with no finite value is worse than any. Of equal settings the one whose record
    comes first.
    """
    found: dict[Contest, dict[Hyperparameters, dict[int, float]]] = {}
    for record in records:
        cell, metric = record["cell"], metric_of(record)
        setting = tuple(sorted(cell["hyperparameters"].items()))
        seeds = found.setdefault((cell["method"], cell["sparsity"]), {}).setdefault(setting, {})
        value = record[metric.name]["final"]["validation"]
        seeds[cell["seed"]] = -math.inf if value is None else metric.oriented(value)
    return {contest: _best(settings) for contest, settings in found.items()}


def _best(settings: dict[Hyperparameters, dict[int, float]]) -> Hyperparameters:
    common = set.intersection(*(set(seeds) for seeds in settings.values()))
    means = {
        setting: statistics.fmean([value for seed, value in seeds.items() if seed in common or not common])
        for setting, seeds in settings.items()
    }
    return max(means, key=lambda setting: means[setting])


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
    first = [cell for cell in sweep.cells if not sweep.tuning_seeds or cell.seed in sweep.tuning_seeds]
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
    found = stages(sweep, store)
    return replace(sweep, cells=found.tuning + found.chosen)


def tuned_only(sweep: Sweep, store: Store) -> Sweep:
    """The sweep with nothing but the chosen settings, with all of its seeds.

    What the store has no records of is looked up in the reference runs beside it. Raises UserError where tuning is not
    complete.
    """
    if not sweep.tuning_seeds:
        raise UserError(f"--tuned-only: sweep {sweep.name} tunes nothing (its file has no tuning_seeds)")
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
    return cell.method, cell.sparsity
