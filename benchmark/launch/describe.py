"""What a plan says to a person before anything runs."""

from __future__ import annotations

from rich.console import Console

from benchmark.launch.display import duration
from benchmark.launch.machine import PoolOptions
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan


def counts(wanted: Sweep, plan: Plan) -> str:
    """The plan in one line."""
    dense = len(plan.dense_tasks)
    return (
        f"{wanted.name} on {wanted.problem.name}: {len(plan.cells)} cells, {len(plan.done)} done, "
        f"{len(plan.tasks) - dense} to train, after {dense} dense run{'' if dense == 1 else 's'}; "
        f"{plan.epochs:.0f} epochs"
    )


def describe(
    wanted: Sweep, plan: Plan, options: PoolOptions, cells: bool, console: Console, undecided: int = 0
) -> None:
    """Cells, dense runs, epochs, time and GPU-hours; with `cells` a line for each of them.

    undecided: how many of the last cells stand for settings that tuning is yet to choose.
    """

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    say(counts(wanted, plan))
    if undecided:
        say(f"{undecided} of them with the settings that tuning will choose")
    for task in plan.dense_tasks:
        say(f"dense run needed: {task.cell.id} ({task.epochs:g} epochs)")
    seconds = plan.seconds(options.workers)
    how = f"{options.workers} workers of {options.run.threads} thread{'' if options.run.threads == 1 else 's'}"
    if options.gpus:
        how += f" on {len(options.gpus)} GPUs"
    if seconds is None:
        say(f"time: unknown until a first cell has run; {how}")
    else:
        hours = f", {seconds * len(options.gpus) / 3600:.1f} GPU-hours" if options.gpus else ""
        say(f"time: about {duration(seconds)} with {how}{hours}")
    if cells:
        todo = {task.cell.id: task for task in plan.tasks}
        named = plan.cells[: len(plan.cells) - undecided]
        for cell in [*(task.cell for task in plan.dense_tasks), *named]:
            say(f"{f'{todo[cell.id].epochs:8.2f} epochs' if cell.id in todo else '           done'}  {cell.id}")
