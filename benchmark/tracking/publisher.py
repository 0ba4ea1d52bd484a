"""Publishes finished cells to W&B beside a running sweep, without ever delaying or failing it.

    publisher = Publisher(Settings(store.path, mode="auto"))
    publisher.follow(cell, "table1/digits", row)     # an epoch's end; does nothing unless the mode is "live"
    publisher.add(cell.id, "table1/digits")          # returns at once, raises nothing
    print(publisher.close(timeout_s=30).message)

A thread passes one cell after the other to one child process (process.py), which is started with the first
cell. Whatever goes wrong there costs that process: it is ended and replaced, the cell is kept offline, and after
repeated failures so are those that follow. What is left can be published later: the records are the truth.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

from benchmark.cells import Cell
from benchmark.errors import escaped
from benchmark.results.store import Store
from benchmark.tracking.live import Follower
from benchmark.tracking.runs import Answer, Job, Mode, Settings, asked_mode, reason_of

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
"""To import wandb; shared file systems can be slow."""
END_SECONDS = 5.0
TRIES = 2
"""Failures in a row after which the server, or wandb as a whole, counts as gone."""
BUSY_SECONDS = 1.0
PASSED_ON = (
    *("API_KEY", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE", "BASE_URL", "APP_URL", "INSECURE_DISABLE_SSL"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ENTITY", "PROJECT", "ORGANIZATION"),
    *("DIR", "CONFIG_DIR", "CONFIG_PATHS", "CACHE_DIR", "DATA_DIR"),
)
"""Variables WANDB_... that say where to publish. Others (run ids, tags, sweeps, consoles) are meant for other runs."""


@dataclass(frozen=True)
class Summary:
    """Cells sent to the server, kept offline, and neither; message: a line about them, or ""."""

    published: int
    offline: int
    left: int
    message: str


class Publisher:
    """See the module. `add` and `close` are called from one thread; again: publish although a marker is there."""

    def __init__(self, settings: Settings, again: bool = False):
        asked = asked_mode(settings.mode)
        self._follower = Follower(Store(settings.store), settings.live_after) if asked == "live" else None
        self.mode: Mode = "online" if asked == "live" else asked
        """What was asked for; once the child process runs, "online" or "offline"."""
        self.settings = replace(settings, mode=self.mode)
        self.again = again
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._child: _Child | None = None
        self._closed = threading.Event()
        self._added = 0
        self._settled: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._following: set[str] = set()
        self._why_offline = "" if asked == settings.mode else f"WANDB_MODE is {asked}"
        self._why_left = self._url = ""
        self._given_up = False
        self._online_from = self._last_online = 0.0

    def add(self, cell_id: str, group: str = "") -> None:
        """Have a finished cell published. group: "SWEEP/PROBLEM"; "" keeps the one of an earlier offline run."""
        if self.mode == "off":
            return
        self._added += 1
        self._put(Job(cell_id, group, "", self.again))

    def follow(self, cell: Cell, group: str, row: Mapping[str, float]) -> None:
        """Note an epoch of a running cell and, if it has run for long, have it shown. Returns at once."""
        if self._follower is None or not self._follower.note(cell.id, row) or cell.id in self._following:
            return
        self._following.add(cell.id)
        self._put(Job(cell.id, group, "online", cell=cell.to_json()))

    def _put(self, job: Job) -> None:
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="W&B publisher", daemon=True)
            self._thread.start()

    @property
    def pending(self) -> int:
        """Cells that are neither published nor given up."""
        return self._added - self._settled.total()

    def close(self, timeout_s: float | None = None) -> Summary:
        """Publish what is still waiting, for `timeout_s` at most (None: until done), and say what happened."""
        if self._thread is not None:
            self._follower = None
            self._jobs.put(None)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._closed.set()
                if self._child is not None:
                    self._child.kill()
                self._thread.join(END_SECONDS)
                self._why_left = self._why_left or f"there was no more than {timeout_s:g} s for them"
        online, offline = self._settled["online"], self._settled["offline"]
        left = self._added - online - offline - self._settled["already"]
        return Summary(online, offline, left, self._message(online, offline, left))

    # The thread

    def _work(self) -> None:
        busy: list[Job] = []
        more = True
        while (more or busy) and not self._closed.is_set():
            try:
                job = self._jobs.get(timeout=BUSY_SECONDS if busy else None)
            except queue.Empty:
                again, busy = busy, []
                for one in again:
                    self._settle(one, busy)
                continue
            if job is None:
                more = False
            elif job.cell is None:
                self._settle(job, busy)
            else:
                self._show(job)
        if self._child is not None:
            self._child.end()

    def _settle(self, job: Job, busy: list[Job]) -> None:
        """Publish one cell and count it, or put it among the busy ones: another process is at it."""
        try:
            answer = self._publish(job)
        except Exception as error:  # whatever it is, the sweep goes on
            answer = Answer("failed", reason=reason_of(error))
        if answer.outcome == "busy":
            busy.append(job)
        elif answer.outcome == "published":
            self._settled[answer.mode] += 1
            self._url = answer.url or self._url
        elif answer.outcome == "already published":
            self._settled["already"] += 1
        elif not self._closed.is_set():
            self._settled["left"] += 1
            self._why_left = answer.reason

    def _show(self, job: Job) -> None:
        """Show a cell that still trains, if that can be done now; nothing is kept of it if not."""
        self._following.discard(job.cell_id)
        if self._follower is None or self._start().outcome == "failed" or "online" not in self._modes():
            return
        answer = self._ask(job)
        if answer.outcome == "failed":
            self._note_failure("online", answer.reason)
        else:
            self._url = answer.url or self._url

    def _publish(self, job: Job) -> Answer:
        """Publish in the best mode that works."""
        answer = self._start()
        if answer.outcome == "failed":
            self._note_failure("offline", answer.reason)
            return answer
        answer = Answer("failed", reason=self._why_left or self._why_offline)
        for mode in self._modes():
            if self._closed.is_set():
                break
            answer = self._ask(replace(job, mode=mode))
            if answer.outcome != "failed":
                self._failures[mode] = 0
                break
            self._note_failure(mode, answer.reason)
        return answer

    def _modes(self) -> list[str]:
        online = self.mode == "online" and time.monotonic() >= self._online_from
        offline = (self.mode == "offline" or self.settings.fallback) and not self._given_up
        return ["online"] * online + ["offline"] * offline

    def _note_failure(self, mode: str, reason: str) -> None:
        """After repeated failures leave the server alone for a while, or, where no server has a part, give up."""
        self._failures[mode] += 1
        if mode == "online":
            self._why_offline = reason
            if self._failures[mode] >= TRIES:
                self._online_from = time.monotonic() + self.settings.retry
                self._failures[mode] = 0
        else:
            self._why_left = reason
            self._given_up = self._failures[mode] >= TRIES

    def _start(self) -> Answer:
        """Make sure that there is a child process."""
        if self._child is not None or self._given_up:
            return Answer("ready")
        self._child = _Child(self.settings)
        if self._closed.is_set():  # close() may have looked while there was none
            self._child.kill()
        answer = self._child.answer(START_SECONDS)
        if answer.outcome == "failed":
            self._end_child()
        elif self.mode == "auto" or answer.mode == "offline":
            asked, self.mode = self.mode, "online" if answer.mode == "online" else "offline"
            self._why_offline = answer.reason or self._why_offline
            if asked == "auto" and self.mode == "offline" and not self.settings.fallback:
                self._given_up, self._why_left = True, self._why_offline
                self._end_child()
        return answer

    def _ask(self, job: Job) -> Answer:
        settings = self.settings
        limit = settings.answer_timeout
        if job.mode == "online":
            if job.cell is None:
                self._closed.wait(max(0.0, self._last_online + settings.interval - time.monotonic()))
                self._last_online = time.monotonic()
            limit += settings.init_timeout + settings.finish_timeout
        self._start()
        if self._child is None:
            return Answer("failed", reason=self._why_left)
        answer = self._child.ask(job, limit)
        if answer.outcome == "failed":  # its wandb service may be stuck
            self._end_child()
        return answer

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    # What to say

    def _message(self, online: int, offline: int, left: int) -> str:
        if not online + offline + left:
            return ""
        parts = []
        if online:
            where = self._url.partition("/runs/")[0]
            parts.append(f"{_runs(online)} published{f' at {where}' if where else ''}")
        if offline:
            why = f" ({self._why_offline})" if self._why_offline else ""
            parts.append(f"{_runs(offline)} kept offline in {self.settings.folder / 'wandb'}{why}")
        if left:
            why = f" ({self._why_left or self._why_offline})" if self._why_left or self._why_offline else ""
            parts.append(f"{left} not published{why}")
        text = "W&B: " + ", ".join(parts)
        if offline or left:
            login = "`wandb login`, " if offline and self.mode == "offline" else ""
            folder = shlex.quote(escaped(self.settings.store))
            text += f"; to publish them: {login}`python -m benchmark.publish --results {folder}`"
        return text


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


class _Child:
    """The child process and the connection to it, which ends when this process dies, and the child with it."""

    def __init__(self, settings: Settings):
        self._connection, child_end = Pipe()
        command = [sys.executable, "-m", "benchmark.tracking.process", settings.to_json(), str(child_end.fileno())]
        with child_end, _log(settings.store) as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(settings),
                pass_fds=[child_end.fileno()],
            )

    def ask(self, job: Job, timeout_s: float) -> Answer:
        try:
            self._connection.send(job)
        except OSError:
            return self._gone()
        return self.answer(timeout_s)

    def answer(self, timeout_s: float) -> Answer:
        try:
            if not self._connection.poll(timeout_s):
                return Answer("failed", reason=f"W&B did not answer within {timeout_s:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            return self._gone()
        return answer if isinstance(answer, Answer) else Answer("failed", reason="W&B answered nonsense")

    def _gone(self) -> Answer:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        return Answer("failed", reason=f"the process that publishes to W&B ended with code {self._process.returncode}")

    def end(self) -> None:
        """Let it end by itself, which takes its wandb service along."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._connection.send(None)
            self._process.wait(END_SECONDS)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _log(store: Path) -> IO[bytes]:
    try:
        (store / "logs").mkdir(parents=True, exist_ok=True)
        return open(store / "logs" / "publisher.log", "ab")
    except OSError:
        return open(os.devnull, "ab")


def _environment(settings: Settings) -> dict[str, str]:
    kept = {f"WANDB_{name}" for name in PASSED_ON}
    variables = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("WANDB_") or key in kept or key.startswith("WANDB_X_")
    }
    variables |= {"WANDB_ERROR_REPORTING": "false", "WANDB_DISABLE_GIT": "true", "WANDB_DISABLE_CODE": "true"}
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # else below the home folder, which may be read-only
        variables.setdefault(name, str(settings.folder.absolute() / "wandb" / "own"))
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return variables
