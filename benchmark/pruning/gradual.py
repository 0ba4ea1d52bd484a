"""How much is pruned when: the sparsity after each cycle of iterative pruning, and at each step of gradual pruning.

Imports no torch and no recipe: planning, methods and `benchmark.api` use the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

RENDA_FRACTION = 0.2
"""Renda et al. 2020 prune 20 % of the remaining weights in every cycle."""
PERIOD = 16
"""Iterations between two masks of DPF (Lin et al. 2020, section 4)."""


def ladder(kind: str, sparsity: float, cycles: int) -> list[float]:
    """Sparsity after each cycle, the last one exactly `sparsity`.

    kind "even": each of the n `cycles` prunes 1 - (1 - S)^(1/n) of the alive weights. "renda": each cycle prunes 20 %
    of them, the last one what is missing to S; there are as many cycles as that takes, whatever `cycles` is.
    """
    if kind == "even":
        return [1 - (1 - sparsity) ** (cycle / cycles) for cycle in range(1, cycles)] + [sparsity]
    needed = math.ceil(math.log(1 - sparsity) / math.log(1 - RENDA_FRACTION) - 1e-9)
    return [1 - (1 - RENDA_FRACTION) ** cycle for cycle in range(1, needed)] + [sparsity]


def cycle_lengths(total: int, cycles: int) -> list[int]:
    """Iterations of each cycle: the same for all, and the last one takes the remainder."""
    each = total // cycles
    return [each] * (cycles - 1) + [total - each * (cycles - 1)]


def cubic(sparsity: float, iterations: int, interval: int) -> dict[int, float]:
    """{iteration: sparsity from there on} of gradual pruning: s_t = S - S (1 - t/m)^3 at t * interval, t = 1 .. m
    (Zhu & Gupta 2017, eq. 1).

    m = floor(iterations / interval) - 1, so that one interval of training follows the last step, as in the code of
    Zimmer et al. Empty if m < 1.
    """
    steps = iterations // interval - 1
    return {t * interval: sparsity - sparsity * (1 - t / steps) ** 3 for t in range(1, steps + 1)}


def due(steps: Mapping[int, float], k: int) -> float:
    """Sparsity at iteration k of what `cubic` gives; 0 before the first step."""
    return max((sparsity for start, sparsity in steps.items() if start <= k), default=0.0)
