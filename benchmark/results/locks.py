"""Who trains a cell now: numbered claim files, so that two sweeps on one results folder share its work.

A claim only saves compute. That no result is lost or doubled comes from `Store.commit` (the first writer wins), since
a machine that looked dead may still finish. Claims use nothing but exclusive creation (a hard link), which also NFS
keeps: taking over a stale claim creates generation n + 1, so that of many that see the same stale claim exactly one
wins. A heartbeat is judged by change seen on the reader's own clock; times of different hosts are never compared.
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


class Claim:
    """A held claim; beats until released. content: what its file holds, unlike that of any other claim."""

    def __init__(self, path: Path, content: str):
        self.path = path
        self.content = content
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return  # taken over: the commit stays safe without a claim
            except OSError:
                continue  # a file server that is away for a moment

    def release(self) -> None:
        """Give the claim back. Somebody else's, who took it over while this process seemed dead, stays."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # on a folder gone read-only it will be found abandoned
            if self.path.read_text() == self.content:
                self.path.unlink()


class Claims:
    """Takes claims, and remembers since when each foreign claim has shown no heartbeat."""

    def __init__(self, stale_seconds: float = STALE_SECONDS):
        self.stale_seconds = stale_seconds
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def take(self, base: Path) -> Claim | None:
        """Claim what `base` names (files base.0, base.1, ...), or None while somebody else holds it.

        Raises CannotWrite if the folder cannot be written.
        """
        known = _generations(base)
        generation, judged = 0, None
        if known:
            latest = _numbered(base, known[-1])
            judged = _mark(latest)
            if judged is None or not self._abandoned(latest, judged):
                return None
            generation = known[-1] + 1
        path = _numbered(base, generation)
        content = json.dumps({**_holder(), "token": uuid.uuid4().hex})
        if not atomic.create_file(path, content.encode(), durable=False):
            return None
        if _generations(base)[-1:] != [generation] or (known and _mark(_numbered(base, known[-1])) != judged):
            # Between the look and the creation somebody took the claim, and perhaps gave it back: look again later.
            path.unlink(missing_ok=True)
            return None
        for old in known:
            _numbered(base, old).unlink(missing_ok=True)
            self._seen.pop(_numbered(base, old), None)
        return Claim(path, content)

    def _abandoned(self, path: Path, mark: tuple[int, int]) -> bool:
        try:
            holder = json.loads(path.read_text())
            if holder["machine"] == _machine() and _start_time(holder["pid"]) != holder["started"]:
                return True
        except FileNotFoundError:
            return False  # released this moment: the next try will get it
        except (ValueError, KeyError, TypeError, OSError):
            pass  # not a claim that we can judge: its heartbeat will tell
        now = time.monotonic()
        last_mark, since = self._seen.get(path, (None, now))
        if mark != last_mark:
            self._seen[path] = (mark, now)
            return False
        return now - since > self.stale_seconds


def _generations(base: Path) -> list[int]:
    pattern = re.compile(re.escape(base.name) + r"\.(\d+)")
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(match[1]) for name in os.listdir(base.parent) if (match := pattern.fullmatch(name)))
    return []


def _numbered(base: Path, generation: int) -> Path:
    return base.with_name(f"{base.name}.{generation}")


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes with every heartbeat and with every new file of that name; None without a file."""
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
    """Where a process number means the same process: a host's name alone is not it, as containers may share one."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """When process `pid` of this machine started (a number that a reused pid does not share), None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None if Path("/proc/self").exists() else "unknown"
