"""A sweep on this machine, from its plan to its table."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

from rich.console import Console

from benchmark import cli
from benchmark.display import Display, duration
from benchmark.grid import Sweep
from benchmark.launch.events import Failed, Finished
from benchmark.launch.local import LocalPool, PoolOptions
from benchmark.plan import Plan
from benchmark.publisher import Publisher
from benchmark.store import Store

PUBLISH_SECONDS = 30.0
"""How long the end of a sweep waits for Weights & Biases."""


def run_here(
    name: str, wanted: Sweep, plan: Plan, store: Store, options: PoolOptions, publisher: Publisher, console: Console
) -> int:
    """Train what the plan asks for and print the table; returns the exit code, 0 only if every cell has a record.

    name: the sweep as the user named it. Raises UserError if workers cannot start.
    """
    started = time.monotonic()
    failures: list[Failed] = []
    pool = LocalPool(store, options)
    signal.signal(signal.SIGTERM, _as_interrupt)
    with Display(plan, store, console, options.workers) as display:
        try:
            for event in pool.run(plan.tasks):
                display.show(event)
                if isinstance(event, Failed):
                    failures.append(event)
                elif isinstance(event, Finished):
                    publisher.add(event.cell.id, f"{wanted.name}/{wanted.problem.name}")
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.print("stopping: running cells save a checkpoint")
            pool.stop()
            console.print("stopped; the same command goes on where this one was", soft_wrap=True)
            return cli.INTERRUPTED
        finally:
            pool.stop()
            published = publisher.close(PUBLISH_SECONDS)
    wall = time.monotonic() - started
    code = _print_table(name, wanted, store)
    _summarise(store, display, options, wall, failures, console)
    if published.message:
        console.print(published.message, soft_wrap=True, highlight=False, markup=False)
    missing = sum(not store.has(cell.id) for cell in wanted.cells)
    return 1 if missing or failures else code


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_table(name: str, wanted: Sweep, store: Store) -> int:
    """Print the table with the command that anybody can repeat, so that there is one way from records to it."""
    command = [sys.executable, "-m", "analysis.make_tables", name, "--results", str(store.path)]
    seeds = ",".join(str(seed) for seed in wanted.seeds) + ("," if len(wanted.seeds) == 1 else "")
    command += ["--problem", wanted.problem.name, "--seeds", seeds]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def _summarise(
    store: Store, display: Display, options: PoolOptions, wall: float, failures: list[Failed], console: Console
) -> None:
    training = sum(record["seconds"]["training"] - record["seconds"].get("inherited", 0) for record in display.trained)
    share = f", {100 * training / (options.workers * wall):.0f} % of it training" if display.trained else ""
    console.print(
        f"{len(display.trained)} cells trained in {duration(wall)} by {options.workers} workers{share}", highlight=False
    )
    for failure in failures[:20]:
        text = f"FAILED {failure.cell.id}: {failure.cause}: {failure.message}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    if failures:
        where = store.path / "failures"
        console.print(f"{len(failures)} failed, see {where}; the same command again tries them again", soft_wrap=True)
    console.print(f"records: {store.path}/records", soft_wrap=True, highlight=False)
