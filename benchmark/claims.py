"""Who trains a cell now: numbered claim files, so that two sweeps on one results folder share its work.

A claim only saves compute. That no result is lost or doubled comes from `Store.commit` (the first writer wins), since
a machine that looked dead may still finish. Claims use nothing but exclusive creation, which also NFS keeps:
taking over a stale claim creates generation n + 1, so that of many that see the same stale claim exactly one
wins. A heartbeat is judged by change seen on the reader's own clock; times of different hosts are never compared.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 30.0


class Claim:
    """A held claim; beats until released."""

    def __init__(self, path: Path):
        self.path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:
                return  # set aside or on a file system that went away: the commit stays safe without a claim

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)


class Claims:
    """Takes claims, and remembers since when each foreign claim has shown no heartbeat."""

    def __init__(self, stale_seconds: float = STALE_SECONDS):
        self.stale_seconds = stale_seconds
        self._seen: dict[Path, tuple[int, float]] = {}

    def take(self, base: Path) -> Claim | None:
        """Claim what `base` names (files base.0, base.1, ...), or None while somebody else holds it."""
        base.parent.mkdir(parents=True, exist_ok=True)
        generations = sorted(int(path.suffix[1:]) for path in base.parent.glob(base.name + ".*"))
        generation = 0
        if generations:
            latest = base.with_name(f"{base.name}.{generations[-1]}")
            if not self._abandoned(latest):
                return None
            generation = generations[-1] + 1
        path = base.with_name(f"{base.name}.{generation}")
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_time(os.getpid())}
        try:
            with open(path, "x") as file:
                json.dump(holder, file)
        except FileExistsError:
            return None
        for old in generations:
            base.with_name(f"{base.name}.{old}").unlink(missing_ok=True)
        return Claim(path)

    def _abandoned(self, path: Path) -> bool:
        try:
            beat = path.stat().st_mtime_ns
            holder = json.loads(path.read_text())
            if holder["host"] == socket.gethostname() and _start_time(holder["pid"]) != holder["started"]:
                return True
        except FileNotFoundError:
            return False  # released this moment: the next try will get it
        except (ValueError, KeyError, TypeError, OSError):
            pass  # half-written: its heartbeat will tell
        now = time.monotonic()
        last_beat, since = self._seen.get(path, (None, now))
        if beat != last_beat:
            self._seen[path] = (beat, now)
            return False
        return now - since > self.stale_seconds


def _start_time(pid: int) -> str | None:
    """When process `pid` of this machine started (a number that a reused pid does not share), None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None if Path("/proc/self").exists() else "unknown"
