"""Cells that raise, break, hang, eat memory or end their interpreter: their failure, and nobody else's."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.results.store import Store
from tests.faults.harness import IMP_GRID, Row, expected_ids, results_of, run, untouched, write_sweep

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "SOME_TOKEN": "token-that-nobody-may-see",
    "MY_SECRET": "secret-that-nobody-may-see",
}


@dataclass(frozen=True)
class Injected:
    """cause: of the failure. said: words of its message. logged: words of its log or traceback."""

    schedule: str
    cause: str
    said: str
    logged: str = ""


INJECTED = [
    Injected("hang", "hang", "no iteration finished within", "injected.py"),  # first: the others go on meanwhile
    Injected("exception", "exception", "RuntimeError: <b>injected</b> and a second line", "about to raise"),
    Injected("deep", "exception", "RecursionError", "in deep"),
    Injected("quit_interpreter", "exception", "SystemExit: a method that calls sys.exit", "quit_interpreter"),
    Injected("memory", "out of memory", "MemoryError", "np.ones"),
    Injected("device", "device error", "CUDA error: an illegal memory access", "in device"),
    Injected("device_memory", "out of memory", "CUDA out of memory", "in device_memory"),
    Injected("nan", "refused", "gave nan at iteration 0"),
    Injected("infinite", "refused", "gave 1e+38 at iteration 0"),
    Injected("wrong_length", "refused", "gave shape"),
    Injected("abort", "killed", "SIGABRT", "about to abort"),
    Injected("oom_kill", "killed", "SIGKILL"),
    Injected("leave", "killed", "exit code 3"),
]
HANG_SECONDS = 12.0
NEIGHBOURS = ["tests.faults.injected:usual", "FT"]


def neighbours(folder: Path) -> Path:
    return write_sweep(folder / "neighbours.yaml", [{**IMP_GRID, "schedule": NEIGHBOURS}], seeds=1)


def failing_cells(folder: Path) -> list[Row]:
    """One sweep with a cell for every way to fail, all but the hanging one between two cells that do not."""
    started = time.monotonic()
    undisturbed = untouched(neighbours(folder), folder / "neighbours")
    took = time.monotonic() - started  # by one worker, and a busy machine can keep any cell waiting for as long
    patience = max(HANG_SECONDS, 2 * took)
    hang, *others = (f"tests.faults.injected:{injected.schedule}" for injected in INJECTED)
    schedules = [hang, NEIGHBOURS[0], *others, NEIGHBOURS[1]]
    sweep = write_sweep(folder / "failing.yaml", [{**IMP_GRID, "schedule": schedules}], seeds=1)
    results = folder / "failing"
    finished = run(sweep, results, "--hang-seconds", f"{patience:.0f}", **SECRETS)
    output = finished.stdout + finished.stderr
    store = Store(results)
    failures = {failure["id"]: failure for failure in store.failures()}
    rows = [_judge(injected, failures, output) for injected in INJECTED]
    row = Row("neighbours of failing cells", tries=len(undisturbed))
    found = results_of(results)
    for name, record in undisturbed.items():
        if name not in found:
            row.add_lost(name)
        elif found[name] != record:
            row.add_wrong(f"{name} differs")
    row.expect(found.keys() == undisturbed.keys(), f"records of failed cells: {found.keys() - undisturbed.keys()}")
    row.expect(finished.returncode == 1, f"exit code {finished.returncode}: {output[-2000:]}")
    row.expect("Traceback" not in output, f"a stack trace: {output[-2000:]}")
    return [*rows, row, _secrets(results, output)]


def _judge(injected: Injected, failures: dict[str, Any], output: str) -> Row:
    row = Row(f"cell: {injected.schedule}", tries=1)
    found = [failure for name, failure in failures.items() if f"injected_{injected.schedule}-" in name]
    if len(found) != 1:
        row.add_lost(f"{len(found)} failures are kept, expected one")
        return row
    (failure,) = found
    row.expect(failure["cause"] == injected.cause, f"cause {failure['cause']}, expected {injected.cause}")
    row.expect(injected.said in failure["message"], f"message {failure['message']!r} lacks {injected.said!r}")
    row.expect(injected.said in output, f"the sweep did not say {injected.said!r}")
    kept = failure["traceback"] + failure["log"]
    row.expect(injected.logged in kept, f"traceback and log lack {injected.logged!r}: {kept[-500:]}")
    row.expect("a usual cell was here" not in failure["log"], "the log holds what another cell printed")
    return row


def _secrets(results: Path, output: str) -> Row:
    """A cell printed its environment's secrets and raised them; no file and no line may show them."""
    row = Row("secrets in the environment", tries=len(SECRETS))
    contents = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for name, value in SECRETS.items():
        row.expect(value not in output, f"{name} was printed")
        for path, content in contents.items():
            row.expect(value.encode() not in content, f"{name} is in {path}")
    row.expect(any(b"[SOME_TOKEN]" in content for content in contents.values()), "no trace of what was hidden")
    return row


def nan_in_training(folder: Path) -> Row:
    """A network that breaks is a result and says so; the dense network that breaks is a failure."""
    row = Row("cell: NaN in training", tries=1)
    grid = {"method": "tests.faults.injected_methods:NaN", "sparsity": [0.9]}
    sweep = write_sweep(folder / "nan.yaml", [grid], seeds=1)
    run(sweep, folder / "nan")
    (name,) = expected_ids(sweep)
    record = results_of(folder / "nan").get(name)
    row.expect(record and record["status"] == "collapsed" and "not finite" in record["remarks"][0], f"{record}")
    return row


def workers_that_cannot_start(folder: Path) -> Row:
    """One message, soon."""
    row = Row("workers cannot start", tries=2)
    sweep = neighbours(folder)
    for number, trouble in enumerate(("raise RuntimeError('no torch today')", "os._exit(7)")):
        broken = folder / f"broken-{number}"
        broken.mkdir()
        (broken / "sitecustomize.py").write_text(SITE.format(trouble=trouble))
        path = os.pathsep.join([str(broken), str(Path.cwd())])
        finished = run(sweep, folder / f"cannot-start-{number}", PYTHONPATH=path)
        lines = finished.stderr.strip().splitlines()
        row.expect(finished.returncode == 2, f"exit code {finished.returncode}: {finished.stderr[-1000:]}")
        row.expect("error: workers cannot start" in (lines or [""])[-1], f"said {finished.stderr[-1000:]}")
        row.expect(len(lines) == 1, f"more than one line: {finished.stderr[-1500:]}")
    return row


SITE = """
import os, sys

class Trouble:
    def find_spec(self, name, path=None, target=None):
        if name == "benchmark.worker":
            {trouble}
        return None

sys.meta_path.insert(0, Trouble())
"""
