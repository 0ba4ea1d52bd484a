"""From cells and a store to what is left to do: tasks, what they wait for, and what they will cost.

Planning reads files and never imports torch.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import NamedTuple

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.methods import declaration, settings_of
from benchmark.planning.grid import Execution
from benchmark.results.outside import sources
from benchmark.results.provenance import code_hash
from benchmark.results.store import UNREADABLE, Store

SAMPLED_RECORDS = 50
"""Records that an estimate of seconds per epoch is made of."""


class Task(NamedTuple):
    """One cell to run, after the record `after` exists, and while `behind` runs not yet: it will leave a trunk.

    epochs: of its own; shared: those that it takes from that trunk.
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
    tasks: tuple[Task, ...]
    seconds_per_epoch: float | None

    @property
    def dense_tasks(self) -> list[Task]:
        return [task for task in self.tasks if task.cell.is_dense]

    @property
    def epochs(self) -> float:
        return sum(task.epochs for task in self.tasks)

    def seconds(self, workers: int) -> float | None:
        """Estimated wall seconds; None where nothing is known of the problem's speed."""
        return None if self.seconds_per_epoch is None else self.epochs * self.seconds_per_epoch / workers


def make_plan(cells: Sequence[Cell], store: Store, execution: Execution) -> Plan:
    present = store.ids()
    left = [cell for cell in cells if cell.id not in present]
    parents = parents_of(left)
    dense = {cell.id: cell for cell in parents if cell is not None and cell.id not in present}
    tasks = [Task(cell, epochs_of(cell, execution)) for cell in dense.values()]
    shared = _sharing([cell for cell in left if cell.id not in dense])
    for cell, start in zip(left, parents, strict=True):
        if cell.id not in dense:
            waits = None if start is None else start.id
            behind, saved = shared.get(cell.id, (None, 0.0))
            tasks.append(Task(cell, epochs_of(cell, execution) - saved, waits, behind, saved))
    return Plan(
        cells=tuple(cells),
        done=frozenset(cell.id for cell in cells if cell.id in present),
        tasks=tuple(tasks),
        seconds_per_epoch=_seconds_per_epoch(cells, store) or execution.seconds_per_epoch,
    )


def parent(cell: Cell) -> Cell | None:
    """The run whose weights `cell` starts from."""
    return Cell.dense(cell.problem, cell.seed) if declaration(cell.method).from_dense else None


def parents_of(cells: Iterable[Cell]) -> list[Cell | None]:
    """`parent` of each; one object for all cells of a seed, so that its id is computed once."""
    known: dict[tuple[int, int], Cell] = {}
    found: list[Cell | None] = []
    for cell in cells:
        if declaration(cell.method).from_dense:
            key = id(cell.problem), cell.seed
            if key not in known:
                known[key] = Cell.dense(cell.problem, cell.seed)
            found.append(known[key])
        else:
            found.append(None)
    return found


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
    found = {}
    for members in trunks.values():
        members.sort(key=lambda member: (member[0], member[1].id))
        for (cycles, shorter), (_, longer) in pairwise(members):
            assert shorter.budget is not None
            each = replace(shorter.budget, per_cycle=False)
            found[longer.id] = (shorter.id, (cycles - 1) * epochs_of(replace(shorter, budget=each), Execution()))
    return found


def refuse_unfit(cells: Iterable[Cell]) -> None:
    """Raises UserError for the first cell whose method finds nothing to train in it."""
    for cell in {(cell.method, cell.sparsity, cell.hyperparameters): cell for cell in cells}.values():
        if not cell.is_dense:
            declaration(cell.method).check(cell, settings_of(cell))


def refuse_damaged(cells: Iterable[Cell], store: Store, repair: bool) -> list[str]:
    """Check the records that the sweep would count as done, and the weights that it would start from.

    Raises UserError for the first that cannot be used; with `repair`, sets them aside, so that their cells run again,
    and returns a line for each.
    """
    cells = list(cells)
    present = store.ids()
    parents = {cell.id: start.id for cell, start in zip(cells, parents_of(cells), strict=True) if start}
    wanted = dict.fromkeys([*(cell.id for cell in cells), *parents.values()])
    lines = []
    for path, reason in store.damaged(name for name in wanted if name in present):
        if reason.startswith(UNREADABLE):
            raise UserError(f"{path} {reason}")
        if not repair:
            raise UserError(f"{path} {reason}; --repair sets it aside and trains the cell again")
        lines.append(f"{path} {reason}; it is now {store.set_aside(path)}")
    for name in dict.fromkeys(start for cell, start in parents.items() if cell not in present and start in present):
        record = store.read(name)
        problem = None if record is None else store.weights_problem(record)
        if problem is not None:
            if not repair:
                raise UserError(f"{problem}; --repair trains the dense run again")
            lines.append(f"{problem}; its record is now {store.set_aside(store.record_path(name))}")
    return lines


def edited(cells: Iterable[Cell], store: Store) -> list[str]:
    """A line for each module from outside that was edited after it trained some of these cells."""
    present = store.ids()
    counts: Counter[str] = Counter()
    for cell in cells:
        now = sources(cell) if cell.id in present else {}
        if now and (record := store.read(cell.id)) is not None:
            then = record.get("provenance", {}).get("outside", {})
            counts.update(name for name in now if then.get(name, now[name]) != now[name])
    return [
        f"{name}.py changed since {count} of these cells were trained; they count as done (to train them again, give "
        "another --results folder)"
        for name, count in sorted(counts.items())
    ]


def mixtures(cells: Iterable[Cell], store: Store) -> list[str]:
    """A line for everything that should be one and the same for all finished cells of a sweep, and is not."""
    codes: Counter[str | None] = Counter()
    data: Counter[str | None] = Counter()
    parents: dict[str, str | None] = {}
    strangers = []
    present = store.ids()
    for cell in cells:
        record = store.read(cell.id) if cell.id in present else None
        if record is None:
            continue
        provenance, start = record.get("provenance", {}), record.get("parent")
        codes[provenance.get("code")] += 1
        data[provenance.get("data")] += 1
        if start is not None:
            if start["id"] not in parents:
                parents[start["id"]] = (store.read(start["id"]) or {}).get("weights_sha256")
            if parents[start["id"]] not in (None, start["weights_sha256"]):
                strangers.append(cell.id)
    lines = []
    if others := codes.total() - codes[code_hash()]:
        lines.append(
            f"{others} of {codes.total()} finished cells were trained by other code than this; they count as done "
            "(to train them again, give another --results folder)"
        )
    if len(data) > 1:
        found = ", ".join(f"{fingerprint}: {count} cells" for fingerprint, count in data.most_common())
        lines.append(f"the finished cells were trained on different data (by fingerprint, {found})")
    if strangers:
        lines.append(
            f"{len(strangers)} of {codes.total()} finished cells started from other dense weights than those that are "
            f"kept now, such as {strangers[0]}"
        )
    if second := store.second_results():
        lines.append(f"{len(second)} cells gave another result when they were trained again, see {second[0].parent}")
    if unreadable := store.unreadable():
        lines.append(f"{len(unreadable)} records that nothing could read were set aside, see {unreadable[0].parent}")
    return lines


def _seconds_per_epoch(cells: Sequence[Cell], store: Store) -> float | None:
    """Median over finished cells of the sweep, evaluation and set-up included."""
    present = store.ids()
    finished = (cell for cell in cells if cell.id in present)
    measured = []
    for cell in islice(finished, SAMPLED_RECORDS):
        record = store.read(cell.id) or {}
        iterations = record.get("iterations") or {}
        if iterations.get("total") and iterations.get("per_epoch"):
            epochs = iterations["total"] / iterations["per_epoch"]
            measured.append(record["seconds"]["total"] / epochs)
    return statistics.median(measured) if measured else None
