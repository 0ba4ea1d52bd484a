"""Tables of sweeps that vary settings: one row a setting and schedule, and Le and Hua's claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import comparisons, frames, groups
from analysis.axes import sweep_axes
from analysis.claims import Evidence
from analysis.layout import layout_of, sheets_of
from analysis.paper.layouts import LAYOUTS
from analysis.paper.table1 import Table1
from analysis.render import terminal
from benchmark import recording
from benchmark.cells import Cell
from benchmark.planning.grid import load_sweep
from benchmark.results.records import TARGET_MARGIN
from tests.table1_records import MADE_UP, record_of

VARIANTS = """
title: "Variants"
seeds: 5
grids:
  - method: IMP
    schedule: [FT, SLR, CLR]
    sparsity: [0.6, 0.8]
    budget: ["5.55%"]
    hyperparameters: {criterion: [magnitude, random, filters, random_filters]}
"""
CYCLES = """
title: "Cycles"
seeds: 2
grids:
  - {method: IMP, schedule: [ALLR], sparsity: [0.9], budget: [1ep/cycle, 5ep/cycle], hyperparameters: {cycles: [1, 2]}}
  - {method: IMP, schedule: [LRW], sparsity: [0.9], budget: [90ep/cycle], hyperparameters: {ladder: [renda]}}
"""


def sheet(folder: Path, text: str, accuracy, reached=lambda cell: None):
    """`reached`: the sparsity that a cell ended at where it is not the cell's own."""
    path = folder / "mine.yaml"
    path.write_text(text)
    axes = sweep_axes(str(path))
    cells = load_sweep(str(path)).cells
    own = [Cell(MADE_UP, c.method, c.seed, c.schedule, c.sparsity, c.budget, c.hyperparameters) for c in cells]
    made = [record_of(cell, accuracy(cell) + 0.001 * cell.seed) for cell in own]
    for cell, record in zip(own, made, strict=True):
        settings = dict(cell.hyperparameters)
        cycles = 3 if "ladder" in settings else settings.get("cycles", 1)
        record["iterations"]["total"] = cell.budget.iterations(90, record["iterations"]["per_epoch"], cycles)
        record["sparsity"]["prunable"] = reached(cell) or cell.sparsity
    read = frames.read(made, "tests")
    (found,) = sheets_of(LAYOUTS, read, axes)
    assert len(groups.groups(read, axes)) == 1
    return found


def level(cell: Cell, gain: float) -> float:
    """Random pruning gains by a large learning rate; otherwise its accuracy is the lowest."""
    random = criterion(cell).startswith("random")
    return 0.6 + (gain + 0.0005 * cell.seed if random and cell.schedule != "FT" else 0.0) - 0.05 * random


def test_a_row_is_a_setting_and_a_schedule_with_the_default_spelled_out(tmp_path: Path):
    table = sheet(tmp_path, VARIANTS, lambda cell: level(cell, 0.2)).tables[0]
    assert [row.label for row in table.rows][:4] == [
        "criterion magnitude, FT",
        "criterion magnitude, SLR",
        "criterion magnitude, CLR",
        "criterion random, FT",
    ]
    assert [entry.rank for entry in table.rows[4].entries] == [1, 1]


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, "held"), (0.0, "not held")])
def test_le_and_hua_s_claim_is_checked(tmp_path: Path, gain: float, verdict: str):
    filters, weights = sheet(tmp_path, VARIANTS, lambda cell: level(cell, gain)).findings
    assert (filters.verdict, weights.verdict) == (verdict, verdict)
    assert len(filters.comparisons) == len(weights.comparisons) == 4


def test_random_filters_and_random_weights_are_two_claims(tmp_path: Path):
    """Weights are no match for chosen filters, nor the other way round: their zeros are not as many."""

    def only_filters(cell: Cell) -> float:
        return level(cell, 0.2 if criterion(cell) == "random_filters" else 0.0)

    filters, weights = sheet(tmp_path, VARIANTS, only_filters, of_filters).findings
    assert (filters.verdict, weights.verdict) == ("held", "not held")
    assert [c.label for c in filters.comparisons][:2] == [
        f"criterion random_filters, {schedule} - criterion filters, FT, 60 % at 5.55 %" for schedule in ("SLR", "CLR")
    ]
    without = VARIANTS.replace(", filters, random_filters", "")
    assert [found.key for found in sheet(tmp_path, without, only_filters).findings] == [weights.key]


def test_what_a_sweep_does_not_ask_for_is_empty_and_not_missing(tmp_path: Path):
    found = sheet(tmp_path, CYCLES, lambda cell: 0.9)
    labels = [row.label for row in found.tables[0].rows]
    assert labels == ["cycles 1, ladder even, ALLR", "cycles 2, ALLR", "ladder renda, LRW"]
    assert [entry.n for entry in found.tables[0].rows[2].entries] == [None, None, 2]
    assert "have no record" not in found.tables[0].caption[0]
    assert "–" not in terminal.plain(replace(found, pairs=(), findings=()))
    assert [finding.key for finding in found.findings] == ["baseline-met-early"]


def test_rows_are_compared_that_differ_in_one_thing_over_the_columns_that_both_have(tmp_path: Path):
    in_all = CYCLES.replace("/cycle", "")
    pairs = {(pair.first, pair.second): pair for pair in sheet(tmp_path, in_all, lambda cell: 0.9).pairs}
    assert set(pairs) == {("cycles 1, ladder even, ALLR", "cycles 2, ALLR")}
    assert next(iter(pairs.values())).difference.n == 2
    pairs = {(pair.first, pair.second) for pair in sheet(tmp_path, VARIANTS, lambda cell: level(cell, 0.2)).pairs}
    assert len(pairs) == 4 * 3 + 3 * 6
    assert ("criterion random, FT", "criterion filters, SLR") not in pairs


def test_every_hyperparameter_is_a_thing_of_its_own(tmp_path: Path):
    """Rows that differ in two of them are no pair: they would only add to what the tests are corrected for."""
    staged = VARIANTS + (
        "  - {method: IMP, schedule: [FT], sparsity: [0.6], budget: ['5.55%'], "
        "hyperparameters: {criterion: [filters, random_filters], stages: ['6/3/1']}}\n"
    )
    pairs = {(pair.first, pair.second) for pair in sheet(tmp_path, staged, lambda cell: 0.9).pairs}
    staged_rows = [f"criterion {name}, stages 6/3/1, FT" for name in ("filters", "random_filters")]
    assert ("criterion filters, stages even, FT", staged_rows[0]) in pairs
    assert tuple(staged_rows) in pairs
    assert not {pair for pair in pairs if pair[0] == "criterion magnitude, FT" and pair[1] in staged_rows}
    assert ("criterion filters, stages even, FT", staged_rows[1]) not in pairs


def test_hyperparameters_that_one_method_alone_has_do_not_keep_methods_from_being_compared():
    rows = {"GMP": ("GMP", "FT", "1", ""), "BIMP": ("BIMP", "FT", "", "3"), "other": ("BIMP", "SLR", "", "3")}
    values = {(name, 0.9, ""): pd.Series([90.0, 91.0]) for name in rows}
    found = comparisons.pairs(Evidence(values, tuple(rows), (0.9,), ("",), {}, factors=rows))
    assert [(pair.first, pair.second) for pair in found] == [("GMP", "BIMP"), ("BIMP", "other")]


def test_the_claim_is_about_filters_that_every_layer_loses_evenly(tmp_path: Path):
    """Rates by stage are rows of their own: they neither hold the claim up nor refute it."""
    staged = VARIANTS + (
        "  - {method: IMP, schedule: [FT, SLR, CLR], sparsity: [0.6], budget: ['5.55%'], "
        "hyperparameters: {criterion: [filters], stages: ['6/3/1']}}\n"
    )
    found = sheet(tmp_path, staged, lambda cell: 0.95 if "stages" in dict(cell.hyperparameters) else level(cell, 0.2))
    labels = [row.label for row in found.tables[0].rows]
    assert "criterion filters, stages even, FT" in labels
    assert "criterion filters, stages 6/3/1, FT" in labels
    assert "criterion random, FT" in labels
    assert [finding.verdict for finding in found.findings] == ["held", "held"]


def test_rows_with_different_totals_of_a_budget_per_cycle_are_neither_ranked_nor_compared(tmp_path: Path):
    found = sheet(tmp_path, CYCLES, lambda cell: 0.9)
    table = found.tables[0]
    assert [[entry.rank for entry in row.entries] for row in table.rows] == [[None] * 3] * 3
    assert table.caption[1].endswith(
        "column by column: cycles 1, ladder even, ALLR: 1, 5; cycles 2, ALLR: 2, 10; ladder renda, LRW: 270."
    )
    assert found.pairs == ()


def test_rows_with_the_same_total_of_a_budget_per_cycle_compete(tmp_path: Path):
    found = sheet(tmp_path, CYCLES.replace("schedule: [ALLR]", "schedule: [FT, ALLR]"), lambda cell: 0.9)
    assert {(pair.first, pair.second) for pair in found.pairs} == {
        ("cycles 1, ladder even, FT", "cycles 1, ladder even, ALLR"),
        ("cycles 2, FT", "cycles 2, ALLR"),
    }
    alike = sheet(tmp_path, VARIANTS.replace("5.55%", "2ep/cycle"), lambda cell: 0.9)
    assert {entry.rank for row in alike.tables[0].rows for entry in row.entries} == {1}
    assert "per cycle" not in " ".join(alike.tables[0].caption)


def of_filters(cell: Cell) -> float | None:
    """Zeros among the weights where filters go: fewer than filters, as the layers before them keep theirs."""
    return cell.sparsity - 0.03 if "filters" in criterion(cell) else None


def criterion(cell: Cell) -> str:
    return dict(cell.hyperparameters).get("criterion", "magnitude")


def test_rows_of_another_sparsity_have_no_rank_and_are_compared_with_their_own_kind(tmp_path: Path):
    """Filters are ahead because they leave more weights: magnitude is the best of what is as sparse as it says."""
    best = {"filters": 0.9, "random_filters": 0.85, "magnitude": 0.8, "random": 0.7}
    found = sheet(tmp_path, VARIANTS, lambda cell: best[criterion(cell)], of_filters)
    table = found.tables[0]
    ranks = {row.label: [entry.rank for entry in row.entries] for row in table.rows}
    assert ranks["criterion filters, FT"] == [None, None]
    assert ranks["criterion magnitude, FT"] == [1, 1]
    both = "criterion filters and criterion random_filters"
    assert f"57 % under 60 %: {both}; 77 % under 80 %: {both}." in table.caption[1]
    assert "every layer's filters" in table.caption[1]
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    assert ("criterion filters, FT", "criterion filters, SLR") in pairs
    assert ("criterion magnitude, FT", "criterion random, FT") in pairs
    assert ("criterion magnitude, FT", "criterion filters, FT") not in pairs


def test_a_table_whose_rows_are_all_at_their_sparsity_says_nothing_of_it(tmp_path: Path):
    caption = " ".join(sheet(tmp_path, VARIANTS, lambda cell: 0.9).tables[0].caption)
    assert "not as sparse as" not in caption


def test_a_sparsity_counts_as_another_one_as_the_worker_judges_it():
    assert TARGET_MARGIN == recording.TARGET_MARGIN


def test_table1_keeps_its_own_layout():
    assert isinstance(layout_of(sweep_axes("table1"), LAYOUTS), Table1)
