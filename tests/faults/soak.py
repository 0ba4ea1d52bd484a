"""Thousands of tiny cells under fire: memory and open files of the processes that live long stay flat."""

from __future__ import annotations

import random
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import Launched, Row, Watch, expected_ids, finished, kill, run, write_sweep

SAMPLE_SECONDS = 2.0
FLAT = 1.10
"""The last quarter's median may be so many times the second quarter's; the first is warming up."""


@dataclass(frozen=True)
class Sample:
    seconds: float
    megabytes: float
    files: int


def soak(cells: int, folder: Path, rng: random.Random) -> tuple[Row, list[str]]:
    """The table's row, and a line of figures for each kind of process."""
    row = Row(f"soak of {cells} cells with kills of workers")
    sweep = _tiny(folder / "soak.yaml", cells)
    results = folder / "soak" / "results"
    results.parent.mkdir(parents=True)
    wanted = expected_ids(sweep)
    launched = Launched(sweep, results, "--checkpoint-seconds", "0.5")
    watch = Watch(results, row)
    samples: dict[str, list[Sample]] = {"sweep": [], "server": []}
    workers: dict[int, list[Sample]] = {}
    started = time.monotonic()
    next_kill = 10.0
    while launched.process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        now = time.monotonic() - started
        processes = launched.processes()
        for kind in samples:
            samples[kind] += [sample for pid in processes[kind][:1] if (sample := _sample(pid, now))]
        for pid in processes["workers"]:
            if sample := _sample(pid, now):
                workers.setdefault(pid, []).append(sample)
        if now > next_kill and processes["workers"]:
            row.tries += kill(rng.choice(processes["workers"]))
            next_kill = now + rng.expovariate(1 / 20)
            watch.look()
    output = launched.wait()
    watch.look()
    if not finished(launched.process.returncode, output):
        again = run(sweep, results)
        row.expect(finished(again.returncode, again.stdout + again.stderr), f"did not end: {again.stderr[-1000:]}")
    found = {path.stem for path in results.glob("records/*/*.json")}
    for name in wanted - found:
        row.add_lost(name)
    lived = {f"worker {pid}": series for pid, series in workers.items()}
    longest = dict(sorted(lived.items(), key=lambda item: -len(item[1]))[:2])
    lines = [_line(row, name, series) for name, series in {**samples, **longest}.items() if len(series) >= 8]
    minutes = (time.monotonic() - started) / 60
    return row, [f"{len(found)} records in {minutes:.0f} min, {row.tries} workers killed", *lines]


def _tiny(path: Path, cells: int) -> Path:
    """So many cells that prune one small dense network, and train on for an iteration or two."""
    schedules, budgets = ["FT", "LRW", "CLR", "LLR", "ALLR"], ["1it", "2it"]
    count = max(1, cells // (len(schedules) * len(budgets)))
    sparsities = [round(0.01 + 0.98 * k / count, 4) for k in range(count)]
    grid = {"method": "IMP", "schedule": schedules, "sparsity": sparsities, "budget": budgets}
    return write_sweep(path, [grid], seeds=1, epochs=2, milestones=[1], recalibration_batches=0)


def _sample(pid: int, now: float) -> Sample | None:
    try:
        status = Path(f"/proc/{pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", status, re.M)
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    private = sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", status, re.M))
    return Sample(now, private / 1024, files) if match else None


def _line(row: Row, name: str, series: list[Sample]) -> str:
    quarter = len(series) // 4
    early, late = series[quarter : 2 * quarter], series[-quarter:]
    memory = [statistics.median(sample.megabytes for sample in part) for part in (early, late)]
    files = [statistics.median(sample.files for sample in part) for part in (early, late)]
    row.expect(memory[1] <= FLAT * memory[0] + 2, f"{name}: memory grew from {memory[0]:.1f} to {memory[1]:.1f} MB")
    row.expect(files[1] <= files[0] + 1, f"{name}: open files grew from {files[0]:g} to {files[1]:g}")
    seconds = series[-1].seconds - series[0].seconds
    return (
        f"{name}, {seconds:.0f} s: own memory {memory[0]:.1f} MB in the second quarter, {memory[1]:.1f} MB in the "
        f"last; open files {files[0]:g} and {files[1]:g}"
    )
