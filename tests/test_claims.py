"""The paper's claims: held on its own numbers, not held where they are contradicted, undecided for want of seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pandas as pd
import pytest

from analysis import claims
from analysis.claims import Evidence, Finding
from analysis.paper import table1
from analysis.paper.claims_table1 import CLAIMS
from analysis.paper.table1 import Table1

BUDGETS = ("2.22%", "5.55%", "11.11%")
SPARSITIES = (0.7, 0.8, 0.9)
SCHEDULES = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")
PUBLISHED = {key: mean for key, (mean, _) in table1.published_numbers().items()}


def evidence(seeds=(0, 1, 2, 3, 4), noise=0.002, drop=(), learning_rates=None, **shift) -> Evidence:
    """The published means in every seed, give or take `noise` points; `shift` adds points to a schedule."""
    random = Random(0)
    accuracy = {}
    for key, mean in PUBLISHED.items():
        values = [mean + shift.get(key[0], 0.0) + random.gauss(0, noise) for _ in seeds]
        if key not in drop:
            accuracy[key] = pd.Series(values, index=list(seeds))
    return Evidence(accuracy, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED, learning_rates or {})


def finding(key: str, given: Evidence) -> Finding:
    return next(finding for finding in Table1().check(given) if finding.key == key)


KEYS = [claim(evidence()).key for claim in CLAIMS]


@pytest.mark.parametrize("key", KEYS)
def test_the_paper_s_own_numbers_hold(key):
    assert finding(key, evidence()).verdict == "held"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)])
def test_fewer_than_five_seeds_decide_nothing(key, seeds):
    found = finding(key, evidence(seeds))
    assert found.verdict == "undecided"
    assert f"n = {len(seeds)} seed{'s' * (len(seeds) > 1)}: too few for a test" in found.figures
    assert found.figures.startswith("Differences ")
    for comparison in found.comparisons:
        assert math.isnan(comparison.p)
        assert comparison.difference.has_interval == (len(seeds) > 1)


@pytest.mark.parametrize("key", KEYS)
def test_no_records_decide_nothing(key):
    found = finding(key, Evidence({}, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED))
    assert found.verdict == "undecided"
    assert found.figures.startswith("No records to compare")


@pytest.mark.parametrize("key", KEYS)
def test_noise_beyond_the_effect_decides_nothing(key):
    assert finding(key, evidence(noise=40.0)).verdict == "undecided"


@pytest.mark.parametrize(
    ("key", "shift"),
    [
        ("lrw-equals-ft", {"LRW": 0.5}),
        ("lrw-equals-ft", {"LRW": -0.5}),
        ("large-rates-beat-ft", {"SLR": -30.0}),
        ("linear-on-top", {"SLR": 20.0}),
    ],
)
def test_a_contradicted_claim_is_not_held(key, shift):
    assert finding(key, evidence(**shift)).verdict == "not held"


def test_figures_count_the_comparisons_either_way():
    assert "9 of 12 clearly above 0, 3 below" in finding("large-rates-beat-ft", evidence(SLR=-30.0)).figures


def test_a_claim_about_gaps_is_not_held_when_they_go_the_other_way():
    mirrored = {**evidence().scores}
    for schedule, sparsity, budget in PUBLISHED:
        if schedule == "FT":
            other = (schedule, sparsity, BUDGETS[2 - BUDGETS.index(budget)])
            mirrored[(schedule, sparsity, budget)] = evidence().scores[other]
    given = Evidence(mirrored, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED)
    assert finding("gap-shrinks-with-budget", given).verdict == "not held"
    swapped = {key: evidence().scores[(key[0], SPARSITIES[2 - SPARSITIES.index(key[1])], key[2])] for key in PUBLISHED}
    given = Evidence(swapped, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED)
    assert finding("gap-grows-with-sparsity", given).verdict == "not held"


def test_one_missing_column_leaves_a_claim_about_all_of_them_undecided():
    given = evidence(drop={("ALLR", 0.9, "2.22%")})
    assert finding("large-rates-beat-ft", given).verdict == "undecided"
    assert "n = 0 to 5 seeds" in finding("large-rates-beat-ft", given).figures


def test_linear_on_top_holds_if_either_of_the_two_beats_all_others():
    assert finding("linear-on-top", evidence(LLR=-20.0)).verdict == "held"
    assert finding("linear-on-top", evidence(ALLR=-20.0, LLR=5.0)).verdict == "held"


def test_differences_are_paired_within_a_seed():
    """A seed whose dense network is better by 20 points in every run changes no difference."""
    accuracy = {key: values + 20.0 * (values.index == 1) for key, values in evidence().scores.items()}
    shifted = Evidence(accuracy, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED)
    assert [found.verdict for found in Table1().check(shifted)] == ["held"] * len(CLAIMS)


def test_seeds_are_matched_by_their_number_not_their_place():
    reversed_ft = {
        key: values[::-1] if key[0] == "FT" else values for key, values in evidence(noise=5.0).scores.items()
    }
    given = Evidence(reversed_ft, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED)
    for before, after in zip(Table1().check(evidence(noise=5.0)), Table1().check(given), strict=True):
        assert [c.difference.mean for c in before.comparisons] == pytest.approx(
            [c.difference.mean for c in after.comparisons]
        )
        assert [c.p for c in before.comparisons] == pytest.approx([c.p for c in after.comparisons])


def test_figures_give_ours_and_the_published_differences():
    found = finding("large-rates-beat-ft", evidence(noise=0.0, ALLR=1.0))
    by_label = {comparison.label: comparison for comparison in found.comparisons}
    allr = by_label["ALLR - FT, 90 % at 2.22 %"]
    assert allr.published == pytest.approx(69.56 - 56.75)
    assert allr.difference.mean == pytest.approx(69.56 - 56.75 + 1.0)
    assert "Differences +6.19 to +13.81 points (published +6.19 to +12.81)" in found.figures


def test_p_values_are_corrected_for_the_number_of_comparisons():
    found = finding("large-rates-beat-ft", evidence(noise=3.0))
    raw = [comparison.difference.p for comparison in found.comparisons]
    assert max(c.p / p for c, p in zip(found.comparisons, raw, strict=True)) == pytest.approx(12)


def test_equal_learning_rates_are_counted_where_records_say_them():
    rates = {
        (name, 0.9, "2.22%"): pd.Series(["same", other], index=[0, 1]) for name, other in (("FT", "a"), ("LRW", "b"))
    }
    assert (
        "same learning rates in 1 of 2 pairs of runs"
        in finding("lrw-equals-ft", evidence(learning_rates=rates)).figures
    )


def test_lrw_equals_ft_by_identity_where_rates_and_accuracies_are_the_same():
    """Differences that are 0 by chance, on a small test set, are no equal runs: five of them prove nothing."""
    same = {key: pd.Series(["same"] * 5) for key in PUBLISHED}
    given = evidence(noise=0.0, learning_rates=same)
    accuracy = {
        key: given.scores[("FT", *key[1:])] if key[0] == "LRW" else value for key, value in given.scores.items()
    }
    equal = Evidence(accuracy, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED, same)
    found = finding("lrw-equals-ft", equal)
    assert found.verdict == "held"
    assert "n = 5 seeds; 9 of 9 within ±0.05 points (9 by the same runs)" in found.figures
    assert all(math.isnan(comparison.p) for comparison in found.comparisons)
    for rates in ({}, same | {("FT", 0.9, "2.22%"): pd.Series(["other"] * 5)}):
        assert finding("lrw-equals-ft", replace(equal, learning_rates=rates)).verdict == "undecided"


def test_every_published_difference_points_the_way_that_the_claim_says():
    for found in Table1().check(evidence()):
        if found.key not in ("lrw-equals-ft", "linear-on-top"):
            assert min(comparison.published for comparison in found.comparisons) > 0, found.key
    assert all(abs(c.published) <= 0.0101 for c in finding("lrw-equals-ft", evidence()).comparisons)


def test_sparsities_print_as_written():
    assert [claims.per_cent(value) for value in (0.7, 0.995, 0.07)] == ["70 %", "99.5 %", "7 %"]
