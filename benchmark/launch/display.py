"""What a running sweep shows: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmark.cells import Cell
from benchmark.launch.events import Epoch, Event, Failed, Finished, Retried, Started
from benchmark.methods import declaration
from benchmark.metric import ACCURACY, Metric, metric_named, metric_of
from benchmark.planning.plan import Plan, PlannedTask
from benchmark.results.records import Record
from benchmark.results.store import Store

QUIET_SECONDS = 60
"""Where there is no terminal, a running cell gets a line after this much silence."""
SHOWN_CELLS = 16
"""Running cells with a line of their own on a terminal, those of which something was heard last."""
VALIDATION = "validation_"
"""What the names of a history begin with that are of the validation: the loss and the metric."""


class Pace:
    """Epochs of a plan that are behind us, those of running cells included, and what the rest takes at this pace."""

    def __init__(self, tasks: Iterable[PlannedTask], clock: Callable[[], float] = time.monotonic):
        self._tasks = {task.cell.id: task for task in tasks}
        self.total = sum(task.epochs for task in self._tasks.values())
        self._behind: dict[str, float] = {}
        self._trained_here = 0.0
        self._clock, self._started = clock, clock()

    @property
    def done(self) -> float:
        return sum(self._behind.values())

    def position(self, cell: Cell, epoch: float) -> float:
        """How far a cell is, in epochs of its own, where the data order is at `epoch`."""
        task = self._tasks[cell.id]
        begun = (cell.problem.epochs if declaration(cell.method).from_dense else 0) + task.shared
        return min(max(epoch - begun, 0.0), task.epochs)

    def reached(self, cell: Cell, epoch: float) -> str:
        """Count a running cell's progress; says it as "2 of 25"."""
        now = self.position(cell, epoch)
        # the first thing heard of a cell that was taken up in its middle counts as the end of one epoch, not of all
        before = self._behind.get(cell.id, max(math.ceil(now) - 1, 0))
        self._trained_here += now - before
        self._behind[cell.id] = now
        return f"{now:.3g} of {self._tasks[cell.id].epochs:.3g}"

    def ended(self, cell: Cell, trained_here: bool) -> None:
        total = self._tasks[cell.id].epochs if cell.id in self._tasks else 0.0
        if trained_here:
            self._trained_here += total - self._behind.get(cell.id, 0.0)
        self._behind[cell.id] = total

    @property
    def seconds_left(self) -> float | None:
        """None before the first epoch and after the last."""
        left = self.total - self.done
        if self._trained_here <= 0 or left <= 0:
            return None
        return (self._clock() - self._started) / self._trained_here * left


class Display:
    """Counts of cells and epochs, the time left, the best cell so far, and a line for every failure."""

    def __init__(self, plan: Plan, store: Store, console: Console, workers: int):
        self.store, self.console, self.workers = store, console, workers
        self.total = len(plan.tasks)
        self.pace = Pace(plan.tasks)
        self.finished = self.failed = 0
        self.trained: list[Record] = []
        self.skipped: list[str] = []
        """What the latest record says of images that could not be read."""
        self.best: tuple[float, str] | None = None
        self.running: dict[str, str] = {}
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._bar_task = self._bar.add_task("", total=max(self.pace.total, 1e-9), counts="", left="")
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_interactive else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        name = event.cell.id
        if isinstance(event, Started):
            self.running[name] = "starting"
        elif isinstance(event, Epoch):
            self._advance(event)
        elif isinstance(event, Retried):
            self.running.pop(name, None)
            self.console.print(f"again    {name}: {event.message}", soft_wrap=True, highlight=False, markup=False)
        else:
            self.running.pop(name, None)
            self.pace.ended(event.cell, isinstance(event, Finished) and event.trained_here)
            self._end(event)
        if self._live:
            self._live.update(self._picture())

    def _advance(self, event: Epoch) -> None:
        cell, epoch = event.cell, event.values["epoch"]
        validated = [
            f", {_said(metric_named(name.removeprefix(VALIDATION)), 'validation', value, 1)}"
            for name, value in event.values.items()
            if name.startswith(VALIDATION) and name != f"{VALIDATION}loss"
        ]
        self.running.pop(cell.id, None)
        self.running[cell.id] = f"epoch {self.pace.reached(cell, epoch)}{''.join(validated)}"
        if not self._live and time.monotonic() - self._last_line >= QUIET_SECONDS:
            self._line(f"{cell.id}  {self.running[cell.id]}")

    def _line(self, text: str) -> None:
        count = f"{self.finished + self.failed}/{self.total}"
        self.console.print(f"{count:>9} {text}  {self._left()}", soft_wrap=True, highlight=False, markup=False)
        self._last_line = time.monotonic()

    def _end(self, event: Finished | Failed) -> None:
        if isinstance(event, Failed):
            self.failed += 1
            text = f"FAILED   {event.cell.id}: {event.cause}: {event.message}"
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)
            return
        self.finished += 1
        record = self.store.read(event.cell.id)
        if record is None:
            return
        if event.trained_here:
            remarks = record["provenance"].get("data_remarks") or []
            self.skipped = [remark for remark in remarks if remark.startswith("skipped:")]
            self.trained.append({"seconds": record["seconds"]})  # whole records of a long sweep would fill the memory
        if aside := record["provenance"].get("set_aside"):
            text = f"the record of {event.cell.id} could not be read; it is now {aside}"
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        metric = metric_of(record)
        final = record[metric.name]["final"]
        value, test = final["validation"], _said(metric, "test", final["test"], 2)
        leads = value is not None and (self.best is None or metric.is_better(value, self.best[0]))
        if leads and not event.cell.is_dense:
            self.best = (value, f"{event.cell.id}  {test}")
        if not self._live:
            self._line(f"{event.cell.id}  {test}  {record['seconds']['total']:.1f} s")

    def _left(self) -> str:
        seconds = self.pace.seconds_left
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _picture(self) -> Table:
        counts = (
            f"cells {self.finished}/{self.total} done, {len(self.running)} running, {self.failed} failed, "
            f"epochs {self.pace.done:.0f}/{self.pace.total:.0f}"
        )
        self._bar.update(self._bar_task, completed=self.pace.done, counts=counts, left=self._left())
        picture = Table.grid()
        picture.add_row(self._bar)
        for name, text in list(self.running.items())[-SHOWN_CELLS:]:
            picture.add_row(f"  {name}  {text}")
        if len(self.running) > SHOWN_CELLS:
            picture.add_row(f"  and {len(self.running) - SHOWN_CELLS} others")
        if self.best:
            picture.add_row(f"  best so far on validation: {self.best[1]}")
        return picture


def _said(metric: Metric, split: str, value: float | None, digits: int) -> str:
    """A value of `split`, by its metric's name where that is not accuracy."""
    return f"{split} {'' if metric == ACCURACY else f'{metric.label} '}{metric.text(value, digits)}"


def duration(seconds: float) -> str:
    """A time span in two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
