"""Tensors on disk: checksummed, atomic, never unpickled into code.

A file is sealed (benchmark/results/sealed.py) around what `torch.save` wrote, read back with `weights_only=True`, so
that a file from a shared folder can hold data but not run anything.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import HASH_LENGTH
from benchmark.results import atomic
from benchmark.results.sealed import BadCheckpoint, seal, unseal


def encode(owner: str, content: dict[str, Any], made_by: str = "") -> tuple[bytes, str]:
    """(bytes of a file, SHA-256 of its tensors) for `content`: tensors, numbers, strings, lists, dicts.

    owner: the cell's id. made_by: the code and versions that wrote it, for content that no other may go on with.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return seal(owner, buffer.getvalue(), made_by)


def load(
    path: Path, owner: str, device: torch.device | str = "cpu", made_by: str | None = None
) -> tuple[dict[str, Any], str]:
    """(content, SHA-256). made_by: refuse what others wrote. Raises BadCheckpoint, or OSError."""
    try:
        payload, checksum = unseal(path.read_bytes(), owner, made_by)
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True), checksum
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path} {error}") from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadCheckpoint(f"{path} holds something else than tensors and numbers: {reason}") from None


class Trunks:
    """States that runs of several cells come through: whoever is there first leaves it for the others.

    Training repeats exactly, so that a run that starts from a trunk ends like one that trained all of it.
    """

    def __init__(self, folder: Path, made_by: str = ""):
        self.folder = folder
        self.made_by = made_by

    def _path(self, name: str) -> Path:
        return self.folder / name[-HASH_LENGTH:][:2] / f"{name}.pt"

    def save(self, name: str, content: dict[str, Any]) -> None:
        """Raises CannotWrite."""
        path = self._path(name)
        if not path.exists():
            atomic.create_file(path, encode(name, content, self.made_by)[0])

    def load(self, name: str, device: torch.device) -> dict[str, Any] | None:
        """None if there is none that can be used; whatever is wrong with it, training from the start is right."""
        try:
            return load(self._path(name), name, device, self.made_by)[0]
        except (BadCheckpoint, OSError):
            return None


class Checkpoints:
    """The checkpoints of one unfinished run: numbered, the last good one kept until the next is whole.

    Whoever finishes the run clears the folder, perhaps under one who lost the run's claim and trains it still; that one
    does without.
    """

    def __init__(self, folder: Path, owner: str, made_by: str = ""):
        self.folder = folder
        self.owner = owner
        self.made_by = made_by
        self.refused: list[str] = []

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.pt", name)))

    def save(self, content: dict[str, Any]) -> None:
        """Raises CannotWrite."""
        numbers = self._numbers()
        new = numbers[-1] + 1 if numbers else 0
        try:
            atomic.replace_file(self.folder / f"{new}.pt", encode(self.owner, content, self.made_by)[0])
        except atomic.CannotWrite as error:
            if not error.gone:
                raise
        for old in numbers[:-1]:
            (self.folder / f"{old}.pt").unlink(missing_ok=True)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest usable checkpoint, None without one; `refused` says in a line each which were not usable."""
        for leftover in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        for number in reversed(self._numbers()):
            try:
                return load(self.folder / f"{number}.pt", self.owner, device, self.made_by)[0]
            except (BadCheckpoint, OSError) as error:
                self.refused.append(str(error))
        return None

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
