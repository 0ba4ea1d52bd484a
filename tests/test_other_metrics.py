"""Tables, claims, choices and what is said on the way, of tasks that accuracy does not measure."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from analysis import frames
from analysis.axes import sweep_axes
from analysis.claims import Evidence
from analysis.layout import sheets_of
from analysis.make_tables import app as make_tables_app
from analysis.make_tables import print_sheets
from analysis.paper import table1, table2
from analysis.paper.layouts import LAYOUTS
from analysis.paper.table1 import Table1
from analysis.paper.table2 import Table2
from analysis.render import WRITERS, Sheet
from analysis.wandb_runs import record_of as from_wandb
from benchmark.cli import main
from benchmark.launch.display import Display
from benchmark.launch.events import Epoch, Finished, Started
from benchmark.measure.synthetic import synthetic_record
from benchmark.metric import ACCURACY, BLEU, MEAN_IOU, PERPLEXITY, Metric
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import make_plan
from benchmark.planning.tuning import choose
from benchmark.results.store import Store
from benchmark.tracking.runs import config_of, history_of, summary_of
from tests.other_metrics import ERROR, MIRRORS, all_mirrored, mirrored
from tests.table1_records import MADE_UP, by_rank, fill, record_of, table1_cells, table1_records

AXES = sweep_axes("table1")


def sheet_of(records: list[dict], sweep: str = "table1") -> Sheet:
    (sheet,) = sheets_of(LAYOUTS, frames.read(records, "tests"), sweep_axes(sweep))
    return sheet


@cache
def sheet_by(name: str = "") -> Sheet:
    """Of Table 1 with five seeds by a mirrored metric, or by accuracy."""
    records = table1_records(by_rank, seeds=range(5))
    return sheet_of(all_mirrored(records, name) if name else records)


# Tables


@pytest.mark.parametrize("name", MIRRORS)
def test_who_is_best_by_accuracy_is_best_by_its_mirror(name):
    metric, value_of = MIRRORS[name]
    plain, other = sheet_by(), sheet_by(name)
    for row, others in zip(plain.tables[0].rows, other.tables[0].rows, strict=True):
        for entry, mirror in zip(row.entries, others.entries, strict=True):
            assert mirror.mean == pytest.approx(metric.shown(value_of(entry.mean / 100)))
            assert mirror.std == pytest.approx(entry.std)
            assert (mirror.rank, mirror.n, mirror.runs) == (entry.rank, entry.n, entry.runs)
    for pair, mirror in zip(plain.pairs, other.pairs, strict=True):
        assert mirror.ahead == pair.ahead
        assert mirror.difference.mean == pytest.approx(pair.difference.mean)
        assert mirror.improvement == pytest.approx(pair.improvement)


def test_a_caption_says_what_is_measured_and_which_end_is_better():
    caption = " ".join(sheet_by("perplexity").tables[0].caption)
    assert "Test perplexity of the final epoch, lower is better: mean ± sample standard deviation" in caption
    assert "Dense perplexity 6.00 ± 0.00 (n = 5)." in caption
    caption = " ".join(sheet_by("mean_iou").tables[0].caption)
    assert "Test mean IoU of the final epoch in per cent: mean ± sample standard deviation" in caption
    assert "Dense mean IoU 95.00 ± 0.00 (n = 5)." in caption


@pytest.mark.parametrize("name", ["perplexity", "mean_iou"])
def test_every_format_speaks_of_the_metric_and_shows_no_published_accuracy(name, tmp_path: Path, capsys):
    metric, _ = MIRRORS[name]
    fill(tmp_path / "runs", all_mirrored(table1_records(by_rank, seeds=[0]), name))
    formats = [*WRITERS, "parquet"]
    options = ["--results", str(tmp_path), "--format", ",".join(formats), "--output", str(tmp_path / "tables")]
    assert main(make_tables_app, ["table1", *options]) == 0
    assert capsys.readouterr().err == ""
    files = {path.name.partition(".")[2]: path for path in (tmp_path / "tables").iterdir()}
    assert len(files) == len(formats)
    for suffix in ("txt", "md", "tex", "html", "csv"):
        text = " ".join(files[suffix].read_text().split())
        assert f"Test {metric.label} of the final epoch" in text
        assert "As published" not in text
        assert "accuracy" not in text.replace("The claims were published for accuracy", "")
    for table in (pd.read_csv(files["records.csv"]), pd.read_parquet(files["parquet"])):
        assert set(table["metric"]) == {metric.name}
        assert table["final_test"].max() == pytest.approx(max(MIRRORS[name][1](0.8), MIRRORS[name][1](0.95)))


def test_the_best_of_a_printed_column_is_the_lowest_perplexity():
    text = WRITERS["markdown"](sheet_by("perplexity"))
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if line.startswith("|")
    }
    assert re.fullmatch(r"\*\*1[56]\.\d\d ± 0\.\d\d\*\*", rows["ALLR"])
    assert re.fullmatch(r"20\.\d\d ± 0\.\d\d", rows["FT"])


@pytest.mark.parametrize("value", [None, math.inf])
def test_a_run_without_a_finite_value_is_flagged_and_takes_no_part(value):
    records = all_mirrored(table1_records(by_rank), "perplexity")
    best = next(cell for cell in table1_cells(seeds=[0]) if cell.schedule == "ALLR")
    (record,) = [r for r in records if r["id"] == best.id]
    record["perplexity"]["final"] = {"test": value, "validation": value}
    entry = sheet_of(records).tables[0].rows[-1].entries[0]
    assert (entry.n, entry.expected) == (2, 3)
    assert entry.flags == ("1 of 3 runs recorded no test perplexity",)
    assert entry.rank is None


def test_recipes_with_different_metrics_have_a_table_each():
    text = load_sweep("table1", seeds=[0]).problem
    both = (table1_records(by_rank, problem, seeds=[0]) for problem in (MADE_UP, text))
    records = [*next(both), *all_mirrored(next(both), "perplexity")]
    found = sheets_of(LAYOUTS, frames.read(records, "tests"), AXES)
    assert {sheet.problem: (sheet.metric, len(sheet.tables)) for sheet in found} == {
        "madeup": (ACCURACY, 2),
        text.name: (PERPLEXITY, 1),
    }


def test_a_pipe_says_a_header_again_where_the_columns_change(capsys):
    plain, other = sheet_by(), sheet_by("perplexity")
    print_sheets([plain, plain, other, other], ["records"])
    headers = [line for line in capsys.readouterr().out.splitlines() if line.startswith("id,")]
    assert headers[1] == f"{headers[0]},metric"
    assert len(headers) == 2


def test_of_two_metrics_of_one_recipe_the_first_counts_and_the_other_record_is_named():
    first, *rest = table1_records(by_rank)[3:]
    found = frames.read([first, mirrored(rest[0], "perplexity"), *rest[1:]], "tests")
    assert len(found.frame) == len(rest)
    assert [rest[0]["id"] in line and "'perplexity'" in line for line in found.problems] == [True]


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ({"name": "x"}, "label: "),
        ("perplexity", "'perplexity' is not a metric"),
        ({**PERPLEXITY.to_json(), "scale": "large"}, "scale: "),
        ({**PERPLEXITY.to_json(), "scale": 0}, "scale: "),
        ({**PERPLEXITY.to_json(), "label": "\x1b[31m"}, "label: "),
        ({**PERPLEXITY.to_json(), "label": "<b>$x$</b>"}, "label: "),
        ({**PERPLEXITY.to_json(), "name": "a/b"}, "name: "),
        ({**PERPLEXITY.to_json(), "bounds": [1]}, "bounds.1: "),
        ({**PERPLEXITY.to_json(), "colour": "red"}, "colour: "),
        ({**PERPLEXITY.to_json(), "name": "nats"}, "it has no 'nats'"),
        ({**PERPLEXITY.to_json(), "bounds": [30, None]}, "perplexity 6.0 is not between 30 and inf"),
    ],
)
def test_a_record_with_a_metric_that_is_none_is_named(metric, reason):
    record = mirrored(record_of(table1_cells()[0], 0.95), "perplexity")
    (line,) = frames.read([{**record, "metric": metric}], "tests").problems
    assert line.startswith(f"tests: record '{record['id']}' cannot be used: ")
    assert reason in line


# Claims

MEANS = {key: mean for key, (mean, _) in table1.published_numbers().items()}
MEANS2 = {(*key, ""): numbers["accuracy_mean"] for key, numbers in table2.published_numbers().items()}
PAPER = (
    (Table1(), MEANS, AXES.schedules, AXES.sparsities, AXES.budgets),
    (Table2(), MEANS2, tuple(dict.fromkeys(key[0] for key in MEANS2)), (0.7, 0.8, 0.9), ("",)),
)
"""Of each of the paper's tables the layout, the published means, and rows, sparsities and budgets."""


@st.composite
def evidences(draw):
    """(layout, evidence in accuracy): the published means of one of the paper's tables, with noise or a row shifted.

    In eighths of a point, of which 100 minus one is exact, and so are their differences.
    """
    layout, means, rows, sparsities, budgets = draw(st.sampled_from(PAPER))
    noise, seeds = draw(st.sampled_from([0, 1, 8, 80])), draw(st.sampled_from([2, 5, 7]))
    shifted, shift = draw(st.sampled_from(rows)), draw(st.sampled_from([0, -40, 40]))
    random = Random(draw(st.integers(0, 1000)))
    scores = {
        key: pd.Series(
            [(round(8 * mean) + shift * (key[0] == shifted) + random.randint(-noise, noise)) / 8 for _ in range(seeds)]
        )
        for key, mean in means.items()
    }
    return layout, Evidence(scores, rows, sparsities, budgets, {})


def numbers(comparison) -> tuple:
    difference = comparison.difference
    return difference.n, difference.mean, difference.low, difference.high, comparison.p, comparison.against


@settings(max_examples=12, deadline=None)
@given(evidences())
def test_a_claim_has_the_verdict_of_accuracy_by_a_mirrored_metric(drawn):
    layout, evidence = drawn
    plain = {finding.key: finding for finding in layout.check(evidence)}
    scores = {key: 100 - values for key, values in evidence.scores.items()}
    for metric, left_out in ((ERROR, 0), (PERPLEXITY, len(layout.margins))):
        found = layout.check(replace(evidence, scores=scores, metric=metric))
        assert len(found) == len(plain) - left_out
        for finding in found:
            assert finding.verdict == plain[finding.key].verdict, finding.key
            for comparison, of_accuracy in zip(finding.comparisons, plain[finding.key].comparisons, strict=True):
                assert numbers(comparison) == pytest.approx(numbers(of_accuracy), nan_ok=True)


def test_claims_that_are_carried_over_say_so_and_show_no_published_difference():
    sheet = sheet_by("perplexity")
    assert "lrw-equals-ft" not in {finding.key for finding in sheet.findings}
    text = " ".join(WRITERS["terminal"](sheet).split())
    assert "Differences are in perplexity, positive where the first is better, paired over seeds" in text
    assert "The claims were published for accuracy, and are judged here by perplexity." in text
    assert "Those with a margin in points are left out: perplexity has no points." in text
    assert re.search(r"Differences \+2\.00 to \+5\.00 in perplexity; n = 5 seeds", text)
    assert "lowest mean in 9 of 9 columns" in text
    assert "(published" not in text
    sheet = sheet_by("mean_iou")
    text = " ".join(WRITERS["terminal"](sheet).split())
    assert "lrw-equals-ft" in {finding.key for finding in sheet.findings}
    assert "Differences are in mean IoU points, paired over seeds" in text
    assert "(published" not in text


def test_words_of_a_metric():
    decibel = Metric("psnr", "PSNR", "dB")
    words = [
        (m.of_differences, m.behind_differences, m.in_unit) for m in (ACCURACY, MEAN_IOU, BLEU, PERPLEXITY, decibel)
    ]
    assert words == [
        ("accuracy points", "points", " in per cent"),
        ("mean IoU points", "points", " in per cent"),
        ("BLEU points", "points", ""),
        ("perplexity", "in perplexity", ""),
        ("dB", "in dB", " in dB"),
    ]


# Choices

TUNED = """
title: "A method with settings"
seeds: 3
tuning: {seeds: 1}
grids:
  - {method: GMP, sparsity: [0.7, 0.9], hyperparameters: {interval: [1, 5]}}
  - {method: LC, sparsity: [0.7, 0.9], hyperparameters: {decay: [1, 100, 1000]}}
"""


@pytest.fixture
def tuned(tmp_path: Path) -> tuple[str, list[dict]]:
    """The file of a sweep that tunes, and records of all of its cells by accuracy."""
    path = tmp_path / "tuned.yaml"
    path.write_text(TUNED)
    cells = load_sweep(str(path)).cells
    return str(path), [record_of(cell, 0.8 + 0.1 * Random(cell.id).random()) for cell in cells]


@pytest.mark.parametrize("name", MIRRORS)
def test_the_setting_that_is_best_by_the_metric_is_chosen_to_run_and_to_be_shown(tuned, name):
    path, records = tuned
    others = all_mirrored(records, name)
    assert choose(others) == choose(records)
    plain, other = sheet_of(records, path).tables[0], sheet_of(others, path).tables[0]
    for row, mirror in zip(plain.rows, other.rows, strict=True):
        assert [entry.runs for entry in mirror.entries] == [entry.runs for entry in row.entries]
        assert [entry.rank for entry in mirror.entries] == [entry.rank for entry in row.entries]
    assert [column.label for column in other.columns[1:4]] == [MIRRORS[name][0].label, "speedup", "sparsity"]
    assert any(f"best mean validation {MIRRORS[name][0].label} over seed 0" in text for text in other.caption)


def test_a_setting_that_ended_with_no_finite_value_is_worse_than_any(tuned):
    path, records = tuned
    others = all_mirrored(records, "perplexity")
    best = choose(others)[("LC", "", 0.9, "")]
    for record in others:
        cell = record["cell"]
        if (cell["method"], cell["sparsity"], cell["seed"]) == ("LC", 0.9, 0) and cell["hyperparameters"] == dict(best):
            record["perplexity"]["final"]["validation"] = None
    now = choose(others)[("LC", "", 0.9, "")]
    assert now != best
    caption = " ".join(sheet_of(others, path).tables[0].caption)
    (shown,) = re.findall(r"LC, chosen from 3 settings: .*?90 %: ([^.;(]*) \(", caption)
    assert shown == (", ".join(f"{key} {value}" for key, value in now) or "defaults")


# On the way


def test_a_record_goes_through_w_and_b_by_the_name_of_its_metric():
    record = mirrored(synthetic_record(table1_cells()[0], 0.9), "perplexity")
    record["perplexity"]["final"]["validation"] = None

    class Run:
        config, summary, complete = config_of(record), summary_of(record), True

        def rows(self):
            return history_of(record)

    assert Run.summary["perplexity/final/test"] == record["perplexity"]["final"]["test"]
    back = from_wandb(Run(), whole=True)
    assert back["metric"] == record["metric"]
    assert back["history"] == record["history"]
    plain, found = (frames.read([each], "tests") for each in (record, back))
    assert found.problems == ()
    assert found.frame.drop(columns="source").equals(plain.frame.drop(columns="source"))
    Run.config = {**Run.config, "metric": "nats"}
    (line,) = frames.read([from_wandb(Run())], "tests").problems
    assert "'nats' is not a metric" in line


def test_progress_names_the_metric_and_finds_the_best_in_its_direction(tmp_path: Path):
    loaded = load_sweep("table1", only=["seed=0,schedule=LLR,sparsity=0.9"])
    store, text = Store(tmp_path), io.StringIO()
    plan = make_plan(loaded.cells, store, loaded.execution)
    shown = Display(plan, store, Console(file=text, width=200), workers=1)
    values = {"epoch": 91.0, "train_loss": 1.0, "validation_loss": 3.1, "validation_perplexity": 23.14}
    cell = plan.tasks[-1].cell
    shown.show(Started(cell))
    shown.show(Epoch(cell, 34, values))
    assert shown.running[cell.id].endswith(", validation perplexity 23.1")
    shown.show(Epoch(cell, 34, {**values, "validation_perplexity": None}))
    assert shown.running[cell.id].endswith(", validation perplexity not finite")
    others = [task.cell for task in plan.tasks if not task.cell.is_dense]
    for cell, value in zip(others, (30.0, None, 20.0), strict=True):
        store.commit(synthetic_record(cell, value, PERPLEXITY))
        shown.show(Finished(cell, trained_here=True))
    lines = text.getvalue()
    assert [
        f"{cell.id}  test perplexity {said}  0.9 s" in lines
        for cell, said in zip(others, ("30.00", "not finite", "20.00"), strict=True)
    ] == [True] * 3
    assert shown.best == (20.0, f"{others[2].id}  test perplexity 20.00")


def test_csv_rows_are_those_of_accuracy_under_other_values():
    """Scripts that read one read the other."""
    sheets = (sheet_by(), sheet_by("perplexity"))
    plain, other = (list(csv.DictReader(io.StringIO(WRITERS["csv"](sheet)))) for sheet in sheets)
    assert list(plain[0]) == list(other[0])
    measured = [[row for row in rows if row["table"] == "measured" and row["column"]] for rows in (plain, other)]
    for row, mirror in zip(*measured, strict=True):
        assert float(mirror["mean"]) == pytest.approx(101 - float(row["mean"]))
        names = ("row", "group", "column", "std", "n", "expected", "rank")
        assert [mirror[name] for name in names[:3]] == [row[name] for name in names[:3]]
        assert [float(mirror[name]) for name in names[3:]] == pytest.approx([float(row[name]) for name in names[3:]])
