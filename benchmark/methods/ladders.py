"""Iterative pruning as planning sees it: how many cycles a cell has, and which runs share them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.cells import Cell, Scalar, digest
from benchmark.pruning.gradual import ladder


def cycles(cell: Cell, hyperparameters: Mapping[str, Scalar]) -> int:
    """How often a cell of iterative pruning is pruned and retrained."""
    assert cell.sparsity is not None
    return len(ladder(str(hyperparameters["ladder"]), cell.sparsity, int(hyperparameters["cycles"])))


def trunk(cell: Cell, hyperparameters: Mapping[str, Scalar], done: int) -> str | None:
    """Name of the state after the first `done` cycles, None if no run of another cell can share it.

    Runs that prune the same fraction in every cycle, with the same schedule and budget a cycle, are the same until the
    shorter one begins its last cycle: the run to 98 % passes through states of the runs to 90 % and 95 %.
    """
    if hyperparameters.get("ladder") != "renda" or cell.budget is None or not cell.budget.per_cycle:
        return None
    assert cell.sparsity is not None
    if not 0 < done < len(ladder("renda", cell.sparsity, 1)):
        return None
    shared = {
        "problem": cell.problem.identity,
        "method": cell.method,
        "seed": cell.seed,
        "schedule": cell.schedule,
        "budget": str(cell.budget),
        "hyperparameters": {key: value for key, value in hyperparameters.items() if key != "cycles"},
        "cycles": done,
    }
    return f"{cell.problem.name}-trunk-seed{cell.seed}-{digest(shared)}"
