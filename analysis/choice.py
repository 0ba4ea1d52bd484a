"""Where a method has a grid of settings: per method and sparsity the one that is best in validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from analysis import settings
from analysis.claims import per_cent
from analysis.groups import Group
from benchmark.planning.tuning import choose

Contest = tuple[str, float]
"""(method, sparsity), of which one setting wins."""
Chosen = Mapping[Contest, pd.DataFrame]
"""The records of the chosen setting, one a seed."""


def chosen(group: Group) -> Chosen:
    """The records of the settings that `planning.tuning` chooses."""
    best = {contest: settings.text_of(dict(setting)) for contest, setting in choose(_contestants(group)).items()}
    runs = group.cells
    if not group.axes.other_seeds:
        runs = runs[runs["seed"].isin(group.axes.seeds)]
    winners = {}
    for key, tried in runs.groupby(["method", "sparsity"], sort=False):
        contest = cast(Contest, key)
        winner = tried[tried["hyperparameters"] == best.get(contest)]
        if not winner.empty:
            winners[contest] = winner
    return winners


def _contestants(group: Group) -> Iterator[dict[str, Any]]:
    """What `choose` reads of the records that compete, in the sweep's order: with the tuning seeds, if it has any."""
    rows, metric = group.cells, group.metric
    if group.axes.tuning_seeds:
        rows = rows[rows["seed"].isin(group.axes.tuning_seeds)]
    places = {text: place for place, text in enumerate(group.axes.hyperparameters)}
    rows = rows.sort_values("hyperparameters", key=lambda column: column.map(places), kind="stable")
    for row in rows[["method", "sparsity", "hyperparameters", "seed", "final_validation"]].to_dict("records"):
        value = row["final_validation"]
        yield {
            "cell": {**row, "hyperparameters": settings.values_of(str(row["hyperparameters"]))},
            "metric": metric.to_json(),
            metric.name: {"final": {"validation": None if math.isnan(value) else value}},
        }


def _compared_seeds(group: Group) -> list[int]:
    """Seeds over which settings are compared: the tuning seeds, or those that all settings of a contest have."""
    if group.axes.tuning_seeds:
        return sorted(group.axes.tuning_seeds)
    compared: set[int] = set()
    for _, runs in group.cells.groupby(["method", "sparsity"]):
        seeds = [set(part["seed"]) for _, part in runs.groupby("hyperparameters")]
        compared |= set.intersection(*seeds) or set.union(*seeds)
    return sorted(compared)


def sentences(group: Group, winners: Chosen, methods: Sequence[str]) -> list[str]:
    """What was chosen from how many, a sentence a method; none for a sweep without choice."""
    choices = []
    for method in methods:
        declared = {setting for name, _, _, _, setting in group.axes.cells if name == method}
        if len(declared) < 2:
            continue
        runs = group.cells[group.cells["method"] == method]
        parts = []
        for sparsity in group.axes.sparsities:
            winner = winners.get((method, sparsity))
            if winner is not None:
                count = runs["hyperparameters"][runs["sparsity"] == sparsity].nunique()
                of = "" if count == len(declared) else f" (of the {count} with records)"
                words = settings.in_words(winner["hyperparameters"].iloc[0]) or "defaults"
                parts.append(f"{per_cent(sparsity)}: {words}{of}")
        choices.append(f"{method}, chosen from {len(declared)} settings: {'; '.join(parts)}.")
    if choices:
        seeds = _compared_seeds(group)
        over = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        rule = f"Settings: per method and sparsity the one with the best mean validation {group.metric.label}"
        choices.insert(0, f"{rule} over {over}, never test.")
    return choices
