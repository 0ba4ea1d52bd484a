"""Table 1 out of records: its layout, its numbers, what its caption says, and the command that makes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import captions, groups, records
from analysis.make_tables import app as make_tables_app
from analysis.paper import table1
from analysis.tables import Column, Entry, Row, Table, TextRow, entry, ranked, ranks, winners
from benchmark.cells import Cell, Problem
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem, load_sweep
from benchmark.results.store import Store, write_compact
from tests.conftest import assert_one_line_refusal
from tests.table1_records import MADE_UP, SCHEDULES, by_rank, fill, record_of, table1_cells, table1_records

AXES = records.sweep_axes("table1")


def groups_of(given, problem=None):
    return groups.groups(records.read(given, "tests"), AXES, problem)


def measured(given) -> Table:
    (group,) = groups_of(given)
    return table1.measured(group)


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
    assert at(table1.measured(ninety), "FT", "70", "2.22").mean == pytest.approx(80.2)
    assert at(table1.measured(thirty), "FT", "70", "2.22").mean == pytest.approx(50.0)
    assert "30 epochs" in " ".join(table1.measured(thirty).caption)


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


@settings(max_examples=10, deadline=None)
@given(st.randoms())
def test_the_order_of_records_does_not_matter(shuffler):
    given = table1_records(by_rank)
    shuffled = list(given)
    shuffler.shuffle(shuffled)
    assert measured(shuffled).rows == measured(given).rows


def test_of_two_different_records_of_a_cell_the_first_counts_and_the_other_is_reported():
    first, *rest = table1_records(by_rank)[3:]
    second = json.loads(json.dumps(first))
    second["accuracy"]["final"]["test"] = 0.01
    found = records.read([first, second, *rest], "tests")
    assert [first["id"] in problem and "records that differ" in problem for problem in found.problems] == [True]
    assert len(found.frame) == len(rest) + 1
    assert found.frame["final_test"].min() > 0.01


def test_a_cell_that_two_files_hold_with_equal_results_is_no_problem():
    first, *rest = table1_records(by_rank)[3:]
    again = {**first, "seconds": {"total": 99.0}, "provenance": {**first["provenance"], "host": "elsewhere"}}
    found = records.read([first, again, *rest], "tests")
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
    found = records.read(given, "tests")
    assert len(found.frame) == len(given) - 1
    assert len(found.problems) == 1
    assert given[-1]["id"] in found.problems[0]
    (group,) = groups.groups(found, AXES)
    assert "1 record there could not be used" in " ".join(table1.measured(group).caption)


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
    table = table1.published(measured(table1_records(by_rank)), AXES)
    assert at(table, "FT", "80", "11.11") == Entry(72.68, 0.07, None, None, rank=5)


def test_agreement_with_the_published_table_is_full_for_its_own_numbers():
    numbers = table1.published_numbers()
    ours = measured(table1_records(lambda c: numbers[(c.schedule, c.sparsity, str(c.budget))][0] / 100))
    correlation, winner, agrees = table1.published(ours, AXES).footer
    assert correlation.cells == ("+1.00",) * 9
    assert winner.cells == ("ALLR",) * 9
    assert agrees.cells == ("yes",) * 9


def test_a_winner_that_is_shared_agrees_with_one_of_them():
    ours = measured(table1_records(lambda c: 0.9 if c.schedule in ("ALLR", "CLR") else 0.8))
    _, winner, agrees = table1.published(ours, AXES).footer
    assert (winner.cells[0], agrees.cells[0]) == ("CLR, ALLR", "yes")


def test_a_caption_says_on_what_share_of_the_images_was_trained():
    shared = MADE_UP.model_copy(update={"training_share": 0.5, "validation_fraction": 0.15})
    assert "trained on 42.5 % of the training images, 15 % held out for validation" in captions.problem(shared)


def test_agreement_shows_another_winner_and_missing_columns():
    given = [r for r in table1_records(lambda c: 1 - by_rank(c)) if r["cell"]["sparsity"] != 0.9]
    correlation, winner, agrees = table1.published(measured(given), AXES).footer
    assert float(correlation.cells[3]) < 0
    assert (winner.cells[0], agrees.cells[0]) == ("FT", "no")
    assert (correlation.cells[8], winner.cells[8], agrees.cells[8]) == ("–", "–", "–")


# Where records are read


def test_live_records_come_before_the_committed_ones(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    found = records.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert found.source == f"reference runs {tmp_path}/reference/table1-madeup.jsonl"
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    found = records.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert found.source == f"live store {tmp_path}/runs"
    assert set(found.frame["seed"]) == {0}


def test_a_live_store_of_another_sweep_does_not_hide_the_committed_records(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    fill(tmp_path / "runs", [record_of(Cell(MADE_UP, "GMP", 0, None, 0.9), 0.5)])
    found = records.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert "reference" in found.source


@pytest.mark.parametrize("place", ["runs", "reference", "reference/table1-madeup.jsonl"])
def test_a_store_a_folder_of_files_or_one_file_can_be_named(tmp_path: Path, place: str):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    fill(tmp_path / "runs", table1_records(by_rank))
    found = records.Results(tmp_path / place).of_sweep(AXES)
    assert found is not None
    assert len(found.frame) == 165


def test_a_reference_file_that_is_named_is_read_for_a_sweep_of_any_name(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    file = tmp_path / "reference" / "other-madeup.jsonl"
    write_compact(file, table1_records(by_rank))
    found = records.Results(file).of_sweep(AXES)
    assert found is not None
    assert len(found.frame) == 165
    assert records.Results(tmp_path).of_sweep(AXES) is None


def test_a_folder_without_any_records_in_it_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="nothing to read there"):
        records.Results(tmp_path)


# The command


@pytest.fixture
def make_tables(tmp_path: Path, capsys):
    """Run the command line on tmp_path in this process; returns the finished process as `command` does."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = main(make_tables_app, ["--results", str(tmp_path), *arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


def test_the_command_prints_the_table_the_published_one_and_the_claims(tmp_path: Path, command):
    fill(tmp_path / "runs", table1_records(by_rank))
    done = command("analysis.make_tables", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^ ALLR +85\.20 ±0\.20 #1", done.stdout, re.MULTILINE)
    assert "As published: ResNet-50 on ImageNet" in done.stdout
    assert re.search(r"^  undecided +LRW equals FT at these budgets", done.stdout, re.MULTILINE)
    assert f"live store {tmp_path}/runs" in done.stdout


def test_unusable_records_are_named_on_stderr_and_counted_in_the_caption(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank))
    store = Store(tmp_path / "runs")
    truncated, foreign = (store.record_path(record["id"]) for record in table1_records(by_rank)[5:7])
    truncated.write_bytes(truncated.read_bytes()[:200])
    foreign.write_text('{"schema": 99, "sha256": "0", "record":\n{}\n}\n')
    done = make_tables("table1")
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == sorted(
        line for line in done.stderr.splitlines() if str(truncated) in line or str(foreign) in line
    )
    assert len(done.stderr.splitlines()) == 2
    assert "2 records there could not be used (named on stderr)" in done.stdout
    assert "2/3" in done.stdout


def test_the_command_writes_every_format_into_a_folder(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank))
    done = make_tables("--output", str(tmp_path / "made" / "here"))
    assert done.returncode == 0, done.stderr
    written = {path.suffix for path in (tmp_path / "made" / "here").iterdir()}
    assert written == {".txt", ".md", ".tex", ".html", ".csv"}
    assert len(done.stdout.splitlines()) == 6


def test_formats_can_be_chosen(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank))
    done = make_tables("--format", "csv,latex", "--problem", "madeup")
    assert done.stdout.startswith("sweep,problem,recipe,table,row")
    assert r"\begin{tabular}" in done.stdout


def test_two_problems_make_two_tables_and_one_csv(tmp_path: Path, make_tables):
    other = Problem(name="other", dataset="nothing", model="nonet", epochs=30)
    fill(tmp_path / "runs", [*table1_records(by_rank), *table1_records(by_rank, other)])
    assert make_tables("--format", "csv").stdout.count("sweep,problem,recipe") == 1
    shown = make_tables().stdout
    assert "pruning, madeup" in shown
    assert "pruning, other" in shown
    assert "pruning, madeup" not in make_tables("--problem", "other").stdout


OWN_SWEEP = """
title: "A comparison of my own"
seeds: 2
grids:
  - method: IMP
    schedule: [{schedule}]
    sparsity: [0.9, 0.5]
    budget: ["3ep", "2.22%"]
"""


def test_a_sweep_of_your_own_is_laid_out_alike_with_what_the_paper_has_of_it(tmp_path: Path, make_tables):
    sweep = tmp_path / "mine.yaml"
    sweep.write_text(OWN_SWEEP.format(schedule="ALLR, FT"))
    cells = load_sweep(str(sweep)).cells
    fill(tmp_path / "runs", [record_of(cell, 0.9) for cell in cells if cell.seed == 0])
    shown = make_tables(str(sweep)).stdout
    assert shown.startswith("A comparison of my own, digits")
    assert re.search(r"schedule +budget 2.22 % +budget 3ep +budget 2.22 % +budget 3ep", shown)
    assert re.search(r"^ ALLR +90.00 #1 1/2 ", shown, re.MULTILINE)
    assert re.search(r"^ FT +56.75 ±0.01 #2 *$", shown, re.MULTILINE)  # blank where the paper has no such column
    assert "The paper's claims" not in shown


def test_a_sweep_that_the_paper_has_nothing_of_gets_its_table_alone(tmp_path: Path, make_tables):
    sweep = tmp_path / "mine.yaml"
    sweep.write_text(OWN_SWEEP.format(schedule="ALLR").replace("2.22%", "7it"))
    fill(tmp_path / "runs", [record_of(cell, 0.9) for cell in load_sweep(str(sweep)).cells])
    assert "As published" not in make_tables(str(sweep)).stdout


def test_a_sweep_without_a_layout_gets_one_line(tmp_path: Path, make_tables):
    sweep = tmp_path / "mine.yaml"
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    sweep.write_text(OWN_SWEEP.format(schedule="ALLR") + "  - {method: GMP, sparsity: [0.9]}\n")
    assert_one_line_refusal(make_tables(str(sweep)), "mine", "no table")


def test_seeds_can_be_chosen(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0, 1, 2, 7)))
    shown = " ".join(make_tables("--seeds", "0,7").stdout.split())
    assert "n = 2 seeds (0, 7)" in shown
    assert "Dense accuracy 95.00 ± 0.00 (n = 2)" in shown
    assert "2/3" not in shown
    assert_one_line_refusal(make_tables("--seeds", "none"), "seeds 'none'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no records of table1", "python -m benchmark.sweep table1"]),
        (["--problem", "cifar10"], ["no records of table1 on cifar10", "--problem cifar10"]),
        (["tabel1"], ["'tabel1' is unknown", "table1"]),
        (["--format", "pdf"], ["--format 'pdf'", "terminal,markdown,latex,html,csv"]),
        (["--formats", "csv"], ["--formats"]),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(make_tables, arguments, words):
    assert_one_line_refusal(make_tables(*arguments), *words)


def test_an_output_folder_that_cannot_be_made_gets_one_line(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    (tmp_path / "file").write_text("")
    done = make_tables("--output", str(tmp_path / "file" / "folder"))
    assert_one_line_refusal(done, "--output", "cannot write there")


def test_tables_are_made_without_torch():
    code = "import sys, analysis.make_tables, benchmark.measure.reading; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_reading_benchmark_says_that_its_records_are_synthetic_and_deletes_them(tmp_path: Path, command):
    done = command("benchmark.measure.reading", "--records", "120", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "synthetic store of 120 records" in done.stdout
    assert "records/s" in done.stdout
    assert list(tmp_path.iterdir()) == []
