"""Table 2 of the paper, BIMP against the methods that prune while they train, and how it compares with the published.

Every method has a small grid of settings. Per method and sparsity the one with the best validation accuracy is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, cast

import pandas as pd

from analysis import captions
from analysis.claims import Evidence, per_cent
from analysis.groups import Group, accuracy_entry, remarks
from analysis.records import Axes
from analysis.tables import NOT_ASKED, Column, Entry, Row, Table, agreement, entry, ranked
from benchmark.planning.tuning import choose

ORDER = ("BIMP", "GMP", "GSM", "DPF", "DNW", "LC", "STR", "DST", "CS")
"""Rows of the paper's table, and CS, which only the authors' code has. Methods of your own follow."""

Cells = Mapping[tuple[str, float], pd.DataFrame]
"""(method, sparsity) -> records of the chosen setting, one a seed."""


def fits(axes: Axes) -> bool:
    """Whether the sweep varies what this table shows: methods that take no schedule and no budget."""
    return set(axes.schedules) == {""} and set(axes.budgets) == {""}


def measured(group: Group) -> Table:
    """Methods down; images/s, and per sparsity accuracy, speedup and sparsity reached."""
    cells = chosen(group)
    asked = {(method, sparsity) for method, _, sparsity, _, _ in group.axes.cells}
    rows = tuple(
        Row(
            method,
            (
                _throughput(method, cells, group.expected),
                *(
                    found
                    for sparsity in group.axes.sparsities
                    for found in (
                        _entries(cells.get((method, sparsity)), group.expected)
                        if (method, sparsity) in asked
                        else [NOT_ASKED] * 3
                    )
                ),
            ),
        )
        for method in methods(group.axes)
    )
    accuracies = [row.entries[index] for row in rows for index in range(1, len(row.entries), 3)]
    seeds = [seed for runs in cells.values() for seed in runs["seed"]]
    return ranked(
        Table(
            "measured",
            f"{group.axes.title}, {group.recipe.name}",
            "method",
            _columns(group.axes),
            rows,
            caption=(
                captions.statistic(seeds, group.expected, accuracies),
                "Speedup: dense MACs over MACs of the non-zero weights, collapsed runs left out. Sparsity: per cent of "
                "the prunable weights that are zero in the end, learned or pruned by magnitude. Images/s: training of "
                "these runs as they ran, with data loading and beside other work, where the published rates are "
                "synchronised and without data loading; `python -m benchmark.throughput --methods all` measures what "
                "each method costs like for like.",
                *settings_sentences(group, cells),
                captions.problem(group.recipe),
                captions.dense(group.every),
                captions.provenance(group.every, group.problems),
            ),
        )
    )


def published(ours: Table, axes: Axes) -> Table:
    """The paper's Table 2 over the columns of `ours`, and under each accuracy how far the two agree."""
    numbers = published_numbers()
    rows = []
    for method in methods(axes):
        found = [numbers.get((method, sparsity)) for sparsity in axes.sparsities]
        known = [part for part in found if part is not None]
        if known:
            speed = Entry(float(known[0]["images_per_second"]), None, n=None)
            rows.append(Row(method, (speed, *(item for part in found for item in _published_entries(part)))))
    table = ranked(
        Table(
            "published",
            "As published: ResNet-50 on ImageNet, 90 epochs, the paper's reimplementation under one recipe",
            "method",
            _columns(axes),
            tuple(rows),
            caption=(
                "Zimmer, Spiegel, Pokutta, ICLR 2023 (arXiv 2111.00843): accuracy and sparsity in per cent, ± as "
                "printed; speedups were printed as whole numbers. STR's own authors publish 4 to 5 points more than "
                "this reimplementation.",
                "Rank correlation: Spearman's, of our mean accuracies with the published ones over the methods of a "
                "column. The winner agrees if the methods on rank 1 here and there have one in common.",
            ),
        )
    )
    return replace(table, footer=agreement(ours, table))


def has_published(axes: Axes) -> bool:
    return not {(method, sparsity) for method, _, sparsity, _, _ in axes.cells}.isdisjoint(published_numbers())


def has_claims(axes: Axes) -> bool:
    """Whether the sweep has all methods that the paper's claims are about."""
    return {method for method, _ in published_numbers()} <= set(axes.methods)


def evidence(group: Group) -> Evidence:
    """Final test accuracies of the chosen settings in per cent, for the claims."""
    return Evidence(
        {
            (method, sparsity, ""): runs.dropna(subset="final_test").set_index("seed")["final_test"] * 100
            for (method, sparsity), runs in chosen(group).items()
        },
        methods(group.axes),
        group.axes.sparsities,
        ("",),
        {(*key, ""): float(numbers["accuracy_mean"]) for key, numbers in published_numbers().items()},
    )


def methods(axes: Axes) -> tuple[str, ...]:
    """The sweep's methods, the paper's first and in its order."""
    return tuple(sorted(axes.methods, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)))


def published_numbers() -> Mapping[tuple[str, float], Mapping[str, float]]:
    """(method, sparsity) -> the published numbers by the names of table2.csv."""
    with (files("analysis.paper") / "published" / "table2.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    keys = zip(frame["method"], frame["target_sparsity"], strict=True)
    return dict(zip(keys, cast(list[Mapping[str, float]], frame.to_dict("records")), strict=True))


# Settings


def chosen(group: Group) -> Cells:
    """The records of the setting that `planning.tuning` chooses by validation accuracy, per method and sparsity."""
    best = choose(_contestants(group))
    settings = {key: json.dumps(dict(setting), sort_keys=True) if setting else "" for key, setting in best.items()}
    runs = group.cells
    if not group.axes.other_seeds:
        runs = runs[runs["seed"].isin(group.axes.seeds)]
    found = {}
    for key, own in runs.groupby(["method", "sparsity"], sort=False):
        contest = cast(tuple[str, float], key)
        shown = own[own["hyperparameters"] == settings.get(contest)]
        if not shown.empty:
            found[contest] = shown
    return found


def _contestants(group: Group) -> Iterator[dict[str, Any]]:
    """What `choose` reads of the records that compete, in the sweep's order: with the tuning seeds, if it has any."""
    rows = group.cells.dropna(subset="final_validation")
    if group.axes.tuning_seeds:
        rows = rows[rows["seed"].isin(group.axes.tuning_seeds)]
    places = {setting: place for place, setting in enumerate(group.axes.hyperparameters)}
    rows = rows.sort_values("hyperparameters", key=lambda column: column.map(places), kind="stable")
    for row in rows[["method", "sparsity", "hyperparameters", "seed", "final_validation"]].to_dict("records"):
        setting = json.loads(str(row["hyperparameters"])) if row["hyperparameters"] else {}
        yield {
            "cell": {**row, "hyperparameters": setting},
            "accuracy": {"final": {"validation": row["final_validation"]}},
        }


def _compared_seeds(group: Group) -> list[int]:
    """Seeds over which settings are compared: the tuning seeds, or those that all settings of a contest have."""
    if group.axes.tuning_seeds:
        return sorted(group.axes.tuning_seeds)
    found: set[int] = set()
    for _, runs in group.cells.groupby(["method", "sparsity"]):
        seeds = [set(part["seed"]) for _, part in runs.groupby("hyperparameters")]
        found |= set.intersection(*seeds) or set.union(*seeds)
    return sorted(found)


def settings_sentences(group: Group, cells: Cells) -> list[str]:
    """What was chosen from how many, a sentence a method; none for a sweep without choice."""
    sentences = []
    for method in methods(group.axes):
        declared = {setting for name, _, _, _, setting in group.axes.cells if name == method}
        if len(declared) < 2:
            continue
        runs = group.cells[group.cells["method"] == method]
        parts = []
        for sparsity in group.axes.sparsities:
            found = cells.get((method, sparsity))
            if found is not None:
                tried = runs[runs["sparsity"] == sparsity]
                count = tried["hyperparameters"].nunique()
                of = "" if count == len(declared) else f" (of the {count} with records)"
                parts.append(f"{per_cent(sparsity)}: {_setting(found['hyperparameters'].iloc[0])}{of}")
        sentences.append(f"{method}, chosen from {len(declared)} settings: {'; '.join(parts)}.")
    if sentences:
        seeds = _compared_seeds(group)
        over = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        rule = "Settings: per method and sparsity the one with the best mean validation accuracy"
        sentences.insert(0, f"{rule} over {over}, never test.")
    return sentences


def _setting(text: str) -> str:
    if not text:
        return "defaults"
    return ", ".join(f"{key} {value}" for key, value in json.loads(text).items())


# Entries


def _columns(axes: Axes) -> tuple[Column, ...]:
    return (
        Column("", "images/s", 0, ranked=False),
        *(
            column
            for sparsity in axes.sparsities
            for column in (
                Column(f"target {per_cent(sparsity)}", "accuracy"),
                Column(f"target {per_cent(sparsity)}", "speedup", 1, ranked=False),
                Column(f"target {per_cent(sparsity)}", "sparsity", ranked=False),
            )
        ),
    )


def _entries(runs: pd.DataFrame | None, expected: int) -> tuple[Entry, Entry, Entry]:
    accuracy = accuracy_entry(runs, expected)
    if runs is None:
        return accuracy, entry([], expected), entry([], expected)
    flags = remarks(runs)
    alive = runs[runs["status"] != "collapsed"]  # a network that is mostly zero by accident is fast for nothing
    return (
        accuracy,
        entry(list(alive["speedup"].dropna()), expected, flags, accuracy.runs),
        entry(list(runs["sparsity_reached"].dropna() * 100), expected, flags, accuracy.runs),
    )


def _throughput(method: str, cells: Cells, expected: int) -> Entry:
    """Mean over the seeds of what a seed's runs had on average over the sparsities."""
    parts = [runs for (name, _), runs in cells.items() if name == method]
    if not parts:
        return entry([], expected)
    runs = pd.concat(parts)
    return entry(list(runs.groupby("seed")["images_per_second"].mean().dropna()), expected, remarks(runs))


def _published_entries(numbers: Mapping[str, float] | None) -> Sequence[Entry]:
    if numbers is None:
        return [NOT_ASKED] * 3
    return [
        Entry(float(numbers[f"{name}_mean"]), float(numbers[f"{name}_std"]), n=None)
        for name in ("accuracy", "speedup", "sparsity")
    ]
