"""What a launcher tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmark.cells import Cell


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
    """cause: "exception", "out of memory", "device error", "killed", "hang", "refused" or "dense run failed"."""

    cell: Cell
    cause: str
    message: str


@dataclass(frozen=True)
class Retried:
    cell: Cell
    message: str


Event = Started | Epoch | Finished | Failed | Retried
