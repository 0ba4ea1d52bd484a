"""What a plan says to a person before anything runs."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan


def counts(sweep: Sweep, plan: Plan) -> str:
    """The plan in one line."""
    dense = len(plan.dense_tasks)
    return (
        f"{sweep.name} on {sweep.problem.name}: {len(plan.cells)} cells, {len(plan.done)} done, "
        f"{len(plan.tasks) - dense} to train, after {dense} dense run{'' if dense == 1 else 's'}; "
        f"{plan.epochs:.0f} epochs"
    )


def describe(sweep: Sweep, plan: Plan, cost: str, cells: bool, say: Callable[[str], None], undecided: int = 0) -> None:
    """Cells, dense runs, epochs and a line about the cost; with `cells` a line for each of them.

    undecided: how many of the last cells stand for settings that tuning is yet to choose.
    """
    say(counts(sweep, plan))
    if undecided:
        say(f"{undecided} of them with the settings that tuning will choose")
    for task in plan.dense_tasks:
        say(f"dense run needed: {task.cell.id} ({task.epochs:g} epochs)")
    if cost:
        say(cost)
    if cells:
        todo = {task.cell.id: task for task in plan.tasks}
        named = plan.cells[: len(plan.cells) - undecided]
        for cell in [*(task.cell for task in plan.dense_tasks), *named]:
            say(f"{f'{todo[cell.id].epochs:8.2f} epochs' if cell.id in todo else '           done'}  {cell.id}")
