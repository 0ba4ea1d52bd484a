"""The life of one SLURM job, over all its requeues, as a file of lines; and when it should not start again."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.launch.slurm.profile import JOB_START, Retries

ENDED = ("warned", "terminated", "lost")
"""Causes that have a limit; an attempt that starts and notes no end was lost."""


@dataclass(frozen=True)
class Attempts:
    """Appends to, and judges, attempts/<chunk>.jsonl."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # the last line of an attempt that was killed while it wrote
        return found

    def start(self, position: str) -> None:
        """position: whatever changes as soon as the job gets anywhere (records, checkpoints)."""
        job = {"job": os.environ.get("SLURM_JOB_ID"), "job_start": os.environ.get(JOB_START)}
        self._append({"event": "start", "position": position, **job})

    def end(self, cause: str) -> None:
        self._append({"event": "end", "cause": cause})

    def counts(self) -> dict[str, int]:
        """Ended attempts by cause."""
        counts = dict.fromkeys(ENDED, 0)
        running = False
        for line in self.read():
            if line["event"] == "start":
                counts["lost"] += running
                running = True
            else:
                counts[line["cause"]] = counts.get(line["cause"], 0) + 1
                running = False
        counts["lost"] += running
        return counts

    def exhausted(self, retries: Retries, position: str) -> str | None:
        """Why the job should not go on, None if it should. To be asked before `start`."""
        for cause, count in self.counts().items():
            allowed = getattr(retries, cause, None)
            if allowed is not None and count > allowed:
                return f"the job ended {count} times ({MEANING[cause]}), retries.{cause} allows {allowed}"
        starts = [line["position"] for line in self.read() if line["event"] == "start"]
        if len(starts) >= retries.idle and set(starts[-retries.idle :]) == {position}:
            return f"the job started {retries.idle} times without getting anywhere (retries.idle)"
        return None

    def _append(self, values: dict[str, Any]) -> None:
        values = {**values, "host": socket.gethostname(), "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")  # one write of a short line: appends of two hosts do not mix
            file.flush()
            os.fsync(file.fileno())


MEANING = {
    "warned": "time limit or preemption",
    "terminated": "ended by scancel, requeue or preemption",
    "lost": "without a word: kill -9, memory, or its node went away",
}
