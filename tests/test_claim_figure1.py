"""The claim about Figure 1: the iterative baseline is met after at most a tenth of its epochs."""

from __future__ import annotations

import pandas as pd

from analysis.claims import Evidence, Finding, Key
from analysis.paper.claims_figure1 import baseline_met_early

SHORT, LONG, BASE = "cycles 1, ALLR", "cycles 5, ALLR", "ladder renda, LRW"
EPOCHS = {SHORT: 10.0, LONG: 50.0, BASE: 500.0}


def evidence(seeds: int = 5, validation: dict[str, float] | None = None, epochs=EPOCHS, **test: float) -> Evidence:
    """One sparsity; `test`: accuracy of short, long and base, give or take the seed's own level."""
    rows = {SHORT: test["short"], LONG: test["long"], BASE: test["base"]}
    keys: dict[Key, str] = {(row, 0.9, "x"): row for row in rows}
    level = pd.Series(range(seeds), dtype=float)
    return Evidence(
        {key: rows[row] + level for key, row in keys.items()},
        tuple(rows),
        (0.9,),
        ("x",),
        {},
        factors={row: ("IMP", row.rpartition(", ")[2]) for row in rows},
        epochs={key: epochs[row] for key, row in keys.items()},
        validation={key: (validation or rows)[row] + level for key, row in keys.items()},
    )


def checked(**given) -> Finding:
    return baseline_met_early(evidence(**given))


def test_it_is_held_where_a_tenth_of_the_epochs_is_better_and_not_held_where_it_is_worse():
    assert checked(short=80, long=92, base=90).verdict == "held"
    assert checked(short=80, long=88, base=90).verdict == "not held"
    assert checked(seeds=4, short=80, long=92, base=90).verdict == "undecided"
    assert checked(short=80, long=90, base=90).verdict == "undecided"  # level: neither


def test_the_setting_is_selected_in_validation_whatever_its_test_says():
    found = checked(short=95, long=88, base=90, validation={SHORT: 80.0, LONG: 85.0, BASE: 90.0})
    assert found.verdict == "not held"
    assert found.comparisons[0].label.startswith("cycles 5, ALLR, x - ladder renda, LRW, x")


def test_settings_of_more_than_a_tenth_have_no_say():
    longer = EPOCHS | {LONG: 60.0}
    assert checked(
        short=92, long=80, base=90, epochs=longer, validation={SHORT: 1.0, LONG: 2.0, BASE: 3.0}
    ).verdict == ("held")
    assert checked(short=88, long=95, base=90, epochs=longer).verdict == "not held"


def test_a_grid_that_ends_too_early_decides_nothing_against_it_and_says_why():
    grid = {SHORT: 10.0, LONG: 20.0, BASE: 500.0}
    found = checked(short=80, long=88, base=90, epochs=grid)
    assert found.verdict == "undecided"
    assert "90 %: the grid ends at 20 of 50 epochs" in found.figures
    assert checked(short=80, long=92, base=90, epochs=grid).verdict == "held"


def test_a_sweep_without_a_baseline_is_about_something_else():
    given = evidence(short=1, long=2, base=3)
    rows = {row: ("IMP", "ALLR") for row in given.rows}
    without = Evidence(given.scores, given.rows, (0.9,), ("x",), {}, factors=rows, epochs=given.epochs)
    assert baseline_met_early(without).comparisons == ()
