"""Rows in one number over all columns, with bootstrap intervals; and every claim on every problem."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.aggregates import aggregates, interquartile_mean
from analysis.paper.sheets import make_sheets
from analysis.statistics import improvement
from tests.conftest import ROOT

REFERENCE = ROOT / "results" / "reference"


@pytest.fixture(scope="module")
def sheet():
    (made,) = make_sheets(["table1"], REFERENCE, "digits")
    return made


def test_the_interquartile_mean_is_of_the_middle_half_of_all_columns():
    assert interquartile_mean(np.array([0.0, 100.0]), np.array([4.0, 6.0])) == 5


def test_improvement_is_mann_whitney_s_share_of_pairs():
    random = np.random.default_rng(1)
    first, second = random.integers(0, 6, 7).astype(float), random.integers(0, 6, 5).astype(float)
    expected = stats.mannwhitneyu(first, second).statistic / 35
    assert improvement(first, second) == pytest.approx(expected)
    assert improvement(first, first, second, second) == pytest.approx(expected)
    assert improvement(first, second) == pytest.approx(1 - improvement(second, first))


def test_a_row_s_interval_holds_its_mean_and_is_a_point_where_all_runs_are_alike(sheet):
    table = aggregates(sheet)
    assert [row.label for row in table.footer] == [row.label for row in sheet.tables[0].rows]
    for row in table.footer:
        mean, interval, *_ = row.cells
        low, high = map(float, interval.split(" to "))
        assert low < float(mean) < high
    alike = aggregates(type(sheet)(**{**vars(sheet), "records": sheet.records.assign(final_test=0.5)}))
    assert {row.cells[1] for row in alike.footer} == {"50.00 to 50.00"}


def test_the_leading_row_is_compared_with_no_one(sheet):
    table = aggregates(sheet)
    leader = re.search(r"P\(beats (.*)\)", table.columns[-1].group)[1]
    best = max(table.footer, key=lambda row: float(row.cells[0]))
    assert best.label == leader
    assert best.cells[2:] == ("", "")


def test_too_few_runs_have_no_number():
    (made,) = make_sheets(["table1"], REFERENCE, "digits", "2")
    assert aggregates(made).footer == ()


def test_the_command_prints_them_where_it_is_asked_to(command):
    plain = command("analysis.make_tables", "table1", "--problem", "digits", "--results", str(REFERENCE))
    asked = command("analysis.make_tables", "table1", "--problem", "digits", "--results", str(REFERENCE), "--aggregate")
    assert "interquartile mean" not in plain.stdout
    assert "interquartile mean" in asked.stdout


def test_a_row_that_ended_at_another_sparsity_has_no_number(sheet):
    table, (first, *others) = sheet.tables[0], sheet.tables[0].rows
    away = replace(first, entries=(replace(first.entries[0], competes=False), *first.entries[1:]))
    made = aggregates(replace(sheet, tables=(replace(table, rows=(away, *others)),)))
    assert [row.label for row in made.footer] == [row.label for row in others]


def test_columns_of_the_same_seeds_are_no_further_evidence(sheet):
    """The interval of nine columns that are alike is that of one."""
    alike = replace(sheet, records=sheet.records.assign(final_test=0.7 + 0.01 * sheet.records["seed"]))
    low, high = map(float, aggregates(alike).footer[0].cells[1].split(" to "))
    one = stats.bootstrap((70.0 + np.arange(20),), interquartile_mean, method="percentile", random_state=1)
    assert (low, high) == pytest.approx(one.confidence_interval, abs=0.5)
