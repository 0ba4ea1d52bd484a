"""A bounded pool of long-lived worker processes on this machine.

Workers are forked from a server that has torch loaded, each with its share of the processor's threads and, where there
are GPUs, one GPU slot. A cell's exception, crash or hang is that cell's failure; the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmark.cells import Cell
from benchmark.errors import CannotGoOn, UserError
from benchmark.launch.events import Epoch, Event, Failed, Finished, Retried, Started
from benchmark.launch.machine import PoolOptions, WorkerSettings, given_rank, open_files_for
from benchmark.launch.serving import BROKEN, serve
from benchmark.planning.plan import PlannedTask
from benchmark.results.redaction import redact
from benchmark.results.store import Store

STOP_SECONDS = 30.0
ABORT_SECONDS = 5.0
"""How long a worker that hangs may take to write where it stands."""
PRELOADED = ("benchmark.launch.preload",)
"""What the server loads that workers are forked from."""
START_FAILURES = 3
SERVER_SECONDS = 10.0
SERVER_PAUSE = 0.2
"""How long to try to start a worker while there is no server to fork it from, and the pause between."""
TRIES = {"killed": 3, "rank lost": 3, "out of memory": 2, "device error": 2}
"""Times that a cell is tried in one run of a pool, by what ended it; for all other causes once."""
SUSPENDED_SECONDS = 10.0
"""Without a look at the workers: then the whole job was stopped, and no worker hangs for that."""
BUSY_SECONDS = 1.0
"""How long to leave alone a cell that another sweep trains."""
LOG_TAIL = 4000


class _Slot:
    """One worker process and what it is doing."""

    def __init__(self, number: int, process: BaseProcess, connection: Connection):
        self.number = number
        self.process = process
        self.connection = connection
        self.ready = False
        self.task: PlannedTask | None = None
        self.leaves = False
        """Whether it has said what makes it end: it takes no other cell."""
        self.last_sign = time.monotonic()
        self.log_start = 0
        """Where the present cell's part of the log begins."""

    def end(self, patience: float) -> None:
        """Wait for the process, then make sure that it is gone; its connection is closed."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


class LocalPool:
    """Runs tasks and yields events; `stop` ends it early, with checkpoints saved."""

    def __init__(self, store: Store, options: PoolOptions):
        self.store = store
        self.options = options
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self._slots: list[_Slot] = []
        self._start_failures = 0
        self._tried: dict[str, int] = {}
        self._looked = time.monotonic()
        self._later: dict[str, float] = {}

    def run(
        self,
        tasks: Sequence[PlannedTask],
        admit: Callable[[PlannedTask], bool] = lambda task: True,
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
        workers = min(self.options.workers, len(tasks))
        open_files_for(workers)
        for number in range(workers):
            self._slots.append(self._start(number))
        while waiting or any(slot.task for slot in self._slots):
            if should_stop():
                return
            yield from self._fail_orphans(waiting, failed)
            yield from self._assign(waiting, finished, known, admit)
            for event in self._collect(waiting, should_stop):
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
            slot.end(max(0.0, deadline - time.monotonic()))
            self._drop_empty(self._log(slot.number))
        self._drop_empty(self._log("server"))
        self._slots.clear()

    def _start(self, number: int) -> _Slot:
        pool_end, worker_end = self._context.Pipe()
        options = self.options
        run = replace(options.run, alone=options.alone)
        settings = WorkerSettings(self.store.path, run, options.ranks, self._log(number), self._gpus_of(number))
        deadline = time.monotonic() + SERVER_SECONDS
        while True:
            process = self._context.Process(target=serve, args=(worker_end, settings), name=f"worker {number}")
            try:
                with _stderr_to(self._log("server")):
                    process.start()
            except (EOFError, OSError) as error:
                # A killed fork server refuses until the system has cleared it away; after that a start makes another.
                if time.monotonic() > deadline:
                    where = f"; see {self._log('server')}" if _size(self._log("server")) else ""
                    raise UserError(f"workers cannot start ({type(error).__name__}: {error}){where}") from None
                time.sleep(SERVER_PAUSE)
                continue
            worker_end.close()
            return _Slot(number, process, pool_end)

    def _gpus_of(self, number: int) -> str | None:
        """Ids for worker `number`, as CUDA_VISIBLE_DEVICES has them."""
        cards, ranks = self.options.gpus, self.options.ranks
        return ",".join(cards[(number * ranks + k) % len(cards)] for k in range(ranks)) if cards else None

    def _log(self, number: int | str) -> Path:
        return self.store.path / "logs" / f"worker-{socket.gethostname()}-{os.getpid()}-{number}.log"

    def _drop_empty(self, log: Path) -> None:
        with contextlib.suppress(OSError):
            if log.stat().st_size == 0:
                log.unlink()

    def _fail_orphans(self, waiting: list[PlannedTask], failed: set[str]) -> Iterator[Event]:
        for task in [task for task in waiting if task.after in failed]:
            waiting.remove(task)
            yield Failed(task.cell, "dense run failed", f"the dense run {task.after} failed")

    def _assign(
        self, waiting: list[PlannedTask], finished: set[str], known: set[str], admit: Callable[[PlannedTask], bool]
    ) -> Iterator[Event]:
        """Give each idle worker the first task that is ready."""
        now = time.monotonic()
        running = [slot.task for slot in self._slots if slot.task]
        follow = any(task.behind for task in waiting)
        unfinished = {task.cell.id for task in [*waiting, *running]} if follow else set()

        def ready(task: PlannedTask) -> bool:
            there = task.after is None or task.after in finished or task.after not in known
            return there and task.behind not in unfinished and self._later.get(task.cell.id, 0.0) <= now

        for slot in self._slots:
            if slot.task or slot.leaves or not slot.ready:
                continue
            for task in list(waiting):
                if not admit(task):
                    waiting.remove(task)
                elif ready(task):
                    waiting.remove(task)
                    slot.task, slot.last_sign = task, now
                    slot.log_start = _size(self._log(slot.number))
                    _send(slot.connection, task.cell)
                    yield Started(task.cell)
                    break

    def _collect(self, waiting: list[PlannedTask], should_stop: Callable[[], bool]) -> Iterator[Event]:
        """Events of what the workers said, or that they died, within the next moment."""
        sources: dict[Any, _Slot] = {}
        for slot in self._slots:
            sources[slot.connection] = slot
            sources[slot.process.sentinel] = slot
        for slot in {id(sources[source]): sources[source] for source in wait(list(sources), timeout=0.5)}.values():
            gone = not slot.process.is_alive()  # asked first, so that its last words are there to be heard
            try:
                while slot.connection.poll():
                    yield from self._hear(slot, slot.connection.recv(), waiting)
            except (EOFError, OSError):
                slot.end(ABORT_SECONDS)
                gone = True
            if gone:
                if should_stop():  # one signal told the worker as well, and it has saved and left: it is not lost
                    return
                yield from self._bury(slot, waiting, "killed", _death(slot.process.exitcode))
        now, before = time.monotonic(), self._looked
        self._looked = now
        for slot in list(self._slots):
            if now - before > SUSPENDED_SECONDS:  # this process was stopped, and so were its workers
                slot.last_sign = now
            idle = slot.ready and slot.task is None and not slot.leaves
            if not idle and time.monotonic() - slot.last_sign > self.options.hang_seconds:
                if slot.process.pid is not None:
                    os.kill(slot.process.pid, signal.SIGABRT)  # makes it write where it stands into its log
                slot.end(ABORT_SECONDS)
                what = "no iteration finished" if slot.ready else "not ready"
                yield from self._bury(slot, waiting, "hang", f"{what} within {self.options.hang_seconds:g} s")

    def _hear(self, slot: _Slot, message: tuple[Any, ...], waiting: list[PlannedTask]) -> Iterator[Event]:
        slot.last_sign = time.monotonic()
        kind, *values = message
        if kind == "ready":
            slot.ready = True
            self._start_failures = 0
            return
        if kind == "stop":
            raise CannotGoOn(values[0])
        task = slot.task
        if kind == "alive" or task is None:
            return
        if kind == "epoch":
            yield Epoch(task.cell, *values)
            return
        slot.task = None
        if kind == "failed":
            followers = self.options.ranks > 1 and given_rank() is None  # which leave with it, whatever failed
            slot.leaves |= values[0] in BROKEN or followers
            yield self._again_or_fail(slot, task, waiting, *values)
        elif values[0] == "held by another":
            self._later[task.cell.id] = time.monotonic() + BUSY_SECONDS
            waiting.append(task)
        else:
            yield Finished(task.cell, trained_here=values[0] == "done")

    def _bury(self, slot: _Slot, waiting: list[PlannedTask], cause: str, message: str) -> Iterator[Event]:
        """A worker is gone: put another in its place, and its cell back or among the failed."""
        if not slot.ready:
            self._start_failures += 1
            if self._start_failures >= START_FAILURES:
                tail = _tail(self._log(slot.number), 0).strip().splitlines()
                raise CannotGoOn(
                    f"workers cannot start ({message}{': ' + tail[-1] if tail else ''}); see {self._log(slot.number)}"
                )
        slot.connection.close()
        self._slots[self._slots.index(slot)] = self._start(slot.number)
        if slot.task is not None:
            yield self._again_or_fail(slot, slot.task, waiting, cause, message, "")

    def _again_or_fail(
        self, slot: _Slot, task: PlannedTask, waiting: list[PlannedTask], cause: str, message: str, trace: str
    ) -> Retried | Failed:
        tried = self._tried[task.cell.id] = self._tried.get(task.cell.id, 0) + 1
        if tried < TRIES.get(cause, 1):
            waiting.insert(0, task)
            return Retried(task.cell, message)
        return self._fail(slot, task.cell, cause, message, trace)

    def _fail(self, slot: _Slot, cell: Cell, cause: str, message: str, trace: str) -> Failed:
        log = _tail(self._log(slot.number), slot.log_start)
        self.store.add_failure(cell.id, cause, message, trace, log)
        return Failed(cell, cause, redact(message))


@contextlib.contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Where a process that is started meanwhile writes what it dies of, if it is the server: traces are for a log."""
    terminal = os.dup(2)
    try:
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as file:
                os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _send(connection: Connection, message: object) -> None:
    with contextlib.suppress(OSError):  # the worker died: its sentinel tells
        connection.send(message)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        known = -code in set(signal.Signals)
        return f"the worker was ended by {signal.Signals(-code).name if known else f'signal {-code}'}"
    return f"the worker ended with exit code {code}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tail(path: Path, start: int) -> str:
    """The end of a log, from byte `start` at the earliest."""
    try:
        with open(path, "rb") as file:
            file.seek(max(start, _size(path) - 16 * LOG_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # A crash ends with a list of all compiled modules, which would be all that is kept.
    return re.sub(r"^Extension modules: .*\n?", "", text, flags=re.MULTILINE)[-LOG_TAIL:]
