"""Made-up records of three sweeps as figures take them. No network was trained for any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis import frames
from analysis.axes import sweep_axes
from analysis.figures import Selection, style
from analysis.figures.drawing import Drawing
from analysis.groups import groups
from analysis.paper.figures import ORDER
from benchmark.cells import Cell
from benchmark.planning.grid import load_sweep
from tests.table1_records import MADE_UP, by_rank, record_of, table1_records

CYCLES = """
title: "Figure 1: iterative pruning"
seeds: 2
grids:
  - method: IMP
    schedule: [ALLR]
    sparsity: [0.9, 0.98]
    budget: [10ep, 20ep, 40ep]
    hyperparameters: {cycles: [1, 2]}
  - {method: IMP, schedule: [LRW], sparsity: [0.9, 0.98], budget: ["80ep"], hyperparameters: {ladder: [renda]}}
"""
LEVELS = {"10ep": 0.80, "20ep": 0.85, "40ep": 0.90}


def iterative(cell: Cell) -> dict[str, Any]:
    """Two cycles are 2 points better than one; the baseline reaches 86 % at 90 and 99 % at 98 % sparsity."""
    count = int(dict(cell.hyperparameters).get("cycles", 1))
    if cell.schedule == "LRW":
        made = record_of(cell, 0.86 if cell.sparsity == 0.9 else 0.99)
    else:
        made = record_of(cell, LEVELS[str(cell.budget)] + 0.02 * (count - 1) + 0.002 * cell.seed)
    made["iterations"] = {"total": round(cell.budget.amount * 17), "per_epoch": 17}
    made["cycles"] = [
        {"cycle": n, "d1": 0.3 - 0.1 * n, "d2": 0.25, "d": max(0.3 - 0.1 * n, 0.25)} for n in range(count)
    ]
    return made


def variant(cell: Cell) -> dict[str, Any]:
    """Random pruning falls to 20 % with FT; filters leave a tenth more weights than their fraction says."""
    criterion = dict(cell.hyperparameters).get("criterion", "magnitude")
    level = 0.2 if (criterion, cell.schedule) == ("random", "FT") else 0.9
    made = record_of(cell, level + 0.001 * cell.seed)
    made["sparsity"]["prunable"] = cell.sparsity - (0.1 if "filters" in str(criterion) else 0.0)
    return made


def table1_selection() -> Selection:
    return selection("table1", table1_records(by_rank))


def cycles_selection(path: Path) -> Selection:
    """`path`: where to write the sweep file."""
    path.write_text(CYCLES)
    return selection(str(path), [iterative(cell) for cell in made_up(str(path))])


def variants_selection() -> Selection:
    return selection("retraining_variants", [variant(cell) for cell in made_up("retraining_variants", seeds="2")])


def made_up(name: str, **chosen: Any) -> list[Cell]:
    """The cells of a sweep on the made-up problem."""
    cells = load_sweep(name, **chosen).cells
    return [Cell(MADE_UP, c.method, c.seed, c.schedule, c.sparsity, c.budget, c.hyperparameters) for c in cells]


def selection(name: str, given: list[dict[str, Any]], narrowed: bool = False) -> Selection:
    found = frames.read(given, "tests")
    (group,) = groups(found, sweep_axes(name))
    return Selection(group, found.whole, narrowed, ORDER)


def selection_again(given: Selection) -> Selection:
    found = frames.read(given.whole.values(), "tests")
    (group,) = groups(found, given.group.axes)
    return Selection(group, found.whole, order=ORDER)


def drawn(draw, given: Selection) -> Drawing:
    with style():
        return draw(given)


def collapse(given: Selection, schedule: str) -> Selection:
    """One of three runs at 90 % and the longest budget ends at a tenth."""
    for record in given.whole.values():
        cell = record["cell"]
        if (cell["schedule"], cell["sparsity"], cell["budget"], cell["seed"]) == (schedule, 0.9, "11.11%", 0):
            record["status"] = "collapsed"
            record["accuracy"]["final"]["test"] = 0.1
    return selection_again(given)


def fewer(given: Selection, schedule: str) -> Selection:
    """One seed of the schedule alone."""
    for name, record in list(given.whole.items()):
        if record["cell"]["schedule"] == schedule and record["cell"]["seed"]:
            del given.whole[name]
    return selection_again(given)
