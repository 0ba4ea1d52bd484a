"""Where the cells of a sweep are trained: what a launcher does, whichever it is.

The sweep command builds the one that --executor names and calls it. docs/launchers.md shows how to write another.
"""

from __future__ import annotations

import gc
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.cells import FUNCTION, Cell
from benchmark.errors import UserError
from benchmark.imports import load
from benchmark.launch.machine import check_device_name
from benchmark.planning.finished import FinishedCells
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan, make_plan
from benchmark.planning.tuning import current, stages
from benchmark.problems.examples import EXAMPLES
from benchmark.problems.folder import EMBEDDED
from benchmark.results.store import Store
from benchmark.tracking.runs import Mode

LAUNCHERS = {"local": "benchmark.launch.local:Local", "slurm": "benchmark.launch.slurm.launcher:Slurm"}
"""Module and class of each launcher by its --executor; "module:Class" itself names one from outside the suite."""
MOST_WORKERS = 4096
KEPT = ("nothing", "weights")


@dataclass(frozen=True)
class Options:
    """How cells are to be trained, as the sweep command has it. A launcher refuses what means nothing to it.

    Args:
        workers: processes; None for as many as there is room for.
        device: one of auto, cpu, cuda, mps.
        gpus_per_cell: GPUs that train one cell together.
        cells_per_gpu: cells that share a GPU.
        threads: that the problem allows a process; None for any number.
        validate_every: epochs from one validation to the next.
        keep: of a finished cell beside its record: "nothing" or its "weights".
        checkpoint_seconds: from one checkpoint of a cell to the next.
        hang_seconds: without a finished iteration until a cell fails.
        cluster: the profile of a cluster, as a name or a file.
        settings: of the cluster, over its profile.
    """

    workers: int | None = None
    device: str = "auto"
    gpus_per_cell: int = 1
    cells_per_gpu: int = 1
    threads: int | None = None
    validate_every: int = 1
    keep: str = "nothing"
    checkpoint_seconds: float = 60.0
    hang_seconds: float = 1800.0
    cluster: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UserError, which names the option of the sweep command."""
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise UserError(f"--workers {self.workers}: a count from 1 to {MOST_WORKERS}")
        if not self.hang_seconds > 0:  # nor nan
            raise UserError(f"--hang-seconds {self.hang_seconds:g}: a number above 0")
        if not self.checkpoint_seconds >= 0:
            raise UserError(f"--checkpoint-seconds {self.checkpoint_seconds:g}: a number from 0 up")
        if self.keep not in KEPT:
            raise UserError(f"--keep {self.keep}: one of {', '.join(KEPT)}")
        check_device_name(self.device)


@dataclass(frozen=True)
class Work:
    """A sweep to train.

    Args:
        name: of the sweep, as the user typed it.
        sweep: its cells, those included that tuning may yet rule out.
        store: the results folder, which `open` makes ready.
        console: for what the user should read.
        data: the folder of the images; None for the default.
        download: whether to fetch images that are not there.
        tracking: Weights & Biases.
        repair: whether to set records aside that cannot be read.
        only: the filters that chose its cells.
    """

    name: str
    sweep: Sweep
    store: Store
    console: Console
    data: Path | None = None
    download: bool = False
    tracking: Mode = "auto"
    repair: bool = False
    only: Sequence[str] = ()

    def open(self) -> None:
        """Make the results folder ready to be written, with a warning for what does not fit together there. Raises
        UserError for a folder or a record that cannot be used."""
        store = Store.open_for_writing(self.store.path)
        store.tidy()
        finished = FinishedCells(self.sweep.cells, store)
        warn([*finished.refuse_damaged(self.repair), *finished.mixtures(), *finished.edited()])

    @property
    def current(self) -> Sweep:
        """The sweep with the cells that can be named now."""
        return current(self.sweep, self.store)

    def plan(self) -> Plan:
        """What is left of them."""
        return make_plan(self.current.cells, self.store, self.sweep.execution)

    def try_own(self, elsewhere: bool = False) -> None:
        """Try a task, a data set and a network from outside the suite together, and say so where they could not be.

        elsewhere: whether other machines train, so that large data and what this one lacks are left to them. Raises
        UserError if they do not fit.
        """
        problem = self.sweep.problem
        if not problem.outside:
            return
        if elsewhere and problem.dataset not in (*problem.outside, *EMBEDDED, *EXAMPLES):
            self.say(f"{', '.join(problem.outside)}: not tried here, since the jobs open {problem.dataset}")
            return
        import torch  # which planning does not

        from benchmark.problems.data import open_data
        from benchmark.trial import try_out

        data = open_data(problem, torch.device("cpu"), self.data, given=self.store.given)
        if remark := try_out(data, self.store.given, elsewhere):
            self.say(remark)
        del data
        gc.collect()  # a run and its method refer to each other, and all of it would lie beside the workers'

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


class Launcher(ABC):
    """Trains cells somewhere. Built for one sweep command; raises UserError for options that it cannot follow."""

    def __init__(self, options: Options):
        self.options = options

    @abstractmethod
    def submit(self, work: Work) -> int:
        """Start what is left of a sweep; the exit code of the command. One that trains by itself returns at the end."""

    @abstractmethod
    def cancel(self, work: Work) -> int:
        """End what runs and waits of a sweep, with checkpoints saved; the exit code."""

    def describe(self, work: Work, cells: bool) -> int:
        """Say what `submit` would do, changing nothing; the exit code. cells: with a line for each of them."""
        stage = stages(work.sweep, work.store)
        named = stage.tuning + stage.chosen
        plan = make_plan(named + stage.open, work.store, work.sweep.execution)
        work.say(counts(work.sweep, plan))
        if stage.open:
            work.say(f"{len(stage.open)} of them with the settings that tuning will choose")
        for task in plan.dense_tasks:
            work.say(f"dense run needed: {task.cell.id} ({task.epochs:g} epochs)")
        if cost := self.cost(plan):
            work.say(cost)
        if cells:
            list_cells(work, plan, named)
        return 0

    def cost(self, plan: Plan) -> str:
        """A line about the time that a plan will take; "" for none."""
        return ""


def list_cells(work: Work, plan: Plan, cells: Iterable[Cell]) -> None:
    """A line for each dense run that is needed and each of the cells."""
    todo = {task.cell.id: f"{task.epochs:8.2f} epochs" for task in plan.tasks}
    for name in (cell.id for cell in [*(task.cell for task in plan.dense_tasks), *cells]):
        work.say(f"{todo.get(name, '           done')}  {name}")


def counts(sweep: Sweep, plan: Plan) -> str:
    """The plan in one line."""
    dense = len(plan.dense_tasks)
    return (
        f"{sweep.name} on {sweep.problem.name}: {len(plan.cells)} cells, {len(plan.done)} done, "
        f"{len(plan.tasks) - dense} to train, after {dense} dense run{'' if dense == 1 else 's'}; "
        f"{plan.epochs:.0f} epochs"
    )


def build(executor: str, options: Options) -> Launcher:
    """The launcher of that name. Raises UserError."""
    where = LAUNCHERS.get(executor, executor)
    if not FUNCTION.fullmatch(where):
        raise UserError(f"--executor {executor}: one of {', '.join(LAUNCHERS)}, or 'module:Class' for one of your own")
    launcher = load(where, f"--executor {executor}")
    if not (isinstance(launcher, type) and issubclass(launcher, Launcher)):
        raise UserError(f"--executor {executor}: that is no class of a Launcher")
    if missing := sorted(launcher.__abstractmethods__):
        raise UserError(f"--executor {executor}: class {launcher.__name__!r} lacks {', '.join(missing)}")
    return launcher(options)


def warn(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
