"""The figures: each is made from records, says what it shows, repeats byte for byte, and covers no data."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import frames
from analysis.figures import Selection, encode, runs, scores, style
from analysis.figures.drawing import COLOURS, DASHES, MARKERS
from analysis.groups import groups
from analysis.make_figures import app
from analysis.paper import figure1, rates, variants_figure
from analysis.paper.figures import FIGURES
from analysis.report import plots
from benchmark.cells import Budget, Cell
from benchmark.cli import main
from benchmark.errors import UserError
from tests.figure_records import (
    drawn,
    fewer,
    selection,
    selection_again,
    variants_selection,
)
from tests.table1_records import MADE_UP, by_rank, fill, record_of, table1_records
from tests.test_smaller_table import made_up as records_of_smaller_networks

STEM = f"madeup-{MADE_UP.identity}"
"""The problem has no file in sweeps/problems, so its figures carry the recipe's hash."""


@pytest.fixture
def variants() -> Selection:
    return variants_selection()


@pytest.fixture
def smaller() -> Selection:
    return selection("retraining_variants", records_of_smaller_networks())


# What they show


def test_a_line_a_schedule_and_a_panel_a_sparsity(table1):
    figure = drawn(scores.budget, table1).figure
    assert [panel.get_title() for panel in figure.axes] == ["70 % sparsity", "80 % sparsity", "90 % sparsity"]
    lines = {line.get_label(): line for line in figure.axes[2].lines}
    assert list(lines) == ["FT", "LRW", "SLR", "CLR", "LLR", "ALLR"]
    assert list(lines["CLR"].get_xdata()) == [2.0, 5.0, 10.0]
    assert list(lines["CLR"].get_ydata()) == pytest.approx([83.2] * 3)


def test_bands_and_bars_stay_between_none_and_all_images_right(table1):
    for record in table1.whole.values():
        record["accuracy"]["final"]["test"] = 1.0 if record["cell"]["seed"] else 0.7
    figure = drawn(scores.budget, selection_again(table1)).figure
    heights = [
        vertex[1] for band in figure.axes[0].collections for path in band.get_paths() for vertex in path.vertices
    ]
    assert max(heights) == 100
    bars = drawn(scores.methods, selection_again(table1)).figure.axes[0].collections
    assert max(point[1] for bar in bars for segment in bar.get_segments() for point in segment) == 100


@pytest.mark.parametrize(("draw", "what"), [(scores.budget, "band"), (scores.methods, "bar")])
def test_one_seed_has_no_deviation_and_n_is_said_as_a_range(table1, draw, what):
    words = f"Mean and {what} of one sample standard deviation over"
    assert f"{words} 3 seeds, cut" in drawn(draw, table1).sentences[1]
    drawing = drawn(draw, fewer(table1, "FT"))
    assert f"{words} 1 to 3 seeds (no {what} for 1 seed), cut" in drawing.sentences[1]
    own = drawing.figure.axes[0].collections[0]  # of FT, the first row
    if what == "band":
        assert not own.get_paths()
    else:
        assert not np.isfinite(own.get_segments()).any()


def test_curves_layers_and_distances_say_over_how_many(table1, cycles):
    assert drawn(runs.layers, table1).sentences[1].endswith("over 18 runs.")
    assert drawn(runs.curves, fewer(table1, "FT")).sentences[0].endswith("means over 1 to 3 seeds.")
    assert drawn(rates.distance, cycles).sentences[1] == "Means over 2 seeds."


def test_points_of_one_run_have_no_deviation_on_the_page(table1):
    by_name = {trace["name"]: trace for trace in plots.methods(fewer(table1, "FT"))["data"]}
    assert by_name["FT"]["error_y"]["array"] == [None] * 3
    assert by_name["FT"]["text"][0].startswith("FT, n = 1<br>")
    assert "±" not in by_name["FT"]["text"][0]
    assert by_name["SLR"]["text"][0].startswith("SLR, n = 3<br>")
    assert "±" in by_name["SLR"]["text"][0]


def test_what_was_pruned_is_drawn_against_the_schedules(variants):
    drawing = drawn(variants_figure.draw, variants)
    titles = [panel.get_title() for panel in drawing.figure.axes]
    assert titles == [f"{part} % pruned, budget {text} %" for part in (60, 90) for text in ("5.55", "22.22")]
    panel = drawing.figure.axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["FT", "LRW", "SLR", "CLR", "LLR", "ALLR"]
    _, labels = panel.get_legend_handles_labels()
    assert labels[:3] == ["criterion magnitude", "criterion random", "criterion filters, stages even"]
    assert len(labels) == 8
    levels = [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":" or len(line.get_xdata()) == 2]
    assert pytest.approx(90.05) in levels, "no line at magnitude pruning with FT"
    assert any("not equally sparse" in sentence for sentence in drawing.sentences)


def test_filters_are_placed_at_the_sparsity_that_they_reach(variants):
    chosen = [r for r in variants.whole.values() if r["cell"]["schedule"] == "SLR" and r["cell"]["budget"] == "5.55%"]
    found = frames.read(chosen, "tests")
    (group,) = groups(found, variants.group.axes)
    chosen_ones = Selection(group, found.whole, narrowed=True)
    panel = drawn(scores.methods, chosen_ones).figure.axes[0]
    handles, labels = panel.get_legend_handles_labels()
    x = {label: list(handle[0].get_xdata()) for handle, label in zip(handles, labels, strict=True)}
    assert x["criterion filters, stages even, SLR"] == pytest.approx([50, 80])
    assert x["criterion random, SLR"] == pytest.approx([60, 90])
    assert "zero" in panel.get_xlabel()
    interactive = plots.methods(chosen_ones)
    assert {trace["name"]: trace["x"] for trace in interactive["data"]} == {n: pytest.approx(at) for n, at in x.items()}
    assert interactive["layout"]["xaxis"]["title"]["text"] == panel.get_xlabel()


def test_more_lines_than_can_be_told_apart_are_refused_with_a_hint(variants):
    with pytest.raises(UserError, match="lines are too many for one figure; choose some with --only"):
        drawn(scores.budget, variants)


def test_schedules_are_drawn_as_the_suite_computes_them(table1):
    figure = drawn(rates.schedules, table1).figure
    last = {line.get_label(): line.get_ydata() for line in figure.axes[-1].lines}
    assert max(last["LLR"]) == pytest.approx(0.1)
    assert max(last["ALLR"]) < 0.1
    assert max(last["FT"]) == min(last["FT"])
    assert len(last["LLR"]) == 10 * 17


def test_the_envelope_meets_the_baseline_where_the_sentence_says(cycles):
    drawing = drawn(figure1.draw, cycles)
    assert drawing.sentences[0] == "90 % sparsity: the baseline of 80 epochs (86.00%) is met after 20; n = 2 seeds."
    assert (
        "98 % sparsity: the baseline of 80 epochs (99.00%) is not met; "
        "the envelope of settings of up to 40 epochs ends at 92.10% after 40 epochs (ALLR, 2 cycles of 20 epochs)"
        in drawing.sentences[1]
    )
    assert "selected on validation accuracy" in drawing.sentences[2]
    assert "running maximum" in drawing.sentences[3]
    assert "log 0.8) cycles: 11 at 90 %, 18 at 98 %. The published" in drawing.sentences[4]
    titles = [panel.get_title() for panel in drawing.figure.axes]
    assert titles[0] == "90 % sparsity, n = 2 seeds\nbaseline of 80 epochs: met after 20"
    assert titles[1] == "98 % sparsity, n = 2 seeds\nbaseline of 80 epochs: not met"
    assert "2 cycles of 20 epochs" in drawing.sentences[1]


def without(given: Selection, schedule: str, seed: int) -> Selection:
    """Without a seed of the schedule's settings of 80 and of two cycles of 20 epochs at 90 %."""
    for name, record in list(given.whole.items()):
        cell = record["cell"]
        left = (cell["schedule"], cell["seed"], cell["sparsity"]) == (schedule, seed, 0.9)
        if left and cell["budget"] in ("80ep", "40ep") and cell["hyperparameters"]:
            del given.whole[name]
    return selection_again(given)


def test_a_setting_with_missing_seeds_is_counted_and_drawn_as_a_point_alone(cycles):
    drawing = drawn(figure1.draw, without(cycles, "ALLR", 0))
    assert drawing.sentences[0].endswith("n = 2 seeds, 1 setting with missing seeds left out.")
    assert all("2 cycles of 20" not in step.setting for step in figure1.parts(selection_again(cycles))[0].steps)
    points = next(line for line in drawing.figure.axes[0].lines if line.get_label() == "every run")
    assert len(points.get_xdata()) == 11


def test_a_baseline_with_missing_seeds_is_no_level_to_meet(cycles):
    drawing = drawn(figure1.draw, without(cycles, "LRW", 1))
    assert drawing.figure.axes[0].get_title().endswith("the baseline misses seeds")
    assert drawing.sentences[0].startswith("90 % sparsity: the baseline misses seeds; the envelope")
    assert "(99.00%)" in drawing.sentences[1]


def test_the_envelope_selects_on_validation(cycles):
    """Where validation prefers one cycle, the worse test accuracy of one cycle is what is shown."""
    for record in cycles.whole.values():
        one_cycle = not record["cell"]["hyperparameters"]
        record["accuracy"]["final"]["validation"] = record["accuracy"]["final"]["test"] * (1.0 if one_cycle else 0.5)
    own = selection_again(cycles)
    assert all("1 cycle of" in step.setting for part in figure1.parts(own) for step in part.steps)


def test_a_sentence_says_up_to_how_many_epochs_settings_were_tried(cycles):
    """Longer ones than the last of the envelope, whose validation accuracy is lower."""
    for record in cycles.whole.values():
        if record["cell"]["budget"] == "40ep":
            record["accuracy"]["final"]["validation"] = 0.1
    sentence = drawn(figure1.draw, selection_again(cycles)).sentences[1]
    assert "the envelope of settings of up to 40 epochs ends at 87.10% after 20 epochs" in sentence


def test_distances_are_drawn_along_the_cycles_of_the_longest_runs(cycles):
    figure = drawn(rates.distance, cycles).figure
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["$d_1$"].get_xdata()) == [1, 2]
    assert list(lines["$d$"].get_ydata()) == pytest.approx([0.3, 0.25])


def test_curves_join_the_epochs_that_have_a_validation(table1):
    for record in table1.whole.values():
        accuracies = record["history"]["validation_accuracy"]
        record["history"]["validation_accuracy"] = [None if k % 2 else value for k, value in enumerate(accuracies)]
    _, losses, accuracies = (panel.lines for panel in drawn(runs.curves, selection_again(table1)).figure.axes)
    assert [len(line.get_xdata()) for line in losses] == [10] * 6
    for line in accuracies:
        assert len(line.get_xdata()) == 5
        assert np.isfinite(line.get_ydata()).all()


def test_curves_are_those_of_the_chosen_cells(table1):
    figure = drawn(runs.curves, table1).figure
    assert len(figure.axes[0].lines) == 6
    given = table1_records(by_rank)
    few = [r for r in given if r["cell"]["schedule"] == "SLR" and r["cell"]["sparsity"] == 0.7]
    assert len(drawn(runs.curves, selection("table1", few, narrowed=True)).figure.axes[0].lines) == 3


def test_layers_are_drawn_in_the_network_s_order(table1):
    panel = drawn(runs.layers, table1).figure.axes[0]
    names = [label.get_text() for label in panel.get_xticklabels()]
    assert names[:2] == ["stage0.conv", "stage1.conv"]


def test_a_schedule_looks_alike_in_every_figure_and_no_two_look_alike(table1):
    assert table1.positions(["ALLR", "FT"]) == {"FT": 0, "ALLR": 5}
    assert table1.positions(["mine", "ALLR"])["ALLR"] == 5
    assert len(set(table1.positions([*"abcdefghi"]).values())) == 9
    assert len(set(zip(COLOURS, MARKERS, strict=True))) == len(DASHES) == 9


@pytest.mark.parametrize(
    ("budget", "iterations", "cycles", "expected"),
    [
        ("2.22%", {}, 1, 2.0),
        ("7ep", {}, 3, 7.0),
        ("7ep/cycle", {}, 3, 21.0),
        ("34it", {"total": 34, "per_epoch": 17}, 1, 2.0),
        ("10ep/cycle", {"total": 510, "per_epoch": 17}, 0, 30.0),
    ],
)
def test_budgets_are_epochs_whatever_their_unit(budget, iterations, cycles, expected):
    made = record_of(
        Cell(MADE_UP, "IMP", 0, "FT", 0.9, Budget.parse(budget)), 0.5, iterations=iterations, cycles=cycles
    )
    assert frames.read([made]).frame["epochs"].tolist() == pytest.approx([expected], abs=0.005)


# How they look

MADE_OF = {"figure1": "cycles", "distance": "cycles", "variants": "variants", "latency": "smaller"}


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: kind.name)
def test_labels_are_inside_and_no_legend_covers_data(kind, request):
    given = request.getfixturevalue(MADE_OF.get(kind.name, "table1"))
    figure = drawn(kind.draw, given).figure
    canvas = FigureCanvasAgg(figure)
    with style():  # ticks that are made while measuring take its sizes, too
        canvas.draw()
        canvas.draw()
        assert_tidy(figure, canvas.get_renderer())


def assert_tidy(figure, renderer) -> None:
    outline = figure.bbox.padded(1)
    (legend,) = figure.legends
    covered = legend.get_window_extent(renderer)
    assert all(not covered.overlaps(panel.get_tightbbox(renderer)) for panel in figure.axes)
    for box in [covered, *(panel.get_tightbbox(renderer) for panel in figure.axes)]:
        assert outline.x0 <= box.x0
        assert box.x1 <= outline.x1
    titles = [panel.title.get_window_extent(renderer) for panel in figure.axes]
    assert not any(a.overlaps(b) for a, b in pairwise(titles))
    for panel in figure.axes:
        boxes = [t.get_window_extent(renderer) for t in panel.get_xticklabels() if t.get_text()]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes)), panel.get_title()


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_same_records_give_the_same_bytes(table1, suffix):
    shuffled = table1_records(by_rank)
    random.Random(0).shuffle(shuffled)
    first = encode(drawn(scores.speedup, table1), suffix)
    assert encode(drawn(scores.speedup, selection("table1", shuffled)), suffix) == first


# The command


@pytest.fixture
def make_figures(tmp_path: Path, capsys):
    def run(*arguments: str) -> Any:
        code = main(app, ["--results", str(tmp_path), "--output", str(tmp_path / "out"), *arguments])
        return code, capsys.readouterr()

    return run


def test_the_command_writes_three_files_a_figure_and_says_what_they_show(tmp_path: Path, make_figures):
    fill(tmp_path / "runs", table1_records(by_rank))
    code, said = make_figures("budget")
    assert code == 0, said.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"budget-{STEM}.{s}" for s in ("pdf", "svg", "png")}
    assert "a panel a sparsity" in said.out
    assert "Records: 165 from live store" in said.out
    assert matplotlib.image.imread(tmp_path / "out" / f"budget-{STEM}.png").std() > 0


def test_without_names_every_figure_that_has_records_is_made(tmp_path: Path, make_figures):
    fill(tmp_path / "runs", table1_records(by_rank))
    code, said = make_figures("--format", "svg")
    assert code == 0
    made = {path.name.partition("-")[0] for path in (tmp_path / "out").iterdir()}
    assert made == {"budget", "methods", "speedup", "schedules", "layers", "curves"}
    assert "left out: figure distance" in said.err


def test_without_records_one_line_says_how_to_make_some(make_figures):
    code, said = make_figures()
    assert code == 2
    assert len(said.err.splitlines()) == 1
    assert "python -m benchmark.sweep table1" in said.err


def test_only_filters_as_in_the_sweep(tmp_path: Path, make_figures):
    fill(tmp_path / "runs", table1_records(by_rank))
    code, _ = make_figures(
        "budget", "--only", "schedule=ALLR,sparsity=0.9", "--only", "schedule=FT,sparsity=0.9", "--format", "svg"
    )
    assert code == 0
    (file,) = (tmp_path / "out").iterdir()  # beside the figure of all cells, not over it
    assert file.name == f"budget-{STEM}-schedule-ALLR-sparsity-0.9-or-schedule-FT-sparsity-0.9.svg"
    drawn_text = file.read_text()
    assert "ALLR" in drawn_text
    assert "SLR" not in drawn_text
    assert "70 % sparsity" not in drawn_text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figure9"], ["figure 'figure9' is unknown", "budget"]),
        (["budget", "--format", "gif"], ["--format 'gif'", "pdf,svg,png"]),
        (["budget", "--only", "schedule=NONE"], ["no schedule 'NONE'", "ALLR"]),
        (["distance"], ["figure distance", "no prune-retrain cycles"]),
        (["variants", "--sweep", "table1"], ["figure variants", "for sweeps of several criteria", "table1"]),
        (["budget", "--problem", "cifar10"], ["no records of table1 on cifar10"]),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, make_figures, arguments, words):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    code, said = make_figures(*arguments)
    assert code == 2
    assert len(said.err.strip().splitlines()) == 1
    for word in ("error:", *words):
        assert word in said.err
