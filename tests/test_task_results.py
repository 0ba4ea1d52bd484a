"""Table 1 beyond classification: what docs/tasks.md shows is what the committed records say."""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

import pytest

from benchmark.metric import metric_of
from benchmark.planning.grid import load_sweep
from benchmark.results.store import read_compact
from tests.conftest import ROOT

REFERENCE = ROOT / "results" / "reference"
PROBLEMS = ("segmentation", "translation", "language_model")
SHOWN = ("FT", "LLR", "ALLR")
BUDGET = "11.11%"
DOCS = (ROOT / "docs" / "tasks.md").read_text()


def records(problem: str) -> list[dict[str, Any]]:
    return list(read_compact(REFERENCE / f"table1-{problem}.jsonl"))


def row(problem: str) -> str:
    """The problem's line of the table: dense, then each schedule at 70, 80 and 90 % with the largest budget."""
    found = records(problem)
    metric = metric_of(found[0])

    def mean(schedule: str | None, sparsity: float | None) -> str:
        wanted = (schedule, sparsity, None if schedule is None else BUDGET)
        cells = [r for r in found if tuple(r["cell"][key] for key in ("schedule", "sparsity", "budget")) == wanted]
        return f"{fmean(metric.scale * r[metric.name]['final']['test'] for r in cells):.2f}"

    label = f"{metric.label}, %" if metric.unit == "%" else metric.label
    columns = [" / ".join(mean(schedule, sparsity) for sparsity in (0.7, 0.8, 0.9)) for schedule in SHOWN]
    return "| " + " | ".join([problem, label, mean(None, None), *columns]) + " |"


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_committed_records_are_the_whole_sweep_from_one_state_of_the_code(problem: str):
    found = records(problem)
    seeds = {record["cell"]["seed"] for record in found}
    assert len(seeds) >= 3
    cells = {cell.id for cell in load_sweep("table1", problem=problem, seeds=str(len(seeds))).cells}
    assert cells < {record["id"] for record in found}
    assert len(found) == len(cells) + len(seeds)
    assert len({(r["provenance"]["code"], r["provenance"]["commit"], r["provenance"]["dirty"]) for r in found}) == 1
    assert not found[0]["provenance"]["dirty"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_table_of_the_docs_is_that_of_the_records(problem: str):
    (shown,) = re.findall(r"<!-- results -->\n(.*?)\n<!-- end of results -->", DOCS, re.S)
    assert row(problem) in shown.splitlines()
