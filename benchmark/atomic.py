"""Writing files so that a reader meets the whole file or none, through crashes and on shared file systems."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write `path` atomically and durably, replacing what was there."""
    with _temporary(path, content) as temporary:
        os.replace(temporary, path)
        _sync_folder(path.parent)


def create_file(path: Path, content: bytes) -> bool:
    """Write `path` atomically and durably unless it exists: the first writer wins. True if this call wrote it.

    A hard link, unlike a rename, refuses to replace, also over NFS.
    """
    with _temporary(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True


@contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
