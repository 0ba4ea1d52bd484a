"""Atomic writes: a reader finds the whole file or none, also after a crash and on shared file systems."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.errors import CannotGoOn, UserError, escaped


class CannotWrite(CannotGoOn):
    """A file of the results folder cannot be written: disk full, read-only, no permission. gone: no such folder."""

    def __init__(self, path: Path, error: OSError):
        super().__init__(f"{path} cannot be written ({error.strerror or error}); once it can, the same command goes on")
        self.gone = isinstance(error, FileNotFoundError)


def replace_file(path: Path, content: bytes) -> None:
    """Write `path` atomically and durably, replacing an earlier file. Raises CannotWrite."""
    with _temporary(path, content, durable=True) as temporary:
        os.replace(temporary, path)
        _sync_folder(path.parent)


STREAMS = ("/dev/std", "/dev/fd/", "/proc/")


def write_output(path: Path, content: bytes | str, option: str) -> None:
    """Write the file that a user named in `option`, whole or not at all; one that was there stays until then, and its
    mode after it. Text becomes UTF-8. A link is followed; a stream, a device or a pipe is written into.

    Raises UserError.
    """
    content = content.encode() if isinstance(content, str) else content
    try:
        if str(path).startswith(STREAMS) or (path.exists() and not path.is_file() and not path.is_dir()):
            path.write_bytes(content)
            return
        place = Path(os.path.realpath(path))
        with _temporary(place, content, durable=True) as temporary:
            if place.is_file():
                shutil.copymode(place, temporary)
            os.replace(temporary, place)
    except (OSError, CannotWrite) as error:
        cause = error.__cause__ if isinstance(error, CannotWrite) else error
        raise UserError(f"{option} {escaped(path)}: cannot write there ({getattr(cause, 'strerror', cause)})") from None


def create_file(path: Path, content: bytes, durable: bool = True) -> bool:
    """Write `path` atomically unless it exists: the first writer wins. True if this call wrote it.

    By a hard link which, unlike a rename, never replaces a file, also over NFS. durable: the file survives a power cut.
    Raises CannotWrite.
    """
    with _temporary(path, content, durable) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            # NFS may have made the link, lost the answer, and found the link when it repeated the request.
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
