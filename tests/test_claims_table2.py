"""The claims about Table 2: what holds, what does not, and what too few seeds leave open."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pandas as pd
import pytest

from analysis import comparisons
from analysis.claims import Evidence, Finding
from analysis.paper import claims_table2, table2
from analysis.paper.table2 import Table2

METHODS = ("BIMP", "GMP", "GSM", "DPF", "DNW", "LC", "STR", "DST")

PUBLISHED = table2.published_numbers()


def evidence(seeds=(0, 1, 2, 3, 4), noise=0.02, chance=0, **shift) -> Evidence:
    random = Random(chance)
    accuracy = {
        (method, sparsity, ""): pd.Series(
            [numbers["accuracy_mean"] + shift.get(method, 0.0) + random.gauss(0, noise) for _ in seeds],
            index=list(seeds),
        )
        for (method, sparsity), numbers in PUBLISHED.items()
    }
    published = {(*key, ""): numbers["accuracy_mean"] for key, numbers in PUBLISHED.items()}
    return Evidence(accuracy, METHODS, (0.7, 0.8, 0.9), ("",), published)


def finding(key: str, given: Evidence) -> Finding:
    return next(found for found in Table2().check(given) if found.key == key)


KEYS = [claim(evidence()).key for claim in claims_table2.CLAIMS]


@pytest.mark.parametrize("key", KEYS)
def test_the_paper_s_own_numbers_hold(key):
    assert finding(key, evidence()).verdict == "held"


@pytest.mark.parametrize("key", KEYS)
def test_few_seeds_none_or_much_noise_decide_nothing(key):
    assert finding(key, evidence((0, 1, 2, 3))).verdict == "undecided"
    assert finding(key, evidence(noise=40.0, chance=3)).verdict == "undecided"
    assert finding(key, Evidence({}, METHODS, (0.7, 0.8, 0.9), ("",), {})).verdict == "undecided"


@pytest.mark.parametrize(
    ("key", "shift"),
    [
        ("bimp-within-a-point", {"BIMP": -3.0}),
        ("bimp-within-a-point", {"LC": 20.0}),
        ("bimp-beats-most", {"GMP": 3.0}),
        ("dpf-dnw-beat-bimp", {"BIMP": 2.0}),
        ("bimp-level-at-low-sparsity", {"DNW": 3.0}),
    ],
)
def test_a_contradicted_claim_is_not_held(key, shift):
    assert finding(key, evidence(range(10), **shift)).verdict == "not held"


def test_one_rival_that_collapses_once_leaves_bimp_within_a_point():
    """A gain, however large, is a gain: it is no reason to doubt the others."""
    given = evidence(range(10), noise=0.1)
    lc = given.scores[("LC", 0.9, "")]
    collapsed = {**given.scores, ("LC", 0.9, ""): lc.where(lc.index != 4, 10.0)}
    assert finding("bimp-within-a-point", replace(given, scores=collapsed)).verdict == "held"


def test_every_row_is_compared_with_every_other_and_few_seeds_are_undecided():
    few = comparisons.pairs(evidence((0, 1, 2)))
    assert len(few) == 28
    assert {pair.ahead for pair in few} == {"undecided"}
    assert {pair.ahead for pair in comparisons.pairs(evidence(range(5)))} == {"undecided"}  # 2 / 2^5 is no 5 %
    many = {(pair.first, pair.second): pair for pair in comparisons.pairs(evidence(range(10)))}
    assert many[("GMP", "GSM")].ahead == "GMP"
    assert many[("GSM", "LC")].improvement == pytest.approx(1 / 3)  # ahead at 90 % alone
    assert 2 / 2**10 <= many[("BIMP", "GMP")].p <= 2 * 28 / 2**10


def test_a_method_that_the_paper_does_not_have_is_in_none_of_its_claims():
    given = evidence(range(10))
    own = {("MINE", sparsity, ""): given.scores[("BIMP", sparsity, "")] + 5 for sparsity in given.sparsities}
    with_own = replace(given, scores={**given.scores, **own}, rows=(*given.rows, "MINE", "CS"))
    assert Table2().check(with_own) == Table2().check(given)


def test_a_comparison_without_runs_is_named_instead_of_a_number_of_seeds():
    given = evidence(range(10))
    scores = {key: value for key, value in given.scores.items() if key != ("LC", 0.9, "")}
    found = finding("bimp-within-a-point", replace(given, scores=scores))
    assert (found.verdict, found.needed) == ("undecided", "1 of 7 comparisons has no runs that can be compared")
