"""The records of a sweep on one recipe, which is what a table or a figure shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd
from scipy import stats

from analysis.axes import Axes, of_seeds, of_sweep
from analysis.frames import Records
from analysis.statistics import TESTED_SEEDS
from analysis.tables import NOT_ASKED, Entry, entry
from benchmark.cells import Problem
from benchmark.metric import Metric
from benchmark.results.records import TARGET_MARGIN

FAR = 10.0
"""Points below the median of an entry, and as many deviations, from which on a run has in part collapsed; of three or
four runs three times as many points."""
REMARKS = {"collapsed": "collapsed", "missed_target": "missed the target sparsity"}
"""Statuses of a record, other than "ok", in words."""


@dataclass(frozen=True)
class RecipeGroup:
    """The records of the sweep on one recipe. Tables never mix recipes.

    Args:
        recipe: the problem as it was trained on.
        metric: what its networks are measured by.
        axes: what the sweep varies.
        cells: the records of the sweep's cells, columns as in analysis.frames.
        dense: those of the dense networks.
        problems: how many records of the source could not be used.
    """

    recipe: Problem
    metric: Metric
    axes: Axes
    cells: pd.DataFrame
    dense: pd.DataFrame
    problems: int

    @property
    def expected(self) -> int:
        """Seeds of a complete entry: those of the sweep's file, or as many as were run."""
        run = self.tested["seed"].nunique() if self.axes.other_seeds else 0
        return max(len(self.axes.seeds), run)

    @property
    def for_choice(self) -> set[int]:
        """Seeds that settings were chosen by and that the sweep does not ask for."""
        return set(self.axes.tuning_seeds).difference(self.axes.seeds)

    @property
    def tested(self) -> pd.DataFrame:
        """The cells without those seeds."""
        return self.cells[~self.cells["seed"].isin(self.for_choice)]

    @property
    def every(self) -> pd.DataFrame:
        return pd.concat([self.dense, self.cells])

    def scores(self, runs: pd.DataFrame) -> pd.Series:
        """Final test values of the metric over seeds, as tables show them; none of a run that has none."""
        return self._of_seeds(runs, "final_test")

    def validation(self, runs: pd.DataFrame) -> pd.Series:
        """The same of the validation images."""
        return self._of_seeds(runs, "final_validation")

    def _of_seeds(self, runs: pd.DataFrame, column: str) -> pd.Series:
        return self.metric.shown(by_seed(runs, column).dropna())


def by_seed(runs: pd.DataFrame, column: str) -> pd.Series:
    """A column of some runs over their seeds, without the rest of the table, which would cost most of the time."""
    return pd.Series(runs[column].array, index=pd.Index(runs["seed"].array, name="seed"), name=column)


def groups(records: Records, axes: Axes, problem: str | None = None) -> list[RecipeGroup]:
    """One group a recipe, those of the sweep's own problem first, then in the order of their names."""
    cells = of_sweep(records.frame, axes)
    dense = of_seeds(records.frame[records.frame["method"] == "dense"], axes)
    recipes = [
        (records.recipes[str(identity)], of_recipe) for identity, of_recipe in cells.groupby("identity", sort=False)
    ]
    return [
        RecipeGroup(
            recipe,
            records.metrics[recipe.identity],
            axes,
            of_recipe,
            dense[dense["identity"] == recipe.identity],
            len(records.problems),
        )
        for recipe, of_recipe in sorted(recipes, key=lambda pair: _recipe_order(pair[0], axes))
        if problem in (None, recipe.name)
    ]


def _recipe_order(recipe: Problem, axes: Axes) -> tuple[bool, str, str]:
    return recipe.name != axes.problem, recipe.name, recipe.identity


def differ(epochs: Iterable[float]) -> bool:
    """Whether there are several numbers of epochs; what is not known (NaN) counts as any, 0.01 is rounding."""
    known = [number for number in epochs if not math.isnan(number)]
    return bool(known) and max(known) - min(known) > 0.01


def reached(runs: pd.DataFrame) -> float:
    """The sparsity that runs ended at, as a fraction: their median, without those that collapsed to any; else NaN."""
    return float(runs["sparsity_reached"][runs["status"] != "collapsed"].median())


def score_entry(group: RecipeGroup, runs: pd.DataFrame | None, asked: bool = True) -> Entry:
    """Final test value of the metric over the runs of one cell, with what must be said of them.

    `asked`: whether the sweep has the cell at all.
    """
    if not asked:
        return NOT_ASKED
    if runs is None:
        return entry([], group.expected)
    scores = group.scores(runs)
    flags = (*remarks(runs), *_partial_collapses(group, runs))
    unusable = len(runs) - len(scores)
    if unusable:
        flags += (f"{unusable} of {len(runs)} runs recorded no test {group.metric.label}",)
    mean_entry = entry(list(scores), group.expected, flags, tuple(by_seed(runs, "id").sort_index()))
    return replace(mean_entry, competes=not unusable)  # the mean of the runs that did not diverge would flatter it


def _partial_collapses(group: RecipeGroup, runs: pd.DataFrame) -> tuple[str, ...]:
    """How many runs that are no collapse by chance level are far below the others; a few of three runs or more."""
    alive = group.scores(runs.loc[runs["status"] != "collapsed", ["seed", "final_test"]])
    if len(alive) < 3 or not group.metric.has_points:
        return ()
    below = group.metric.oriented(alive.median() - alive)
    # two of three runs are close by chance: one in thirty ordinary triples would be flagged by a deviation alone
    least = 1.0 if len(alive) >= TESTED_SEEDS else 3.0
    far = int((below > FAR * max(least, float(stats.median_abs_deviation(alive, scale="normal")))).sum())
    return (f"{far} of {len(runs)} runs far below the others",) if far else ()


def remarks(runs: pd.DataFrame) -> tuple[str, ...]:
    """What must be said of runs that did not end as they should, such as "1 of 3 runs collapsed"."""
    return tuple(
        f"{(runs['status'] == status).sum()} of {len(runs)} runs {words}"
        for status, words in REMARKS.items()
        if (runs["status"] == status).any()
    )


def is_at(runs: pd.DataFrame, sparsity: float) -> bool:
    """Whether runs ended at the sparsity, as far as they recorded it."""
    return not abs(reached(runs) - sparsity) > TARGET_MARGIN
