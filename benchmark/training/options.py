"""How cells are run. Imports no torch, since the command line and the launchers pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """Nothing here changes a result; `validate_every` decides which rows of the history have a validation.

    Args:
        device: one of auto, cpu, cuda, mps.
        threads: CPU threads of each process; None leaves the choice to torch.
        checkpoint_seconds: between two checkpoints of a run.
        data: the folder of the images; None for the default.
        validate_every: epochs between two validations; every phase ends with one.
        keep: of a finished cell beside its record: "nothing" or its "weights".
        alone: whether no other worker uses its GPU.
    """

    device: str = "auto"
    threads: int | None = None
    checkpoint_seconds: float = 60.0
    data: Path | None = None
    validate_every: int = 1
    keep: str = "nothing"
    alone: bool = True
