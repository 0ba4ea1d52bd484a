"""What a reader sees of the committed runs first, and the figures that are drawn of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import compress
from pathlib import Path

import pandas as pd
import pytest

from analysis.claims import Comparison, Finding
from analysis.render.sheet import Sheet
from analysis.report import summary
from analysis.report.gather import Report
from analysis.statistics import Difference
from analysis.tables import Table
from benchmark.metric import ACCURACY
from tests.conftest import ROOT
from tests.test_report import Outline, make_report


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Of the committed runs of Table 2, some of which collapsed, and three seeds of Figure 1 without its longest."""
    folder = tmp_path_factory.mktemp("reference")
    committed = ROOT / "results" / "reference"
    (folder / "table2-digits.jsonl").symlink_to(committed / "table2-digits.jsonl")
    lines = (committed / "figure1-digits.jsonl").read_text().splitlines(keepends=True)
    cells = [json.loads(line)["record"]["cell"] for line in lines]
    kept = [cell["seed"] < 3 and cell.get("budget") != "45ep/cycle" for cell in cells]
    (folder / "figure1-digits.jsonl").write_text("".join(compress(lines, kept)))
    assert make_report(folder, folder / "report.html") == 0
    return folder / "report.html"


def test_the_summary_says_who_is_first_and_what_is_missing(reference):
    words = Outline(reference.read_text()).words
    assert "2 more seeds: tested from 5 up" in words["claims"]
    assert "target 80 %BIMP 98.18 ± 0.49" in words["best"]
    assert (
        "figure1, digits: 90 % sparsity: the baseline of 990 epochs (97.22%) is met after 110; n = 3 seeds."
        in words["best"]
    )
    assert "figure1, digits: 3 of 69 entries have no record; 3 seeds at most" in words["missing"]
    assert "15 runs collapsed; 128 runs missed the target sparsity" in words["missing"]


def finding(verdict: str, *comparisons: tuple[float, int, float]) -> Finding:
    """`comparisons`: mean, n and p of each."""
    made = [Comparison("", Difference(n, mean), p, float("nan")) for mean, n, p in comparisons]
    return Finding("key", "A claim", verdict, "", "", tuple(made))


NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "effect", "lacking"),
    [
        (finding("held", (1.0, 5, 0.01), (2.5, 6, 0.02)), "+1.00 to +2.50 points, 5 to 6 seeds", ""),
        (finding("not held", (-1.0, 5, 0.01)), "-1.00 points, 5 seeds", ""),
        (
            finding("undecided", (1.0, 4, NAN), (2.0, 3, NAN)),
            "+1.00 to +2.00 points, 3 to 4 seeds",
            "1 more seed: tested",
        ),
        (
            finding("undecided", (1.0, 5, 0.01), (NAN, 0, NAN)),
            "+1.00 points, 5 seeds",
            "1 of 2 comparisons have fewer than 5",
        ),
        (finding("undecided", (NAN, 0, NAN)), "–", "5 more seeds"),
    ],
)
def test_a_claim_in_short(given, effect, lacking):
    assert summary.effect(given, ACCURACY) == effect
    assert summary.lacking(given).startswith(lacking)
    assert bool(summary.lacking(given)) == bool(lacking)


def test_a_figure_is_drawn_only_of_sweeps_that_it_is_about(reference):
    """Cycles are no criteria: of Figure 1's records a dozen panels would say nothing."""
    outline = Outline(reference.read_text())
    drawn = [str(a["id"]).removeprefix("figure-").partition("-")[0] for a in outline.of("figure")]
    assert drawn == ["figure1", "methods", "speedup", "distance", "layers", "curves"]


def test_a_collapsed_run_stretches_no_axis(reference):
    text = reference.read_text()
    plots = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])["plots"]
    assert max(x for trace in plots["speedup-digits"]["data"] for x in trace["x"]) < 7.5
    assert plots["methods-digits"]["layout"]["yaxis"]["range"][0] > 70
    bars = [
        (trace["name"], bar)
        for name in ("speedup-digits", "methods-digits")
        for trace in plots[name]["data"]
        for bar in trace["error_y"]["arrayminus"]
        if bar and bar > 20
    ]
    assert not bars
    words = Outline(text).words
    assert "Left out, since runs collapsed there: DPF at 90 % (5 of 15)." in words["figure-speedup-digits"]
    assert "Below the axis: DPF at 90 %" in words["figure-methods-digits"]


def test_of_many_claims_the_verdicts_stand_side_by_side_by_problem():
    def sheet(problem: str, verdict: str) -> Sheet:
        findings = tuple(replace(finding(verdict, (1.0, 5, 0.01)), statement=f"Claim {n}") for n in range(7))
        table = Table("measured", "", "", (), ())
        return Sheet(f"table1-{problem}", "table1", problem, problem, (table,), findings)

    report = Report(pd.DataFrame(), {}, [], [sheet("digits", "held"), sheet("cifar10", "not held")], [], [], "", {})
    words = Outline(f'<div id="claims">{summary._claims(report)}</div>').words["claims"]
    assert "sweepclaimdigitscifar10" in words.replace("\n", "")
    assert words.count("Claim 6") == 1
    assert "Claim 6heldnot held" in words
    assert "+1.00" not in words
