"""Who trains a cell now: numbered lock files, so that several sweeps on one results folder share its work.

A lock only saves compute. That no result is lost or stored twice comes from `Store.commit` (the first writer wins): a
machine that looked dead may still finish its cell.

The files of a lock are NAME.0, NAME.1, ...; the highest number counts. Each is made by exclusive creation (a hard
link), which works over NFS too. A stale lock is taken over by creating the next number, so that of many processes that
see it exactly one gets it. While a lock is held, its file is touched every few seconds: its heartbeat. It is stale if
its process on this machine is gone, or if its file has not changed for `stale_seconds` of the reader's own clock. The
clocks of two hosts are never compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from benchmark.results import atomic

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 30.0
HIDDEN = "hidden"


class Lock:
    """A lock that this process holds; its heartbeat goes on until it is released.

    content: what its file holds; no two locks have the same.
    """

    def __init__(self, path: Path, content: str):
        self.path = path
        self.content = content
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return  # taken over: the commit is safe without a lock
            except OSError:
                continue  # a file server that is away for a moment

    def release(self) -> None:
        """Remove the file, unless another process took the lock over while this one seemed dead."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # a file that a read-only folder keeps goes stale
            if self.path.read_text() == self.content:
                self.path.unlink()


class Locks:
    """Takes locks, and remembers since when each lock of another process has shown no heartbeat."""

    def __init__(self, stale_seconds: float = STALE_SECONDS):
        self.stale_seconds = stale_seconds
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def take(self, base: Path) -> Lock | None:
        """Take the lock with the files base.0, base.1, ...; None while another process holds it.

        Raises CannotWrite if the folder cannot be written.
        """
        numbers = _numbers(base)
        number, judged = 0, None
        if numbers:
            latest = _file(base, numbers[-1])
            judged = _version(latest)
            if judged is None or not self._stale(latest, judged):
                return None
            number = numbers[-1] + 1
        path = _file(base, number)
        content = json.dumps({**_holder(), "token": uuid.uuid4().hex})
        if not atomic.create_file(path, content.encode(), durable=False):
            return None
        if _numbers(base)[-1:] != [number] or (numbers and _version(_file(base, numbers[-1])) != judged):
            # Another process took the lock after it was judged here, and perhaps released it: the caller tries again.
            path.unlink(missing_ok=True)
            return None
        for earlier in numbers:
            _file(base, earlier).unlink(missing_ok=True)
            self._seen.pop(_file(base, earlier), None)
        return Lock(path, content)

    def _stale(self, path: Path, version: tuple[int, int]) -> bool:
        try:
            holder = json.loads(path.read_text())
            if holder["machine"] == _machine() and _start_time(holder["pid"]) not in (holder["started"], HIDDEN):
                return True
        except FileNotFoundError:
            return False  # released this moment: the next try will get it
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            pass  # nothing that names a process: only its heartbeat can tell
        now = time.monotonic()
        last_version, since = self._seen.get(path, (None, now))
        if version != last_version:
            self._seen[path] = (version, now)
            return False
        return now - since > self.stale_seconds


def _numbers(base: Path) -> list[int]:
    pattern = re.compile(re.escape(base.name) + r"\.(\d+)")
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(match[1]) for name in os.listdir(base.parent) if (match := pattern.fullmatch(name)))
    return []


def _file(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.{number}")


def _version(path: Path) -> tuple[int, int] | None:
    """(inode, time of the last change): new with every heartbeat and with every new file; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _holder() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
    }


def _machine() -> str:
    """Where a process number means the same process. The host's name is not enough, since containers may share it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """When process `pid` of this machine started, None if it is gone. Tells it from a later one of the same number.
    HIDDEN where /proc shows the processes of others to nobody (hidepid)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        if not Path("/proc/self").exists():
            return "unknown"
    try:
        os.kill(pid, 0)
    except PermissionError:
        return HIDDEN
    except (OSError, OverflowError):
        pass
    return None
