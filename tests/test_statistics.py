"""Paired comparisons: what they say with many seeds, and that they say nothing with few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    above_p,
    below_p,
    beyond_p,
    equivalence_p,
    holm,
    mean_of_others,
    paired_difference,
    probability_of_improvement,
    rank_correlation,
)

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_paired_difference_is_the_paired_t_test():
    allr, ft = [91.2, 90.4, 92.0, 91.1, 90.9], [65.0, 61.2, 66.9, 63.3, 64.4]
    found = paired_difference([a - b for a, b in zip(allr, ft, strict=True)])
    expected = stats.ttest_rel(allr, ft)
    assert found.n == 5
    assert found.mean == pytest.approx(26.96)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_than_five_seeds_have_an_interval_and_no_test(n):
    values = [3.0, 3.1, 3.2, 3.3][:n]
    found = paired_difference(values)
    assert (found.n, found.mean, math.isnan(found.p)) == (n, pytest.approx(sum(values) / n), True)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    for p in (equivalence_p([0.0] * n, 0.05), beyond_p([9.0] * n, 0.05), above_p([9.0] * n, 0.0)):
        assert math.isnan(p)
    assert math.isnan(paired_difference([3.0] * n).p)


def test_one_seed_has_a_difference_and_nothing_else():
    found = paired_difference([3.0])
    assert (found.n, found.mean, found.has_interval, math.isnan(found.p)) == (1, 3.0, False, True)


def test_seeds_without_a_number_are_left_out():
    assert paired_difference([1.0, math.nan, 2.0]).n == 2
    assert paired_difference([math.nan]).n == 0


def test_equal_differences_of_five_seeds_are_no_proof():
    """On a small test set five seeds may differ by the same number of images; a t-test would call that certain."""
    found = paired_difference([0.37] * 5)
    assert found.p == pytest.approx(2 / 2**5)
    assert paired_difference([0.0] * 5).p == 1.0
    assert paired_difference([-0.37] * 20).p == pytest.approx(2 / 2**20)


@pytest.mark.parametrize("n", [5, 7])
def test_equal_differences_are_tested_by_their_signs_on_one_side_too(n):
    assert above_p([0.185] * n, 0.0) == below_p([-0.185] * n, 0.0) == 2.0**-n
    assert above_p([0.185] * n, 0.185) == above_p([0.185] * n, 0.2) == 1.0
    assert equivalence_p([0.03] * n, 0.05) == 2.0**-n
    assert beyond_p([0.185] * n, 0.05) == beyond_p([-0.185] * n, 0.05) == 2 * 2.0**-n
    assert equivalence_p([99.95 - 99.9] * n, 0.05) == 1.0  # at the margin up to rounding, which says nothing


def test_equivalence_needs_differences_inside_the_margin():
    assert equivalence_p([0.0] * 5, 0.05) < 0.05
    assert equivalence_p([0.001, -0.001, 0.0, 0.002, 0.001], 0.05) < 0.05
    assert equivalence_p([0.04, -0.3, 0.2, 0.1, 0.0], 0.05) > 0.05
    assert equivalence_p([0.2] * 5, 0.05) == 1.0
    assert equivalence_p([1.0, 1.1, 0.9, 1.0, 1.1], 0.05) > 0.9
    assert equivalence_p([-1.0, -1.1, -0.9, -1.0, -1.1], 0.05) > 0.9


def test_beyond_needs_differences_outside_the_margin_on_one_side():
    assert beyond_p([1.0, 1.1, 0.9, 1.0, 1.1], 0.05) < 0.05
    assert beyond_p([-1.0, -1.1, -0.9, -1.0, -1.1], 0.05) < 0.05
    assert beyond_p([0.01, 0.02, 0.01, 0.02, 0.01], 0.05) > 0.05
    assert beyond_p([0.04] * 5, 0.05) == 1.0


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_comparisons_that_could_not_be_made():
    adjusted = holm([0.01, math.nan])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


@given(p_values, st.randoms())
def test_holm_does_not_depend_on_the_order(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = holm([values[index] for index in order])
    assert shuffled == pytest.approx([holm(values)[index] for index in order])


@given(p_values)
def test_holm_lies_between_no_correction_and_bonferroni(values):
    for raw, adjusted in zip(values, holm(values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(values)) + 1e-12


def test_rank_correlation():
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 90.0]) == (pytest.approx(1.0), 3)
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == (pytest.approx(-1.0), 3)
    assert rank_correlation([1.0, None, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0]) == (pytest.approx(1.0), 3)


def test_rank_correlation_of_ties_or_two_rows_says_nothing():
    assert math.isnan(rank_correlation([5.0, 5.0, 5.0], [1.0, 2.0, 3.0])[0])
    assert math.isnan(rank_correlation([1.0, 2.0], [1.0, 2.0])[0])


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


def test_one_sided_tests_take_their_side():
    inside = [0.4, 0.5, 0.6, 0.45, 0.55]
    assert above_p(inside, 0.0) < 0.05 < above_p(inside, 0.5)
    assert below_p(inside, 1.0) < 0.05 < below_p(inside, 0.5)
    assert (above_p([0.0] * 5, -1.0), below_p([0.0] * 5, -1.0)) == (2.0**-5, 1.0)
    assert math.isnan(above_p(inside[:4], 0.0))


def test_a_prediction_interval_holds_the_mean_of_other_seeds_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(4000):
        own, others = random.normal(90, 3, 5), random.normal(90, 3, 3)
        low, high = mean_of_others(own.mean(), own.std(ddof=1), 5, 3)
        held += low <= others.mean() <= high
    assert 0.94 < held / 4000 < 0.96
