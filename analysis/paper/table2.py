"""Table 2 of the paper, BIMP against the methods that prune while they train, and how it compares with the published.

Every method has a small grid of settings, and a row for each decay of its learning rate. Per row and sparsity the
setting that is best in validation is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, cast

import pandas as pd

from analysis import choice
from analysis.axes import Axes
from analysis.choice import Chosen, chosen
from analysis.claims import Evidence, Finding, per_cent
from analysis.groups import RecipeGroup, is_at, reached, remarks, score_entry
from analysis.labels import row_label, trained_with
from analysis.layout import Layout, measured_table, published_table
from analysis.paper.claims_table2 import CLAIMS, MARGINS
from analysis.tables import NOT_ASKED, Column, Entry, Row, Table, entry
from benchmark.results.records import TARGET_MARGIN

METHODS = ("BIMP", "GMP", "GSM", "DPF", "DNW", "LC", "STR", "DST", "CS")
"""Rows of the paper's table, and CS, which only the authors' code has. Methods of your own follow."""


class Table2(Layout):
    """Methods down; units of the loss a second, and per sparsity the metric, speedup and sparsity reached."""

    claims, margins = CLAIMS, MARGINS
    pairing = "one seed, the same initial weights and data order"

    def fits(self, axes: Axes) -> bool:
        return axes.from_scratch

    def measured(self, group: RecipeGroup) -> Table:
        axes, runs = group.axes, chosen(group)
        asked = {cell[:4] for cell in axes.cells}
        labels = row_kinds(axes)
        rows = [
            Row(
                label,
                (
                    _throughput(kind, runs, group.expected),
                    *(
                        entry
                        for key in ((*kind, sparsity, "") for sparsity in axes.sparsities)
                        for entry in (_entries(group, runs.get(key), key[2]) if key in asked else [NOT_ASKED] * 3)
                    ),
                ),
            )
            for kind, label in labels.items()
        ]
        return measured_table(
            group,
            "method",
            _columns(group),
            rows,
            "Speedup: dense MACs over MACs of the non-zero weights, collapsed runs left out. Sparsity: per cent of "
            "the prunable weights that are zero in the end, learned or pruned by magnitude. Images/s: training of "
            "these runs as they ran, with data loading and beside other work, where the published rates are "
            "synchronised and without data loading; `python -m benchmark.throughput --methods all` measures what "
            "each method costs like for like.",
            *_away(runs),
            *_decays(group),
            *choice.sentences(group, runs, labels),
            seeds=[seed for part in runs.values() for seed in part["seed"]],
        )

    def has_published(self, axes: Axes) -> bool:
        return not {(method, sparsity) for method, _, sparsity, _, _ in axes.cells}.isdisjoint(published_numbers())

    def published(self, measured: Table, axes: Axes) -> Table:
        numbers = published_numbers()
        rows = []
        for method in methods(axes):
            cells = [numbers.get((method, sparsity)) for sparsity in axes.sparsities]
            speeds = [cell["images_per_second"] for cell in cells if cell is not None]
            if speeds:
                speed = Entry(float(speeds[0]), None, n=None)
                rows.append(Row(method, (speed, *(entry for cell in cells for entry in _published_entries(cell)))))
        return published_table(
            measured,
            "As published: ResNet-50 on ImageNet, 90 epochs, the paper's reimplementation under one recipe",
            rows,
            "Zimmer, Spiegel, Pokutta, ICLR 2023 (arXiv 2111.00843): accuracy and sparsity in per cent, ± as "
            "printed; speedups were printed as whole numbers. STR's own authors publish 4 to 5 points more than "
            "this reimplementation.",
            "Rank correlation: Spearman's, of our mean accuracies with the published ones over the methods of a "
            "column, those with the recipe's learning rates here, that ended at its sparsity. The winner here is that "
            "of these methods, whatever its learning rates; it agrees if one is on rank 1 here and there.",
            name=lambda label: label.partition(", ")[0],
        )

    def evidence(self, group: RecipeGroup) -> Evidence:
        """Of the chosen settings alone."""
        by_key = {
            (row_label(method, schedule), sparsity, budget): runs
            for (method, schedule, sparsity, budget), runs in chosen(group).items()
        }
        labels = row_kinds(group.axes)
        published = {key: numbers for key, numbers in published_numbers().items() if on_target(key[1], numbers)}
        return Evidence(
            {key: group.scores(runs) for key, runs in by_key.items()},
            tuple(labels.values()),
            group.axes.sparsities,
            ("",),
            {(*key, ""): float(numbers["accuracy_mean"]) for key, numbers in published.items()},
            factors={label: kind for kind, label in labels.items()},
            reached={key: reached(runs) for key, runs in by_key.items()},
            metric=group.metric,
        )

    def check(self, evidence: Evidence) -> tuple[Finding, ...]:
        """The claims once for each decay of the learning rate that the methods other than BIMP trained with."""
        schedules = tuple(dict.fromkeys(schedule for _, schedule in evidence.factors.values()))
        if len(schedules) < 2:
            return super().check(evidence)
        return tuple(
            replace(
                finding,
                key=f"{finding.key}-{schedule or 'recipe'}",
                statement=f"{finding.statement} (the others' learning rates: {schedule or 'as in the recipe'})",
            )
            for schedule in schedules
            for finding in super(Table2, self).check(_trained_with(schedule, evidence))
        )

    def has_claims(self, axes: Axes) -> bool:
        return {method for method, _ in published_numbers()} <= set(axes.methods)


def methods(axes: Axes) -> tuple[str, ...]:
    """The sweep's methods, the paper's first and in its order."""
    return tuple(sorted(axes.methods, key=lambda name: METHODS.index(name) if name in METHODS else len(METHODS)))


def row_kinds(axes: Axes) -> dict[tuple[str, str], str]:
    """(method, schedule) -> label: the methods with the recipe's learning rates, then those with another decay."""
    kinds = [
        (method, schedule)
        for schedule in sorted(axes.schedules)
        for method in methods(axes)
        if any(cell[:2] == (method, schedule) for cell in axes.cells)
    ]
    return {kind: row_label(*kind) for kind in kinds}


def _decays(group: RecipeGroup) -> list[str]:
    """What the learning rates of the rows are, where these differ."""
    decays = [schedule for schedule in group.axes.schedules if schedule]
    if not decays:
        return []
    return [
        f"Learning rates: those of the dense run ({group.recipe.decay} decay), or of a {' or '.join(decays)} decay "
        "where a row says so, which is tuned on its own; BIMP's dense phase decays linearly in any case."
    ]


def _trained_with(schedule: str, evidence: Evidence) -> Evidence:
    """The rows of `trained_with`, by the names of their methods."""
    kinds = trained_with(schedule, ((method, other) for method, other in evidence.factors.values()))
    names = {label: method for label, (method, other) in evidence.factors.items() if (method, other) in kinds}

    def renamed(values: Mapping[Any, Any]) -> dict[Any, Any]:
        return {(names[row], *rest): value for (row, *rest), value in values.items() if row in names}

    return replace(
        evidence,
        scores=renamed(evidence.scores),
        rows=tuple(names.values()),
        reached=renamed(evidence.reached),
        factors={},
    )


def published_numbers() -> Mapping[tuple[str, float], Mapping[str, float]]:
    """(method, sparsity) -> the published numbers by the names of table2.csv."""
    with (files("analysis.paper") / "published" / "table2.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    keys = zip(frame["method"], frame["target_sparsity"], strict=True)
    return dict(zip(keys, cast(list[Mapping[str, float]], frame.to_dict("records")), strict=True))


UNITS = {
    "classification": "images/s",
    "segmentation": "pixels/s",
    **dict.fromkeys(("language_modelling", "translation"), "symbols/s"),
}
"""What a loss is a mean over, by task: training is timed in it."""


def _away(runs: Chosen) -> list[str]:
    away = any(not is_at(of_contest, contest[2]) for contest, of_contest in runs.items())
    return ["A row that ended at another sparsity than the column's has no rank there."] if away else []


def _columns(group: RecipeGroup) -> list[Column]:
    columns = [Column("", UNITS.get(group.recipe.task, "units/s"), 0, ranked=False, is_score=False)]
    for sparsity in group.axes.sparsities:
        target = f"target {per_cent(sparsity)}"
        columns.append(Column(target, group.metric.label))
        columns.append(Column(target, "speedup", 1, ranked=False, is_score=False))
        columns.append(Column(target, "sparsity", ranked=False, is_score=False))
    return columns


def _entries(group: RecipeGroup, runs: pd.DataFrame | None, sparsity: float) -> tuple[Entry, Entry, Entry]:
    """Accuracy, speedup, sparsity. Runs that ended at another sparsity than the column's have no rank."""
    score, expected = score_entry(group, runs), group.expected
    if runs is None:
        return score, entry([], expected), entry([], expected)
    if not is_at(runs, sparsity):
        score = replace(score, competes=False)
    flags = remarks(runs)
    alive = runs[runs["status"] != "collapsed"]  # a network that is mostly zero by accident is fast for nothing
    return (
        score,
        entry(list(alive["speedup"].dropna()), expected, flags, score.runs),
        entry(list(runs["sparsity_reached"].dropna() * 100), expected, flags, score.runs),
    )


def _throughput(kind: tuple[str, str], cells: Chosen, expected: int) -> Entry:
    """Mean over the seeds of what a seed's runs had on average over the sparsities."""
    parts = [runs for contest, runs in cells.items() if contest[:2] == kind]
    if not parts:
        return entry([], expected)
    runs = pd.concat(parts)
    return entry(list(runs.groupby("seed")["images_per_second"].mean().dropna()), expected, remarks(runs))


def _published_entries(numbers: Mapping[str, float] | None) -> Sequence[Entry]:
    if numbers is None:
        return [NOT_ASKED] * 3
    competes = on_target(numbers["target_sparsity"], numbers)
    return [
        Entry(float(numbers[f"{name}_mean"]), float(numbers[f"{name}_std"]), n=None, competes=competes)
        for name in ("accuracy", "speedup", "sparsity")
    ]


def on_target(sparsity: float, numbers: Mapping[str, float]) -> bool:
    """Whether published numbers are those of the sparsity that they stand under."""
    return abs(numbers["sparsity_mean"] / 100 - sparsity) <= TARGET_MARGIN
