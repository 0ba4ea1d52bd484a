"""From cells and a store to what is left to do: tasks, what they wait for, and what they will cost.

Planning reads files and never imports torch.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import NamedTuple

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.imports import code_of_others
from benchmark.methods import declaration, settings_of
from benchmark.planning.grid import Execution
from benchmark.results.store import Store

SAMPLED_RECORDS = 50
"""Records that an estimate of seconds per epoch is made of."""


class PlannedTask(NamedTuple):
    """One cell to run.

    Args:
        cell: to train.
        epochs: that it trains itself.
        after: id of the dense run whose record must exist first; None if it needs none.
        behind: id of the cell that must end first, as it leaves a trunk to go on from; None if there is none.
        shared: epochs that it takes from that trunk.
    """

    cell: Cell
    epochs: float
    after: str | None = None
    behind: str | None = None
    shared: float = 0.0


@dataclass(frozen=True)
class Plan:
    """cells: the sweep's; done: ids of those with a record; tasks: what is left, dense runs first."""

    cells: tuple[Cell, ...]
    done: frozenset[str]
    tasks: tuple[PlannedTask, ...]
    seconds_per_epoch: float | None

    @property
    def dense_tasks(self) -> list[PlannedTask]:
        return [task for task in self.tasks if task.cell.is_dense]

    @property
    def epochs(self) -> float:
        return sum(task.epochs for task in self.tasks)

    def seconds(self, workers: int) -> float | None:
        """Estimated wall seconds; None where nothing is known of the problem's speed. No less than the longest cell and
        the dense run that it waits for take."""
        if self.seconds_per_epoch is None:
            return None
        dense = {task.cell.id: task.epochs for task in self.dense_tasks}
        longest = max((task.epochs + dense.get(task.after or "", 0.0) for task in self.tasks), default=0.0)
        return max(self.epochs / workers, longest) * self.seconds_per_epoch


def make_plan(cells: Sequence[Cell], store: Store, execution: Execution) -> Plan:
    present = store.ids()
    left, done = cells, frozenset[str]()
    if present:
        named = [(cell, cell.id) for cell in cells]
        left = [cell for cell, name in named if name not in present]
        done = frozenset(name for _, name in named if name in present)
    parents = parents_of(left)
    names = {start: start.id for start in dict.fromkeys(parents) if start is not None}
    dense = {start: name for start, name in names.items() if name not in present}
    tasks = [PlannedTask(cell, epochs_of(cell, execution)) for cell in dense]
    shared = _sharing(left)
    lengths: dict[tuple[object, ...], float] = {}  # one number for all seeds
    for cell, start in zip(left, parents, strict=True):
        waits = None if start is None else names[start]
        kind = cell.method, cell.sparsity, cell.budget, cell.hyperparameters
        if kind not in lengths:
            lengths[kind] = epochs_of(cell, execution)
        behind, saved = shared.get(cell.id, (None, 0.0)) if shared else (None, 0.0)
        tasks.append(PlannedTask(cell, lengths[kind] - saved if saved else lengths[kind], waits, behind, saved))
    return Plan(
        cells=tuple(cells),
        done=done,
        tasks=tuple(tasks),
        seconds_per_epoch=_seconds_per_epoch(cells, store) or execution.seconds_per_epoch,
    )


def parents_of(cells: Iterable[Cell]) -> list[Cell | None]:
    """The dense run that each starts from; one object for all cells of a seed, so that its id is computed once."""
    known: dict[tuple[int, int], Cell] = {}
    parents: list[Cell | None] = []
    for cell in cells:
        key = id(cell.problem), cell.seed
        from_dense = declaration(cell.method).from_dense
        if from_dense and key not in known:
            known[key] = Cell.dense(cell.problem, cell.seed)
        parents.append(known[key] if from_dense else None)
    return parents


def starts(cells: Iterable[Cell]) -> list[Cell]:
    """The dense runs that they start from, each once."""
    return [start for start in dict.fromkeys(parents_of(cells)) if start is not None]


def epochs_of(cell: Cell, execution: Execution) -> float:
    """Training epochs of a cell, for estimates."""
    budget = cell.budget
    if cell.is_dense and cell.problem.weights:
        return 0
    if budget is None:
        return cell.problem.epochs
    cycles = _cycles(cell) if budget.per_cycle else 1
    if budget.unit == "%":
        return budget.amount / 100 * cell.problem.epochs * cycles
    if budget.unit == "ep":
        return budget.amount * cycles
    return budget.amount * cell.problem.batch_size / (execution.training_images or 50_000) * cycles


def _cycles(cell: Cell) -> int:
    count = declaration(cell.method).cycles
    return 1 if count is None else count(cell, settings_of(cell))


def _sharing(cells: Sequence[Cell]) -> dict[str, tuple[str, float]]:
    """By id, for cells that go on where a shorter one of their trunk ends: its id, and the epochs that this saves."""
    trunks: dict[str, list[tuple[int, Cell]]] = {}
    for cell in (cell for cell in cells if cell.budget is not None and cell.budget.per_cycle):
        trunk = declaration(cell.method).trunk
        name = None if trunk is None else trunk(cell, settings_of(cell), 1)
        if name is not None:
            trunks.setdefault(name, []).append((_cycles(cell), cell))
    shared = {}
    for members in trunks.values():
        members.sort(key=lambda member: (member[0], member[1].id))
        for (cycles, shorter), (_, longer) in pairwise(members):
            assert shorter.budget is not None
            each = replace(shorter.budget, per_cycle=False)
            shared[longer.id] = (shorter.id, (cycles - 1) * epochs_of(replace(shorter, budget=each), Execution()))
    return shared


def refuse_unfit(cells: Collection[Cell]) -> None:
    """Raises UserError for the first cell whose method finds nothing to train in it, or whose schedule cannot be."""
    for cell in {(cell.method, cell.sparsity, cell.hyperparameters): cell for cell in cells}.values():
        if not cell.is_dense:
            with code_of_others(f"method {cell.method}"):
                declaration(cell.method).check(cell, settings_of(cell))
    rewound = (cell for cell in cells if cell.schedule == "LRW" and cell.budget is not None)
    for cell in {(cell.method, cell.budget, cell.sparsity, cell.hyperparameters): cell for cell in rewound}.values():
        _refuse_long_rewinding(cell)


def _refuse_long_rewinding(cell: Cell) -> None:
    """LRW replays the end of the dense run in each cycle. Of iterations, the run itself knows how many there are."""
    budget, epochs = cell.budget, cell.problem.epochs
    assert budget is not None
    if budget.unit == "it":
        return
    cycles = 1 if budget.per_cycle else _cycles(cell)
    if (budget.amount * epochs / 100 if budget.unit == "%" else budget.amount) / cycles > epochs:
        raise UserError(
            f"schedule LRW replays the end of the dense run in each cycle, which has {epochs} epochs; budget {budget} "
            f"is too long: up to {100 * cycles}%{'/cycle' if budget.per_cycle else ''} is accepted"
        )


def _seconds_per_epoch(cells: Sequence[Cell], store: Store) -> float | None:
    """Median over finished cells of the sweep, evaluation and set-up included."""
    present = store.ids()
    finished = (cell for cell in cells if cell.id in present) if present else ()
    measured = []
    for cell in islice(finished, SAMPLED_RECORDS):
        record = store.read(cell.id) or {}
        with contextlib.suppress(KeyError, TypeError, ArithmeticError):  # what no record of ours lacks
            epochs = record["iterations"]["total"] / record["iterations"]["per_epoch"]
            measured.append(record["seconds"]["total"] / epochs)
    return statistics.median(measured) if measured else None
