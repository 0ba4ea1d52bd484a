"""Table 1 of the paper, retraining schedules after one-shot IMP, and how it compares with what was published.

Sweeps of your own that vary schedules, sparsities and budgets of one method are laid out in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import cast

import pandas as pd

from analysis import choice
from analysis.axes import Axes
from analysis.claims import Evidence, Key, budget_words, per_cent
from analysis.groups import RecipeGroup, by_seed, reached, score_entry
from analysis.layout import Layout, measured_table, published_table
from analysis.paper.claims_table1 import CLAIMS, MARGINS, SCHEDULES
from analysis.tables import Column, Entry, Row, Table


class Table1(Layout):
    """Schedules down, sparsity over budget across: the metric on the test images at the end."""

    claims, margins = CLAIMS, MARGINS

    def fits(self, axes: Axes) -> bool:
        """One method that retrains, with one setting, or with the one that is chosen for each entry."""
        one = len(axes.hyperparameters) == 1 or bool(axes.tuning_seeds)
        return len(axes.methods) == 1 and one and axes.retrains

    def measured(self, group: RecipeGroup) -> Table:
        by_cell, axes = _by_cell(group), group.axes
        asked = {cell[1:4] for cell in axes.cells}
        keys = axes.columns
        columns = [Column(f"sparsity {per_cent(s)}", f"budget {budget_words(b)}") for s, b in keys]
        rows = [
            Row(name, tuple(score_entry(group, by_cell.get((name, *key)), (name, *key) in asked) for key in keys))
            for name in axes.schedules
        ]
        (method,) = axes.methods
        labels = {(method, name): name for name in axes.schedules}
        choices = choice.sentences(group, choice.chosen(group), labels) if axes.tuning_seeds else []
        seeds = [seed for runs in by_cell.values() for seed in runs["seed"]]
        return measured_table(group, "schedule", columns, rows, *choices, seeds=seeds)

    def has_published(self, axes: Axes) -> bool:
        cells = {(schedule, sparsity, budget) for _, schedule, sparsity, budget, _ in axes.cells}
        return not cells.isdisjoint(published_numbers())

    def published(self, measured: Table, axes: Axes) -> Table:
        numbers = published_numbers()
        rows = []
        for name in (name for name in axes.schedules if name in SCHEDULES):
            cells = [numbers.get((name, *key), (None, None)) for key in axes.columns]
            rows.append(Row(name, tuple(Entry(mean, std, n=None) for mean, std in cells)))
        return published_table(
            measured,
            "As published: ResNet-50 on ImageNet, 90 epochs",
            rows,
            "Zimmer, Spiegel, Pokutta, ICLR 2023 (arXiv 2111.00843): test accuracy in per cent, ± as printed.",
            "Rank correlation: Spearman's, of our means with the published ones over the schedules of a column; "
            "rows that are the same runs count once. "
            "The winner here is that of these schedules; it agrees if one is on rank 1 here and there.",
        )

    def evidence(self, group: RecipeGroup) -> Evidence:
        by_cell = {key: part[part["final_test"].notna()] for key, part in _by_cell(group).items()}
        rates = {key: by_seed(part, "learning_rates") for key, part in by_cell.items()}
        return Evidence(
            {key: group.scores(part) for key, part in by_cell.items()},
            group.axes.schedules,
            group.axes.sparsities,
            group.axes.budgets,
            {key: mean for key, (mean, _) in published_numbers().items()},
            {key: of_cell[of_cell != ""] for key, of_cell in rates.items()},
            reached={key: reached(part) for key, part in by_cell.items()},
            asked=group.axes.columns,
            metric=group.metric,
        )

    def has_claims(self, axes: Axes) -> bool:
        return set(SCHEDULES) <= set(axes.schedules)


def published_numbers() -> Mapping[Key, tuple[float, float]]:
    """(schedule, sparsity, budget) -> published mean and deviation in per cent."""
    with (files("analysis.paper") / "published" / "table1.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    budgets = [f"{budget:g}%" for budget in frame["budget_percent"]]
    keys = zip(frame["schedule"], frame["sparsity"], budgets, strict=True)
    return dict(zip(keys, zip(frame["accuracy_mean"], frame["accuracy_std"], strict=True), strict=True))


def _by_cell(group: RecipeGroup) -> dict[Key, pd.DataFrame]:
    """The runs of each entry, of the chosen setting where the sweep tunes."""
    if group.axes.tuning_seeds:
        return {contest[1:]: runs for contest, runs in choice.chosen(group).items()}
    return {cast(Key, key): part for key, part in group.cells.groupby(["schedule", "sparsity", "budget"])}
