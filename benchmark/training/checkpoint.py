"""Checkpoints, trunks and dense weights on disk: with a checksum, written atomically, read without running code.

A sealed file (benchmark/results/sealed.py) holds what `torch.save` wrote. It is read with `weights_only=True`, so that
a file in a shared folder cannot run anything.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from benchmark.cells import HASH_LENGTH
from benchmark.results import atomic
from benchmark.results.sealed import BadCheckpoint, seal, unseal


def encode(owner: str, content: dict[str, Any], made_by: str = "") -> tuple[bytes, str]:
    """(bytes of a sealed file, SHA-256 of its payload). content: tensors, numbers, strings, lists, dicts.

    owner: the cell's id. made_by: code and library versions, for content that no others may continue from.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return seal(owner, buffer.getvalue(), made_by)


def load(
    path: Path, owner: str, device: torch.device | str = "cpu", made_by: str | None = None
) -> tuple[dict[str, Any], str]:
    """(content, SHA-256). made_by: refuse content that others wrote. Raises BadCheckpoint or OSError."""
    try:
        payload, checksum = unseal(path.read_bytes(), owner, made_by)
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True), checksum
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path} {error}") from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadCheckpoint(f"{path} holds something else than tensors and numbers: {reason}") from None


def safe(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file of tensors, each with bytes of its own, and of texts about them."""
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(copies, dict(about))


class Trunks:
    """Training states that runs of several cells pass through; the first run saves them for the others.

    Training repeats exactly, so that a run that starts from a trunk ends like one that trained from the start.
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
        """None if there is none or it cannot be used: training from the start gives the same result."""
        try:
            return load(self._path(name), name, device, self.made_by)[0]
        except (BadCheckpoint, OSError):
            return None


class Checkpoints:
    """The numbered checkpoints of one unfinished run. Each is kept until the next one is whole.

    The process that finishes the run clears the folder. If another one still trains the cell, having lost its lock, it
    goes on without checkpoints.
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
        """The newest usable checkpoint, None if there is none. `refused` has a line for each that is not usable."""
        for leftover in self.folder.glob(".*.tmp"):  # a process was killed while it wrote
            leftover.unlink(missing_ok=True)
        for number in reversed(self._numbers()):
            try:
                return load(self.folder / f"{number}.pt", self.owner, device, self.made_by)[0]
            except (BadCheckpoint, OSError) as error:
                self.refused.append(str(error))
        return None

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
