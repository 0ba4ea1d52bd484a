"""The table of the networks that pruning whole filters leaves, out of made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import groups, records
from analysis.paper import layouts
from analysis.tables import Table
from analysis.wandb_runs import record_of as record_of_run
from benchmark.cells import Cell
from benchmark.planning.grid import load_sweep
from benchmark.tracking.reader import LoggedRun
from benchmark.tracking.runs import config_of, summary_of
from tests.table1_records import MADE_UP, record_of

SWEEP = "retraining_variants"


def made_up(keep=lambda cell: True) -> list[dict]:
    """Filters leave 1000 * (1 - sparsity) parameters and are 10 ms faster with a batch, seed by seed a bit less."""
    found = []
    for c in filter(keep, load_sweep(SWEEP).cells):
        made = record_of(Cell(MADE_UP, c.method, c.seed, c.schedule, c.sparsity, c.budget, c.hyperparameters), 0.9)
        if "filters" in str(dict(c.hyperparameters).get("criterion")):
            made["smaller"] = {"parameters": round(1000 * (1 - c.sparsity)), "macs": 5000, "layers": {}}
            times = {"masked": [0.001, 0.030], "smaller": [0.001, 0.020 + 0.001 * c.seed]}
            made["seconds"] = {**made["seconds"], "latency": {"batch": [1, 64], **times, "repeats": [30, 30]}}
        found.append(made)
    return found


def tables_of(given: list[dict]) -> dict[str, Table]:
    (sheet,) = layouts.sheets_of(records.read(given, "tests"), records.sweep_axes(SWEEP))
    return {table.key: table for table in sheet.tables}


def test_it_follows_the_accuracies_with_a_row_for_each_criterion_and_fraction_of_filters():
    table = tables_of(made_up())["smaller"]
    criteria = ("criterion filters", "criterion random_filters")
    labels = [row.label for row in table.rows]
    assert labels[:4] == [f"{name}, {part} %" for name in criteria for part in (60, 90)]
    assert labels[4:] == [f"{name}, stages {stages}, 60 %" for name in criteria for stages in ("6/3/1", "6/5/4")]
    labels = [column.label for column in table.columns]
    first = dict(zip(labels, table.rows[0].entries, strict=True))
    assert (first["parameters"].mean, first["MACs"].mean) == (400, 5000)
    assert first["ms masked"].mean == pytest.approx(30), "not the latency of the whole batch"
    assert (first["ms smaller"].mean, first["ms smaller"].std) == (pytest.approx(22), pytest.approx(2.5**0.5))
    assert all(entry.n == 5 and entry.rank is None for entry in first.values())


def test_sweeps_that_prune_no_filters_have_no_such_table():
    assert set(tables_of(made_up(lambda cell: not cell.hyperparameters))) == {"measured"}


def test_runs_that_are_missing_are_counted():
    table = tables_of(made_up(lambda cell: cell.seed != 2))["smaller"]
    assert (table.rows[0].entries[0].n, table.rows[0].entries[0].expected) == (4, 5)


def test_weights_and_biases_keeps_what_the_table_shows():
    given = made_up(lambda cell: cell.seed == 0)
    runs = [LoggedRun(Path(), config=config_of(made), summary=summary_of(made)) for made in given]
    again = [record_of_run(run) for run in runs]
    (ours,), (theirs,) = (
        groups.groups(records.read(found, "tests"), records.sweep_axes(SWEEP)) for found in (given, again)
    )
    columns = ["smaller_parameters", "smaller_macs", "latency_masked", "latency_smaller"]
    assert theirs.cells[columns].equals(ours.cells[columns])
    assert ours.cells["smaller_parameters"].notna().sum() == 60
