"""The table of any other sweep that retrains: a row for each setting and schedule, a column a sparsity and budget.

Le and Hua's study (criterion x schedule) is one of them, and so is a sweep of cycles.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pandas as pd

from analysis import captions
from analysis.claims import Evidence, Finding, budget_words, directional, per_cent, versus
from analysis.groups import Group, accuracy_entry, differ
from analysis.records import Axes
from analysis.tables import NOT_ASKED, Column, Entry, Row, Table, ranked
from benchmark.cells import Budget
from benchmark.methods import declaration
from benchmark.results.records import TARGET_MARGIN

LARGE = ("SLR", "CLR")
"""Le and Hua's schedules."""
BEATEN = ("magnitude", "filters")
"""Criteria that they prune by where random pruning wins over fine-tuning."""
Kind = tuple[str, str, str]
"""(method, schedule, hyperparameters), as in the DataFrame."""
Place = tuple[float, str]
"""(sparsity, budget): a column."""
ByCell = dict[tuple[Kind, Place], pd.DataFrame]


def fits(axes: Axes) -> bool:
    """Whether every cell retrains."""
    return "" not in axes.schedules + axes.budgets


def measured(group: Group) -> Table:
    """Final test accuracy in per cent; what the sweep does not ask for is empty and not counted as missing.

    Rows that ended at another sparsity than a column's have no rank there. None have in a column of a budget for each
    cycle in which they come to different totals.
    """
    axes, by_cell = group.axes, _by_cell(group.cells)
    columns, labels = _columns(axes), row_labels(axes)
    totals = _totals(axes, by_cell)
    rows = tuple(
        Row(
            label,
            tuple(
                _entry(by_cell.get((kind, column)), column, group.expected)
                if _is_asked(axes, kind, column)
                else NOT_ASKED
                for column in columns
            ),
        )
        for kind, label in labels.items()
    )
    entries = [entry for row in rows for entry in row.entries]
    return ranked(
        Table(
            "measured",
            f"{axes.title}, {group.recipe.name}",
            "setting",
            tuple(
                Column(f"sparsity {per_cent(s)}", f"budget {budget_words(b)}", ranked=not differ(own.values()))
                for (s, b), own in totals.items()
            ),
            rows,
            caption=(
                captions.statistic(group.cells["seed"], group.expected, entries),
                *_other_sparsities(group, by_cell, labels),
                *_totals_sentence(totals, labels),
                captions.problem(group.recipe),
                captions.dense(group.every),
                captions.provenance(group.every, group.problems),
            ),
        )
    )


def evidence(group: Group) -> Evidence:
    """Final test accuracies in per cent by the labels of the rows."""
    labels = row_labels(group.axes)
    by_cell = _by_cell(group.cells)
    accuracy = {
        (labels[kind], *column): runs.dropna(subset="final_test").set_index("seed")["final_test"] * 100
        for (kind, column), runs in by_cell.items()
    }
    return Evidence(
        accuracy,
        tuple(labels.values()),
        group.axes.sparsities,
        group.axes.budgets,
        {},
        factors={label: _factors(group.axes, kind) for kind, label in labels.items()},
        reached={(labels[kind], *column): _reached(runs) for (kind, column), runs in by_cell.items()},
        epochs={
            (labels[kind], *column): epochs
            for column, own in _totals(group.axes, by_cell).items()
            for kind, epochs in own.items()
        },
    )


def row_labels(axes: Axes) -> dict[Kind, str]:
    """Rows in the sweep's order, in words: what varies, a default where it alone tells the row from another one."""
    varied = _varied(axes)
    known = [_settings(text) for text in axes.hyperparameters]
    kinds = [
        (method, schedule, text)
        for method in axes.methods
        for text in axes.hyperparameters
        for schedule in axes.schedules
        if any(cell[:2] == (method, schedule) and cell[4] == text for cell in axes.cells)
    ]
    labels = {}
    for method, schedule, text in kinds:
        own, defaults = _settings(text), declaration(method).defaults
        others = [key for key in varied if any({**own, key: given.get(key)} == given for given in known)]
        words = [f"{key} {own.get(key, defaults[key])}" for key in varied if key in own or key in others]
        labels[(method, schedule, text)] = ", ".join([*([method] if len(axes.methods) > 1 else []), *words, schedule])
    return labels


def has_claims(axes: Axes) -> bool:
    """Whether the sweep prunes at random and fine-tunes, as Le and Hua's study does."""
    criteria = {_settings(text).get("criterion", "magnitude") for text in axes.hyperparameters}
    return {"random", *BEATEN} <= criteria and {"FT", *LARGE} <= set(axes.schedules)


def check(given: Evidence) -> tuple[Finding, ...]:
    """Le and Hua's claim, with filters removed evenly; rows are found by their labels."""
    even = {label.replace(", stages even", ""): label for label in given.rows}
    contrasts = [
        versus(f"criterion random, {schedule}", even.get(f"criterion {criterion}, FT", ""), *column)
        for column in given.columns
        for schedule in LARGE
        for criterion in BEATEN
    ]
    statement = (
        f"Random pruning retrained with {' or '.join(LARGE)} beats {' and '.join(BEATEN)} pruning followed by FT"
    )
    return (directional("random-beats-fine-tuning", statement, contrasts, given, "; Le and Hua, ICLR 2021"),)


def _factors(axes: Axes, kind: Kind) -> tuple[str, ...]:
    """Method, schedule and the value of each hyperparameter that the sweep varies, "" where the method has none."""
    method, schedule, text = kind
    values = {**declaration(method).defaults, **_settings(text)}
    return method, schedule, *(json.dumps(values[key]) if key in values else "" for key in _varied(axes))


def _entry(runs: pd.DataFrame | None, column: Place, expected: int) -> Entry:
    found = accuracy_entry(runs, expected)
    return found if runs is None or _is_at(runs, column[0]) else replace(found, competes=False)


def _is_at(runs: pd.DataFrame, sparsity: float) -> bool:
    """Whether the runs ended at the sparsity, as far as they recorded it."""
    return not abs(_reached(runs) - sparsity) > TARGET_MARGIN


def _reached(runs: pd.DataFrame) -> float:
    return float(runs["sparsity_reached"].mean())


def _other_sparsities(group: Group, by_cell: ByCell, labels: Mapping[Kind, str]) -> list[str]:
    """Which rows ended at another sparsity than their column's, by the setting, since schedules do not change it."""
    found: dict[tuple[str, float], dict[str, None]] = {}
    for (kind, (sparsity, _)), runs in by_cell.items():
        if not _is_at(runs, sparsity):
            label = labels[kind].removesuffix(f", {kind[1]}")
            found.setdefault((label, sparsity), {})[per_cent(round(_reached(runs), 3))] = None
    if not found:
        return []
    ends: dict[tuple[float, str], list[str]] = {}
    for (label, sparsity), reached in found.items():
        ends.setdefault((sparsity, " or ".join(reached)), []).append(label)
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
    found: dict[Place, dict[Kind, float]] = {column: {} for column in _columns(axes)}
    for (kind, column), runs in by_cell.items():
        if Budget.parse(column[1]).per_cycle:
            found[column][kind] = float(runs["epochs"].mean())
    return found


def _totals_sentence(totals: Mapping[Place, Mapping[Kind, float]], labels: Mapping[Kind, str]) -> list[str]:
    """What rows retrain for in all, by sparsity where it differs; none where all rows of every column are alike."""
    if not any(differ(own.values()) for own in totals.values()):
        return []
    parts = []
    for kind, label in labels.items():
        by_sparsity: dict[str, list[str]] = {}
        for sparsity in dict.fromkeys(sparsity for sparsity, _ in totals):
            own = [found[kind] for (at, _), found in totals.items() if at == sparsity and kind in found]
            if own:
                numbers = ", ".join("unknown" if math.isnan(n) else f"{round(n, 2):g}" for n in own)
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


def _columns(axes: Axes) -> list[Place]:
    asked = {(sparsity, budget) for _, _, sparsity, budget, _ in axes.cells}
    return [(s, b) for s in axes.sparsities for b in axes.budgets if (s, b) in asked]


def _is_asked(axes: Axes, kind: Kind, column: Place) -> bool:
    return (*kind[:2], *column, kind[2]) in axes.cells


def _by_cell(cells: pd.DataFrame) -> ByCell:
    by = ["method", "schedule", "hyperparameters", "sparsity", "budget"]
    found = {}
    for key, runs in cells.groupby(by):
        method, schedule, text, sparsity, budget = cast(tuple[str, str, str, float, str], key)
        found[((method, schedule, text), (sparsity, budget))] = runs
    return found


def _varied(axes: Axes) -> list[str]:
    """The hyperparameters that the sweep names, in its order."""
    return list(dict.fromkeys(key for text in axes.hyperparameters for key in _settings(text)))


def _settings(text: str) -> dict[str, object]:
    return json.loads(text) if text else {}
