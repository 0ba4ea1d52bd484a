"""What the measuring commands share: bounds of their options, the device, and processes that are measured.

Imports no torch until a device is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.errors import UserError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
MOST_PROCESSES = 256
END_SECONDS = 10.0
"""What a process gets to end by itself once it is told to."""

# Bounds far above what anybody measures: torch ends the process without a word where it cannot start the threads.
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Processor threads")]
Iterations = Annotated[int, typer.Option(min=1, max=1_000_000, help="Iterations of one turn")]
Device = Annotated[str, typer.Option(help=f"{', '.join(DEVICES[:-1])} or {DEVICES[-1]}")]


def usable_device(name: str) -> torch.device:
    """The device that --device names. Raises UserError if it is none, or not on this machine."""
    if name not in DEVICES:
        raise UserError(f"--device {name}: one of {', '.join(DEVICES)}")
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


class Child:
    """A process, and the pipe to it. work(connection, *arguments) runs there."""

    def __init__(self, context: ForkServerContext | SpawnContext, work: Callable[..., None], *arguments: Any):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(work, theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()  # with a copy open here, the pipe of a process that died would never end

    def send(self, value: object) -> None:
        with contextlib.suppress(OSError):  # it has died, which `receive` says
            self.connection.send(value)

    def receive(self) -> Any:
        """What it sends next. Raises UserError if it failed or died."""
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(END_SECONDS)
            raise UserError(
                f"a process that was measured died (exit code {self.process.exitcode}); too little memory, perhaps: "
                "try fewer processes, or a smaller problem"
            ) from None
        if isinstance(found, _Failure):
            raise UserError(found.message)
        return found

    def end(self) -> None:
        """Tell it to end, which it does by itself while it waits for a word."""
        self.send(None)
        self.process.join(END_SECONDS)
        self.process.terminate()


def _run(work: Callable[..., None], connection: Any, *arguments: Any) -> None:
    try:
        work(connection, *arguments)
    except UserError as error:
        connection.send(_Failure(str(error)))
    except Exception as error:  # one line, not a traceback for each process
        connection.send(_Failure(f"a process that was measured failed ({type(error).__name__}: {error})"))
