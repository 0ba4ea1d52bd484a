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
KILL_SECONDS = 20.0
"""Mean time between kills."""
FLAT = 1.10
"""The least memory of the last quarter may be so many times that of the second; the first is warming up.

The least, since the memory that a process keeps for reuse goes up and down by tens of MB: a leak lifts the floor.
"""
KINDS = ("sweep", "server", "publisher", "service")


@dataclass(frozen=True)
class Sample:
    """seconds: since the start. records: stored by then. megabytes: of memory that is no file's.

    What a worker has from the server that it was forked from counts, so that it makes no difference who else has it.
    """

    seconds: float
    megabytes: float
    files: int
    records: int


def soak(cells: int, folder: Path, rng: random.Random) -> Row:
    """Kill workers at random until all cells are done; one of the two is spared, to see it live through it all.

    W&B runs are kept offline, so that the process that publishes and wandb's own service are watched as well.
    """
    row = Row(f"soak: {cells} cells, workers killed")
    sweep = _tiny(folder / "soak.yaml", cells)
    results = folder / "soak" / "results"
    results.parent.mkdir(parents=True)
    wanted = expected_ids(sweep)
    launched = Launched(sweep, results, "--checkpoint-seconds", "0.5", "--tracking", "offline")
    watch = Watch(results, row)
    series: dict[str, list[Sample]] = {}
    started = time.monotonic()
    spared, next_kill, records = None, KILL_SECONDS, 0
    while launched.process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        now = time.monotonic() - started
        processes = launched.processes()
        spared = spared or next(iter(processes["workers"]), None)
        records = sum(1 for _ in results.glob("records/*/*.json"))
        named = {kind: processes[kind][0] for kind in KINDS if processes[kind]}
        for name, pid in {**named, "worker": spared}.items():
            if pid is not None and (sample := _sample(pid, now, records)):
                series.setdefault(name, []).append(sample)
        others = [pid for pid in processes["workers"] if pid != spared]
        if now > next_kill and others:
            row.tries += kill(rng.choice(others))
            next_kill = now + rng.expovariate(1 / KILL_SECONDS)
            watch.look()
    output = launched.wait()
    watch.look()
    if not finished(launched.process.returncode, output):
        again = run(sweep, results)
        row.expect(finished(again.returncode, again.stdout + again.stderr), f"did not end: {again.stderr[-1000:]}")
    found = {path.stem for path in results.glob("records/*/*.json")}
    for name in wanted - found:
        row.add_lost(name)
    minutes = (time.monotonic() - started) / 60
    row.figures.append(f"{len(found)} records in {minutes:.0f} min, {row.tries} workers killed")
    row.figures += [_line(row, name, samples) for name, samples in series.items() if len(samples) >= 8]
    return row


def _tiny(path: Path, cells: int) -> Path:
    """So many cells that prune one small dense network, and train on for an iteration or two."""
    schedules, budgets = ["FT", "LRW", "CLR", "LLR", "ALLR"], ["1it", "2it"]
    count = max(1, cells // (len(schedules) * len(budgets)))
    sparsities = [round(0.01 + 0.98 * k / count, 4) for k in range(count)]
    grid = {"method": "IMP", "schedule": schedules, "sparsity": sparsities, "budget": budgets}
    return write_sweep(path, [grid], seeds=1, epochs=2, milestones=[1], recalibration_batches=0)


def _sample(pid: int, now: float, records: int) -> Sample | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    match = re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)
    return Sample(now, int(match[1]) / 1024, files, records) if match else None


def _line(row: Row, name: str, series: list[Sample]) -> str:
    quarter = len(series) // 4
    early, late = series[quarter : 2 * quarter], series[-quarter:]
    memory = [min(sample.megabytes for sample in part) for part in (early, late)]
    files = [statistics.median(sample.files for sample in part) for part in (early, late)]
    row.expect(memory[1] <= FLAT * memory[0] + 2, f"{name}: memory grew from {memory[0]:.1f} to {memory[1]:.1f} MB")
    row.expect(files[1] <= files[0] + 1, f"{name}: open files grew from {files[0]:g} to {files[1]:g}")
    settled = series[quarter:]
    done = [sample.records for sample in settled]
    slope = (
        statistics.linear_regression(done, [sample.megabytes for sample in settled]).slope if len(set(done)) > 1 else 0
    )
    seconds = series[-1].seconds - series[0].seconds
    return (
        f"{name}, {seconds:.0f} s: least memory {memory[0]:.1f} MB in the second quarter, {memory[1]:.1f} MB in "
        f"the last, slope {1000 * slope:+.2f} MB in 1,000 cells; open files {files[0]:g} and {files[1]:g}"
    )
