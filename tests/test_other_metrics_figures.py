"""Figures and the report, of tasks that accuracy does not measure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from analysis.figures import Selection, runs, scores
from analysis.make_figures import app as make_figures_app
from analysis.paper import figure1, variants_figure
from analysis.paper.figures import ORDER
from analysis.paper.layouts import LAYOUTS
from analysis.report import page, plots
from analysis.report.gather import gather
from analysis.sources import Results
from benchmark.cli import main
from benchmark.planning.grid import load_sweep
from tests.figure_records import (
    collapse,
    cycles_selection,
    drawn,
    selection_again,
    variants_selection,
)
from tests.other_metrics import MIRRORS, all_mirrored, mirrored_selection
from tests.table1_records import MADE_UP, by_rank, fill, table1_records


@pytest.mark.parametrize(
    ("name", "title"),
    [("perplexity", "test perplexity, lower is better"), ("mean_iou", "test mean IoU in per cent")],
)
def test_axes_and_sentences_speak_of_the_metric(table1, name, title):
    metric, value_of = MIRRORS[name]
    other = mirrored_selection(table1, "table1", name)
    for draw in (scores.budget, scores.methods, scores.speedup):
        drawing = drawn(draw, other)
        assert drawing.figure.axes[0].get_ylabel() == title
        assert f"Final test {metric.label} against" in drawing.sentences[0]
        assert "accuracy" not in " ".join(drawing.sentences)
        heights = [y for panel in drawing.figure.axes for line in panel.lines for y in line.get_ydata()]
        assert min(heights) == pytest.approx(metric.shown(min(map(value_of, (0.802, 0.852)))))
    assert {plot(other)["layout"]["yaxis"]["title"]["text"] for plot in (plots.budget, plots.methods)} == {title}
    titles = [panel.get_title() for panel in drawn(runs.curves, other).figure.axes]
    assert titles[2] == {"perplexity": "val. perplexity", "mean_iou": "val. mean IoU, %"}[name]
    variants = mirrored_selection(variants_selection(), "retraining_variants", name)
    assert drawn(variants_figure.draw, variants).figure.axes[0].get_ylabel() == title


def test_curves_are_in_the_unit_of_the_metric(table1):
    other = mirrored_selection(table1, "table1", "mean_iou")
    _, _, validation = drawn(runs.curves, other).figure.axes
    assert {round(y) for line in validation.lines for y in line.get_ydata()} <= set(range(80, 87))
    other = mirrored_selection(table1, "table1", "perplexity")
    _, _, validation = drawn(runs.curves, other).figure.axes
    assert {round(y) for line in validation.lines for y in line.get_ydata()} <= set(range(15, 22))


def test_bands_end_at_the_bounds_of_the_metric(table1):
    for record in table1.whole.values():
        record["accuracy"]["final"]["test"] = 1.0 if record["cell"]["seed"] else 0.7
    words = {"perplexity": ", cut at 1.", "error": ", cut at 0 and 100 %.", "mean_iou": ", cut at 0 and 100 %."}
    for name, (metric, _) in MIRRORS.items():
        drawing = drawn(scores.budget, mirrored_selection(table1, "table1", name))
        assert drawing.sentences[1].endswith(words[name])
        bands = [band for panel in drawing.figure.axes for band in panel.collections]
        ends = [y for band in bands for _, y in band.get_paths()[0].vertices]
        low, high = map(metric.shown, metric.limits)
        assert low <= min(ends)
        assert max(ends) <= high
        assert low == pytest.approx(min(ends)) or high == pytest.approx(max(ends)), "a band is cut"


def test_the_band_of_a_large_perplexity_is_whole(table1):
    other = mirrored_selection(table1, "table1", "perplexity")
    for record in other.whole.values():
        record["perplexity"]["final"]["test"] *= 10
    bands = [band for panel in drawn(scores.budget, selection_again(other)).figure.axes for band in panel.collections]
    ends = [y for band in bands for _, y in band.get_paths()[0].vertices]
    assert (min(ends), max(ends)) == pytest.approx((156, 210))


def test_what_collapsed_lies_above_the_axis_of_a_perplexity(table1):
    other = mirrored_selection(collapse(table1, "CLR"), "table1", "perplexity")
    for draw in (scores.budget, scores.methods):
        drawing = drawn(draw, other)
        panel = drawing.figure.axes[-1]
        assert panel.get_ylim()[1] < 30
        (arrow,) = panel.texts
        assert arrow.xy[1] == panel.get_ylim()[1]
        assert drawing.sentences[-1].startswith("Above the axis: CLR at ")
    plot = plots.methods(other)
    low, high = plot["layout"]["yaxis"]["range"]
    trace = [trace for trace in plot["data"] if trace["name"] == "CLR"][-1]
    assert high - 0.05 * (high - low) < trace["y"][-1] < high < 30
    assert trace["marker"]["symbol"][-1] == "triangle-up-open"
    assert trace["text"][-1].endswith("above the axis: 1 of 3 runs collapsed")


def test_a_run_without_a_finite_value_is_no_point(table1):
    other = mirrored_selection(table1, "table1", "perplexity")
    for record in other.whole.values():
        cell = record["cell"]
        if (cell["schedule"], cell["seed"]) == ("CLR", 0):
            record["perplexity"]["final"] = {"test": None, "validation": None}
    drawing = drawn(scores.budget, selection_again(other))
    assert "over 2 to 3 seeds" in drawing.sentences[1]
    assert drawn(scores.methods, selection_again(other)).figure.axes[0].get_ylim()[1] < 30


# The envelope


@pytest.fixture
def cycles(tmp_path: Path) -> tuple[Selection, str]:
    path = tmp_path / "cycles.yaml"
    return cycles_selection(path), str(path)


def test_the_envelope_of_a_perplexity_falls_and_meets_the_baseline_where_accuracy_does(cycles):
    plain, path = cycles
    other = mirrored_selection(plain, path, "perplexity")
    drawing, by_accuracy = drawn(figure1.draw, other), drawn(figure1.draw, plain)
    assert drawing.sentences[0] == "90 % sparsity: the baseline of 80 epochs (15.00) is met after 20; n = 2 seeds."
    assert "the envelope of settings of up to 40 epochs ends at 8.90 after 40 epochs" in drawing.sentences[1]
    assert "on validation perplexity, and the test perplexity of the selected is reported" in drawing.sentences[2]
    assert "the baseline, cut at 1. Faint points" in drawing.sentences[2]
    assert (
        "is below that of the one before: this running minimum makes the line monotone, and a little too low"
        in (drawing.sentences[3])
    )
    assert "accuracy" not in " ".join(drawing.sentences)
    assert [panel.get_title() for panel in drawing.figure.axes] == [
        panel.get_title() for panel in by_accuracy.figure.axes
    ]
    for panel, mirror in zip(by_accuracy.figure.axes, drawing.figure.axes, strict=True):
        for line, other_line in zip(panel.lines, mirror.lines, strict=True):
            if len(line.get_ydata()) > 2:  # no vertical line
                assert list(other_line.get_ydata()) == pytest.approx([101 - y for y in line.get_ydata()])
    steps = next(line for line in drawing.figure.axes[0].lines if "best so far" in str(line.get_label()))
    assert str(steps.get_label()) == "best so far, selected on validation perplexity"
    heights = list(steps.get_ydata())
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) > 1


def test_the_interactive_envelope_is_in_the_unit_of_the_metric(cycles):
    plain, path = cycles
    for name, unit in (("perplexity", "{y:.2f} <"), ("mean_iou", "{y:.2f} %<")):
        metric, value_of = MIRRORS[name]
        mirror = figure1.plot(mirrored_selection(plain, path, name))
        for trace, other in zip(figure1.plot(plain)["data"], mirror["data"], strict=True):
            assert other["y"] == pytest.approx([metric.shown(value_of(y / 100)) for y in trace["y"]], abs=2e-3)
            assert "hovertemplate" not in other or unit in other["hovertemplate"]


# The commands


def test_figures_of_a_perplexity_are_written_and_described(tmp_path: Path, capsys):
    fill(tmp_path / "runs", all_mirrored(table1_records(by_rank), "perplexity"))
    names = ["budget", "methods", "curves"]
    options = ["--results", str(tmp_path), "--format", "svg", "--output", str(tmp_path)]
    assert main(make_figures_app, [*names, *options]) == 0
    said = capsys.readouterr().out
    assert "Final test perplexity against the retraining budget" in said
    assert "accuracy" not in said
    assert len(list(tmp_path.glob("*.svg"))) == len(names)


def test_a_report_shows_each_number_in_the_unit_of_its_metric(tmp_path: Path):
    """Of two recipes: one measured by accuracy, one by perplexity."""
    digits = load_sweep("table1", seeds=[0]).problem
    plain, other = (table1_records(by_rank, problem, seeds=[0]) for problem in (MADE_UP, digits))
    records = [*plain, *all_mirrored(other, "perplexity")]
    fill(tmp_path / "runs", [record for record in records if record["cell"]["sparsity"] in (None, 0.9)])
    written = page.write(gather(Results(tmp_path), LAYOUTS, (), ORDER))
    best = written[written.index('id="best"') : written.index('id="missing"')]
    assert re.search(r"table1, madeup</a><br>test accuracy in per cent</th>", best)
    assert re.search(r"table1, digits</a><br>test perplexity, lower is better</th>", best)
    assert re.findall(r"<b>(\w+)</b> ([\d.]+)", best) == [("ALLR", "16.00")] * 3 + [("ALLR", "85.00")] * 3
    claims = written[written.index('id="claims"') : written.index('id="best"')]
    assert "+2.00 to +5.00 points, 1 seed" in claims
    assert "+2.00 to +5.00 in perplexity, 1 seed" in claims
    rows = re.findall(r"<tr data-runs=.*?</tr>", written)
    for problem, of_allr in (
        ("madeup", "<td>85.00</td><td>85.00</td><td>accuracy, %</td>"),
        ("digits", "<td>16.00</td><td>16.00</td><td>perplexity</td>"),
    ):
        assert sum(f"<td>{problem}</td>" in row and of_allr in row for row in rows) == 3
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', written)
    assert found is not None
    for name, cell in json.loads(found[1])["cells"].items():
        metric = "perplexity" if name.startswith("digits") else "accuracy, %"
        assert cell["metric"] == metric
        assert cell["history"]["validation"] == [pytest.approx(cell["test"])] * len(cell["history"]["epoch"])
