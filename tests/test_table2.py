"""Table 2 out of made-up records: its layout, the choice of settings, its flags, and the paper's claims about it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from analysis import frames, groups
from analysis.axes import sweep_axes
from analysis.choice import _errors, chosen
from analysis.make_tables import app as make_tables_app
from analysis.paper.table2 import Table2, on_target
from analysis.render.words import notes
from analysis.statistics import paired_difference
from analysis.tables import Entry, Table
from benchmark.cells import Cell
from benchmark.cli import main
from benchmark.planning.grid import load_sweep
from tests.table1_records import MADE_UP, fill, record_of
from tests.test_claims_table2 import METHODS, PUBLISHED, finding

SWEEP = """
title: "Table 2: methods that prune while they train"
seeds: 3
grids:
  - {method: GMP, sparsity: [0.7, 0.8, 0.9], hyperparameters: {interval: [1, 5]}}
  - {method: BIMP, sparsity: [0.7, 0.8, 0.9], hyperparameters: {cycles: [1, 2], dense_share: [0.75, 0.9]}}
  - {method: GSM, sparsity: [0.7, 0.8, 0.9]}
  - {method: DPF, sparsity: [0.7, 0.8, 0.9]}
  - {method: DNW, sparsity: [0.7, 0.8, 0.9]}
  - {method: LC, sparsity: [0.7, 0.8, 0.9]}
  - {method: STR, sparsity: [0.7, 0.8, 0.9]}
  - {method: DST, sparsity: [0.7, 0.8, 0.9]}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "mine2.yaml"
    path.write_text(SWEEP)
    return path


def record(cell: Cell, test: float, validation: float | None = None, **changes) -> dict:
    made = record_of(cell, test, **changes)
    made["accuracy"]["final"] = {"test": test, "validation": test if validation is None else validation}
    return made


def as_published(cell: Cell) -> float:
    return PUBLISHED[(cell.method, cell.sparsity)]["accuracy_mean"] / 100


def made_up(sweep: Path, accuracy=as_published, validation=None, keep=lambda cell: True) -> list[dict]:
    cells = [
        Cell(MADE_UP, c.method, c.seed, None, c.sparsity, None, c.hyperparameters) for c in load_sweep(str(sweep)).cells
    ]
    return [
        record(cell, accuracy(cell), None if validation is None else validation(cell)) for cell in cells if keep(cell)
    ]


def table_of(sweep: Path, given: list[dict]) -> Table:
    return Table2().measured(group_of(sweep, given))


def group_of(sweep: Path, given: list[dict]) -> groups.RecipeGroup:
    (group,) = groups.groups(frames.read(given, "tests"), sweep_axes(str(sweep)))
    return group


def at(table: Table, method: str, sparsity: str, label: str) -> Entry:
    row = next(row for row in table.rows if row.label == method)
    index = [(c.group, c.label) for c in table.columns].index((f"target {sparsity} %" if sparsity else "", label))
    return row.entries[index]


def test_the_layout_is_the_paper_s(sweep):
    table = table_of(sweep, made_up(sweep))
    assert [row.label for row in table.rows] == list(METHODS)
    assert table.groups == (("", 1), ("target 70 %", 3), ("target 80 %", 3), ("target 90 %", 3))
    assert [column.label for column in table.columns[:4]] == ["images/s", "accuracy", "speedup", "sparsity"]


def test_only_accuracies_are_ranked(sweep):
    table = table_of(sweep, made_up(sweep))
    for row in table.rows:
        assert [entry.rank is not None for entry in row.entries] == [False, *([True, False, False] * 3)]
    assert at(table, "DNW", "90", "accuracy").rank == 1
    assert at(table, "BIMP", "90", "accuracy").rank == 3


def test_speedup_and_the_sparsity_reached_are_those_of_the_records(sweep):
    given = made_up(sweep)
    for made in given:
        if made["cell"]["method"] == "STR" and made["cell"]["sparsity"] == 0.7:
            made["sparsity"]["prunable"] = 0.7534
            made["macs"]["speedup"] = 3.0 + made["cell"]["seed"]
    table = table_of(sweep, given)
    assert at(table, "STR", "70", "sparsity").mean == pytest.approx(75.34)
    assert (at(table, "STR", "70", "speedup").mean, at(table, "STR", "70", "speedup").std) == (4.0, 1.0)


def test_the_caption_says_how_images_per_second_differ_from_the_published(sweep):
    caption = " ".join(table_of(sweep, made_up(sweep, keep=lambda cell: cell.method == "GSM")).caption)
    assert "with data loading and beside other work, where the published rates are synchronised and without" in caption
    assert "`python -m benchmark.throughput --methods all`" in caption


def test_images_per_second_are_averaged_within_a_seed_first(sweep):
    given = made_up(sweep)
    for made in given:
        made["images_per_second"] = 1000.0 * (1 + made["cell"]["seed"]) + made["cell"]["sparsity"]
    speed = at(table_of(sweep, given), "GSM", "", "images/s")
    assert (speed.mean, speed.std, speed.n) == (pytest.approx(2000.8), pytest.approx(1000.0), 3)


def test_cells_that_were_trained_as_one_model_with_others_say_nothing_of_a_method_s_speed(sweep):
    given = made_up(sweep)
    for made in given:
        if made["cell"]["method"] == "GSM" or (made["cell"]["method"] == "DPF" and made["cell"]["seed"] == 0):
            made["images_per_second"] = None
    table = table_of(sweep, given)
    assert at(table, "GSM", "", "images/s").mean is None
    assert at(table, "DPF", "", "images/s").n == 2
    assert at(table, "GSM", "70", "accuracy").mean is not None


def test_settings_are_chosen_on_validation_accuracy_and_never_on_test(sweep):
    """The setting with the better validation accuracy has the worse test accuracy, and is the one that is shown."""
    settings = {"interval": 5}
    given = made_up(
        sweep,
        accuracy=lambda cell: 0.6 if dict(cell.hyperparameters) == settings else 0.9,
        validation=lambda cell: 0.8 if dict(cell.hyperparameters) == settings else 0.7,
    )
    table = table_of(sweep, given)
    assert at(table, "GMP", "70", "accuracy").mean == pytest.approx(60.0)
    caption = " ".join(table.caption)
    assert "GMP, chosen from 2 settings: 70 %: interval 5 (by 10.00, " in caption
    assert "BIMP, chosen from 4 settings" in caption
    assert "best mean validation accuracy over seeds 0, 1, 2, never test" in caption
    assert "GSM, chosen" not in caption


def test_settings_are_compared_over_the_seeds_that_all_of_them_have(sweep):
    """Tuned on seed 0; the chosen one was then run with easier seeds, which do not count for the choice."""
    better = {"interval": 5}
    given = made_up(
        sweep,
        keep=lambda cell: cell.seed == 0 or cell.method != "GMP" or not cell.hyperparameters,
        validation=lambda cell: 0.99 if cell.seed else 0.8 if dict(cell.hyperparameters) == better else 0.7,
    )
    table = table_of(sweep, given)
    assert at(table, "GMP", "80", "accuracy").n == 1
    assert json.loads(chosen(group_of(sweep, given))[("GMP", "", 0.8, "")]["hyperparameters"].iloc[0]) == better


def test_asked_for_other_seeds_the_tuning_seed_decides_but_is_not_shown(tmp_path: Path):
    path = tmp_path / "tuned.yaml"
    path.write_text(SWEEP.replace("seeds: 3", "seeds: 3\ntuning: {seeds: 1}"))
    given = made_up(path, validation=lambda cell: 0.9 if (cell.seed == 0) == bool(cell.hyperparameters) else 0.8)
    (group,) = groups.groups(frames.read(given, "tests"), sweep_axes(str(path), "1,2"))
    runs = chosen(group)[("GMP", "", 0.7, "")]
    assert set(runs["hyperparameters"]) == {'{"interval": 5}'}
    assert set(runs["seed"]) == {1, 2}
    assert "over seed 0, never test" in " ".join(Table2().measured(group).caption)


def test_seeds_that_settings_compete_with_are_no_test_seeds(tmp_path: Path):
    """Unless the sweep asks for them: a choice is no better for being tested on what it was made by."""
    path = tmp_path / "tuned.yaml"
    path.write_text(SWEEP.replace("seeds: 3", "seeds: 3\ntuning: {seeds: [100, 101]}"))
    given = made_up(path, validation=lambda cell: 0.8 + 0.01 * bool(cell.hyperparameters) * max(0, cell.seed - 99))
    group = group_of(path, given)
    assert set(chosen(group)[("GMP", "", 0.7, "")]["seed"]) == {0, 1, 2}
    table = Table2().measured(group)
    assert (at(table, "GMP", "70", "accuracy").n, at(table, "GMP", "70", "accuracy").expected) == (3, 3)
    caption = " ".join(table.caption)
    assert "over seeds 100, 101, never test" in caption
    assert "GMP, chosen from 2 settings: 70 %: interval 5 (by 1.50, 3.0 SE, edge of interval)" in caption


def test_differences_that_are_equal_but_for_rounding_have_no_standard_error():
    assert _errors(paired_difference([0.5263157894736991, 0.5263157894736850, 0.5263157894736992])) == "any number of"


def test_the_notes_say_how_sure_a_choice_was_and_whether_its_grid_may_be_too_narrow(sweep):
    sweep.write_text(SWEEP.replace("interval: [1, 5]", "interval: [1, 5, 9]"))
    best = {0.7: 9, 0.8: 5, 0.9: None}

    def validation(cell: Cell) -> float:
        return 0.9 if dict(cell.hyperparameters).get("interval") == best.get(cell.sparsity) else 0.8

    given = made_up(sweep, validation=validation)
    for made in given:
        if made["cell"]["method"] == "GMP" and made["cell"]["sparsity"] == 0.9:
            made["status"] = "missed_target"
    caption = " ".join(table_of(sweep, given).caption)
    parts = re.search(r"GMP, chosen from 3 settings: (.*?)\. ", caption)[1].split("; ")
    assert parts[0] == "70 %: interval 9 (by 10.00, any number of SE, edge of interval)"
    assert parts[1] == "80 %: interval 5 (by 10.00, any number of SE)"
    assert parts[2].startswith("90 %: defaults (no setting on target, by 10.00, ")


def test_runs_that_collapsed_or_missed_are_flagged_and_explained(sweep):
    given = made_up(sweep)
    for made in given:
        if made["cell"]["method"] == "LC" and made["cell"]["sparsity"] == 0.9 and made["cell"]["seed"] == 1:
            made["status"] = "collapsed"
    found = at(table_of(sweep, given), "LC", "90", "accuracy")
    assert found.flags == ("1 of 3 runs collapsed",)
    assert at(table_of(sweep, given), "LC", "80", "accuracy").flags == ()


def test_a_run_that_collapsed_in_part_is_flagged_though_it_is_above_chance(sweep):
    def accuracy(cell: Cell) -> float:
        return 0.249 if (cell.method, cell.sparsity, cell.seed) == ("LC", 0.9, 1) else 0.95 + 0.01 * cell.seed

    table = table_of(sweep, made_up(sweep, accuracy=accuracy))
    assert at(table, "LC", "90", "accuracy").flags == ("1 of 3 runs far below the others",)
    assert at(table, "LC", "80", "accuracy").flags == ()


def test_a_collapsed_run_is_flagged_in_every_column_and_left_out_of_the_speedup(sweep):
    given = made_up(sweep, keep=lambda cell: (cell.method, cell.seed) != ("GSM", 2))
    for made in given:
        if (made["cell"]["method"], made["cell"]["sparsity"], made["cell"]["seed"]) == ("LC", 0.9, 1):
            made["status"] = "collapsed"
            made["macs"]["speedup"] = 100.0
    table = table_of(sweep, given)
    for label in ("accuracy", "speedup", "sparsity"):
        assert at(table, "LC", "90", label).flags == ("1 of 3 runs collapsed",), label
        assert (at(table, "GSM", "70", label).n, at(table, "GSM", "70", label).expected) == (2, 3), label
    assert (at(table, "LC", "90", "speedup").mean, at(table, "LC", "90", "speedup").n) == (10.0, 2)
    assert at(table, "LC", "", "images/s").flags == ("1 of 9 runs collapsed",)
    assert at(table, "GSM", "", "images/s").is_partial
    assert notes(table) == [
        "† LC, images/s: 1 of 9 runs collapsed",
        "† LC, target 90 %, accuracy, speedup, sparsity: 1 of 3 runs collapsed",
    ]


def test_methods_without_records_have_a_row_that_says_so(sweep):
    table = table_of(sweep, made_up(sweep, keep=lambda cell: cell.method != "DST"))
    assert all(entry.mean is None for entry in table.rows[-1].entries)
    assert "3 of 24 entries have no record" in table.caption[0]


def test_a_sparsity_that_a_method_is_not_asked_for_is_not_missing(sweep):
    sweep.write_text(SWEEP.replace("DST, sparsity: [0.7, 0.8, 0.9]", "DST, sparsity: [0.7]"))
    table = table_of(sweep, made_up(sweep))
    assert [entry.n for entry in table.rows[-1].entries] == [3, *[3] * 3, *[None] * 6]
    assert "have no record" not in table.caption[0]


def test_the_published_table_is_whole_and_agrees_with_itself(sweep):
    group = group_of(sweep, made_up(sweep))
    theirs = Table2().published(Table2().measured(group), group.axes)
    assert [row.label for row in theirs.rows] == list(METHODS)
    assert at(theirs, "DST", "90", "speedup").mean == 13
    assert at(theirs, "STR", "70", "sparsity").mean == 75.34
    assert at(theirs, "BIMP", "", "images/s").mean == 1454
    correlation, winner, agrees = theirs.footer
    assert [cell for cell in correlation.cells if cell] == ["+1.00"] * 3
    assert [cell for cell in winner.cells if cell] == ["BIMP", "DPF", "DNW"]
    assert [cell for cell in agrees.cells if cell] == ["yes"] * 3


# Claims


def test_each_decay_of_the_learning_rate_has_its_rows_its_choice_and_its_claims(sweep):
    """With a linear decay GMP chooses another interval, and is two points better than with the recipe's."""
    linear = SWEEP.replace("{method: GMP,", "{method: GMP, schedule: [recipe, linear],")
    sweep.write_text(linear)
    cells = [
        Cell(MADE_UP, c.method, c.seed, c.schedule, c.sparsity, None, c.hyperparameters)
        for c in load_sweep(str(sweep)).cells
    ]

    def validation(cell: Cell) -> float:
        return 0.9 if (dict(cell.hyperparameters).get("interval") == 5) == (cell.schedule == "linear") else 0.8

    given = [
        record(
            cell,
            as_published(cell) + 0.02 * (cell.schedule == "linear") + 0.0001 * cell.seed,
            validation(cell) if cell.method == "GMP" else None,
        )
        for cell in cells
    ]
    group = group_of(sweep, given)
    table = Table2().measured(group)
    assert [row.label for row in table.rows] == [*METHODS, "GMP, linear"]
    ahead = at(table, "GMP, linear", "80", "accuracy").mean - at(table, "GMP", "80", "accuracy").mean
    assert ahead == pytest.approx(2)
    words = " ".join(table.caption)
    assert "those of the dense run (step decay), or of a linear decay where a row says so" in words
    assert "GMP, chosen from 2 settings: 70 %: defaults" in words
    assert "GMP, linear, chosen from 2 settings: 70 %: interval 5" in words
    found = {finding.key: finding for finding in Table2().check(Table2().evidence(group))}
    assert {key.rpartition("-")[2] for key in found} == {"recipe", "linear"}
    assert len(found) == 8
    by_label = {key: {c.label: c.difference.mean for c in one.comparisons} for key, one in found.items()}
    gap = "BIMP - GMP, 80 %"
    assert by_label["bimp-beats-most-recipe"][gap] - by_label["bimp-beats-most-linear"][gap] == pytest.approx(2)


def test_a_method_that_ended_at_another_sparsity_is_not_compared(sweep):
    """DST asked for 80 % ends at 87.1 %; one run of LC that collapsed to 100 % says nothing of the others."""
    given = made_up(sweep)
    for made in given:
        method, sparsity = made["cell"]["method"], made["cell"]["sparsity"]
        if (method, sparsity) == ("DST", 0.8):
            made["sparsity"]["prunable"] = 0.871
        if (method, made["cell"]["seed"]) == ("LC", 1):
            made["sparsity"]["prunable"], made["status"] = 1.0, "collapsed"
    found = finding("bimp-beats-most", Table2().evidence(group_of(sweep, given)))
    assert [c.label for c in found.comparisons if not c.difference.n] == ["BIMP - DST, 80 %"]


# The command


def test_the_command_makes_the_table_of_a_sweep_of_methods(tmp_path: Path, sweep: Path, capsys):
    fill(tmp_path / "runs", made_up(sweep))
    assert main(make_tables_app, ["--results", str(tmp_path), str(sweep)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ DNW +12346 ±0 +75\.60 ±0\.00 #2 +10\.0 ±0\.0 +70\.00 ±0\.00", shown, re.MULTILINE)
    assert "At 90 % sparsity BIMP is within one point of the best method" in shown
    assert "the paper's reimplementation under one recipe" in shown
    assert "(one seed, the same initial weights and data order)" in " ".join(shown.split())
    assert "dense network" not in shown


def test_a_winner_with_another_decay_agrees_with_the_published_row_of_its_method(sweep: Path):
    sweep.write_text(SWEEP + "  - {method: DNW, schedule: [linear], sparsity: [0.9]}\n")
    given = made_up(sweep, accuracy=lambda cell: 0.9 if cell.method == "DNW" else as_published(cell))
    linear = record(Cell(MADE_UP, "DNW", 0, "linear", 0.9), 0.95)
    axes = sweep_axes(str(sweep))
    (group,) = groups.groups(frames.read([*given, linear], "tests"), axes)
    table = Table2().measured(group)
    _, winner, agrees = Table2().published(table, axes).footer
    place = [column.group for column in table.columns].index("target 90 %")
    assert (winner.cells[place], agrees.cells[place]) == ("DNW, linear", "yes")


def test_published_rows_of_another_sparsity_are_in_no_comparison(sweep: Path):
    """STR's is printed at 75.34 % under 70 %."""
    table = table_of(sweep, made_up(sweep))
    published = Table2().published(table, sweep_axes(str(sweep)))
    assert not at(published, "STR", "70", "accuracy").competes
    assert at(published, "STR", "80", "accuracy").competes == on_target(0.8, PUBLISHED[("STR", 0.8)])
    evidence = Table2().evidence(group_of(sweep, made_up(sweep)))
    assert math.isnan(evidence.published_at("STR", 0.7, ""))
    assert evidence.published_at("BIMP", 0.7, "") == PUBLISHED[("BIMP", 0.7)]["accuracy_mean"]
