"""The records of a sweep on one recipe, which is what a table or a figure shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.records import Axes, Records, of_seeds, of_sweep
from analysis.tables import Entry, entry
from benchmark.cells import Problem

REMARKS = {"collapsed": "collapsed", "missed_target": "missed the target sparsity"}
"""Statuses of a record, other than "ok", in words."""


@dataclass(frozen=True)
class Group:
    """The records of the sweep on one recipe. Tables never mix recipes."""

    recipe: Problem
    axes: Axes
    cells: pd.DataFrame
    dense: pd.DataFrame
    problems: int
    """How many records of the source could not be used."""

    @property
    def expected(self) -> int:
        """Seeds of a complete entry: those of the sweep's file, or as many as were run."""
        own = self.cells["seed"].nunique() if self.axes.other_seeds else 0
        return max(len(self.axes.seeds), own)

    @property
    def every(self) -> pd.DataFrame:
        return pd.concat([self.dense, self.cells])


def groups(records: Records, axes: Axes, problem: str | None = None) -> list[Group]:
    """One group a recipe, those of the sweep's own problem first, then in the order of their names."""
    cells = of_sweep(records.frame, axes)
    dense = of_seeds(records.frame[records.frame["method"] == "dense"], axes)
    found = []
    for identity, own in cells.groupby("identity", sort=False):
        recipe = records.recipes[str(identity)]
        if problem in (None, recipe.name):
            of_recipe = dense[dense["identity"] == identity]
            found.append(Group(recipe, axes, own, of_recipe, len(records.problems)))
    return sorted(
        found, key=lambda group: (group.recipe.name != axes.problem, group.recipe.name, group.recipe.identity)
    )


def differ(epochs: Iterable[float]) -> bool:
    """Whether there are several numbers of epochs; what is not known (NaN) counts as any, 0.01 is rounding."""
    known = [number for number in epochs if not math.isnan(number)]
    return bool(known) and max(known) - min(known) > 0.01


def accuracy_entry(runs: pd.DataFrame | None, expected: int) -> Entry:
    """Final test accuracy in per cent over the runs of one cell, with what must be said of them."""
    if runs is None:
        return entry([], expected)
    flags = remarks(runs)
    unusable = int(runs["final_test"].isna().sum())
    if unusable:
        flags += (f"{unusable} of {len(runs)} runs recorded no test accuracy",)
    return entry(list(runs["final_test"].dropna() * 100), expected, flags, tuple(runs.sort_values("seed")["id"]))


def remarks(runs: pd.DataFrame) -> tuple[str, ...]:
    """What must be said of runs that did not end as they should, such as "1 of 3 runs collapsed"."""
    return tuple(
        f"{(runs['status'] == status).sum()} of {len(runs)} runs {words}"
        for status, words in REMARKS.items()
        if (runs["status"] == status).any()
    )
