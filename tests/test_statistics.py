"""Paired comparisons: what they say with many seeds, and that they say nothing with few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    any_of_all_p,
    corrected_p,
    mean_of_others,
    paired_difference,
    probability_of_improvement,
    rank_correlation,
    seeds_needed,
    signed_rank_p,
)

differences = st.lists(st.integers(-8, 8).map(lambda whole: whole / 4), min_size=5, max_size=9)


def one_sided(*columns) -> list[float]:
    """p values of several comparisons."""
    return signed_rank_p(np.array(columns, dtype=float).T)[0].tolist()


def test_an_interval_is_student_s():
    allr, ft = [91.2, 90.4, 92.0, 91.1, 90.9], [65.0, 61.2, 66.9, 63.3, 64.4]
    found = paired_difference([a - b for a, b in zip(allr, ft, strict=True)])
    expected = stats.ttest_rel(allr, ft)
    assert found.n == 5
    assert found.mean == pytest.approx(26.96)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@given(differences)
def test_p_values_are_those_of_an_exact_permutation_test_ties_and_zeros_included(values):
    array = np.array(values)
    scores = np.sign(array) * stats.rankdata(np.abs(array))
    expected = stats.permutation_test(
        (scores,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert one_sided(values) == [pytest.approx(expected.pvalue)]


@pytest.mark.parametrize("n", [5, 8, 12])
def test_without_ties_they_are_wilcoxon_s(n):
    values = np.random.default_rng(n).normal(0.4, 1.0, n)
    expected = stats.wilcoxon(values, alternative="greater", method="exact").pvalue
    assert one_sided(values) == [pytest.approx(expected)]


def test_with_many_seeds_they_are_close_to_wilcoxon_s_and_always_the_same():
    values = np.random.default_rng(3).normal(0.3, 1.0, 20)
    expected = stats.wilcoxon(values, alternative="greater", method="exact").pvalue
    assert one_sided(values) == [pytest.approx(expected, abs=0.01)]
    assert one_sided(values) == one_sided(values)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fewer_than_five_seeds_have_an_interval_and_no_test(n):
    values = [3.0, 3.1, 3.2, 3.3][:n]
    assert paired_difference(values).has_interval == (n > 1)
    assert math.isnan(one_sided(values)[0])
    assert math.isnan(one_sided([*values, *[math.nan] * 6])[0])


def test_five_seeds_of_one_sign_are_the_least_that_shows_anything():
    assert one_sided([0.2, 0.5, 0.1, 0.9, 0.3]) == [1 / 32]
    assert one_sided([0.2, 0.5, -0.1, 0.9, 0.3]) == [2 / 32]
    assert one_sided([0.2, 0.5, 0.0, 0.9, 0.3]) == [2 / 32]  # a difference of 0 is no evidence
    assert one_sided([0.0] * 5) == [1.0]


def test_one_run_far_away_counts_as_one_seed_however_far_it_is():
    near, far, lost = [0.2] * 9 + [0.5], [0.2] * 9 + [90.0], [0.2] * 9 + [-90.0]
    assert one_sided(near) == one_sided(far) == [1 / 1024]
    assert 0.01 < one_sided(lost)[0] < 0.05
    assert one_sided(lost) == one_sided([0.2] * 9 + [-0.5])
    assert stats.ttest_1samp(far, 0.0, alternative="greater").pvalue > 0.05


def test_all_of_several_need_no_correction_and_any_of_them_does():
    sure, unsure = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, -2.0, 3.0, 4.0, -5.0, 6.0]
    p = signed_rank_p(np.array([sure, unsure, sure]).T)
    assert any_of_all_p(p, [[0, 1, 2]]) == p[0, 1]
    assert any_of_all_p(p, [[0], [1]]) > p[0, 0]
    assert any_of_all_p(p, [[0], [2]]) == p[0, 0]  # the same differences twice are one comparison
    assert any_of_all_p(p, [[1], [0, 2]]) == any_of_all_p(p, [[0], [1]])
    assert corrected_p(p)[0] == any_of_all_p(p, [[0], [1], [2]])


def test_untested_comparisons_take_no_part_and_decide_nothing():
    p = signed_rank_p(np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, math.nan, 4.0, 5.0]]).T)
    assert math.isnan(any_of_all_p(p, [[0, 1]]))
    assert any_of_all_p(p, [[0], [1]]) == 1 / 32
    assert math.isnan(corrected_p(p)[1])
    assert math.isnan(any_of_all_p(p, []))


def test_a_correction_is_never_worse_than_bonferroni_and_errs_as_seldom_as_it_says():
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        p = signed_rank_p(random.normal(0.0, 1.0, (7, 6)))
        corrected = corrected_p(p)
        assert (corrected <= np.minimum(1.0, 6 * p[0]) + 1e-12).all()
        wrong += corrected.min() < 0.05
    assert wrong / 300 < 0.08


def test_seeds_needed_give_the_power_that_they_promise():
    random = np.random.default_rng(1)
    many = random.normal(0.8, 1.0, 400)
    n = int(seeds_needed(many))
    assert 14 <= n <= 17  # of a large effect a few more than are needed
    shown = [one_sided(random.normal(0.8, 1.0, n))[0] < 0.05 for _ in range(150)]
    assert 0.75 < np.mean(shown) < 0.98


def test_seeds_needed_of_no_effect_are_infinite_and_of_two_seeds_unknown():
    assert seeds_needed([-1.0, -2.0, 0.5]) == math.inf
    assert seeds_needed([0.0, 0.0, 0.0]) == math.inf
    assert math.isnan(seeds_needed([1.0, 2.0]))
    assert seeds_needed([1.0, 2.0, 3.0], alpha=0.001) >= 10  # 2^-9 is no 0.001


def test_one_seed_has_a_difference_and_nothing_else():
    found = paired_difference([3.0])
    assert (found.n, found.mean, found.has_interval) == (1, 3.0, False)


def test_seeds_without_a_number_are_left_out():
    assert paired_difference([1.0, math.nan, 2.0]).n == 2
    assert paired_difference([math.nan]).n == 0


def test_rank_correlation():
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 90.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert rank_correlation([1.0, None, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0]) == pytest.approx(1.0)


def test_rank_correlation_of_ties_or_two_rows_says_nothing():
    assert math.isnan(rank_correlation([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]))
    assert math.isnan(rank_correlation([1.0, 2.0], [1.0, 2.0]))


def test_probability_of_improvement_averages_columns():
    better, worse, same = ([2.0, 3.0], [0.0, 1.0]), ([0.0], [1.0]), ([1.0], [1.0])
    assert probability_of_improvement([better]) == 1.0
    assert probability_of_improvement([better, worse]) == 0.5
    assert probability_of_improvement([same]) == 0.5
    assert probability_of_improvement([better, ([], [1.0])]) == 1.0
    assert math.isnan(probability_of_improvement([([], [1.0])]))


runs = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=6)


@given(st.lists(st.tuples(runs, runs), min_size=1, max_size=4))
def test_improvement_and_its_opposite_add_up_to_one(columns):
    opposite = [(b, a) for a, b in columns]
    assert probability_of_improvement(columns) + probability_of_improvement(opposite) == pytest.approx(1.0)


def test_a_prediction_interval_holds_the_mean_of_other_seeds_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(4000):
        own, others = random.normal(90, 3, 5), random.normal(90, 3, 3)
        low, high = mean_of_others(own.mean(), own.std(ddof=1), 5, 3)
        held += low <= others.mean() <= high
    assert 0.94 < held / 4000 < 0.96
