"""The envelope of Figure 1: the best that is reached with at most x retraining epochs. Pure functions of runs.

Settings (cycles, epochs per cycle) are selected in validation: going up in epochs, a setting is selected if its mean
validation score beats that of all shorter ones. What is reported is the selected settings' mean test score, and a later
one takes over where it is higher, so the envelope never falls and never exceeds the best run. Scores are values of a
metric, oriented so that higher ones are better.
Means are over the same seeds for all, so that none wins by an easier seed: settings that miss one take no part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class RunScores:
    """Scores of one record.

    Args:
        setting: cycles and epochs per cycle, in words.
        epochs: of retraining, in total.
        seed: of the run.
        validation, test: scores, NaN where there is none.
        id: of the record.
    """

    setting: str
    epochs: float
    seed: int
    validation: float
    test: float
    id: str = ""


@dataclass(frozen=True)
class SettingMean:
    """The mean of one setting. A step of the envelope is one: from `epochs` on `setting` holds it.

    Args:
        epochs: of retraining, in total.
        setting: cycles and epochs per cycle, in words.
        mean, std: of n test scores; the sample deviation, 0 of one run.
        n: number of runs.
        validation: their mean validation score.
    """

    epochs: float
    setting: str
    mean: float
    std: float
    n: int
    validation: float


def envelope(runs: Iterable[RunScores]) -> tuple[SettingMean, ...]:
    """The steps of the envelope, in rising epochs and rising means. Independent of the order of `runs`.

    Runs without either score are left out, and settings without all of the `common_seeds`. Of equally good settings
    the shorter one counts, then the first by name.
    """
    runs = list(runs)
    steps: list[SettingMean] = []
    selected = -math.inf
    for candidate in settings(runs, common_seeds(runs)):
        if candidate.validation > selected:
            selected = candidate.validation
            if not steps or candidate.mean > steps[-1].mean:
                steps.append(candidate)
    return tuple(steps)


def common_seeds(runs: Iterable[RunScores]) -> frozenset[int]:
    """The seeds that all of the most complete settings have, those with the most seeds; empty if they share none."""
    by_setting = [frozenset(run.seed for run in of_setting) for of_setting in _by_setting(runs).values()]
    most = max(map(len, by_setting), default=0)
    complete = [seeds for seeds in by_setting if len(seeds) == most]
    return frozenset.intersection(*complete) if complete else frozenset()


def settings(runs: Iterable[RunScores], seeds: Set[int]) -> list[SettingMean]:
    """Every setting that has all of `seeds`, with its means over these; none if there are no seeds.

    The shortest first, then the better validation, then by name.
    """
    steps = []
    for (epochs, setting), of_setting in _by_setting(runs).items():
        counted = [run for run in of_setting if run.seed in seeds]
        if not counted or {run.seed for run in counted} != seeds:
            continue
        tests = sorted(run.test for run in counted)  # sorted: a sum of floats depends on its order
        std = stdev(tests) if len(tests) > 1 else 0.0
        validation = fmean(sorted(run.validation for run in counted))
        steps.append(SettingMean(epochs, setting, min(fmean(tests), tests[-1]), std, len(tests), validation))
    return sorted(steps, key=lambda step: (step.epochs, -step.validation, step.setting))


def incomplete(runs: Iterable[RunScores], seeds: Set[int]) -> int:
    """How many settings take no part in `settings`."""
    return sum(not seeds or not seeds <= {run.seed for run in of_setting} for of_setting in _by_setting(runs).values())


def met_after(steps: Sequence[SettingMean], level: float) -> float | None:
    """The epochs after which the envelope is at `level` or above for the first time; None if it never is."""
    return next((step.epochs for step in steps if step.mean >= level), None)


def _by_setting(runs: Iterable[RunScores]) -> dict[tuple[float, str], list[RunScores]]:
    """The runs that have both scores, by (epochs, setting)."""
    by_setting: dict[tuple[float, str], list[RunScores]] = defaultdict(list)
    for run in runs:
        if math.isfinite(run.validation) and math.isfinite(run.test):
            by_setting[(run.epochs, run.setting)].append(run)
    return by_setting
