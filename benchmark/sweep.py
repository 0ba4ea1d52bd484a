"""`python -m benchmark.sweep NAME`: run a sweep, or go on with it.

The same command again skips what is done, tries again what failed, and goes on with what was interrupted.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from benchmark import cli
from benchmark.display import Display, duration
from benchmark.errors import UserError
from benchmark.grid import Sweep, load_sweep
from benchmark.launch.events import Failed
from benchmark.launch.local import LocalPool, PoolOptions, cores, gpus
from benchmark.plan import Plan, make_plan, refuse_damaged
from benchmark.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console()

RESULTS = Path("results/runs")


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="A sweep of sweeps/ (table1) or a file of your own (mine.yaml)")],
    problem: Annotated[str | None, typer.Option(help="A problem of sweeps/problems/, or a file of your own")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (5) or which (0,3,7)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Cells to keep: schedule=ALLR,sparsity=0.9; again for others as well")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A field of the recipe: epochs=30")] = None,
    order: Annotated[
        str | None, typer.Option(help="Axes, outermost first: seed,sparsity,budget,method,hyperparameters,schedule")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default one a core, or one a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    results: Annotated[Path, typer.Option(help="The results folder")] = RESULTS,
    tracking: Annotated[str, typer.Option(help="Weights & Biases: auto, online, offline or off")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and what it costs")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="With --dry-run: one line a cell")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Set records that cannot be read aside")] = False,
    checkpoint_seconds: Annotated[float, typer.Option(help="Between checkpoints of a running cell")] = 60.0,
    hang_seconds: Annotated[float, typer.Option(help="A cell without a finished iteration for so long fails")] = 1800.0,
) -> int:
    """Train every cell of a sweep that has no record yet, then print its table."""
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: a count from 1 up")
    if device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {device}: one of auto, cpu, cuda, mps")
    if tracking not in ("auto", "online", "offline", "off"):
        raise UserError(f"--tracking {tracking}: one of auto, online, offline, off")
    wanted = load_sweep(name, problem, seeds, only or (), parse_settings(set_ or []), order)
    options = _pool(wanted, workers, device, checkpoint_seconds, hang_seconds)
    if dry_run:
        _describe(wanted, make_plan(wanted.cells, Store(results), wanted.execution), options, cells)
        return 0
    store = Store.open_for_writing(results)
    for line in refuse_damaged(wanted.cells, store, repair):
        print(line, file=sys.stderr)
    plan = make_plan(wanted.cells, store, wanted.execution)
    console.print(_counts(wanted, plan), soft_wrap=True, highlight=False)
    return _run(name, wanted, plan, store, options, tracking)


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """KEY=VALUE texts of --set as a mapping; values are read as YAML."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write KEY=VALUE, such as epochs=30")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {text}: the value is not valid YAML") from None
    return settings


def _pool(
    wanted: Sweep, workers: int | None, device: str, checkpoint_seconds: float, hang_seconds: float
) -> PoolOptions:
    cards = () if device in ("cpu", "mps") else gpus()
    limit = wanted.execution.threads
    count = workers or len(cards) or max(1, cores() // (limit or 1))
    threads = max(1, cores() // count)
    return PoolOptions(
        count, min(threads, limit) if limit else threads, device, cards, hang_seconds, checkpoint_seconds
    )


def _counts(wanted: Sweep, plan: Plan) -> str:
    dense = len(plan.dense_tasks)
    return (
        f"{wanted.name} on {wanted.problem.name}: {len(plan.cells)} cells, {len(plan.done)} done, "
        f"{len(plan.tasks) - dense} to train, after {dense} dense run{'' if dense == 1 else 's'}; "
        f"{plan.epochs:.0f} epochs"
    )


def _describe(wanted: Sweep, plan: Plan, options: PoolOptions, cells: bool) -> None:
    say = lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False)  # noqa: E731
    say(_counts(wanted, plan))
    for task in plan.dense_tasks:
        say(f"dense run needed: {task.cell.id} ({task.epochs:g} epochs)")
    seconds = plan.seconds(options.workers)
    how = f"{options.workers} workers of {options.threads} thread{'' if options.threads == 1 else 's'}"
    if options.gpus:
        how += f" on {len(options.gpus)} GPUs"
    if seconds is None:
        say(f"time: unknown until a first cell has run; {how}")
    else:
        hours = f", {seconds * len(options.gpus) / 3600:.1f} GPU-hours" if options.gpus else ""
        say(f"time: about {duration(seconds)} with {how}{hours}")
    if cells:
        todo = {task.cell.id: task for task in plan.tasks}
        for cell in [*(task.cell for task in plan.dense_tasks), *plan.cells]:
            say(f"{f'{todo[cell.id].epochs:8.2f} epochs' if cell.id in todo else '           done'}  {cell.id}")


def _run(name: str, wanted: Sweep, plan: Plan, store: Store, options: PoolOptions, tracking: str) -> int:
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
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.print("stopping: running cells save a checkpoint")
            pool.stop()
            console.print("stopped; the same command goes on where this one was", soft_wrap=True)
            return cli.INTERRUPTED
        finally:
            pool.stop()
    wall = time.monotonic() - started
    code = _table(name, wanted, store)
    _summary(wanted, plan, store, display, options, wall, failures)
    missing = sum(not store.has(cell.id) for cell in wanted.cells)
    return 1 if missing or failures else code


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _table(name: str, wanted: Sweep, store: Store) -> int:
    """Print the table with the command that anybody can repeat, so that there is one way from records to it."""
    command = [sys.executable, "-m", "analysis.make_tables", name, "--results", str(store.path)]
    seeds = ",".join(str(seed) for seed in wanted.seeds) + ("," if len(wanted.seeds) == 1 else "")
    command += ["--problem", wanted.problem.name, "--seeds", seeds]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def _summary(
    wanted: Sweep, plan: Plan, store: Store, display: Display, options: PoolOptions, wall: float, failures: list[Failed]
) -> None:
    training = sum(record["seconds"]["training"] for record in display.trained)
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


if __name__ == "__main__":
    sys.exit(cli.main(app))
