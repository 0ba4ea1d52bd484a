"""A bounded pool of long-lived worker processes on this machine.

Workers are forked from a server that has torch loaded, each with its share of the processor's threads and, where there
are GPUs, one GPU slot. A cell's exception, crash or hang is that cell's failure; the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.launch.events import Epoch, Event, Failed, Finished, Retried, Started
from benchmark.plan import Task
from benchmark.store import Store

ALIVE_SECONDS = 1.0
STOP_SECONDS = 30.0
START_FAILURES = 3
TRIES = {"killed": 3, "out of memory": 2, "device error": 2}
"""Times that a cell is tried in one run of a pool, by what ended it; for all other causes once."""
BROKEN = ("out of memory", "device error")
"""Causes after which a process is not to be trusted with another cell."""
BUSY_SECONDS = 1.0
"""How long to leave alone a cell that another sweep trains."""
LOG_TAIL = 4000


@dataclass(frozen=True)
class PoolOptions:
    """workers: processes; threads: of each; gpus: ids to spread them over; hang_seconds: without a sign of life."""

    workers: int
    threads: int
    device: str = "auto"
    gpus: tuple[str, ...] = ()
    hang_seconds: float = 1800.0
    checkpoint_seconds: float = 60.0
    data: Path | None = None


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """Ids of the NVIDIA GPUs that this process may use, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part for part in visible.split(",") if part.strip() and part.strip() != "-1")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False, timeout=30).stdout  # noqa: S603
    return tuple(str(number) for number, line in enumerate(listing.splitlines()) if line.startswith("GPU "))


class _Slot:
    """One worker process and what it is doing."""

    def __init__(self, number: int, process: BaseProcess, connection: Connection):
        self.number = number
        self.process = process
        self.connection = connection
        self.ready = False
        self.task: Task | None = None
        self.last_sign = time.monotonic()


class LocalPool:
    """Runs tasks and yields events; `stop` ends it early, with checkpoints saved."""

    def __init__(self, store: Store, options: PoolOptions):
        self.store = store
        self.options = options
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmark.launch.preload"])
        self._slots: list[_Slot] = []
        self._start_failures = 0
        self._tried: dict[str, int] = {}
        self._later: dict[str, float] = {}

    def run(
        self,
        tasks: Sequence[Task],
        admit: Callable[[Task], bool] = lambda task: True,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Run all tasks, each after the one that it waits for. Raises UserError if workers cannot start.

        A task that `admit` refuses is left out for good. Once `should_stop` says so no event follows, and it is for the
        caller to `stop`.
        """
        waiting = list(tasks)
        known = {task.cell.id for task in tasks}
        finished: set[str] = set()
        failed: set[str] = set()
        for number in range(min(self.options.workers, len(tasks))):
            self._slots.append(self._start(number))
        while waiting or any(slot.task for slot in self._slots):
            if should_stop():
                return
            yield from self._fail_orphans(waiting, failed)
            yield from self._assign(waiting, finished, known, admit)
            for event in self._collect(waiting):
                if isinstance(event, Finished):
                    finished.add(event.cell.id)
                elif isinstance(event, Failed):
                    failed.add(event.cell.id)
                yield event
        self.stop()

    def stop(self) -> None:
        """End all workers: idle ones at once, busy ones after they have saved a checkpoint."""
        for slot in self._slots:
            if slot.task is None:
                _send(slot.connection, None)
            elif slot.process.is_alive():
                slot.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for slot in self._slots:
            slot.process.join(max(0.0, deadline - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
        self._slots.clear()

    def _start(self, number: int) -> _Slot:
        ours, theirs = self._context.Pipe()
        settings = {
            "store": self.store.path,
            "log": self._log(number),
            "threads": self.options.threads,
            "device": self.options.device,
            "checkpoint_seconds": self.options.checkpoint_seconds,
            "data": self.options.data,
            "gpu": self.options.gpus[number % len(self.options.gpus)] if self.options.gpus else None,
        }
        process = self._context.Process(target=_serve, args=(theirs, settings), name=f"worker {number}")
        process.start()
        theirs.close()
        return _Slot(number, process, ours)

    def _log(self, number: int) -> Path:
        return self.store.path / "logs" / f"worker-{os.getpid()}-{number}.log"

    def _fail_orphans(self, waiting: list[Task], failed: set[str]) -> Iterator[Event]:
        for task in [task for task in waiting if task.after in failed]:
            waiting.remove(task)
            yield Failed(task.cell, "dense run failed", f"the dense run {task.after} failed")

    def _assign(
        self, waiting: list[Task], finished: set[str], known: set[str], admit: Callable[[Task], bool]
    ) -> Iterator[Event]:
        now = time.monotonic()
        for slot in self._slots:
            if slot.task or not slot.ready:
                continue
            for task in list(waiting):
                if not admit(task):
                    waiting.remove(task)
                    continue
                ready = task.after is None or task.after in finished or task.after not in known
                if ready and self._later.get(task.cell.id, 0.0) <= now:
                    waiting.remove(task)
                    slot.task = task
                    slot.last_sign = now
                    _send(slot.connection, task.cell)
                    yield Started(task.cell)
                    break

    def _collect(self, waiting: list[Task]) -> Iterator[Event]:
        """Events of what the workers said, or that they died, within the next moment."""
        sources: dict[Any, _Slot] = {}
        for slot in self._slots:
            sources[slot.connection] = slot
            sources[slot.process.sentinel] = slot
        for slot in {id(sources[source]): sources[source] for source in wait(list(sources), timeout=0.5)}.values():
            try:
                while slot.connection.poll():
                    yield from self._hear(slot, slot.connection.recv(), waiting)
            except (EOFError, OSError):
                pass
            if not slot.process.is_alive():
                yield from self._bury(slot, waiting, "killed", _death(slot.process.exitcode))
        for slot in self._slots:
            if slot.task and time.monotonic() - slot.last_sign > self.options.hang_seconds:
                slot.process.kill()
                slot.process.join()
                message = f"no iteration finished within {self.options.hang_seconds:g} s"
                yield from self._bury(slot, waiting, "hang", message)

    def _hear(self, slot: _Slot, message: tuple[Any, ...], waiting: list[Task]) -> Iterator[Event]:
        slot.last_sign = time.monotonic()
        kind, *values = message
        if kind == "ready":
            slot.ready = True
            self._start_failures = 0
            return
        task = slot.task
        if kind == "alive" or task is None:
            return
        if kind == "epoch":
            yield Epoch(task.cell, *values)
            return
        slot.task = None
        if kind == "failed":
            yield self._again_or_fail(slot, task, waiting, *values)
        elif values[0] == "held by another":
            self._later[task.cell.id] = time.monotonic() + BUSY_SECONDS
            waiting.append(task)
        else:
            yield Finished(task.cell, trained_here=values[0] == "done")

    def _bury(self, slot: _Slot, waiting: list[Task], cause: str, message: str) -> Iterator[Event]:
        """A worker is gone: put another in its place, and its cell back or among the failed."""
        if not slot.ready:
            self._start_failures += 1
            if self._start_failures >= START_FAILURES:
                tail = _tail(self._log(slot.number)).strip().splitlines()
                raise UserError(
                    f"workers cannot start ({message}{': ' + tail[-1] if tail else ''}); see {self._log(slot.number)}"
                )
        task = slot.task
        self._slots[self._slots.index(slot)] = self._start(slot.number)
        if task is None:
            return
        yield self._again_or_fail(slot, task, waiting, cause, message, "")

    def _again_or_fail(
        self, slot: _Slot, task: Task, waiting: list[Task], cause: str, message: str, trace: str
    ) -> Retried | Failed:
        tried = self._tried[task.cell.id] = self._tried.get(task.cell.id, 0) + 1
        if tried < TRIES.get(cause, 1):
            waiting.insert(0, task)
            return Retried(task.cell, message)
        return self._fail(slot, task.cell, cause, message, trace)

    def _fail(self, slot: _Slot, cell: Cell, cause: str, message: str, trace: str) -> Failed:
        self.store.add_failure(cell.id, cause, message, trace, _tail(self._log(slot.number)))
        return Failed(cell, cause, message)


def _send(connection: Connection, message: object) -> None:
    with contextlib.suppress(OSError):  # the worker died: its sentinel tells
        connection.send(message)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker was ended by {signal.Signals(-code).name}"
    return f"the worker ended with exit code {code}"


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-LOG_TAIL:].decode(errors="replace")
    except OSError:
        return ""


def _serve(connection: Connection, settings: dict[str, Any]) -> None:
    """A worker process: cells in, messages out, until None or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    stop = False

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    _write_output_to(settings["log"])
    if settings["gpu"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = settings["gpu"]
    from benchmark.training.loop import Interrupted
    from benchmark.worker import Options, Worker

    options = Options(settings["device"], settings["threads"], settings["checkpoint_seconds"], settings["data"])
    worker = Worker(Store(settings["store"]), options)
    said = time.monotonic()

    def should_stop() -> bool:
        nonlocal said, stop
        if time.monotonic() - said > ALIVE_SECONDS:
            said = time.monotonic()
            try:
                connection.send(("alive",))
            except OSError:
                stop = True  # the parent is gone
        return stop

    def report(iteration: int, values: dict[str, float]) -> None:
        connection.send(("epoch", iteration, values))

    try:
        connection.send(("ready",))
        while not stop and (cell := connection.recv()) is not None:
            outcome = _attempt(worker, cell, report, should_stop)
            connection.send(outcome)
            if outcome[0] == "failed" and outcome[1] in BROKEN:
                break  # the pool starts a fresh process
    except (Interrupted, EOFError, OSError):
        pass


def _attempt(worker: Any, cell: Cell, report: Any, should_stop: Any) -> tuple[Any, ...]:
    """Run one cell; ("done", outcome), or what went wrong as ("failed", cause, one line, traceback)."""
    from benchmark.training.loop import Interrupted

    try:
        return ("done", worker.run(cell, report, should_stop))
    except Interrupted:
        raise
    except UserError as error:
        return ("failed", "refused", str(error), "")
    except MemoryError as error:
        return ("failed", "out of memory", f"MemoryError: {error}", traceback.format_exc())
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return ("failed", _cause(error), line, traceback.format_exc())


def _cause(error: Exception) -> str:
    """torch names what a GPU reports in the class or only in the message, depending on its version."""
    if type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    device = isinstance(error, RuntimeError) and any(
        word in str(error) for word in ("CUDA", "CUBLAS", "CUDNN", "cuDNN")
    )
    return "device error" if device else "exception"


def _write_output_to(log: Path) -> None:
    """Send what the process prints, from Python or below it, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
