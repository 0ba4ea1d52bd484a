"""The paper's claims: held on its own numbers, not held where they are contradicted, undecided for want of seeds."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from random import Random

import pandas as pd
import pytest

from analysis import claims, comparisons
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
        ("allr-is-best", {"SLR": 20.0}),
        ("linear-on-top", {"SLR": 20.0}),
    ],
)
def test_a_contradicted_claim_is_not_held(key, shift):
    assert finding(key, evidence(range(10), **shift)).verdict == "not held"


def test_five_seeds_contradict_a_claim_where_all_of_it_is_the_other_way_round():
    """And leave one undecided that is contradicted in a part: 2^-5 is spent on one sign flip, and there are two."""
    for key in ("large-rates-beat-ft", "allr-is-best"):
        assert finding(key, evidence(ALLR=-30.0, SLR=-30.0, CLR=-30.0, LLR=-30.0)).verdict == (
            "not held" if key == "large-rates-beat-ft" else "undecided"
        )
    assert finding("allr-is-best", evidence(ALLR=-30.0)).verdict == "not held"
    assert finding("large-rates-beat-ft", evidence(SLR=-30.0)).verdict == "undecided"


def test_figures_count_the_comparisons_either_way():
    assert "9 of 12 clearly above 0, 3 below" in finding("large-rates-beat-ft", evidence(range(10), SLR=-30.0)).figures


def with_run(given: Evidence, row: str, seed: int, score: float) -> Evidence:
    """The same where a row's run of one seed ended at `score` in every column."""
    scores = {
        key: values.where(values.index != seed, score) if key[0] == row else values
        for key, values in given.scores.items()
    }
    return replace(given, scores=scores)


def test_a_run_that_collapses_counts_as_a_loss_and_turns_no_verdict():
    """To a t-test a run at 10 % is a deviation of thirty points, which leaves undecided what it speaks for."""
    ten = evidence(range(10), noise=0.5)
    assert finding("large-rates-beat-ft", with_run(ten, "FT", 3, 10.0)).verdict == "held"
    assert finding("large-rates-beat-ft", with_run(ten, "SLR", 3, 10.0)).verdict == "held"
    reversed_claim = evidence(range(20), noise=0.5, SLR=-30.0)
    assert finding("large-rates-beat-ft", with_run(reversed_claim, "FT", 3, 10.0)).verdict == "not held"
    five = with_run(evidence(noise=0.5), "SLR", 3, 10.0)
    assert finding("large-rates-beat-ft", five).verdict == "undecided"  # one seed of five lost: no claim of all


def test_an_undecided_claim_says_how_many_seeds_would_decide_it():
    found = finding("large-rates-beat-ft", with_run(evidence(noise=0.5), "SLR", 3, 10.0))
    assert re.fullmatch(r"about \d+ seeds would decide it at the effect seen \(Noether 1987, power 0.8\)", found.needed)
    assert found.needed in found.figures
    level = evidence((0, 1, 2, 3))
    same = {key: level.scores[("FT", *key[1:])] for key in PUBLISHED}
    assert finding("large-rates-beat-ft", replace(level, scores=same)).needed == (
        "no effect seen that 1000 seeds would decide"
    )
    assert finding("large-rates-beat-ft", evidence()).needed == ""
    assert finding("large-rates-beat-ft", evidence((0, 1))).needed == ""


def test_rows_that_are_not_as_sparse_as_each_other_are_not_compared():
    denser = {("SLR", 0.9, "2.22%"): 0.871, ("FT", 0.9, "2.22%"): 0.9}
    found = finding("large-rates-beat-ft", replace(evidence(), reached=denser))
    assert found.verdict == "undecided"
    assert [c.label for c in found.comparisons if c.difference.n == 0] == ["SLR - FT, 90 % at 2.22 %"]
    assert "not compared, as the sparsities or epochs differ: SLR - FT, 90 % at 2.22 %" in found.figures
    gap = finding("gap-grows-with-sparsity", replace(evidence(), reached=denser))
    assert {c.difference.n for c in gap.comparisons if "2.22" in c.label and "90 %" in c.label} == {0}


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
    assert finding("linear-on-top", evidence(range(10), LLR=-20.0)).verdict == "held"
    assert finding("linear-on-top", evidence(range(10), ALLR=-20.0, LLR=5.0)).verdict == "held"
    assert finding("allr-is-best", evidence(range(10), ALLR=-20.0, LLR=5.0)).verdict == "not held"


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


def test_p_values_against_a_claim_are_corrected_for_the_number_of_comparisons():
    """By sign flips of whole seeds: as Holm's correction or better, since the comparisons share their seeds."""
    found = finding("large-rates-beat-ft", evidence(range(10), SLR=-30.0))
    against = [comparison.against for comparison in found.comparisons if comparison.label.startswith("SLR")]
    assert all(1 / 2**10 < p <= 12 / 2**10 for p in against)


def test_equal_learning_rates_are_counted_where_records_say_them():
    rates = {
        (name, 0.9, "2.22%"): pd.Series(["same", other], index=[0, 1]) for name, other in (("FT", "a"), ("LRW", "b"))
    }
    assert (
        "same learning rates in 1 of 2 pairs of runs"
        in finding("lrw-equals-ft", evidence(learning_rates=rates)).figures
    )


def test_lrw_equals_ft_by_identity_where_rates_and_accuracies_are_the_same():
    """Counted apart: it is no finding that the same runs end alike. What has other learning rates is tested."""
    same = {key: pd.Series(["same"] * 5) for key in PUBLISHED}
    given = evidence(noise=0.0, learning_rates=same)
    accuracy = {
        key: given.scores[("FT", *key[1:])] if key[0] == "LRW" else value for key, value in given.scores.items()
    }
    equal = Evidence(accuracy, SCHEDULES, SPARSITIES, BUDGETS, PUBLISHED, same)
    found = finding("lrw-equals-ft", equal)
    assert found.verdict == "by construction"
    assert "n = 5 seeds; the same runs; same learning rates in 45 of 45 pairs" in found.figures
    assert found.method.startswith("none, as both used the same learning rates")
    assert Table1().check(equal)[-1] == found
    for rates in ({}, same | {("FT", 0.9, "2.22%"): pd.Series(["other"] * 5)}):
        assert finding("lrw-equals-ft", replace(equal, learning_rates=rates)).verdict == "held"
    unequal = with_run(equal, "LRW", 2, 50.0)
    assert finding("lrw-equals-ft", unequal).verdict == "undecided"


def test_every_published_difference_points_the_way_that_the_claim_says():
    for found in Table1().check(evidence()):
        if found.key not in ("lrw-equals-ft", "linear-on-top"):
            assert min(comparison.published for comparison in found.comparisons) > 0, found.key
    assert all(abs(c.published) <= 0.0101 for c in finding("lrw-equals-ft", evidence()).comparisons)


def test_sparsities_print_as_written():
    assert [claims.per_cent(value) for value in (0.7, 0.995, 0.07)] == ["70 %", "99.5 %", "7 %"]


def test_a_run_that_fell_far_turns_the_mean_of_a_pair_but_not_who_is_ahead():
    seeds = range(20)
    above = {("A", 0.9, ""): pd.Series([91.0 + k / 40 for k in seeds], index=list(seeds))}
    above[("A", 0.9, "")][19] = 10.0
    given = Evidence({**above, ("B", 0.9, ""): pd.Series(90.0, index=list(seeds))}, ("A", "B"), (0.9,), ("",), {})
    (pair,) = comparisons.pairs(given)
    assert pair.difference.mean < 0
    assert pair.ahead == "A"
    assert comparisons.summary((pair,)).endswith("A over B")


def test_the_hardest_comparison_is_that_of_the_row_for_which_the_claim_speaks_most():
    """Of "ALLR or LLR is on top" not that of the lower of the two; of a claim of equality the largest difference."""
    given = evidence(range(10), noise=0.01, ALLR=-20.0)
    found = finding("linear-on-top", given)
    assert found.comparisons[found.hardest].label.startswith("LLR - ")
    rates = {key: pd.Series(str(key), index=range(10)) for key in PUBLISHED}
    apart = with_run(given, "LRW", 3, 10.0)
    equal = finding("lrw-equals-ft", replace(apart, learning_rates=rates))
    differences = [abs(one.difference.mean) for one in equal.comparisons]
    assert differences[equal.hardest] == max(differences)
