"""How evidence decides a claim: a test of all that it says, and one of its opposite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.claims import (
    Comparison,
    Contrast,
    Evidence,
    Finding,
    Verdict,
    figures_of,
    is_above,
    p_words,
    per_seed,
    signs,
)
from analysis.statistics import ALPHA, TESTED_SEEDS

MOST_SEEDS_NEEDED = 1000
"""More are no advice."""


@dataclass(frozen=True)
class Half:
    """What a claim says of one contrast, or what its opposite does: that it is above `bound`, or below.

    place: of the contrast among those of the claim.
    """

    place: int
    bound: float = 0.0
    above: bool = True

    def of(self, differences: Any) -> Any:
        """Positive where it is so."""
        return differences - self.bound if self.above else self.bound - differences


AnyOfAll = Sequence[Sequence[Half]]
"""That all of some group is so."""


def judged(
    key: str,
    statement: str,
    contrasts: Sequence[Contrast],
    evidence: Evidence,
    says: AnyOfAll,
    opposite: AnyOfAll,
    method: str,
    extra: Sequence[str] = (),
    counted: Callable[[Sequence[Comparison]], str] | None = None,
) -> Finding:
    """A claim that is held if a test shows what it `says`, and not held if one shows the `opposite`.

    Args:
        key, statement: of the finding.
        contrasts: what is compared, which `says` and `opposite` name by their place.
        evidence: what it is judged by.
        says, opposite: any group of them, all of it.
        method: in words, behind the name of the test.
        extra: further figures.
        counted: how many comparisons are as the claim says, in words; by default `signs`.
    """
    values = [per_seed(contrast, evidence) for contrast in contrasts]
    for_it, of_says = _tested(says, values)
    against_it, of_opposite = _tested(opposite, values)
    comparisons = tuple(
        Comparison(
            contrast.label,
            statistics.paired_difference(value),
            max((for_it[half][0] for half in for_it if half.place == place), default=math.nan),
            float(contrast.of(evidence.published_at)),
            min((against_it[half][1] for half in against_it if half.place == place), default=math.nan),
        )
        for place, (contrast, value) in enumerate(zip(contrasts, values, strict=True))
    )
    verdict: Verdict = "not held" if of_opposite < ALPHA else "held" if of_says < ALPHA else "undecided"
    figures = figures_of(evidence, comparisons, (counted or signs)(comparisons))
    if not math.isnan(of_says) or not math.isnan(of_opposite):
        figures.append(f"{p_words(of_says)} for the claim, {p_words(of_opposite)} against it")
    unfair = [contrast.label for contrast in contrasts if not contrast.is_fair(evidence)]
    if unfair:
        figures.append(f"not compared, as the sparsities or epochs differ: {'; '.join(unfair)}")
    needed = needed_words(values, says, opposite) if verdict == "undecided" else ""
    figures += [*([needed] if needed else []), *extra]
    return Finding(
        key, statement, verdict, "; ".join(figures), method, comparisons, needed, _hardest(says, values, for_it)
    )


def _hardest(says: AnyOfAll, values: Sequence[pd.Series], p: Mapping[Half, tuple[float, float]]) -> int:
    """Place of the comparison that speaks least for the claim, in that group of what it says that it speaks most for:
    of the largest p value, or of the mean that is least above the bound."""

    def against(half: Half) -> tuple[float, float]:
        p_value, mean = p[half][0], float(half.of(values[half.place]).mean())
        return (-1.0 if math.isnan(p_value) else p_value), (-math.inf if math.isnan(mean) else -mean)

    compared = [group for group in says if any(values[half.place].notna().any() for half in group)]
    worst = [max(group, key=against) for group in compared or says if group]
    return min(worst, key=against).place if worst else 0


def _tested(groups: AnyOfAll, values: Sequence[pd.Series]) -> tuple[dict[Half, tuple[float, float]], float]:
    """(own p value, the corrected one) of every half, and the p value of all."""
    halves = list(dict.fromkeys(half for group in groups for half in group))
    if not halves:
        return {}, math.nan
    table = pd.concat([half.of(values[half.place]) for half in halves], axis=1)
    p = statistics.signed_rank_p(table.to_numpy(dtype=float))
    corrected = statistics.corrected_p(p)
    p_values = {half: (float(p[0, place]), float(corrected[place])) for place, half in enumerate(halves)}
    return p_values, statistics.any_of_all_p(p, [[halves.index(half) for half in group] for group in groups])


def directional(
    key: str,
    statement: str,
    contrasts: Sequence[Contrast],
    evidence: Evidence,
    remark: str = "",
    bound: float = 0.0,
    extra: Sequence[str] = (),
) -> Finding:
    """Held if every contrast is above `bound`, not held if any is below."""
    places = range(len(contrasts))
    return judged(
        key,
        statement,
        contrasts,
        evidence,
        [[Half(place, bound) for place in places]],
        [[Half(place, bound, above=False)] for place in places],
        f"signed-rank tests: all above {bound:g}, or any below{remark}",
        extra,
        lambda comparisons: signs(comparisons, f"{bound:g}"),
    )


def equivalence(
    key: str,
    statement: str,
    contrasts: Sequence[Contrast],
    evidence: Evidence,
    margin: float,
    extra: Sequence[str] = (),
) -> Finding:
    """Held if every contrast is within ±`margin` (two one-sided tests each), not held if any is outside."""
    places = range(len(contrasts))
    return judged(
        key,
        statement,
        contrasts,
        evidence,
        [[half for place in places for half in (Half(place, -margin), Half(place, margin, above=False))]],
        [[half] for place in places for half in (Half(place, margin), Half(place, -margin, above=False))],
        f"signed-rank tests: all within ±{margin:g} points, or any outside, to either side",
        extra,
        lambda comparisons: f"{sum(map(is_above, comparisons))} of {len(comparisons)} within ±{margin:g} points",
    )


def needed_words(values: Sequence[pd.Series], says: AnyOfAll, opposite: AnyOfAll) -> str:
    """How many seeds would decide a claim that so many do not, at the effect seen; "" of fewer than three seeds. Where
    no number of them would, since something is not compared at all, that."""
    seeds = max((int(value.notna().sum()) for value in values), default=0)
    numbers = [_needed(values, groups) for groups in (says, opposite)]
    known = [number for number in numbers if not math.isnan(number)]
    if not known:
        return ""
    if min(known) > MOST_SEEDS_NEEDED:
        if math.isnan(numbers[0]) and (missing := sum(not value.notna().any() for value in values)):
            have = "has" if missing == 1 else "have"
            return f"{missing} of {len(values)} comparisons {have} no runs that can be compared"
        return f"no effect seen that {MOST_SEEDS_NEEDED} seeds would decide"
    enough = max(min(known), TESTED_SEEDS, seeds + 1)
    return f"about {enough:.0f} seeds would decide it at the effect seen (Noether 1987, power {statistics.POWER:g})"


def _needed(values: Sequence[pd.Series], groups: AnyOfAll) -> float:
    alpha = ALPHA / max(len(groups), 1)
    numbers = [[statistics.seeds_needed(half.of(values[half.place]), alpha) for half in group] for group in groups]
    return min((max(group) for group in numbers if group and not np.isnan(group).any()), default=math.nan)
