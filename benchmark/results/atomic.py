"""Writing files so that a reader meets the whole file or none, through crashes and on shared file systems."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.errors import CannotGoOn


class CannotWrite(CannotGoOn):
    """The results folder refuses: disk full, read-only, no permission, gone. gone: the folder of the file vanished."""

    def __init__(self, path: Path, error: OSError):
        super().__init__(f"{path} cannot be written ({error.strerror or error}); once it can, the same command goes on")
        self.gone = isinstance(error, FileNotFoundError)


def replace_file(path: Path, content: bytes) -> None:
    """Write `path` atomically and durably, replacing what was there. Raises CannotWrite."""
    with _temporary(path, content, durable=True) as temporary:
        os.replace(temporary, path)
        _sync_folder(path.parent)


def create_file(path: Path, content: bytes, durable: bool = True) -> bool:
    """Write `path` atomically unless it exists: the first writer wins. True if this call wrote it.

    A hard link, unlike a rename, refuses to replace, also over NFS. durable: it survives a power cut. Raises
    CannotWrite.
    """
    with _temporary(path, content, durable) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            # NFS may make the link, lose the answer, and find it there when it asks again.
            return os.stat(temporary).st_nlink > 1
        if durable:
            _sync_folder(path.parent)
        return True


@contextmanager
def _temporary(path: Path, content: bytes, durable: bool) -> Iterator[Path]:
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(path, error) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
