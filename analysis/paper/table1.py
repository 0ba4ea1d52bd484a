"""Table 1 of the paper, retraining schedules after one-shot IMP, and how it compares with what was published.

Sweeps of your own that vary schedules, sparsities and budgets of one method are laid out in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import cast

import pandas as pd

from analysis import captions
from analysis.claims import Evidence, Key, budget_words, per_cent
from analysis.groups import Group, accuracy_entry
from analysis.paper.claims_table1 import SCHEDULES
from analysis.records import Axes
from analysis.tables import NOT_ASKED, Column, Entry, Row, Table, agreement, ranked


def fits(axes: Axes) -> bool:
    """Whether the sweep varies what this table shows: one method that retrains, with one setting."""
    return len(axes.methods) == 1 and len(axes.hyperparameters) == 1 and "" not in axes.schedules + axes.budgets


def measured(group: Group) -> Table:
    """Schedules down, sparsity over budget across: final test accuracy in per cent."""
    by_cell = _by_cell(group.cells)
    axes = group.axes
    asked = {cell[1:4] for cell in axes.cells}
    keys = [(sparsity, budget) for sparsity in axes.sparsities for budget in axes.budgets]
    rows = tuple(
        Row(
            name,
            tuple(
                accuracy_entry(by_cell.get((name, *key)), group.expected) if (name, *key) in asked else NOT_ASKED
                for key in keys
            ),
        )
        for name in axes.schedules
    )
    entries = [entry for row in rows for entry in row.entries]
    return ranked(
        Table(
            "measured",
            f"{axes.title}, {group.recipe.name}",
            "schedule",
            _columns(axes),
            rows,
            caption=(
                captions.statistic(group.cells["seed"], group.expected, entries),
                captions.problem(group.recipe),
                captions.dense(group.every),
                captions.provenance(group.every, group.problems),
            ),
        )
    )


def published(ours: Table, axes: Axes) -> Table:
    """The paper's Table 1 over the columns of `ours`, and under each column how far the two agree."""
    numbers = published_numbers()
    keys = [(sparsity, budget) for sparsity in axes.sparsities for budget in axes.budgets]
    names = [name for name in axes.schedules if name in SCHEDULES]
    rows = tuple(Row(name, tuple(_published_entry(numbers.get((name, *key))) for key in keys)) for name in names)
    table = ranked(
        Table(
            "published",
            "As published: ResNet-50 on ImageNet, 90 epochs",
            "schedule",
            _columns(axes),
            rows,
            caption=(
                "Zimmer, Spiegel, Pokutta, ICLR 2023 (arXiv 2111.00843): test accuracy in per cent, ± as printed.",
                "Rank correlation: Spearman's, of our means with the published ones over the schedules of a column. "
                "The winner agrees if the schedules on rank 1 here and there have one in common.",
            ),
        )
    )
    return replace(table, footer=agreement(ours, table))


def has_published(axes: Axes) -> bool:
    """Whether the paper's table has any of the sweep's cells."""
    cells = {(schedule, sparsity, budget) for _, schedule, sparsity, budget, _ in axes.cells}
    return not cells.isdisjoint(published_numbers())


def has_claims(axes: Axes) -> bool:
    """Whether the sweep has all schedules that the paper's claims are about."""
    return set(SCHEDULES) <= set(axes.schedules)


def evidence(group: Group) -> Evidence:
    """Final test accuracies in per cent, for the claims."""
    usable = group.cells.dropna(subset="final_test")
    by_cell = {key: part.set_index("seed") for key, part in _by_cell(usable).items()}
    return Evidence(
        {key: part["final_test"] * 100 for key, part in by_cell.items()},
        group.axes.schedules,
        group.axes.sparsities,
        group.axes.budgets,
        {key: mean for key, (mean, _) in published_numbers().items()},
        {key: part["learning_rates"][part["learning_rates"] != ""] for key, part in by_cell.items()},
    )


def published_numbers() -> Mapping[Key, tuple[float, float]]:
    """(schedule, sparsity, budget) -> published mean and deviation in per cent."""
    with (files("analysis.paper") / "published" / "table1.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    budgets = [f"{budget:g}%" for budget in frame["budget_percent"]]
    keys = zip(frame["schedule"], frame["sparsity"], budgets, strict=True)
    return dict(zip(keys, zip(frame["accuracy_mean"], frame["accuracy_std"], strict=True), strict=True))


def _by_cell(cells: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    return {cast(Key, key): part for key, part in cells.groupby(["schedule", "sparsity", "budget"])}


def _columns(axes: Axes) -> tuple[Column, ...]:
    return tuple(
        Column(f"sparsity {per_cent(sparsity)}", f"budget {budget_words(budget)}")
        for sparsity in axes.sparsities
        for budget in axes.budgets
    )


def _published_entry(numbers: tuple[float, float] | None) -> Entry:
    mean, std = numbers or (None, None)
    return Entry(mean, std, n=None)
