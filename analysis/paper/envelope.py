"""The envelope of Figure 1: the best that is reached with at most x retraining epochs. Pure functions of runs.

Settings (cycles, epochs per cycle) are selected on validation accuracy: going up in epochs, a setting is selected if
its mean validation accuracy beats that of all shorter ones. What is reported is the selected settings' mean test
accuracy, and a later one takes over where it is higher, so the envelope never falls and never exceeds the best run.
Means are over the same seeds for all, so that none wins by an easier seed: settings that miss one take no part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Run:
    """One record: `epochs` of retraining in total; accuracies as fractions, NaN where there is none."""

    setting: str
    epochs: float
    seed: int
    validation: float
    test: float
    id: str = ""


@dataclass(frozen=True)
class Step:
    """From `epochs` on `setting` holds the envelope: mean and sample deviation (0 of one run) of n test accuracies."""

    epochs: float
    setting: str
    mean: float
    std: float
    n: int
    validation: float


def envelope(runs: Iterable[Run]) -> tuple[Step, ...]:
    """The steps of the envelope, in rising epochs and rising means. Independent of the order of `runs`.

    Runs without either accuracy are left out, and settings without all of the `common_seeds`. Of equally good settings
    the shorter one counts, then the first by name.
    """
    runs = list(runs)
    steps: list[Step] = []
    selected = -math.inf
    for candidate in settings(runs, common_seeds(runs)):
        if candidate.validation > selected:
            selected = candidate.validation
            if not steps or candidate.mean > steps[-1].mean:
                steps.append(candidate)
    return tuple(steps)


def common_seeds(runs: Iterable[Run]) -> frozenset[int]:
    """The seeds that all of the most complete settings have, those with the most seeds; empty if they share none."""
    found = [frozenset(run.seed for run in own) for own in _by_setting(runs).values()]
    most = max(map(len, found), default=0)
    complete = [seeds for seeds in found if len(seeds) == most]
    return frozenset.intersection(*complete) if complete else frozenset()


def settings(runs: Iterable[Run], seeds: Set[int]) -> list[Step]:
    """Every setting that has all of `seeds`, with its means over these; none if there are no seeds.

    The shortest first, then the better validation accuracy, then by name.
    """
    steps = []
    for (epochs, setting), found in _by_setting(runs).items():
        own = [run for run in found if run.seed in seeds]
        if not own or {run.seed for run in own} != seeds:
            continue
        tests = sorted(run.test for run in own)  # sorted: a sum of floats depends on its order
        std = stdev(tests) if len(tests) > 1 else 0.0
        validation = fmean(sorted(run.validation for run in own))
        steps.append(Step(epochs, setting, min(fmean(tests), tests[-1]), std, len(tests), validation))
    return sorted(steps, key=lambda step: (step.epochs, -step.validation, step.setting))


def incomplete(runs: Iterable[Run], seeds: Set[int]) -> int:
    """How many settings take no part in `settings`."""
    return sum(not seeds or not seeds <= {run.seed for run in own} for own in _by_setting(runs).values())


def reached(steps: Sequence[Step], epochs: float) -> float:
    """The envelope at `epochs`; NaN before its first step."""
    means = [step.mean for step in steps if step.epochs <= epochs]
    return means[-1] if means else math.nan


def met_after(steps: Sequence[Step], level: float) -> float | None:
    """The epochs after which the envelope is at `level` or above for the first time; None if it never is."""
    return next((step.epochs for step in steps if step.mean >= level), None)


def _by_setting(runs: Iterable[Run]) -> dict[tuple[float, str], list[Run]]:
    """The runs that have both accuracies, by (epochs, setting)."""
    found: dict[tuple[float, str], list[Run]] = defaultdict(list)
    for run in runs:
        if math.isfinite(run.validation) and math.isfinite(run.test):
            found[(run.epochs, run.setting)].append(run)
    return found
