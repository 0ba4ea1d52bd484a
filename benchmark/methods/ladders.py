"""How iterative pruning divides a sparsity into cycles, and which runs share their first cycles. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmark.cells import Cell, Scalar, digest
from benchmark.errors import UserError

RENDA_FRACTION = 0.2
"""Renda et al. 2020 prune 20 % of the remaining weights in every cycle."""


def ladder(kind: str, sparsity: float, cycles: int, method: str = "IMP") -> list[float]:
    """Sparsity after each cycle, the last one exactly `sparsity`. `method` is named where a setting is refused.

    "even": each of `cycles` cycles prunes 1 - (1 - S)^(1/n) of the weights that are alive. "renda": 20 % of them in
    each cycle, as many cycles as that takes, the last one only what is missing; `cycles` does not matter.
    """
    if cycles < 1:
        raise UserError(f"method {method}: hyperparameter cycles is {cycles}; it takes a count from 1 up")
    if kind == "even":
        return [1 - (1 - sparsity) ** (cycle / cycles) for cycle in range(1, cycles)] + [sparsity]
    if kind == "renda":
        needed = math.ceil(math.log(1 - sparsity) / math.log(1 - RENDA_FRACTION) - 1e-9)
        return [1 - (1 - RENDA_FRACTION) ** cycle for cycle in range(1, needed)] + [sparsity]
    raise UserError(f"method {method}: hyperparameter ladder is {kind!r}; it takes 'even' or 'renda'")


def cycles(cell: Cell, hyperparameters: Mapping[str, Scalar]) -> int:
    """How often a cell of iterative pruning is pruned and retrained."""
    assert cell.sparsity is not None
    return len(ladder(str(hyperparameters["ladder"]), cell.sparsity, int(hyperparameters["cycles"])))


def trunk(cell: Cell, hyperparameters: Mapping[str, Scalar], done: int) -> str | None:
    """Name of the state of iterative pruning after its first `done` cycles, None if no other run can share it.

    Runs that prune the same fraction in every cycle, with the same schedule and the same budget of each, are one run
    until the shorter one ends: 98 % passes through where 90 % and 95 % were one cycle before their ends.
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
