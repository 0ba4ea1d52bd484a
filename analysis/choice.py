"""Where a method has a grid of settings: in each contest the one that is best in validation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, cast

import pandas as pd

from analysis import settings
from analysis.claims import column_words
from analysis.groups import RecipeGroup
from analysis.statistics import Difference, paired_difference
from benchmark.methods import declaration
from benchmark.metric import Metric
from benchmark.planning.tuning import Contestant, choose, ranked

Contest = tuple[str, str, float, str]
"""(method, schedule, sparsity, budget), of which one setting wins; "" for no schedule or budget."""

Chosen = Mapping[Contest, pd.DataFrame]
"""The records of the chosen setting, one a seed."""


CONTEST = ("method", "schedule", "sparsity", "budget")
"""Columns of a contest."""


def chosen(group: RecipeGroup) -> Chosen:
    """The records of the settings that `planning.tuning` chooses, without runs that are there for the choice alone."""
    best = {contest: settings.text_of(dict(setting)) for contest, setting in choose(_contestants(group)).items()}
    runs = group.tested
    if not group.axes.other_seeds:
        runs = runs[runs["seed"].isin(group.axes.seeds)]
    winners = {}
    for key, tried in runs.groupby(list(CONTEST), sort=False):
        contest = cast(Contest, key)
        winner = tried[tried["hyperparameters"] == best.get(contest)]
        if not winner.empty:
            winners[contest] = winner
    return winners


def _contestants(group: RecipeGroup) -> Iterator[dict[str, Any]]:
    """What `choose` reads of the records that compete, in the sweep's order: with the tuning seeds, if it has any."""
    rows, metric = group.cells, group.metric
    if group.axes.tuning_seeds:
        rows = rows[rows["seed"].isin(group.axes.tuning_seeds)]
    places = {text: place for place, text in enumerate(group.axes.hyperparameters)}
    rows = rows.sort_values("hyperparameters", key=lambda column: column.map(places), kind="stable")
    for row in rows[[*CONTEST, "hyperparameters", "seed", "status", "final_validation"]].to_dict("records"):
        value = row["final_validation"]
        yield {
            "cell": {**row, "hyperparameters": settings.values_of(str(row["hyperparameters"]))},
            "status": row["status"],
            "metric": metric.to_json(),
            metric.name: {"final": {"validation": None if math.isnan(value) else value}},
        }


def _compared_seeds(group: RecipeGroup) -> list[int]:
    """Seeds over which settings are compared: the tuning seeds, or those that all settings of a contest have."""
    if group.axes.tuning_seeds:
        return sorted(group.axes.tuning_seeds)
    compared: set[int] = set()
    for _, runs in group.cells.groupby(list(CONTEST)):
        seeds = [set(part["seed"]) for _, part in runs.groupby("hyperparameters")]
        compared |= set.intersection(*seeds) or set.union(*seeds)
    return sorted(compared)


def sentences(group: RecipeGroup, winners: Chosen, rows: Mapping[tuple[str, str], str]) -> list[str]:
    """What was chosen from how many and how surely, a sentence a row; none for a row without choice.

    rows: labels by (method, schedule).
    """
    choices = []
    contests = ranked(_contestants(group))
    for (method, schedule), label in rows.items():
        declared = {setting for *kind, _, _, setting in group.axes.cells if kind == [method, schedule]}
        if len(declared) < 2:
            continue
        parts = []
        for sparsity, budget in itertools.product(group.axes.sparsities, group.axes.budgets):
            contest = (method, schedule, sparsity, budget)
            if contest in winners and contest in contests:
                contestants = contests[contest]
                count = "" if len(contestants) == len(declared) else f" (of the {len(contestants)} with records)"
                words = settings.in_words(settings.text_of(dict(contestants[0].setting))) or "defaults"
                remarks = ", ".join(_remarks(method, declared, contestants, group.metric))
                parts.append(f"{column_words(sparsity, budget)}: {words}{count}{f' ({remarks})' if remarks else ''}")
        if parts:
            choices.append(f"{label}, chosen from {len(declared)} settings: {'; '.join(parts)}.")
    if choices:
        seeds = _compared_seeds(group)
        over = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        which = "row" if any(schedule for _, schedule in rows) else "method"
        column = "sparsity and budget" if any(group.axes.budgets) else "sparsity"
        choices.insert(
            0,
            f"Settings: per {which} and {column} the one with the best mean validation {group.metric.label} over "
            f"{over}, never test; settings that missed the target only where all did; of equal ones the default, then "
            "the first. In brackets: how far it was ahead of the next, in standard errors (SE) over these seeds where "
            "there are several; which of its values is the smallest or largest of three or more that were tried, or "
            "that of two which is not the default.",
        )
        if both := sorted({*seeds} & {*group.axes.seeds} & {*group.axes.tuning_seeds}):
            choices[0] += f" Of these seeds {', '.join(map(str, both))} are tested, too."
    return choices


def _remarks(method: str, declared: Set[str], contestants: Sequence[Contestant], metric: Metric) -> list[str]:
    best = contestants[0]
    remarks = [] if best.on_target else ["no setting on target"]
    if len(contestants) > 1:
        remarks.append(_margin(best, contestants[1], metric))
    edges = _edges(method, declared, dict(best.setting))
    return remarks + ([f"edge of {', '.join(edges)}"] if edges else [])


def _margin(best: Contestant, second: Contestant, metric: Metric) -> str:
    """How far the winner was ahead, and in how many standard errors of the mean paired difference."""
    if best.on_target != second.on_target:
        return "the only one on target"
    seeds = sorted(best.scores.keys() & second.scores.keys())
    ahead = paired_difference([metric.shown(best.scores[seed] - second.scores[seed]) for seed in seeds])
    if math.isnan(ahead.mean):
        return "the only one with a value"
    if round(ahead.mean, 9) == 0:
        return "a tie"
    words = f"by {ahead.mean:.2f}"
    return words if math.isnan(ahead.error) else f"{words}, {_errors(ahead)} SE"


def _errors(ahead: Difference) -> str:
    """Differences that are equal but for rounding have no standard error."""
    return f"{ahead.mean / ahead.error:.1f}" if round(ahead.error, 9) > 0 else "any number of"


def _edges(method: str, declared: Set[str], chosen: Mapping[str, Any]) -> list[str]:
    """Hyperparameters of which the chosen value is the smallest or largest that was tried; what lies beyond?

    Of two values each is an edge, so only that which is not the default counts.
    """
    defaults = declaration(method).defaults
    edges = []
    for name in sorted({name for text in declared for name in settings.values_of(text)}):
        values = {settings.values_of(text).get(name, defaults.get(name)) for text in declared}
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        value, default = chosen.get(name, defaults.get(name)), defaults.get(name)
        enough = len(numbers) > 2 or (len(numbers) == 2 and value != default)
        if enough and value in (min(numbers), max(numbers)):
            edges.append(name)
    return edges
