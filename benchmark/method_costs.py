"""What each method's step costs, in images/s over dense training in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.training.loop import Run

PUBLISHED = {"BIMP": 1454, "GMP": 1425, "GSM": 1349, "DPF": 1456, "DNW": 530, "LC": 1436, "STR": 1396, "DST": 1219}
"""Images/s of Table 2 (Zimmer et al. 2023); their dense training is not printed, so they are read against BIMP's."""
SPARSITY = 0.9

Timer = Callable[[Run, int], float]
"""(run, iterations) -> seconds of training them, batches included, synchronised."""


def parse_methods(text: str) -> list[str]:
    """The methods of Table 2 by name, comma between, or "all". Raises UserError."""
    known = [name for name, declared in METHODS.items() if not declared.retrains and name != "dense"]
    chosen = known if text == "all" else [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in known:
            raise UserError(f"--methods {name}: all, or some of {','.join(known)}")
    return chosen


def compare_methods(
    problem: Problem, data: Batches, names: Sequence[str], iterations: int, repeats: int, timer: Timer
) -> dict[str, list[float]]:
    """For each method its images/s over dense training, a value a turn; dense and all methods take turns.

    A method is timed in its last phase, so that BIMP trains with masks.
    """
    dense = _begun("dense", problem, data)
    runs = {name: _begun(name, problem, data) for name in names}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        before = timer(dense, iterations)
        seconds = {name: timer(run, iterations) for name, run in runs.items()}
        plain = (before + timer(dense, iterations)) / 2
        if turn:  # the first warms up
            for name in names:
                ratios[name].append(plain / seconds[name])
    return ratios


def lines(ratios: dict[str, list[float]]) -> list[str]:
    """A line a method: median, spread, and the published ratio to BIMP."""
    found = []
    for name, values in ratios.items():
        ordered = sorted(values)
        published = f"published {PUBLISHED[name] / PUBLISHED['BIMP']:.2f} of BIMP" if name in PUBLISHED else ""
        spread = f"{ordered[0]:.3f} to {ordered[-1]:.3f}"
        found.append(f"{name:5} {statistics.median(values):.3f} of dense images/s ({spread})  {published}".rstrip())
    return found


def _begun(name: str, problem: Problem, data: Batches) -> Run:
    cell = Cell.dense(problem, 0) if name == "dense" else Cell(problem, name, 0, sparsity=SPARSITY)
    run = Run(cell, models.build(problem, 0).to(data.device), data, load(name), dict(METHODS[name].defaults))
    for phase in range(run.method.phases):
        run.method.begin(phase)
    run.network.train()
    return run
