"""Where the command of the tables reads records, and what it prints and writes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import captions, sources
from analysis.axes import sweep_axes
from analysis.make_tables import app as make_tables_app
from benchmark.cells import Cell, Problem
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.planning.grid import load_sweep
from benchmark.results.records import encode_line
from benchmark.results.store import Store, write_compact
from tests.conftest import ROOT, assert_one_line_refusal
from tests.table1_records import MADE_UP, by_rank, fill, record_of, table1_records

AXES = sweep_axes("table1")


# Where records are read


def test_live_records_come_before_the_committed_ones(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    found = sources.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert found.source == f"reference runs {tmp_path}/reference/table1-madeup.jsonl"
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    found = sources.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert found.source == f"live store {tmp_path}/runs"
    assert set(found.frame["seed"]) == {0}


def test_a_live_store_of_another_sweep_does_not_hide_the_committed_records(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    fill(tmp_path / "runs", [record_of(Cell(MADE_UP, "GMP", 0, None, 0.9), 0.5)])
    found = sources.Results(tmp_path).of_sweep(AXES)
    assert found is not None
    assert "reference" in found.source


@pytest.mark.parametrize("place", ["runs", "reference", "reference/table1-madeup.jsonl"])
def test_a_store_a_folder_of_files_or_one_file_can_be_named(tmp_path: Path, place: str):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    fill(tmp_path / "runs", table1_records(by_rank))
    found = sources.Results(tmp_path / place).of_sweep(AXES)
    assert found is not None
    assert len(found.frame) == 165


def test_a_reference_file_that_is_named_is_read_for_a_sweep_of_any_name(tmp_path: Path):
    (tmp_path / "reference").mkdir()
    file = tmp_path / "reference" / "other-madeup.jsonl"
    write_compact(file, table1_records(by_rank))
    found = sources.Results(file).of_sweep(AXES)
    assert found is not None
    assert len(found.frame) == 165
    assert sources.Results(tmp_path).of_sweep(AXES) is None


def test_a_folder_without_any_records_in_it_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="nothing to read there"):
        sources.Results(tmp_path)


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


def test_one_recipe_of_a_problem_can_be_chosen(tmp_path: Path, make_tables):
    longer = MADE_UP.model_copy(update={"epochs": 2 * MADE_UP.epochs, "weights": "0123456789ab"})
    fill(tmp_path / "runs", [*table1_records(by_rank), *table1_records(by_rank, longer)])
    given = "the dense network is the one of --weights (0123456789ab)"
    assert given in make_tables().stdout
    shown = make_tables("--recipe", MADE_UP.identity).stdout
    assert shown.count("Test accuracy of the final epoch") == 1
    assert given not in shown
    refused = make_tables("--recipe", "none")
    assert_one_line_refusal(refused, "--recipe none: there are ", MADE_UP.identity, longer.identity)


def test_budgets_of_several_units_stand_in_the_order_of_their_length(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(OWN_SWEEP.format(schedule="FT").replace('"3ep"', '"11.11%", "1ep", "500it"'))
    assert sweep_axes(str(tmp_path / "mine.yaml")).budgets == ("1ep", "2.22%", "11.11%", "500it")


def test_a_table_of_chosen_cells_has_no_columns_of_others(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank))
    chosen = ("--only", "schedule=ALLR,sparsity=0.9", "--only", "schedule=FT,sparsity=0.9")
    shown = make_tables("table1", *chosen).stdout
    measured = shown.partition("As published")[0]
    assert "sparsity 90 %" in measured
    assert "sparsity 80 %" not in measured
    assert "CLR" not in measured
    assert "Only schedule=ALLR,sparsity=0.9 or schedule=FT,sparsity=0.9." in " ".join(measured.split())
    make_tables("table1", "--output", str(tmp_path / "all"))
    before = {path: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    make_tables("table1", *chosen, "--output", str(tmp_path / "all"))
    assert before.items() < {path: path.read_bytes() for path in (tmp_path / "all").iterdir()}.items()
    assert captions.filtered_name("t", ["a=1,b=2"]) != captions.filtered_name("t", ["a=1", "b=2"])
    assert_one_line_refusal(make_tables(*chosen), "--only schedule=ALLR,sparsity=0.9: of which sweep?")
    assert_one_line_refusal(make_tables("table1", "--only", "schedule=none"), "no schedule 'none'", "ALLR")


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


def test_methods_with_and_without_retraining_stand_in_one_table(tmp_path: Path, make_tables):
    """In columns of their own, as only rows of one budget are compared."""
    sweep = tmp_path / "mine.yaml"
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    sweep.write_text(OWN_SWEEP.format(schedule="ALLR") + "  - {method: GMP, sparsity: [0.9]}\n")
    shown = make_tables(str(sweep)).stdout
    assert "no retraining" in shown
    assert re.search(r"^ GMP +–", shown, re.MULTILINE)
    assert re.search(r"^ IMP, ALLR", shown, re.MULTILINE)


def test_a_table_has_the_columns_that_cells_were_asked_for_and_claims_are_about_these(tmp_path: Path, make_tables):
    """Where two grids of a sweep are not each other's sparsities and budgets."""
    sweep = tmp_path / "two.yaml"
    fill(tmp_path / "runs", table1_records(by_rank))
    grid = '  - {{method: IMP, schedule: [FT, LRW, SLR, CLR, LLR, ALLR], sparsity: [{}], budget: ["{}"]}}\n'
    grids = grid.format(0.7, "2.22%") + grid.format(0.9, "11.11%")
    sweep.write_text(f"title: two\nseeds: 5\ngrids:\n{grids}")
    shown = " ".join(make_tables(str(sweep), "--details").stdout.split())
    assert "budget 2.22 % budget 11.11 %" in shown
    assert "No records to compare" not in shown


def test_seeds_can_be_chosen(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0, 1, 2, 7)))
    shown = " ".join(make_tables("--seeds", "0,7").stdout.split())
    assert "n = 2 seeds (0, 7)" in shown
    assert "Dense accuracy 95.00 ± 0.00 (n = 2)" in shown
    assert "2/3" not in shown
    assert_one_line_refusal(make_tables("--seeds", "none"), "seeds 'none'")


def test_one_seed_says_nothing_of_others_and_the_table_says_so(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0, 1)))
    reason = "–: it takes two runs or more to say."
    assert reason in make_tables("--elsewhere", "3", "--seeds", "0,").stdout
    assert reason not in make_tables("--elsewhere", "3").stdout


def test_the_runs_of_another_machine_are_set_beside_where_these_say_that_they_lie(tmp_path: Path, make_tables):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0, 1, 2)))
    there = tmp_path / "there.jsonl"
    for shift, fits in ((0.0, "54 of 54"), (0.4, "0 of 54")):
        write_compact(there, table1_records(lambda cell, shift=shift: by_rank(cell) - shift, seeds=(0, 1)))
        shown = make_tables("--elsewhere", str(there), "--format", "markdown").stdout
        assert f"{fits} means lie in theirs" in shown
        assert "the same seeds there minus here" in shown
        assert shown.count(f"{0 - 100 * shift:+.2f} (") == 54
    write_compact(there, [])
    assert_one_line_refusal(make_tables("--elsewhere", str(there)), "--elsewhere", "no records")
    (tmp_path / "words").write_text("no records\n")
    assert_one_line_refusal(make_tables("--elsewhere", str(tmp_path / "words")), f"--elsewhere: {tmp_path}/words: this")
    for wrong in ("0", "-3", str(tmp_path / "nothing"), "1.5"):
        assert_one_line_refusal(make_tables("--elsewhere", wrong), f"--elsewhere {wrong}: a count of seeds above 0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no records of table1", "python -m benchmark.sweep table1"]),
        (["--problem", "cifar10"], ["no records of table1 on cifar10", "--problem cifar10"]),
        (
            ["--problem", "digts"],
            ["no records of table1 on digts", "none of sweeps/problems/, which has cifar10"],
        ),
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
    code = "import sys, analysis.make_tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_reading_benchmark_says_that_its_records_are_synthetic_and_deletes_them(tmp_path: Path, command):
    done = command("benchmark.measure", "reading", "--records", "120", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "synthetic store of 120 records" in done.stdout
    assert "records/s" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_problem_may_be_named_as_the_file_that_it_was_trained_by(tmp_path: Path, command):
    (tmp_path / "reference").mkdir()
    write_compact(tmp_path / "reference" / "table1-madeup.jsonl", table1_records(by_rank))
    name = table1_records(by_rank)[0]["cell"]["problem"]["name"]
    by_name, by_file = (
        command("analysis.make_tables", "table1", "--results", str(tmp_path), "--problem", problem)
        for problem in (name, f"somewhere/{name}.yaml")
    )
    assert by_name.returncode == 0
    assert by_name.stdout == by_file.stdout


def test_a_record_is_read_again_as_the_table_has_it(tmp_path: Path):
    """Not the first of its id where nothing can use that, and not another one that stands there since."""
    first, second = table1_records(by_rank)[:2]
    unusable = {**first, "cell": {key: value for key, value in first["cell"].items() if key != "seed"}}
    file = tmp_path / "table1-mine.jsonl"
    file.write_bytes(encode_line(unusable) + encode_line(first) + encode_line(second))
    found = sources.Results(file).everything()
    assert found.whole[first["id"]] == first
    assert len(found.problems) == 1
    file.write_bytes(encode_line(unusable) + encode_line(second) + encode_line(second))
    with pytest.raises(KeyError):
        found.whole[first["id"]]
    assert found.whole.get(first["id"]) is None


def test_what_a_sweep_that_tunes_says_before_anything_is_tested(capsys):
    arguments = ["table2", "--problem", "digits", "--results", str(ROOT / "results" / "reference")]
    assert main(make_tables_app, [*arguments, "--only", "method=BIMP,seed=100"]) == 0
    said = capsys.readouterr().out
    assert "no seed that tests has run." in said
    assert "chosen from" not in said


def test_a_table_of_methods_with_another_decay_alone_has_its_published_rows(capsys):
    reference = str(ROOT / "results" / "reference")
    options = ["table2", "--problem", "digits", "--only", "schedule=linear", "--results", reference]
    assert main(make_tables_app, options) == 0
    assert "GMP, linear" in capsys.readouterr().out
