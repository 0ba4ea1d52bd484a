"""`python -m benchmark.measure gpu`: everything that a GPU should be asked, within a time limit, and resumable.

Every step is a command in a process of its own. In the folder of --out: steps.jsonl, a line a step as it ends; log.txt,
what the steps printed; and table1, the results folder of the sweeps, which becomes table1.zip at the end of a call,
so that three files are all there is to bring home. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from benchmark.cells import cut
from benchmark.errors import UserError
from benchmark.measure.gpu_plan import PlanStep, plan
from benchmark.results.provenance import provenance
from benchmark.streams import make_console

DONE, INTERRUPTED, FAILED, SKIPPED = "done", "interrupted", "failed", "skipped"
END = 5.0
"""Seconds of the budget that are kept for the archive and the table."""
GRACE = 15.0
"""What an interrupted sweep gets to save its checkpoints."""
LEAST = 0.5
"""The part of its limit without which a step is not begun."""
PATIENCE = 10.0
"""What processes that are killed get to be gone."""
LEFT_OUT = ("logs", "claims", "trunks", "live")
"""Of a results folder, what nobody needs elsewhere."""
REASON = 200
PLACE = "records: "
"""How a sweep begins the line that says where its records are, which is of no use elsewhere."""
WIDTH = 160


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Args:
        step: its name.
        state: DONE, FAILED, SKIPPED or INTERRUPTED.
        seconds: that it took.
        reason: why it is not done, in one line; "" if it is.
        lines: the last that it printed.
    """

    step: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    lines: tuple[str, ...] = ()


class OutFolder:
    """What calls leave behind for the next one. Raises UserError if it cannot be used."""

    def __init__(self, path: Path, resume: bool):
        self.path, self.steps, self.log = path, path / "steps.jsonl", path / "log.txt"
        self.results, self.archive = path / "table1", path / "table1.zip"
        if self.steps.exists() and not resume:
            raise UserError(f"--out {path}: it has an earlier call's steps; --resume goes on, or name another folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.log.open("a").close()
            if self.archive.exists() and not self.results.exists():
                with tempfile.TemporaryDirectory(dir=path) as place, zipfile.ZipFile(self.archive) as archive:
                    archive.extractall(place)
                    (Path(place) / self.results.name).rename(self.results)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"--out {path}: it cannot be used ({getattr(error, 'strerror', None) or error})") from None

    def outcomes(self) -> dict[str, Outcome]:
        """The last of every step, in the order in which they ended. A line that was cut off is none."""
        last: dict[str, Outcome] = {}
        for line in self.steps.read_text().splitlines() if self.steps.exists() else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                content = json.loads(line)
                content["lines"] = tuple(content["lines"])
                last[content["step"]] = Outcome(**{name: content[name] for name in Outcome.__annotations__})
        return last

    def add(self, content: dict[str, Any]) -> None:
        with self.steps.open("a") as file:
            file.write(json.dumps(content) + "\n")

    def close(self) -> None:
        """Make the results folder an archive, with the last checkpoint of every unfinished cell."""
        if not self.results.is_dir():
            return
        for cell in self.results.glob("checkpoints/*/*"):
            for older in sorted(cell.glob("*.pt"), key=lambda file: int(file.stem))[:-1]:
                older.unlink()
        for name in LEFT_OUT:
            shutil.rmtree(self.results / name, ignore_errors=True)
        new = shutil.make_archive(str(self.path / "new"), "zip", self.path, self.results.name)
        Path(new).replace(self.archive)
        with tempfile.TemporaryDirectory(dir=self.path) as place:  # moved at once: half a folder would hide the archive
            self.results.rename(Path(place) / self.results.name)


def measure(out: Path, deadline: float, device: str, data: Path | None, resume: bool) -> bool:
    """Run the plan; whether no step failed. Raises UserError.

    Args:
        out: the folder of the results.
        deadline: by time.monotonic(), when all has ended, table and archive included.
        device: as --device names it.
        data: as `plan` takes it.
        resume: go on after the steps that an earlier call finished.
    """
    if data is not None and not data.exists():
        raise UserError(f"--data {data}: there is no such folder or archive")
    folder = OutFolder(out, resume)
    with (
        _stopped_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="measure-gpu-", ignore_cleanup_errors=True) as scratch,
    ):
        steps = plan(device, data and data.absolute(), folder.results.absolute(), Path(scratch))
        try:
            folder.add({"call": provenance(), "device": device, "budget": deadline - time.monotonic()})
            outcomes = run(steps, folder, deadline - END)
        finally:
            folder.close()
    show(steps, outcomes)
    return not any(outcome.state == FAILED for outcome in outcomes.values())


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does: what is at work is ended, and the archive made."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(steps: Sequence[PlanStep], folder: OutFolder, deadline: float) -> dict[str, Outcome]:
    """Outcomes by step, those of earlier calls included. deadline: of time.monotonic()."""
    outcomes = folder.outcomes()
    for step in steps:
        before = outcomes.get(step.name)
        if before is not None and before.state == DONE and (step.folder is None or step.folder.exists()):
            continue
        left = deadline - time.monotonic()
        if step.needs is not None and not step.needs.exists():
            outcome = Outcome(step.name, SKIPPED, 0.0, f"{step.needs.name} are not there")
        elif left < (2 * GRACE if step.takes_the_rest else LEAST * step.limit):
            outcome = Outcome(step.name, SKIPPED, 0.0, f"{max(left, 0):.0f} s of the budget were left")
        else:
            outcome = _attempt(step, left if step.takes_the_rest else min(step.limit, left), folder.log)
        outcomes[step.name] = outcome
        folder.add({**vars(outcome), "arguments": step.arguments, "limit": step.limit})
        print(f"{step.name}: {outcome.state} ({outcome.seconds:.0f} s) {outcome.reason}".rstrip())
        print(*(f"    {line}" for line in outcome.lines), sep="\n", flush=True)
    return outcomes


def _attempt(step: PlanStep, limit: float, log: Path) -> Outcome:
    """The command of a step in a group of processes that does not outlive it."""
    started = time.monotonic()
    with log.open("a") as file:
        print(f"\n== {step.name}: python -m {' '.join(step.arguments)}", file=file, flush=True)
        start = file.tell()  # before the process begins, which moves this place
        with _group(step, file) as process:
            ended = _wait(process, limit - (GRACE if step.takes_the_rest else 0))
            if not ended and step.takes_the_rest:
                os.killpg(process.pid, signal.SIGINT)
                _wait(process, GRACE)
    lines = [line for line in _from(log, start).splitlines() if line.strip() and not line.startswith(PLACE)]
    seconds, shown = time.monotonic() - started, tuple(lines[-step.lines :])
    if not ended and step.takes_the_rest:
        return Outcome(step.name, INTERRUPTED, seconds, "its time was up; --resume goes on", shown)
    if not ended:
        return Outcome(step.name, FAILED, seconds, f"not finished within {limit:.0f} s", shown)
    if process.returncode:
        said = lines[-1] if lines else f"exit code {process.returncode}"
        return Outcome(step.name, FAILED, seconds, cut(said, REASON), shown)
    return Outcome(step.name, DONE, seconds, "", shown)


@contextlib.contextmanager
def _group(step: PlanStep, log: TextIO) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, which is killed at the end with all that it started."""
    command = [sys.executable, "-m", *step.arguments]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _wait(process, PATIENCE)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ended within so many seconds."""
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True


def _from(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def show(steps: Sequence[PlanStep], outcomes: dict[str, Outcome]) -> None:
    """The table of all steps, a line each: the last that it printed, or why there is no result."""
    table = Table("step", "state", "s", "for", "result, or why there is none", box=None, pad_edge=False)
    for step in steps:
        outcome = outcomes[step.name]
        result = outcome.reason or (outcome.lines[-1] if outcome.lines else "")
        cells = (step.name, outcome.state, f"{outcome.seconds:.0f}", step.answers, result)
        table.add_row(*map(Text, cells))
    console = make_console()
    console.width = max(console.width, WIDTH)
    console.print(table)
