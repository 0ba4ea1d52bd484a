"""Which records a figure is drawn of: those of sweeps that it is about, and none that would squeeze the others."""

from __future__ import annotations

import pytest

from analysis.axes import sweep_axes
from analysis.figures import runs, scores
from analysis.make_figures import draw
from analysis.paper import figure1
from analysis.paper.figures import FIGURES
from analysis.report import plots
from analysis.sources import Results
from benchmark.errors import UserError
from tests.conftest import ROOT
from tests.figure_records import (
    collapse,
    drawn,
    fewer,
    made_up,
    selection,
    selection_again,
)
from tests.table1_records import record_of

NAMED = {figure.name: figure for figure in FIGURES}
REFERENCE = Results(ROOT / "results" / "reference")

# What they are about

ABOUT = {
    "table1": {"budget", "methods", "speedup", "schedules", "distance", "layers", "curves"},
    "table2": {"methods", "speedup", "layers", "curves"},
    "figure1": {"figure1", "distance"},
    "retraining_variants": {"variants", "latency"},
}


@pytest.mark.parametrize("sweep", ABOUT)
def test_a_figure_knows_what_it_is_about(sweep):
    assert {figure.name for figure in FIGURES if figure.about(sweep_axes(sweep))} == ABOUT[sweep]


def test_a_figure_is_drawn_first_of_sweeps_that_it_is_about():
    assert all(figure.name in ABOUT[sweep] for figure in FIGURES for sweep in figure.sweeps)


def test_it_goes_by_what_a_sweep_varies_and_not_by_its_name(cycles):
    assert {figure.name for figure in FIGURES if figure.about(cycles.group.axes)} == ABOUT["figure1"]
    chosen = sweep_axes("retraining_variants", only=["criterion=magnitude", "criterion=random,schedule=SLR"])
    assert "variants" in {figure.name for figure in FIGURES if figure.about(chosen)}
    chosen = sweep_axes("retraining_variants", only=["criterion=magnitude"])
    assert {"budget", "methods", "curves"} <= {figure.name for figure in FIGURES if figure.about(chosen)}


# What collapsed


@pytest.mark.parametrize("draw", [scores.budget, scores.methods])
def test_a_collapsed_run_does_not_squeeze_the_others_and_is_named(table1, draw):
    drawing = drawn(draw, collapse(table1, "CLR"))
    panel = drawing.figure.axes[-1]
    assert panel.get_ylim()[0] > 70
    assert [text.get_text().partition(" ")[0] for text in panel.texts] == ["CLR"]
    assert drawing.sentences[-1].startswith("Below the axis: CLR at ")
    assert "1 of 3 runs collapsed" in drawing.sentences[-1]


def test_points_of_collapsed_runs_are_left_out_of_the_speedups_and_named(table1):
    """What is mostly zero by accident is fast: its speedup would be the largest by far."""
    limits = drawn(scores.speedup, table1).figure.axes[0].axis()
    given = collapse(table1, "CLR")
    for record in given.whole.values():
        if record["status"] == "collapsed":
            record["macs"]["speedup"] = 500.0
    given = selection_again(given)
    drawing = drawn(scores.speedup, given)
    panel = drawing.figure.axes[0]
    assert panel.axis() == pytest.approx(limits)
    words = "Left out, since runs collapsed there: CLR at 90 % (1 of 3)."
    assert drawing.sentences[-1] == words
    assert words in panel.get_xlabel()
    handles, labels = panel.get_legend_handles_labels()
    lines = {label: len(handle[0].get_xdata()) for handle, label in zip(handles, labels, strict=True)}
    assert lines["CLR"] == 2
    assert lines["SLR"] == 3
    traces = {trace["name"]: trace for trace in plots.speedup(given)["data"]}
    assert {name: len(trace["x"]) for name, trace in traces.items()} == lines
    assert max(value for trace in traces.values() for value in trace["x"]) < 100


def test_where_every_run_collapsed_there_is_no_figure_of_speedups(table1):
    for record in table1.whole.values():
        record["status"] = "collapsed"
    with pytest.raises(UserError, match="collapsed at every point"):
        drawn(scores.speedup, selection_again(table1))


@pytest.mark.parametrize("draw", [scores.methods, scores.speedup, runs.layers, runs.curves])
def test_where_no_setting_of_a_method_is_chosen_yet_there_is_no_figure(draw):
    """The settings of Table 2 compete with other seeds than the first that has records."""
    own = [record_of(cell.with_seed(2), 0.9) for cell in made_up("table2", only=["method=GMP"])]
    with pytest.raises(UserError, match="no setting is chosen yet"):
        drawn(draw, selection("table2", own))


@pytest.mark.parametrize(("make", "axis"), [(plots.budget, "yaxis3"), (plots.methods, "yaxis")])
def test_a_collapsed_run_is_marked_at_the_edge_of_an_interactive_figure(table1, make, axis):
    plot = make(collapse(table1, "CLR"))
    low, high = plot["layout"][axis]["range"]
    assert low > 70
    trace = [trace for trace in plot["data"] if trace["name"] == "CLR"][-1]
    assert low < trace["y"][-1] < low + 0.05 * (high - low)
    assert trace["error_y"]["array"][-1] is None
    assert trace["marker"]["symbol"][-1] == "triangle-down-open" != trace["marker"]["symbol"][0]
    assert trace["text"][-1].endswith("below the axis: 1 of 3 runs collapsed")
    assert high >= max(value for trace in plot["data"] for value in trace["y"])
    assert not any(
        "range" in plot["layout"][name] for name in plot["layout"] if name.startswith("yaxis") and name != axis
    )


def test_a_collapsed_run_is_no_point_of_figure_1(cycles):
    for record in cycles.whole.values():
        cell = record["cell"]
        if (cell["sparsity"], cell["budget"], cell["seed"], cell["schedule"]) == (0.9, "20ep", 1, "ALLR"):
            record["status"] = "collapsed"
    given = selection_again(cycles)
    drawing = drawn(figure1.draw, given)
    points = [line for line in drawing.figure.axes[0].lines if line.get_label() == "every run"]
    assert [len(line.get_xdata()) for line in points] == [12 - 2]
    assert "Runs that collapsed are left out of the points: 2 at 90 %." in drawing.sentences
    assert "not drawn: 2 collapsed runs" in drawing.figure.axes[0].get_xlabel()
    assert len(figure1.plot(given)["data"][0]["x"]) == 10


def test_a_collapsed_run_of_one_seed_has_no_deviation(table1):
    drawing = drawn(scores.methods, fewer(collapse(table1, "CLR"), "CLR"))
    assert drawing.figure.axes[0].texts[0].get_text() == "CLR 10.0"
    assert "CLR at 90 % (10.00, 1 of 1 runs collapsed)" in drawing.sentences[-1]


def test_of_several_decays_of_the_learning_rate_one_is_drawn_and_named(tmp_path):
    """The linear one where there is one, as BIMP has no other: a line a method, and no two of one method."""
    path = tmp_path / "decays.yaml"
    path.write_text(
        "title: t\nseeds: 2\ngrids:\n  - {method: BIMP, sparsity: [0.7, 0.9]}\n"
        "  - {method: GMP, schedule: [recipe, linear], sparsity: [0.7, 0.9]}\n"
    )
    cells = made_up(str(path))
    records = [record_of(cell, 0.95 if cell.schedule == "linear" else 0.9) for cell in cells]
    chosen = selection(str(path), records)
    shown = scores.shown(chosen)
    assert set(shown["row"]) == {"BIMP", "GMP"}
    assert set(shown[shown["row"] == "GMP"]["final_test"]) == {0.95}
    assert "learning rates with a linear decay" in " ".join(drawn(scores.methods, chosen).sentences)


def test_a_figure_of_a_sweep_that_tunes_shows_the_chosen_settings_on_the_seeds_that_test():
    (drawing,) = draw(NAMED["budget"], REFERENCE, "allr_untuned")
    assert "over 5 seeds" in " ".join(drawing.sentences)


def test_chosen_cells_are_looked_for_in_every_sweep_that_a_figure_is_about():
    assert draw(NAMED["methods"], REFERENCE, problem="digits", only=["schedule=ALLR,budget=2.22%"])
    with pytest.raises(UserError, match="no schedule 'NONE'"):
        draw(NAMED["methods"], REFERENCE, only=["schedule=NONE"])


@pytest.mark.parametrize("name", ["curves", "methods", "layers"])
def test_of_a_sweep_that_has_chosen_nothing_no_figure_is_drawn(name: str):
    with pytest.raises(UserError, match="the figures of table2: no setting is chosen yet"):
        draw(NAMED[name], REFERENCE, "table2", "digits", ["method=BIMP,seed=100"])
