"""The table of any other sweep: a row for each setting and schedule, a column a sparsity and budget.

Le and Hua's study (criterion x schedule) is one of them, and so is a sweep of cycles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pandas as pd

from analysis.axes import Axes
from analysis.claims import Contrast, Evidence, Finding, budget_words, per_cent, versus
from analysis.groups import RecipeGroup, differ, is_at, reached, score_entry
from analysis.labels import Kind, factors, of_setting, row_labels
from analysis.layout import Layout, measured_table
from analysis.paper.claims_figure1 import baseline_met_early
from analysis.tables import Column, Entry, Row, Table
from analysis.verdicts import directional
from benchmark.cells import Budget

LARGE = ("SLR", "CLR")
"""Le and Hua's schedules."""
SOURCE = "; Le and Hua, ICLR 2021"
Place = tuple[float, str]
"""(sparsity, budget): a column."""
ByCell = dict[tuple[Kind, Place], pd.DataFrame]


def random_filters_match(evidence: Evidence) -> Finding:
    """Le and Hua's claim: with as many filters of every layer removed, the retraining decides and not the choice."""
    contrasts = _retrained_at_random(evidence, "random_filters", "filters")
    statement = f"Filters removed at random and retrained with {' and '.join(LARGE)} beat chosen filters followed by FT"
    return directional("random-filters-beat-fine-tuning", statement, contrasts, evidence, SOURCE)


def random_weights_match(evidence: Evidence) -> Finding:
    """The same of single weights, which Le and Hua do not say as strongly."""
    contrasts = _retrained_at_random(evidence, "random", "magnitude")
    statement = f"Weights removed at random and retrained with {' and '.join(LARGE)} beat magnitude pruning and FT"
    return directional("random-weights-beat-fine-tuning", statement, contrasts, evidence, SOURCE)


def _retrained_at_random(evidence: Evidence, at_random: str, chosen: str) -> list[Contrast]:
    """With filters removed evenly; rows are found by their labels. None where the sweep has not all of these rows."""
    even = {label.replace(", stages even", ""): label for label in evidence.rows}
    names = [f"criterion {at_random}, {schedule}" for schedule in LARGE]
    fine_tuned = f"criterion {chosen}, FT"
    if not {*names, fine_tuned} <= even.keys():
        return []
    return [versus(even[name], even[fine_tuned], *column) for column in evidence.columns for name in names]


class Variants(Layout):
    """The metric on the test images at the end; what the sweep does not ask for is empty and not counted as missing.

    Rows that ended at another sparsity than a column's have no rank there. None have in a column of a budget for each
    cycle in which they come to different totals.
    """

    claims = (random_filters_match, random_weights_match, baseline_met_early)

    def fits(self, axes: Axes) -> bool:
        """Whatever varies: methods that have no budget stand in a column of their own."""
        return True

    def measured(self, group: RecipeGroup) -> Table:
        axes, by_cell = group.axes, _by_cell(group.tested)
        labels, totals = row_labels(axes), _totals(axes, by_cell)
        columns = [
            Column(
                f"sparsity {per_cent(s)}",
                f"budget {budget_words(b)}" if b else "no retraining",
                ranked=not differ(epochs.values()),
            )
            for (s, b), epochs in totals.items()
        ]
        rows = [
            Row(label, tuple(_entry(group, by_cell, kind, column) for column in totals))
            for kind, label in labels.items()
        ]
        sentences = (*_other_sparsities(group, by_cell, labels), *_totals_sentence(totals, labels))
        return measured_table(group, "setting", columns, rows, *sentences)

    def evidence(self, group: RecipeGroup) -> Evidence:
        """By the labels of the rows."""
        labels = row_labels(group.axes)
        by_cell = _by_cell(group.tested)
        return Evidence(
            {(labels[kind], *column): group.scores(runs) for (kind, column), runs in by_cell.items()},
            tuple(labels.values()),
            group.axes.sparsities,
            group.axes.budgets,
            {},
            factors={label: factors(group.axes, kind) for kind, label in labels.items()},
            reached={(labels[kind], *column): reached(runs) for (kind, column), runs in by_cell.items()},
            asked=group.axes.columns,
            epochs={
                (labels[kind], *column): epochs
                for column, of_column in _totals(group.axes, by_cell).items()
                for kind, epochs in of_column.items()
            },
            metric=group.metric,
            validation={(labels[kind], *column): group.validation(runs) for (kind, column), runs in by_cell.items()},
        )


def _entry(group: RecipeGroup, by_cell: ByCell, kind: Kind, column: Place) -> Entry:
    runs = by_cell.get((kind, column))
    entry = score_entry(group, runs, (*kind[:2], *column, kind[2]) in group.axes.cells)
    return entry if runs is None or is_at(runs, column[0]) else replace(entry, competes=False)


def _other_sparsities(group: RecipeGroup, by_cell: ByCell, labels: Mapping[Kind, str]) -> list[str]:
    """Which rows ended at another sparsity than their column's, by the setting, since schedules do not change it."""
    away: dict[tuple[str, float], dict[str, None]] = {}
    for (kind, (sparsity, _)), runs in by_cell.items():
        if not is_at(runs, sparsity):
            label = of_setting(labels[kind], kind[1])
            away.setdefault((label, sparsity), {})[per_cent(round(reached(runs), 3))] = None
    if not away:
        return []
    ends: dict[tuple[float, str], list[str]] = {}
    for (label, sparsity), ended in away.items():
        ends.setdefault((sparsity, " or ".join(ended)), []).append(label)
    rows = "; ".join(f"{words} under {per_cent(s)}: {' and '.join(names)}" for (s, words), names in ends.items())
    filters = (
        " For filters a column's per cent is that of every layer's filters (with stages: of the first stage's, the "
        "others in proportion)."
        if group.cells["hyperparameters"].str.contains("filters").any()
        else ""
    )
    return [
        "Rows that are not as sparse as their column says have no mark there and are compared with rows of their own "
        f"sparsity alone. Zeros among the prunable weights: {rows}.{filters}"
    ]


def _totals(axes: Axes, by_cell: ByCell) -> dict[Place, dict[Kind, float]]:
    """Retraining epochs over all cycles by column and row, where the column's budget is that of each cycle."""
    totals: dict[Place, dict[Kind, float]] = {column: {} for column in axes.columns}
    for (kind, column), runs in by_cell.items():
        if column[1] and Budget.parse(column[1]).per_cycle:
            totals[column][kind] = float(runs["epochs"].mean())
    return totals


def _totals_sentence(totals: Mapping[Place, Mapping[Kind, float]], labels: Mapping[Kind, str]) -> list[str]:
    """What rows retrain for in all, by sparsity where it differs; none where all rows of every column are alike."""
    if not any(differ(epochs.values()) for epochs in totals.values()):
        return []
    parts = []
    for kind, label in labels.items():
        by_sparsity: dict[str, list[str]] = {}
        for sparsity in dict.fromkeys(sparsity for sparsity, _ in totals):
            row = [column[kind] for (at, _), column in totals.items() if at == sparsity and kind in column]
            if row:
                numbers = ", ".join("unknown" if math.isnan(n) else f"{round(n, 2):g}" for n in row)
                by_sparsity.setdefault(numbers, []).append(per_cent(sparsity))
        several = len(by_sparsity) > 1
        words = [numbers + (f" ({', '.join(at)})" if several else "") for numbers, at in by_sparsity.items()]
        if words:
            parts.append(f"{label}: {' and '.join(words)}")
    return [
        "A budget per cycle is that of each prune-retrain cycle: where the rows of a column differ in their epochs in "
        "all, there are no marks, and rows are compared only with those that have as many. Epochs in all, column by "
        "column: "
        f"{'; '.join(parts)}."
    ]


def _by_cell(cells: pd.DataFrame) -> ByCell:
    by = ["method", "schedule", "hyperparameters", "sparsity", "budget"]
    by_cell = {}
    for key, runs in cells.groupby(by):
        method, schedule, text, sparsity, budget = cast(tuple[str, str, str, float, str], key)
        by_cell[((method, schedule, text), (sparsity, budget))] = runs
    return by_cell
