"""A sweep that a launcher waits for, from its plan to its table: what is the same wherever its cells are trained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from benchmark import cli
from benchmark.cells import Cell
from benchmark.launch.display import Display, duration
from benchmark.launch.events import Failed, Pool
from benchmark.launch.launcher import Work, counts
from benchmark.launch.machine import given_rank
from benchmark.launch.publishing import Publishing
from benchmark.planning.plan import Plan, make_plan, starts
from benchmark.planning.tuning import stages
from benchmark.results.provenance import ROOT
from benchmark.results.records import Record
from benchmark.streams import lost
from benchmark.tracking.runs import Settings
from benchmark.yaml_files import is_piped, piped

PUBLISH_SECONDS = 30.0
STOPPED_SECONDS = 5.0
"""How long the end of a sweep waits for Weights & Biases, and that after Ctrl-C."""
SHOWN_FAILURES = 20


def run(work: Work, workers: int, make_pool: Callable[[], Pool]) -> int:
    """Train what is left of a sweep, and what its records lead to, and print the table.

    workers: of a pool, for the display. make_pool: called for each stage of a sweep that tunes. Returns the exit code,
    0 only if every cell has a record. Raises UserError if the sweep cannot be trained here.
    """
    work.open()
    plan = work.plan()
    work.say(counts(work.sweep, plan))
    if plan.tasks:
        from benchmark.problems.prepare import prepare  # later than the plan, which should come at once

        prepare(work.sweep.problem, work.data, work.download, work.console, work.store.given)
        work.try_own()
    return _Running(work, workers, make_pool).run(plan)


class _Running:
    def __init__(self, work: Work, workers: int, make_pool: Callable[[], Pool]):
        self.work, self.workers, self.make_pool = work, workers, make_pool
        sweep = work.sweep
        self.publishing = Publishing(Settings(work.store.path, work.tracking), sweep.name, sweep.problem.name)
        self.trained: list[Record] = []
        self.failures: list[Failed] = []
        self.skipped: list[str] = []
        self.stopped = False

    def run(self, plan: Plan) -> int:
        work, started = self.work, time.monotonic()
        signal.signal(signal.SIGTERM, _as_interrupt)
        dense = {start.id for start in starts(plan.cells)}
        self.publishing.catch_up([*sorted(dense), *sorted(plan.done)])
        code, wall = cli.INTERRUPTED, 0.0
        try:
            self._train(plan)
            chosen = [] if self.stopped else stages(work.sweep, work.store).chosen
            known = set(plan.cells)
            following = [cell for cell in chosen if cell not in known]
            if following and given_rank():
                work.say("tuned; the same command again goes on with what was chosen")
            elif following:
                more = make_plan(following, work.store, work.sweep.execution)
                work.say(f"tuned: {counts(work.sweep, more)}")
                self._train(more)
            if not self.stopped:
                wall = time.monotonic() - started
                code = _tabulate(work, [*plan.cells, *following])  # while the last cells are published
        except KeyboardInterrupt:
            self.stopped = True
            raise
        finally:
            message = self.publishing.close(STOPPED_SECONDS if self.stopped else PUBLISH_SECONDS)
        if not self.stopped:
            self._summarise(wall)
        if message:
            work.say(message)
        return 1 if self.failures and not self.stopped else code

    def _train(self, plan: Plan) -> None:
        work, pool = self.work, self.make_pool()
        with Display(plan, work.store, work.console, self.workers) as display:
            try:
                for event in self.publishing.listen(pool.run(plan.tasks)):
                    display.show(event)
                    if isinstance(event, Failed):
                        self.failures.append(event)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                work.say("stopping: running cells save a checkpoint")
                pool.stop()
                work.say("stopped; the same command goes on where this one was")
                self.stopped = True
            finally:
                pool.stop()
                self.trained += display.trained
                self.skipped = display.skipped or self.skipped

    def _summarise(self, wall: float) -> None:
        work, trained, failures = self.work, self.trained, self.failures
        share = ""
        if trained:
            parts = {key: 100 * _spent(trained, key) / (self.workers * wall) for key in ("training", "evaluation")}
            share = f", of workers x time {parts['training']:.0f} % training and {parts['evaluation']:.0f} % evaluation"
        work.say(f"{len(trained)} cells trained in {duration(wall)} by {self.workers} workers{share}")
        for remark in self.skipped if work.sweep.problem.resized_crop else ():  # others are decoded, and said, before
            work.say(remark)
        for failure in failures[:SHOWN_FAILURES]:
            work.say(f"FAILED {failure.cell.id}: {failure.cause}: {failure.message}")
        if failures:
            where = work.store.path / "failures"
            work.say(f"{len(failures)} failed, see {where}; the same command again tries them again")
        work.say(f"records: {work.store.path}/records")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tabulate(work: Work, cells: Sequence[Cell]) -> int:
    """Print the table with the command that anybody can repeat, so that there is one way from records to it.

    The exit code: 0 only if every one of the `cells` has a record. Of dense runs alone there is no table, nor where
    nobody could read it.
    """
    store, sweep = work.store, work.sweep
    missing = sum(not store.has(cell.id) for cell in cells)
    if missing == len(cells) or store.ids() <= {start.id for start in starts(cells)}:
        return 1
    if lost():
        return 1 if missing else 0
    name = "/dev/stdin" if is_piped(work.name) else work.name
    # The suite's own folder goes before the current one, which may have an analysis.py of its own.
    path = os.pathsep.join(filter(None, [str(ROOT), str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "analysis.make_tables", name, "--results", str(store.path)]
    seeds = ",".join(str(seed) for seed in sweep.seeds) + ("," if len(sweep.seeds) == 1 else "")
    command += ["--problem", sweep.problem.name, "--recipe", sweep.problem.identity, "--seeds", seeds]
    command += [part for text in work.only for part in ("--only", text)]
    # What was piped in is read by now: the command reads it from a pipe of its own.
    table = piped(work.name) if is_piped(work.name) else None
    code = subprocess.run(command, check=False, input=table, env={**os.environ, "PYTHONPATH": path}).returncode  # noqa: S603
    return 1 if missing else code


def _spent(trained: list[Record], key: str) -> float:
    """Seconds of "training" or "evaluation" that this sweep did itself."""
    total = 0.0
    for record in trained:
        seconds = record["seconds"]
        total += seconds[key] - seconds.get("earlier", {}).get(key, 0.0)
        total -= seconds.get("inherited", 0.0) if key == "training" else 0.0
    return total
