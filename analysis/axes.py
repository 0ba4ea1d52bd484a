"""What a sweep varies, and which records are its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis import settings
from analysis.frames import CELL, Records
from benchmark.cells import Budget
from benchmark.planning.grid import Sweep, load_sweep


@dataclass(frozen=True)
class Axes:
    """What a sweep varies, in its order.

    Args:
        name, title: as in its file.
        methods, schedules, sparsities, budgets, hyperparameters: the values of its cells, as in the DataFrame.
        seeds: those that it asks for.
        tuning_seeds: those with which settings compete; none where the sweep does not say it.
        other_seeds: whether records with other seeds count too.
        cells: values of CELL, as in the DataFrame; sparsity -1 where a cell has none.
        problem: what it trains on unless a command says otherwise.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    schedules: tuple[str, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    other_seeds: bool
    cells: frozenset[tuple[str, str, float, str, str]]
    problem: str

    @property
    def retrains(self) -> bool:
        """Whether every cell retrains, with a schedule and a budget."""
        return "" not in self.schedules + self.budgets

    @property
    def columns(self) -> list[tuple[float, str]]:
        """(sparsity, budget) of some cell, in the order of tables."""
        asked = {(sparsity, budget) for _, _, sparsity, budget, _ in self.cells}
        return [(s, b) for s in self.sparsities for b in self.budgets if (s, b) in asked]

    @property
    def from_scratch(self) -> bool:
        """Whether no cell has a budget, so that methods which prune while they train are compared."""
        return set(self.budgets) == {""}


def sweep_axes(name: str, seeds: str | None = None, only: Sequence[str] = ()) -> Axes:
    """The grid of sweeps/NAME.yaml or of a file of your own; `seeds` and `only` as the sweep takes them.

    Raises UserError.
    """
    sweep = load_sweep(name, seeds=seeds, only=only)
    rows = [
        (
            cell.method,
            cell.schedule or "",
            -1.0 if cell.sparsity is None else cell.sparsity,
            "" if cell.budget is None else str(cell.budget),
            settings.text_of(dict(cell.hyperparameters)),
        )
        for cell in sweep.cells
    ]
    methods, schedules, sparsities, budgets, hyperparameters = (
        tuple(dict.fromkeys(column)) for column in zip(*rows, strict=True)
    )
    return Axes(
        sweep.name,
        sweep.title,
        methods,
        schedules,
        tuple(sorted(sparsities)),
        tuple(sorted(budgets, key=lambda budget: _budget_order(budget, sweep.problem.epochs))),
        hyperparameters,
        _seeds(sweep),
        sweep.tuning_seeds,
        seeds is None and not any("seed=" in text for text in only),
        frozenset(rows),
        sweep.problem.name,
    )


def _seeds(sweep: Sweep) -> tuple[int, ...]:
    """The sweep's seeds without those that a filter left out."""
    left = {cell.seed for cell in sweep.cells}
    return tuple(seed for seed in sweep.seeds if seed in left)


def _budget_order(text: str, dense_epochs: int) -> tuple[bool, float]:
    """By epochs; iterations, of which a plan does not know how many make an epoch, come last."""
    if not text:
        return False, 0.0
    budget = Budget.parse(text)
    return budget.unit == "it", budget.amount * (dense_epochs / 100 if budget.unit == "%" else 1)


def of_sweep(frame: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    """The records that are cells of the sweep, on any problem."""
    frame = of_seeds(frame, axes)
    if frame.empty:
        return frame
    keys = frame[list(CELL)].fillna({"sparsity": -1.0}).itertuples(index=False, name=None)
    return frame[[key in axes.cells for key in keys]]


def of_seeds(frame: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    return frame if axes.other_seeds else frame[frame["seed"].isin({*axes.seeds, *axes.tuning_seeds})]


def with_dense(records: Records, axes: Axes, problem: str | None = None) -> Records | None:
    """The sweep's records with the dense runs of their problems; None if there are none (on `problem`)."""
    cells = of_sweep(records.frame, axes)
    if problem is not None:
        cells = cells[cells["problem"] == problem]
    if cells.empty:
        return None
    frame = records.frame[records.frame["identity"].isin(cells["identity"].unique())]
    return replace(records, frame=frame[(frame["method"] == "dense") | frame.index.isin(cells.index)])


def without_parts(sweeps: Sequence[tuple[Axes, Records]]) -> list[tuple[Axes, Records]]:
    """Without sweeps whose records are all cells of another one that has more: what two sweeps share is shown once."""
    cells = [set(of_sweep(records.frame, axes)["id"]) for axes, records in sweeps]
    return [sweep for sweep, ids in zip(sweeps, cells, strict=True) if not any(ids < other for other in cells)]
