"""Table 1 out of records: its layout, its numbers, and what its caption says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import captions, frames, groups
from analysis.axes import sweep_axes
from analysis.paper import table1
from analysis.paper.table1 import Table1
from analysis.tables import Column, Entry, Row, Table, TextRow, entry, ranked, ranks, winners
from benchmark.cells import Cell, Problem
from benchmark.planning.grid import load_problem
from tests.table1_records import MADE_UP, SCHEDULES, by_rank, record_of, table1_cells, table1_records

AXES = sweep_axes("table1")


def groups_of(given, problem=None):
    return groups.groups(frames.read(given, "tests"), AXES, problem)


def measured(given) -> Table:
    (group,) = groups_of(given)
    return Table1().measured(group)


def at(table: Table, schedule: str, sparsity: str, budget: str) -> Entry:
    row = next(row for row in table.rows if row.label == schedule)
    index = [(c.group, c.label) for c in table.columns].index((f"sparsity {sparsity} %", f"budget {budget} %"))
    return row.entries[index]


# The model


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=8), st.randoms())
def test_ranks_do_not_depend_on_the_order_of_rows(means, shuffler):
    order = list(range(len(means)))
    shuffler.shuffle(order)
    assert ranks([means[index] for index in order], 2) == [ranks(means, 2)[index] for index in order]


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=8))
def test_a_rank_is_one_more_than_the_number_of_better_means_as_printed(means):
    printed = [None if mean is None else round(mean, 2) for mean in means]
    for mean, rank in zip(printed, ranks(means, 2), strict=True):
        if mean is None:
            assert rank is None
        else:
            assert rank == 1 + sum(other > mean for other in printed if other is not None)


def test_means_that_print_alike_share_a_rank():
    assert ranks([97.404, 97.396, 98.0, 97.0], 2) == [2, 2, 1, 4]


def test_an_entry_has_the_sample_deviation_and_none_for_one_run():
    found = entry([90.0, 92.0, 91.0], 3)
    assert (found.mean, found.std, found.n) == (pytest.approx(91.0), pytest.approx(1.0), 3)
    assert entry([90.0], 3).std is None
    assert entry([], 3).mean is None
    assert entry([90.0], 3).is_partial


def test_a_table_holds_other_groups_of_columns_too():
    """As Table 2 will: throughput by itself, then accuracy, speedup and sparsity for each target."""
    columns = (
        Column("", "images/s", 0, ranked=False),
        *(Column(f"{target} %", label) for target in (70, 90) for label in ("accuracy", "speedup")),
    )
    rows = tuple(Row(name, tuple(Entry(float(n + k), 0.1, 3, 3) for k in range(5))) for n, name in enumerate("ab"))
    table = ranked(Table("t", "A table", "method", columns, rows))
    assert table.groups == (("", 1), ("70 %", 2), ("90 %", 2))
    assert [entry.rank for entry in table.rows[1].entries] == [None, 1, 1, 1, 1]
    assert winners(table, 1) == ("b",)
    assert table.part(1, 3).groups == (("70 %", 2),)


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="1 entries for 2 columns"):
        Table("t", "", "", (Column("", "a"), Column("", "b")), (Row("r", (Entry(1.0, None, 1),)),))
    with pytest.raises(ValueError, match="0 cells for 1 columns"):
        Table("t", "", "", (Column("", "a"),), (), footer=(TextRow("f", ()),))


# Table 1


def test_the_layout_is_the_paper_s():
    table = measured(table1_records(by_rank))
    assert [row.label for row in table.rows] == list(SCHEDULES)
    assert table.groups == (("sparsity 70 %", 3), ("sparsity 80 %", 3), ("sparsity 90 %", 3))
    assert [column.label for column in table.columns[:3]] == ["budget 2.22 %", "budget 5.55 %", "budget 11.11 %"]


def test_entries_are_means_and_sample_deviations_in_per_cent():
    found = at(measured(table1_records(by_rank)), "CLR", "90", "5.55")
    assert found.mean == pytest.approx(83.2)
    assert found.std == pytest.approx(0.2)
    assert (found.n, found.expected, found.rank) == (3, 3, 3)


def test_the_final_test_accuracy_is_what_counts():
    given = table1_records(by_rank)
    for record in given:
        for stage, values in record["accuracy"].items():
            values["validation"] = 0.99
            if stage != "final":
                values["test"] = 0.99
    assert at(measured(given), "FT", "70", "2.22").mean == pytest.approx(80.2)


def test_seeds_that_are_not_there_yet_are_counted():
    kept = [r for r in table1_records(by_rank) if not (r["cell"]["seed"] == 2 and r["cell"]["schedule"] == "ALLR")]
    kept = [r for r in kept if (r["cell"]["schedule"], r["cell"]["sparsity"]) != ("SLR", 0.9)]
    table = measured(kept)
    assert (at(table, "ALLR", "70", "2.22").n, at(table, "ALLR", "70", "2.22").expected) == (2, 3)
    assert at(table, "SLR", "90", "2.22") == Entry(None, None, 0, 3)
    assert "3 of 54 entries have no record (–). 9 of 54 have fewer seeds than 3" in table.caption[0]


def test_a_sweep_that_has_just_begun_still_expects_the_seeds_of_its_file():
    table = measured(table1_records(by_rank, seeds=(0,)))
    assert (at(table, "FT", "70", "2.22").n, at(table, "FT", "70", "2.22").expected) == (1, 3)
    assert "n = 3 seeds (so far seed 0)" in table.caption[0]


def test_more_seeds_than_the_sweep_asks_for_are_all_used():
    table = measured(table1_records(by_rank, seeds=(0, 3, 4, 7, 9)))
    assert at(table, "FT", "70", "2.22").n == 5
    assert "n = 5 seeds (0, 3, 4, 7, 9)" in table.caption[0]


def test_problems_and_recipes_are_never_mixed():
    other = MADE_UP.model_copy(update={"epochs": 30})
    given = [*table1_records(by_rank), *table1_records(lambda cell: 0.5, other, seeds=(0,))]
    ninety, thirty = sorted(groups_of(given), key=lambda group: -group.recipe.epochs)
    assert at(Table1().measured(ninety), "FT", "70", "2.22").mean == pytest.approx(80.2)
    assert at(Table1().measured(thirty), "FT", "70", "2.22").mean == pytest.approx(50.0)
    assert "30 epochs" in " ".join(Table1().measured(thirty).caption)


def test_a_problem_can_be_chosen():
    other = Problem(name="other", dataset="nothing", model="nonet", epochs=30)
    given = [*table1_records(by_rank), *table1_records(by_rank, other)]
    assert [group.recipe.name for group in groups_of(given, "other")] == ["other"]


def test_records_of_other_sweeps_stay_out():
    cell = table1_cells(seeds=[0])[0]
    others = [
        record_of(Cell(MADE_UP, "IMP", 0, cell.schedule, cell.sparsity, cell.budget, (("cycles", 4),)), 0.01),
        record_of(Cell(MADE_UP, "GMP", 0, None, cell.sparsity), 0.01),
        record_of(Cell(MADE_UP, "IMP", 0, cell.schedule, 0.55, cell.budget), 0.01),
    ]
    assert measured([*others, *table1_records(by_rank)]).rows == measured(table1_records(by_rank)).rows


def test_the_order_of_records_does_not_matter():
    records = table1_records(by_rank)
    rows = measured(records).rows

    @settings(max_examples=10)
    @given(st.randoms())
    def is_the_same(shuffler):
        shuffled = list(records)
        shuffler.shuffle(shuffled)
        assert measured(shuffled).rows == rows

    is_the_same()


def test_of_two_different_records_of_a_cell_the_first_counts_and_the_other_is_reported():
    first, *rest = table1_records(by_rank)[3:]
    second = json.loads(json.dumps(first))
    second["accuracy"]["final"]["test"] = 0.01
    found = frames.read([first, second, *rest], "tests")
    assert [first["id"] in problem and "records that differ" in problem for problem in found.problems] == [True]
    assert len(found.frame) == len(rest) + 1
    assert found.frame["final_test"].min() > 0.01


def test_a_cell_that_two_files_hold_with_equal_results_is_no_problem():
    first, *rest = table1_records(by_rank)[3:]
    again = {**first, "seconds": {"total": 99.0}, "provenance": {**first["provenance"], "host": "elsewhere"}}
    found = frames.read([first, again, *rest], "tests")
    assert found.problems == ()
    assert len(found.frame) == len(rest) + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.pop("accuracy"),
        lambda record: record["accuracy"]["final"].update(test=98.5),
        lambda record: record["accuracy"]["final"].update(test="high"),
        lambda record: record["cell"].update(budget="5 parsecs"),
        lambda record: record["cell"]["problem"].update(epochs=-1),
        lambda record: record.update(cell=None),
    ],
)
def test_a_record_without_what_the_table_needs_is_named(damage):
    given = table1_records(by_rank)
    damage(given[-1])
    found = frames.read(given, "tests")
    assert len(found.frame) == len(given) - 1
    assert len(found.problems) == 1
    assert given[-1]["id"] in found.problems[0]
    (group,) = groups.groups(found, AXES)
    assert "1 record there could not be used" in " ".join(Table1().measured(group).caption)


def test_runs_that_collapsed_or_missed_their_target_are_flagged():
    given = table1_records(by_rank)
    given[3]["status"] = "collapsed"
    given[4]["status"] = "missed_target"
    given[4]["accuracy"]["final"]["test"] = None
    table = measured(given)
    first, second = (at(table, given[n]["cell"]["schedule"], "70", "2.22") for n in (3, 4))
    assert first.flags == ("1 of 3 runs collapsed",)
    assert second.flags == ("1 of 3 runs missed the target sparsity", "1 of 3 runs recorded no test accuracy")
    assert second.n == 2


def test_the_caption_says_what_the_numbers_are():
    caption = " ".join(measured(table1_records(by_rank)).caption)
    assert "Test accuracy of the final epoch in per cent" in caption
    assert "mean ± sample standard deviation (ddof = 1) over n = 3 seeds (0, 1, 2)" in caption
    assert "Problem madeup: nonet on nothing, 90 epochs, batch size 128" in caption
    assert "; trained on 90 % of the training images, 10 % held out for validation" in caption
    assert "Dense accuracy 95.00 ± 0.00 (n = 3)" in caption
    assert "Records: 165 from tests; commit 0000000; torch 0.0.0; synthetic" in caption


def test_the_caption_says_where_a_recipe_differs_from_its_file():
    plain = load_problem("digits")[0]
    changed = load_problem("digits", {"epochs": 30, "milestones": (10,)})[0]
    assert "not the recipe" not in " ".join(measured(table1_records(by_rank, plain)).caption)
    caption = " ".join(measured(table1_records(by_rank, changed)).caption)
    assert "not the recipe of sweeps/problems/digits.yaml: epochs 30 instead of 90, milestones" in caption


def test_the_caption_tells_of_mixed_commits_libraries_and_dense_networks():
    given = table1_records(by_rank)
    given[5]["provenance"] |= {"commit": "a" * 40, "dirty": True, "versions": {"python": "3.11.0", "torch": "9.9.9"}}
    given[5]["provenance"]["code"] = "other code"
    given[6]["parent"]["weights_sha256"] = "another"
    caption = " ".join(measured(given).caption)
    assert "commits 0000000, aaaaaaa with uncommitted changes" in caption
    assert "2 versions of the code that decides results" in caption
    assert "library versions differ: torch 0.0.0, 9.9.9" in caption
    assert f"records of seed {given[6]['cell']['seed']} start from different dense networks" in caption


def test_what_records_say_cannot_steer_a_terminal():
    given = table1_records(by_rank)
    given[5]["provenance"]["device_name"] = "gpu\x1b[31m\n"
    caption = " ".join(measured(given).caption)
    assert "\x1b" not in caption
    assert "gpu?[31m?" in caption


# Beside the published table


def test_the_published_table_is_whole():
    numbers = table1.published_numbers()
    assert len(numbers) == 54
    assert numbers[("ALLR", 0.9, "2.22%")] == (69.56, 0.07)
    table = Table1().published(measured(table1_records(by_rank)), AXES)
    assert at(table, "FT", "80", "11.11") == Entry(72.68, 0.07, None, None, rank=5)


def test_agreement_with_the_published_table_is_full_for_its_own_numbers():
    numbers = table1.published_numbers()
    ours = measured(table1_records(lambda c: numbers[(c.schedule, c.sparsity, str(c.budget))][0] / 100))
    correlation, winner, agrees = Table1().published(ours, AXES).footer
    assert correlation.cells == ("+1.00",) * 9
    assert winner.cells == ("ALLR",) * 9
    assert agrees.cells == ("yes",) * 9


def test_a_winner_that_is_shared_agrees_with_one_of_them():
    ours = measured(table1_records(lambda c: 0.9 if c.schedule in ("ALLR", "CLR") else 0.8))
    _, winner, agrees = Table1().published(ours, AXES).footer
    assert (winner.cells[0], agrees.cells[0]) == ("CLR, ALLR", "yes")


def test_a_caption_says_on_what_share_of_the_images_was_trained():
    shared = MADE_UP.model_copy(update={"training_share": 0.5, "validation_fraction": 0.15})
    assert "trained on 42.5 % of the training images, 15 % held out for validation" in captions.problem(shared)


def test_agreement_shows_another_winner_and_missing_columns():
    given = [r for r in table1_records(lambda c: 1 - by_rank(c)) if r["cell"]["sparsity"] != 0.9]
    correlation, winner, agrees = Table1().published(measured(given), AXES).footer
    assert float(correlation.cells[3]) < 0
    assert (winner.cells[0], agrees.cells[0]) == ("FT", "no")
    assert (correlation.cells[8], winner.cells[8], agrees.cells[8]) == ("–", "–", "–")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seconds": {"total": 10**400}}, "too large"),
        ({"status": ["ok"]}, "is no text"),
        ({"parent": {"id": "a", "weights_sha256": {"a": 1}}}, "is no text"),
        ({"iterations": {"total": 3, "per_epoch": "0"}}, "division by zero"),
        ({"metric": {"name": "accuracy", "label": "another"}}, "its metric is called accuracy, and is not that"),
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_left_out_and_takes_no_other_with_it(change: dict, reason: str):
    first, *rest = table1_records(by_rank, seeds=(0,))
    read = frames.read([{**first, **change}, *rest], "tests")
    assert len(read.frame) == len(rest)
    (line,) = read.problems
    assert reason in line
