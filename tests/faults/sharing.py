"""Several sweeps on one results folder, one that seemed dead and comes back, and clocks that are wrong."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.faults.harness import Launched, Results, Row, Watch, compare, finished, kill, run, trained_cells, until

YEAR = 365 * 24 * 3600.0


def at_once(row: Row, count: int, sweep: Path, untouched: Results, folder: Path, rng: random.Random) -> None:
    """Every cell is trained once, by one of them."""
    row.tries += 1
    results = folder / f"at-once-{count}-{row.tries}" / "results"
    results.parent.mkdir(parents=True)
    watch = Watch(results, row)
    sweeps = []
    for _ in range(count):
        sweeps.append(Launched(sweep, results, "--workers", "1"))
        time.sleep(rng.uniform(0, 1.5))
    outputs = []
    for launched in sweeps:
        outputs.append(launched.wait())
        watch.look()
        row.expect(finished(launched.process.returncode, outputs[-1]), f"{results}: {outputs[-1][-1000:]}")
    more = sum(trained_cells(output) for output in outputs) - len(untouched)
    if more > 0:
        row.add_doubled(f"{results}: {more} cells were trained more than once")
    row.expect(more >= 0, f"{results}: {-more} cells fewer than there are were reported as trained")
    compare(row, results, untouched)


def one_dies(row: Row, sweep: Path, untouched: Results, folder: Path, rng: random.Random) -> None:
    """Of two sweeps one is killed with all its processes; the other finishes everything at once."""
    row.tries += 1
    results = folder / f"one-dies-{row.tries}" / "results"
    results.parent.mkdir(parents=True)
    watch = Watch(results, row)
    victim, other = (Launched(sweep, results, "--workers", "1") for _ in "ab")
    until(lambda: watch.look() >= 1 or victim.process.poll() is not None)
    time.sleep(rng.uniform(0, 2))
    victim.end()
    output = other.wait()
    watch.look()
    row.expect(finished(other.process.returncode, output), f"{results}: {output[-1000:]}")
    compare(row, results, untouched)


def one_freezes(row: Row, sweep: Path, untouched: Results, folder: Path) -> Row:
    """A worker stands still until its claim is taken over, then wakes up and finishes what is done by then."""
    row.tries += 1
    results = folder / f"freezes-{row.tries}" / "results"
    results.parent.mkdir(parents=True)
    watch = Watch(results, row)
    frozen = Launched(sweep, results, "--workers", "1", "--checkpoint-seconds", "0.2")
    try:
        until(lambda: list(results.glob("claims/*/*.0")) and frozen.processes()["workers"])
        stopped = frozen.processes()["workers"]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        other = Launched(sweep, results, "--workers", "1")
        output = other.wait()
        watch.look()
        row.expect(finished(other.process.returncode, output), f"{results}: {output[-1000:]}")
        for pid in stopped:
            kill(pid, signal.SIGCONT)
        output = frozen.wait()
        watch.look()
        row.expect(finished(frozen.process.returncode, output), f"{results}: {output[-1000:]}")
    finally:
        frozen.end()
    compare(row, results, untouched)
    return row


def clock_set(row: Row, sweep: Path, untouched: Results, folder: Path, rng: random.Random) -> None:
    """A sweep is killed, all files carry times of next year or of last, and it goes on."""
    row.tries += 1
    results = folder / f"clock-{row.tries}" / "results"
    results.parent.mkdir(parents=True)
    launched = Launched(sweep, results, "--checkpoint-seconds", "0.1")
    until(lambda: list(results.glob("records/*/*")) or launched.process.poll() is not None)
    time.sleep(rng.uniform(0, 2))
    launched.end()
    moment = time.time() + rng.choice([-YEAR, YEAR])
    for path in results.rglob("*"):
        os.utime(path, (moment, moment))
    watch = Watch(results, row)
    watch.look()
    again = run(sweep, results)
    row.expect(finished(again.returncode, again.stdout + again.stderr), f"{results}: {again.stderr[-1000:]}")
    watch.look()
    compare(row, results, untouched)
