"""A digits sweep in real processes, what can be done to it, and the comparison with one that nothing disturbed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark.cells import Cell
from benchmark.methods import METHODS
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import starts
from benchmark.results.records import result
from benchmark.results.store import Store
from tests.commands import ROOT, as_command

TAG = "FAULTS_RUN"
RECIPE = {"epochs": 6, "milestones": [2, 4, 5], "warmup_epochs": 1, "batch_size": 32}
IMP_GRID = {"method": "IMP", "schedule": ["FT", "CLR", "ALLR"], "sparsity": [0.9], "budget": ["33.33%"]}
Results = dict[str, Any]
"""What repeats exactly of every record, by cell id."""
PATIENCE = 600.0
"""Seconds after which a sweep that should have ended counts as stuck."""


@dataclass
class Row:
    """One line of the table. notes: a line for whatever was lost, doubled or wrong; figures: what was measured."""

    fault: str
    tries: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def add_lost(self, note: str) -> None:
        self.lost += 1
        self.notes.append(f"lost: {note}")

    def add_doubled(self, note: str) -> None:
        self.doubled += 1
        self.notes.append(f"doubled: {note}")

    def add_wrong(self, note: str) -> None:
        self.wrong += 1
        self.notes.append(f"wrong: {note}")

    def expect(self, condition: object, note: str) -> None:
        if not condition:
            self.add_wrong(note)


def write_sweep(path: Path, grids: Iterable[dict[str, Any]], seeds: int = 2, **recipe: Any) -> Path:
    content = {"title": "faults", "seeds": seeds, "recipe": {**RECIPE, **recipe}, "grids": list(grids)}
    path.write_text(yaml.safe_dump(content))
    return path


def every_method() -> list[dict[str, Any]]:
    """Grids of every kind of cell: what a method keeps between iterations has to survive as well."""
    grids: list[dict[str, Any]] = [
        IMP_GRID,
        {**IMP_GRID, "schedule": ["LLR", "LRW"], "hyperparameters": {"cycles": [2], "momentum": ["fresh", "kept"]}},
        {"method": "tests.faults.injected_methods:Dice", "sparsity": [0.9]},
    ]
    for name, declared in METHODS.items():
        if name not in ("dense", "IMP") and not declared.retrains:
            grids.append({"method": name, "sparsity": [0.9]})
    return grids


class Launched:
    """A sweep command that is running; its processes are found by a variable of their environment."""

    def __init__(self, sweep: Path, results: Path, *arguments: str, **variables: str):
        self.tag = uuid.uuid4().hex
        self.output = results.parent / f"output-{self.tag}.txt"
        with open(self.output, "wb") as file:
            self.process = subprocess.Popen(
                [*command(sweep, results), *arguments],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**environment(), TAG: self.tag, **variables},
            )

    def processes(self) -> dict[str, list[int]]:
        """Process ids of the "sweep", the fork "server", the "workers", the "publisher" and wandb's "service"."""
        found: dict[str, list[int]] = {"sweep": [], "server": [], "workers": [], "publisher": [], "service": []}
        tagged = _tagged(self.tag)
        for pid, (parent_pid, line) in tagged.items():
            if pid == self.process.pid:
                found["sweep"].append(pid)
            elif "forkserver" in line:
                child = "forkserver" in tagged.get(parent_pid, (0, ""))[1]
                found["workers" if child else "server"].append(pid)
            elif "tracking_process" in line:
                found["publisher"].append(pid)
            elif "wandb-core" in line:
                found["service"].append(pid)
        return {kind: sorted(pids) for kind, pids in found.items()}

    def wait(self) -> str:
        """What it printed, once it has ended."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"stuck: {self.output.read_text()[-2000:]}") from None
        return self.output.read_text()

    def end(self) -> None:
        for pid in _tagged(self.tag):
            kill(pid)
        self.process.wait()


def command(sweep: Path, results: Path) -> list[str]:
    fixed = ("--workers", "2", "--tracking", "off", "--results", str(results))
    return [sys.executable, "-m", "benchmark.sweep", str(sweep), *fixed]


def environment() -> dict[str, str]:
    """No W&B account or setting of whoever runs this."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**ours, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NETRC": os.devnull}


def run(sweep: Path, results: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(sweep, results), *arguments],
        cwd=ROOT,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _tagged(tag: str) -> dict[int, tuple[int, str]]:
    """Process id to (parent's, command line) of all living processes that carry the tag."""
    found = {}
    wanted = f"{TAG}={tag}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = (int(fields[1]), (entry / "cmdline").read_text())
        except OSError:
            continue
    return found


class Watch:
    """What a results folder must keep: a record that is there stays there, the same file with the same content."""

    def __init__(self, folder: Path, row: Row):
        self.folder, self.row = folder, row
        self._seen: dict[str, tuple[int, int]] = {}

    def look(self) -> int:
        """Compare with the last look; returns the number of records."""
        now = {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.folder.glob("records/*/*.json")
        }
        for name, file in self._seen.items():
            if name not in now:
                self.row.add_lost(f"the record {name} is gone")
            elif now[name] != file:
                self.row.add_doubled(f"the record {name} was written again")
        self._seen = now
        return len(now)


def expected_ids(sweep: Path) -> set[str]:
    cells: tuple[Cell, ...] = load_sweep(str(sweep)).cells
    return {cell.id for cell in cells} | {start.id for start in starts(cells)}


def results_of(folder: Path) -> Results:
    store = Store(folder)
    found = {record["id"]: result(record) for record in store.records()}
    if store.problems:
        raise AssertionError("; ".join(store.problems))
    return found


def compare(row: Row, folder: Path, untouched: Results) -> None:
    """Count what differs from the untouched run, and what should have been cleared away."""
    store = Store(folder)
    found = {record["id"]: result(record) for record in store.records()}
    for problem in store.problems:
        row.add_wrong(problem)
    for name in untouched.keys() - found.keys():
        row.add_lost(f"{folder}: no record of {name}")
    for name, record in found.items():
        if record != untouched.get(name):
            keys = [key for key in record if record[key] != untouched.get(name, {}).get(key)]
            row.add_wrong(f"{folder}: {name} differs in {', '.join(keys)}")
    for second in folder.glob("set-aside/*.second-result.json"):
        row.add_doubled(f"a second, different result: {second.name}")
    left = [path for kind in ("claims", "checkpoints") for path in folder.glob(f"{kind}/*/*")]
    left += [path for path in folder.rglob("*.tmp")]
    if left:
        row.add_wrong(f"{folder}: left behind: {', '.join(str(path.relative_to(folder)) for path in left[:3])}")


def trained_cells(output: str) -> int:
    """How many cells a sweep says that it has trained."""
    match = re.search(r"(\d+) cells trained", output)
    return int(match[1]) if match else 0


def untouched(sweep: Path, folder: Path) -> Results:
    """Results of a run that nothing disturbs, by one worker."""
    fixed = ("--workers", "1", "--tracking", "off", "--results", str(folder))
    finished = as_command("benchmark.sweep", str(sweep), *fixed)
    found = results_of(folder)
    missing = expected_ids(sweep) - found.keys()
    if missing:
        raise AssertionError(f"the undisturbed run left out {missing}:\n{finished.stdout}{finished.stderr}")
    return found


def until(condition: Any, seconds: float = 60.0) -> Any:
    """The first true value of condition(); None after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found or None


def finished(code: int, output: str) -> bool:
    """Whether a sweep says that every cell is done. Some of the sweeps here are too odd for any table."""
    return code == 0 or (code == 2 and "there is no table for" in output)
