"""How often claims come out held, not held and undecided: python -m analysis.power.

Simulated differences, in standard deviations of a seed's difference, are judged as those of records are. The
comparisons of a claim share half of their variance, as they share their dense networks.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from analysis.claims import Evidence, Finding, Verdict, versus
from analysis.verdicts import directional, equivalence
from benchmark.cli import main, make_app

SEEDS = (5, 10, 20)
MARGIN = 2.0
"""Of the claims of equality, in standard deviations."""
COLLAPSE = 50.0
"""What a collapse takes from a run, in standard deviations."""
VERDICTS: tuple[Verdict, ...] = ("held", "not held", "undecided")
COLUMN = (0.9, "")

app = make_app()


@dataclass(frozen=True)
class Scenario:
    """A claim and what is true of it.

    Args:
        words: both.
        means: of the comparisons.
        claim: "above": all are above 0; "equal": all are within ±MARGIN.
        collapses: how many runs of the first row collapse, in the first comparison.
    """

    words: str
    means: tuple[float, ...]
    claim: str = "above"
    collapses: int = 0


SCENARIOS = (
    Scenario("1 comparison, above 0: true by 1", (1.0,)),
    Scenario("the same: neither true nor false (0)", (0.0,)),
    Scenario("the same: false by 1", (-1.0,)),
    Scenario("12 comparisons, all above 0: true by 2", (2.0,) * 12),
    Scenario("the same, and one run collapses", (2.0,) * 12, collapses=1),
    Scenario("the same: 11 true by 2, one is 0", (2.0,) * 11 + (0.0,)),
    Scenario("the same: all are 0", (0.0,) * 12),
    Scenario("the same: 9 true by 2, 3 false by 2", (2.0,) * 9 + (-2.0,) * 3),
    Scenario("the same: all false by 2", (-2.0,) * 12),
    Scenario("2 comparisons, both within ±2: true (0)", (0.0, 0.0), "equal"),
    Scenario("the same: one is 4", (0.0, 4.0), "equal"),
)


def verdicts(scenario: Scenario, seeds: int, repeats: int) -> Counter[Verdict]:
    """Of `repeats` simulated claims; the same in every call."""
    random = np.random.default_rng([seeds, SCENARIOS.index(scenario) if scenario in SCENARIOS else 0])
    return Counter(_judged(scenario, _differences(scenario, seeds, random)).verdict for _ in range(repeats))


def _differences(scenario: Scenario, seeds: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(seeds, comparisons)."""
    shared, noise = random.normal(size=(seeds, 1)), random.normal(size=(seeds, len(scenario.means)))
    values = np.array(scenario.means) + (shared + noise) / np.sqrt(2)
    values[: scenario.collapses, 0] -= COLLAPSE
    return values


def _judged(scenario: Scenario, differences: NDArray[np.float64]) -> Finding:
    rows = [f"row {number}" for number in range(differences.shape[1])]
    scores = {(row, *COLUMN): pd.Series(values) for row, values in zip(rows, differences.T, strict=True)}
    scores[("other", *COLUMN)] = pd.Series(np.zeros(len(differences)))
    evidence = Evidence(scores, (*rows, "other"), COLUMN[:1], COLUMN[1:], {})
    contrasts = [versus(row, "other", *COLUMN) for row in rows]
    if scenario.claim == "equal":
        return equivalence("", "", contrasts, evidence, MARGIN)
    return directional("", "", contrasts, evidence)


def row(scenario: Scenario, seeds: Sequence[int], repeats: int) -> str:
    """Per cent of the verdicts, as in the docs."""
    counts = [verdicts(scenario, n, repeats) for n in seeds]
    cells = [" / ".join(f"{100 * count[verdict] / repeats:.0f}" for verdict in VERDICTS) for count in counts]
    return f"| {scenario.words} | {' | '.join(cells)} |"


@app.command()
def power(
    repeats: Annotated[int, typer.Option(min=1, max=100_000, help="Simulated claims of each kind.")] = 200,
) -> None:
    """Print per cent held / not held / undecided for kinds of claims, by the number of seeds."""
    print(f"| held / not held / undecided, per cent | {' | '.join(f'n = {n}' for n in SEEDS)} |")
    print(f"| --- |{' --: |' * len(SEEDS)}")
    for scenario in SCENARIOS:
        print(row(scenario, SEEDS, repeats), flush=True)


if __name__ == "__main__":
    sys.exit(main(app))
