"""Tensors on disk: checksummed, atomic, never unpickled into code.

A file is one line of JSON (schema, what it belongs to, SHA-256 of the rest) and then what `torch.save` wrote, read back
with `weights_only=True`, so that a file from a shared folder can hold data but not run anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import torch

from benchmark import atomic

SCHEMA = 1


class BadCheckpoint(Exception):
    """A checkpoint that cannot be used; the message is one line that names the file and the reason."""


def save(path: Path, owner: str, content: dict[str, Any]) -> str:
    """Write `content` (tensors, numbers, strings, lists, dicts) for cell id `owner`; returns its SHA-256."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    checksum = hashlib.sha256(payload).hexdigest()
    head = json.dumps({"schema": SCHEMA, "owner": owner, "sha256": checksum}).encode()
    atomic.replace_file(path, head + b"\n" + payload)
    return checksum


def load(path: Path, owner: str, device: torch.device | str = "cpu") -> tuple[dict[str, Any], str]:
    """(content, SHA-256). Raises BadCheckpoint, or FileNotFoundError."""
    head, _, payload = path.read_bytes().partition(b"\n")
    try:
        values = json.loads(head)
        schema, stored_owner, checksum = values["schema"], values["owner"], values["sha256"]
    except (ValueError, KeyError, TypeError):
        raise BadCheckpoint(f"{path} is not a checkpoint of this suite") from None
    if schema != SCHEMA:
        raise BadCheckpoint(f"{path} has schema version {schema!r}; this version of the suite reads {SCHEMA}")
    if stored_owner != owner:
        raise BadCheckpoint(f"{path} belongs to another cell, {stored_owner}")
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise BadCheckpoint(f"{path} does not match its checksum: it was truncated or changed")
    return torch.load(io.BytesIO(payload), map_location=device, weights_only=True), checksum


class Checkpoints:
    """The checkpoints of one unfinished run: numbered, the last good one kept until the next is whole."""

    def __init__(self, folder: Path, owner: str):
        self.folder = folder
        self.owner = owner
        self.refused: list[str] = []

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(m[1]) for p in self.folder.iterdir() if (m := re.fullmatch(r"(\d+)\.pt", p.name)))

    def save(self, content: dict[str, Any]) -> None:
        numbers = self._numbers()
        new = numbers[-1] + 1 if numbers else 0
        save(self.folder / f"{new}.pt", self.owner, content)
        for old in numbers[:-1]:
            (self.folder / f"{old}.pt").unlink(missing_ok=True)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest usable checkpoint, None without one; `refused` says in a line each which were not usable."""
        for number in reversed(self._numbers()):
            try:
                return load(self.folder / f"{number}.pt", self.owner, device)[0]
            except (BadCheckpoint, OSError) as error:
                self.refused.append(str(error))
        return None

    def clear(self) -> None:
        for number in self._numbers():
            (self.folder / f"{number}.pt").unlink(missing_ok=True)
        if self.folder.is_dir():
            for leftover in self.folder.iterdir():
                leftover.unlink(missing_ok=True)
            self.folder.rmdir()
