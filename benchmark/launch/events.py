"""What a pool of workers tells whoever listens to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmark.cells import Cell
from benchmark.planning.plan import PlannedTask


@dataclass(frozen=True)
class Started:
    cell: Cell


@dataclass(frozen=True)
class Epoch:
    """iteration: position in the data order; values: the latest row of the history."""

    cell: Cell
    iteration: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    cell: Cell
    trained_here: bool


@dataclass(frozen=True)
class Failed:
    """cause: "exception", "out of memory", "device error", "killed", "hang", "rank lost",
    "refused" or "dense run failed".
    """

    cell: Cell
    cause: str
    message: str


@dataclass(frozen=True)
class Retried:
    cell: Cell
    message: str


Event = Started | Epoch | Finished | Failed | Retried


class Pool(Protocol):
    """Trains cells and tells of it."""

    def run(self, tasks: Sequence[PlannedTask], /) -> Iterator[Event]:
        """Train all tasks, each after the one that it waits for."""

    def stop(self) -> None:
        """End early, with checkpoints saved. Also called, and to no effect, after the end."""
