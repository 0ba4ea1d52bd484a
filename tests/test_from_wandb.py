"""A lab that kept only its W&B runs still gets its tables: the same ones as from the local records."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.axes import sweep_axes
from analysis.make_figures import app as figures_app
from analysis.make_report import app as report_app
from analysis.make_tables import app as tables_app
from analysis.wandb_runs import of_server, open_source, record_of
from benchmark.cli import main
from benchmark.tracking.runs import config_of, history_of, summary_of
from tests.commands import as_command
from tests.table1_records import MADE_UP, by_rank, table1_cells, table1_records
from tests.table1_records import record_of as made_up_record

SWEEP = """
title: "A real sweep"
seeds: 2
recipe: {epochs: 3, milestones: [2], warmup_epochs: 1}
grids: [{method: IMP, schedule: [FT, LRW, ALLR], sparsity: [0.9], budget: ["34%"]}]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, Path]:
    """(sweep file, results folder) of a digits sweep that was really run, with offline tracking."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "real.yaml").write_text(SWEEP)
    arguments = ["--results", str(folder / "results"), "--tracking", "offline", "--workers", "1"]
    done = as_command("benchmark.sweep", str(folder / "real.yaml"), *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "real.yaml", folder / "results"


def table(capsys, sweep: Path, *arguments: str) -> list[dict[str, str]]:
    """The table and all else of the sheet as CSV rows, without the sentence that says where the records are."""
    assert main(tables_app, [str(sweep), "--format", "csv", *arguments]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    return [row for row in rows if not row["text"].startswith("Records: ")]


def test_offline_runs_of_a_real_sweep_give_the_same_table(swept, capsys):
    sweep, results = swept
    local = table(capsys, sweep, "--results", str(results))
    assert table(capsys, sweep, "--from-wandb", str(results)) == local
    assert sum(row["table"] == "measured" and row["mean"] != "" for row in local) == 3
    assert main(tables_app, [str(sweep), "--from-wandb", str(results), "--format", "markdown"]) == 0
    assert f"W&amp;B runs in {results}" in capsys.readouterr().out.replace("\\", "")


def test_every_row_of_the_records_export_is_the_same(swept, tmp_path: Path, capsys):
    sweep, results = swept
    exports = []
    for source in (["--results", str(results)], ["--from-wandb", str(results)]):
        assert main(tables_app, [str(sweep), "--format", "records", *source]) == 0
        exports.append(pd.read_csv(io.StringIO(capsys.readouterr().out)))
    assert len(exports[0]) == 8
    own, logged = (export.pop("source").unique() for export in exports)
    pd.testing.assert_frame_equal(*exports)
    assert [place.split(" ")[0] for place in (*own, *logged)] == ["live", "W&B"]


def test_figures_and_the_report_read_the_runs_too(swept, tmp_path: Path, capsys):
    sweep, results = swept
    source = ["--from-wandb", str(results)]
    names = ["budget", "methods", "speedup", "schedules", "distance", "layers", "curves"]
    for folder, place in (("runs", source), ("records", ["--results", str(results)])):
        output = ["--output", str(tmp_path / folder), "--format", "png"]
        assert main(figures_app, [*names, "--sweep", str(sweep), *output, *place]) == 0
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert len(drawn) == len(names)
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    assert main(report_app, ["--sweep", str(sweep), "--output", str(tmp_path / "report.html"), *source]) == 0
    assert "8 records" in capsys.readouterr().out


def test_a_run_that_was_published_twice_counts_once(swept, tmp_path: Path):
    sweep, results = swept
    for copy in ("first", "second"):
        shutil.copytree(results / "wandb", tmp_path / copy / "wandb")
    found = open_source(Path("results"), str(tmp_path)).of_sweep(sweep_axes(str(sweep)))
    assert found is not None
    assert len(found.frame) == 8
    assert found.problems == ()


def test_runs_that_cannot_be_used_are_named(swept, tmp_path: Path):
    _, results = swept
    shutil.copytree(results / "wandb", tmp_path / "wandb")
    first, second, *_ = sorted((tmp_path / "wandb").rglob("run-*.wandb"))
    first.write_bytes(first.read_bytes()[:-200])
    second.write_bytes(b"nothing")
    found = open_source(Path("results"), str(tmp_path)).everything()
    assert len(found.frame) == 6
    assert [str(path) in line for path, line in zip((first, second), sorted(found.problems), strict=True)] == [True] * 2


# A project on a server


class FakeRun:
    """A run as wandb.Api gives it."""

    def __init__(self, record: dict[str, Any], state: str = "finished"):
        self.id, self.state = record["id"][-12:], state
        self.config, self.history = config_of(record), history_of(record)
        self.summary = {**(self.history[-1] if self.history else {}), **summary_of(record)}  # as the server makes it

    def scan_history(self):
        return [{"_step": step, **row} for step, row in enumerate(self.history)]


@pytest.fixture
def server(monkeypatch):
    """A project somebody/pruning with all of made-up Table 1; the list is what the server has."""
    wandb = pytest.importorskip("wandb")
    runs = [FakeRun(record) for record in table1_records(by_rank)]

    class FakeApi:
        def runs(self, path: str, order: str = ""):
            assert order == "+created_at"
            if path != "somebody/pruning":
                raise ValueError(f"Could not find project <Project {path}>\nat length")
            return runs

    monkeypatch.setattr(wandb, "Api", FakeApi)
    return runs


def test_a_project_gives_the_same_records_as_a_store(server):
    found = open_source(Path("results"), "somebody/pruning", whole=True).of_sweep(sweep_axes("table1"))
    assert found is not None
    local = {record["id"]: record for record in table1_records(by_rank)}
    assert set(found.frame["id"]) == set(local)
    name = next(iter(found.whole))
    assert found.whole[name]["accuracy"] == local[name]["accuracy"]
    assert found.whole[name]["history"] == local[name]["history"]


def test_unfinished_and_foreign_runs_of_a_project_are_named_and_left_out(server):
    server[0].state = "crashed"
    server[1].config = {"lr": 0.1}
    found = open_source(Path("results"), "somebody/pruning").everything()
    assert len(found.frame) == 163
    assert [line.partition(": ")[2] for line in found.problems] == [
        "the run was not finished",
        "is not a record of this suite",
    ]


def test_a_record_survives_the_way_through_w_and_b():
    record = made_up_record(table1_cells(MADE_UP, (0,))[0], 0.5)
    back = record_of(of_server(FakeRun(record), whole=True), whole=True)
    for key in ("id", "parent", "status", "remarks", "accuracy", "loss", "macs", "seconds", "history", "iterations"):
        assert back[key] == record[key], key
    assert back["cell"]["problem"] == record["cell"]["problem"]
    assert back["cycles"] == 0


def test_layers_keep_their_order_and_cycles_all_that_they_say():
    record = made_up_record(table1_cells(MADE_UP, (0,))[0], 0.5)
    record["sparsity"]["layers"] = {name: {"weights": 8, "zeros": 4, "macs": 16} for name in ("z", "a", "m")}
    record["cycles"] = [{"cycle": n, "sparsity": 0.45 * (n + 1), "d": 0.3, "d1": 0.3, "d2": 0.1} for n in range(2)]
    back = record_of(of_server(FakeRun(record)))
    assert list(back["sparsity"]["layers"]) == ["z", "a", "m"]
    assert back["sparsity"]["layers"] == record["sparsity"]["layers"]
    assert back["cycles"] == record["cycles"]


def test_names_that_are_neither_a_folder_nor_a_project_get_one_line(server, tmp_path: Path, capsys):
    for given, words in (
        ("nowhere", "a folder of offline runs, or ENTITY/PROJECT"),
        ("nobody/nothing", "cannot be read (Could not find project <Project nobody/nothing>)"),
    ):
        assert main(tables_app, ["table1", "--from-wandb", given]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1
        assert words in said
    assert main(tables_app, ["table1", "--from-wandb", str(tmp_path)]) == 2
    assert f"no records of table1 in W&B runs in {tmp_path}" in capsys.readouterr().err
