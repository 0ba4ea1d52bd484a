"""How cells are run. Imports no torch: the command line and the launchers pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """Nothing here changes a result, but `validate_every` how many rows of the history have a validation.

    Args:
        device: one of auto, cpu, cuda, mps.
        threads: of the processor, for each process; None leaves torch's own choice.
        checkpoint_seconds: from one checkpoint of a run to the next.
        data: the folder of the images; None for the default.
        validate_every: epochs from one validation to the next; every phase ends with one.
    """

    device: str = "auto"
    threads: int | None = None
    checkpoint_seconds: float = 60.0
    data: Path | None = None
    validate_every: int = 1
