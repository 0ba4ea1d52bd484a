"""What the measuring commands share: their options with bounds, the device, and processes that are measured.

Imports no torch until a device is asked for.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from benchmark.errors import UserError
from benchmark.launch.machine import DEVICES, check_device_name

if TYPE_CHECKING:
    import torch

MOST_PROCESSES = 256
END_SECONDS = 10.0
"""What a process gets to end by itself once it is told to."""

# Bounds far above what anybody measures: torch ends the process without a word where it cannot start the threads.
Name = Annotated[str, typer.Option(help="A file of sweeps/problems/")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: model=resnet20")]
Folder = Annotated[Path | None, typer.Option(help="The folder of the images; default data/")]
Repeats = Annotated[int, typer.Option(min=1, max=10_000, help="Turns")]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Processor threads")]
Iterations = Annotated[int, typer.Option(min=1, max=1_000_000, help="Iterations of one turn")]
Device = Annotated[str, typer.Option(help=f"{', '.join(DEVICES[:-1])} or {DEVICES[-1]}")]


MB = 1 << 20


def peak_mb() -> float:
    """MB that this process had in memory at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def usable_device(name: str) -> torch.device:
    """The device that --device names. Raises UserError if it is none, or not on this machine."""
    check_device_name(name)
    import torch

    from benchmark.worker import pick_device

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        raise UserError(f"--device {name}: torch {torch.__version__} finds no such device here; auto and cpu work")
    return pick_device(name)


@dataclass(frozen=True)
class _Failure:
    """What a process sends when it cannot go on."""

    message: str


class Crew:
    """Processes that do the same at the same time, and a pipe to each. work(connection, *arguments) runs in them."""

    def __init__(
        self, context: ForkServerContext | SpawnContext, count: int, work: Callable[..., None], *arguments: Any
    ):
        self.connections: list[Connection] = []
        self.processes: list[BaseProcess] = []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_run, args=(work, there, *arguments), daemon=True)
            process.start()
            there.close()  # with a copy open here, the pipe of a process that died would never end
            self.connections.append(here)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def ask(self, value: object) -> list[Any]:
        """What each answers."""
        self.send(value)
        return self.receive()

    def send(self, value: object) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it has died, which `receive` says
                connection.send(value)

    def receive(self) -> list[Any]:
        """What each sends next. Raises UserError as soon as one fails or dies, after ending the others."""
        answers: dict[Connection, Any] = {}
        while waiting := [connection for connection in self.connections if connection not in answers]:
            for ready in wait(waiting):
                assert isinstance(ready, Connection)
                answers[ready] = self._next(ready)
        return [answers[connection] for connection in self.connections]

    def _next(self, connection: Connection) -> Any:
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            process = self.processes[self.connections.index(connection)]
            process.join(END_SECONDS)
            answer = _Failure(
                f"a process that was measured died (exit code {process.exitcode}); too little memory, perhaps: "
                "try fewer processes, or a smaller problem"
            )
        if isinstance(answer, _Failure):
            for process in self.processes:
                process.terminate()
            raise UserError(answer.message)
        return answer

    def end(self) -> None:
        """Tell them to end, which they do by themselves where they wait for a word."""
        self.send(None)
        deadline = time.monotonic() + END_SECONDS
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.terminate()


def _run(work: Callable[..., None], connection: Connection, *arguments: Any) -> None:
    try:
        work(connection, *arguments)
    except UserError as error:
        connection.send(_Failure(str(error)))
    except Exception as error:  # one line, not a traceback for each process
        connection.send(_Failure(f"a process that was measured failed ({type(error).__name__}: {error})"))
