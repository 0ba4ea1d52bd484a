"""Every kind of claim can come out held, not held and undecided, with as many seeds as sweeps have."""

from __future__ import annotations

import pytest

from analysis.power import SCENARIOS, Scenario, verdicts
from tests.conftest import ROOT

REPEATS = 10


def most(words: str, means: tuple[float, ...], seeds: int, claim: str = "above") -> str:
    return verdicts(Scenario(words, means, claim), seeds, REPEATS).most_common(1)[0][0]


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("comparisons", [1, 12])
def test_a_claim_can_come_out_in_three_ways(comparisons: int, seeds: int):
    repeats = REPEATS if seeds < 20 else 3
    for mean, verdict in ((4.0, "held"), (-4.0, "not held"), (0.0, "undecided")):
        found = verdicts(Scenario("", (mean,) * comparisons), seeds, repeats)
        assert found.most_common(1)[0][0] == verdict


def test_a_claim_of_equality_is_refuted_with_ten_seeds_and_not_with_five():
    assert most("", (0.0, 0.0), 10, "equal") == "held"
    assert most("", (0.0, 6.0), 10, "equal") == "not held"
    assert most("", (0.0, 6.0), 5, "equal") == "undecided"  # both sides of the margin: 2 / 2^5 is more than 5 %


def test_what_is_true_is_rarely_refuted_and_what_is_false_is_rarely_held():
    """One in twenty at most, here of 60."""
    assert verdicts(Scenario("", (0.0,) * 3), 7, 60)["not held"] <= 8
    assert verdicts(Scenario("", (9.0, 0.0)), 7, 60)["held"] <= 8


def test_the_docs_show_what_the_command_prints():
    """All that is exact and quick: two rows, of five seeds."""
    shown = (ROOT / "docs" / "claims.md").read_text()
    for scenario in SCENARIOS[:2]:
        count = verdicts(scenario, 5, 200)
        cell = " / ".join(f"{count[verdict] / 2:.0f}" for verdict in ("held", "not held", "undecided"))
        assert f"| {scenario.words} | {cell} |" in shown
