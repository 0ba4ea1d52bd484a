"""What a running sweep shows: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmark.launch.events import Epoch, Event, Failed, Finished, Retried, Started
from benchmark.plan import Plan
from benchmark.records import Record
from benchmark.store import Store


class Display:
    """Counts of cells and epochs, the time left, the best cell so far, and a line for every failure."""

    def __init__(self, plan: Plan, store: Store, console: Console, workers: int):
        self.store, self.console, self.workers = store, console, workers
        self.total = len(plan.tasks)
        self.epochs_total = plan.epochs
        self.epochs_of = {task.cell.id: task.epochs for task in plan.tasks}
        self.finished = self.failed = self.epochs_done = 0.0
        self.trained: list[Record] = []
        self.best: tuple[float, str, float] | None = None
        self.running: dict[str, str] = {}
        self.started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._bar_task = self._bar.add_task("", total=max(self.epochs_total, 1e-9), counts="", left="")
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

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
            accuracy = 100 * event.values["validation_accuracy"]
            self.running[name] = f"epoch {event.values['epoch']:.0f}, validation {accuracy:.1f} %"
        elif isinstance(event, Retried):
            self.running.pop(name, None)
            self.console.print(f"again    {name}: {event.message}", soft_wrap=True, highlight=False, markup=False)
        else:
            self.running.pop(name, None)
            self.epochs_done += self.epochs_of.get(name, 0.0)
            self._end(event)
        if self._live:
            self._live.update(self._picture())

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
            self.trained.append({"seconds": record["seconds"]})  # whole records of a long sweep would fill the memory
        final = record["accuracy"]["final"]
        if not event.cell.is_dense and (self.best is None or final["validation"] > self.best[0]):
            self.best = (final["validation"], event.cell.id, final["test"])
        if not self._live:
            count = f"{self.finished + self.failed:.0f}/{self.total}"
            self.console.print(
                f"{count:>9} {event.cell.id}  test {100 * final['test']:.2f} %  {record['seconds']['total']:.1f} s"
                f"  {self._left()}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )

    def _left(self) -> str:
        if not self.epochs_done or self.epochs_done >= self.epochs_total:
            return ""
        seconds = (time.monotonic() - self.started) / self.epochs_done * (self.epochs_total - self.epochs_done)
        return f"about {duration(seconds)} left"

    def _picture(self) -> Table:
        counts = (
            f"cells {self.finished:.0f}/{self.total} done, {len(self.running)} running, {self.failed:.0f} failed, "
            f"epochs {self.epochs_done:.0f}/{self.epochs_total:.0f}"
        )
        self._bar.update(self._bar_task, completed=self.epochs_done, counts=counts, left=self._left())
        picture = Table.grid()
        picture.add_row(self._bar)
        for name, text in self.running.items():
            picture.add_row(f"  {name}  {text}")
        if self.best:
            picture.add_row(f"  best so far on validation: {self.best[1]}  test {100 * self.best[2]:.2f} %")
        return picture


def duration(seconds: float) -> str:
    """A time span in two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
