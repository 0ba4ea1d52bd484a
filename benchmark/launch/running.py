"""A sweep on this machine, from its plan to its table."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

from rich.console import Console

from benchmark import cli
from benchmark.cells import Cell
from benchmark.launch.describe import counts
from benchmark.launch.display import Display, duration
from benchmark.launch.events import Epoch, Failed, Finished
from benchmark.launch.local import LocalPool
from benchmark.launch.machine import PoolOptions, given_rank
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan, make_plan, parents_of
from benchmark.planning.tuning import stages
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.streams import lost
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.runs import without_marker
from benchmark.yaml_files import is_piped, piped

PUBLISH_SECONDS = 30.0
STOPPED_SECONDS = 5.0
"""How long the end of a sweep waits for Weights & Biases, and that after Ctrl-C."""


@dataclass
class Outcome:
    """What came of a plan."""

    trained: list[Record] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    stopped: bool = False


def run_here(
    name: str, wanted: Sweep, plan: Plan, store: Store, options: PoolOptions, publisher: Publisher, console: Console
) -> int:
    """Train what the plan asks for, and what its records lead to, and print the table.

    name: the sweep as the user named it. Returns the exit code, 0 only if every cell has a record. Raises UserError if
    workers cannot start.
    """
    started = time.monotonic()
    outcome = Outcome()
    signal.signal(signal.SIGTERM, _as_interrupt)
    _publish_what_was_left(wanted, plan, store, publisher)
    code, wall = cli.INTERRUPTED, 0.0
    try:
        _train(wanted, plan, store, options, publisher, console, outcome)
        following = [] if outcome.stopped else [c for c in stages(wanted, store).chosen if c not in set(plan.cells)]
        if following and given_rank():
            console.print("tuned; the same command again goes on with what was chosen", soft_wrap=True)
        elif following:
            more = make_plan(following, store, wanted.execution)
            console.print(f"tuned: {counts(wanted, more)}", soft_wrap=True, highlight=False)
            _train(wanted, more, store, options, publisher, console, outcome)
        if not outcome.stopped:
            wall = time.monotonic() - started
            code = _tabulate(name, wanted, [*plan.cells, *following], store)  # while the last cells are published
    except KeyboardInterrupt:
        outcome.stopped = True
        raise
    finally:
        published = publisher.close(STOPPED_SECONDS if outcome.stopped else PUBLISH_SECONDS)
    if not outcome.stopped:
        _summarise(store, outcome, options, wall, console)
    _say(console, published.message)
    return 1 if outcome.failures and not outcome.stopped else code


def _train(
    wanted: Sweep,
    plan: Plan,
    store: Store,
    options: PoolOptions,
    publisher: Publisher,
    console: Console,
    outcome: Outcome,
) -> None:
    pool = LocalPool(store, options)
    with Display(plan, store, console, options.workers) as display:
        try:
            for event in pool.run(plan.tasks):
                display.show(event)
                if isinstance(event, Failed):
                    outcome.failures.append(event)
                elif isinstance(event, Epoch):
                    publisher.follow(event.cell, _group(wanted), event.values)
                elif isinstance(event, Finished):
                    publisher.add(event.cell.id, _group(wanted))
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.print("stopping: running cells save a checkpoint")
            pool.stop()
            console.print("stopped; the same command goes on where this one was", soft_wrap=True)
            outcome.stopped = True
        finally:
            pool.stop()
            outcome.trained += display.trained


def _publish_what_was_left(wanted: Sweep, plan: Plan, store: Store, publisher: Publisher) -> None:
    """Publish what an earlier run of the sweep, or one without W&B, trained and did not publish."""
    if publisher.mode != "off":
        dense = {start.id for start in parents_of(plan.cells) if start is not None}
        done = [*(cell_id for cell_id in sorted(dense) if store.has(cell_id)), *sorted(plan.done)]
        for cell_id in dict.fromkeys(without_marker(store, done)):
            publisher.add(cell_id, _group(wanted))


def _group(wanted: Sweep) -> str:
    return f"{wanted.name}/{wanted.problem.name}"


def _say(console: Console, message: str) -> None:
    if message:
        console.print(message, soft_wrap=True, highlight=False, markup=False)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tabulate(name: str, wanted: Sweep, cells: Sequence[Cell], store: Store) -> int:
    """Print the table with the command that anybody can repeat, so that there is one way from records to it.

    The exit code: 0 only if every one of the `cells` has a record. Of dense runs alone there is no table, nor where
    nobody could read it.
    """
    missing = sum(not store.has(cell.id) for cell in cells)
    if store.ids() <= {start.id for start in parents_of(cells) if start is not None}:
        return 1
    if lost():
        return 1 if missing else 0
    shown = "/dev/stdin" if is_piped(name) else name
    command = [sys.executable, "-m", "analysis.make_tables", shown, "--results", str(store.path)]
    seeds = ",".join(str(seed) for seed in wanted.seeds) + ("," if len(wanted.seeds) == 1 else "")
    command += ["--problem", wanted.problem.name, "--seeds", seeds]
    # What was piped in is read by now: the command reads it from a pipe of its own.
    code = subprocess.run(command, check=False, input=piped(name) if is_piped(name) else None).returncode  # noqa: S603
    return 1 if missing else code


def _spent(trained: list[Record], key: str) -> float:
    """Seconds of "training" or "evaluation" that this sweep did itself."""
    total = 0.0
    for record in trained:
        seconds = record["seconds"]
        total += seconds[key] - seconds.get("earlier", {}).get(key, 0.0)
        total -= seconds.get("inherited", 0.0) if key == "training" else 0.0
    return total


def _summarise(store: Store, outcome: Outcome, options: PoolOptions, wall: float, console: Console) -> None:
    trained, failures = outcome.trained, outcome.failures
    share = ""
    if trained:
        parts = {key: 100 * _spent(trained, key) / (options.workers * wall) for key in ("training", "evaluation")}
        share = f", of workers x time {parts['training']:.0f} % training and {parts['evaluation']:.0f} % evaluation"
    text = f"{len(trained)} cells trained in {duration(wall)} by {options.workers} workers{share}"
    console.print(text, soft_wrap=True, highlight=False)
    for failure in failures[:20]:
        text = f"FAILED {failure.cell.id}: {failure.cause}: {failure.message}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    if failures:
        where = store.path / "failures"
        console.print(f"{len(failures)} failed, see {where}; the same command again tries them again", soft_wrap=True)
    console.print(f"records: {store.path}/records", soft_wrap=True, highlight=False)
