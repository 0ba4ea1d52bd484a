"""The latency command: forms, columns and files; how fast anything is depends on the machine and is tested nowhere."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark import cli
from benchmark.cells import Budget, Cell
from benchmark.latency import app
from benchmark.measure import latency
from benchmark.measure.energy import joules
from benchmark.measure.forms import NotHere, sparse_rows
from benchmark.measure.latency import LatencyRow
from benchmark.methods import check_hyperparameters
from benchmark.planning.grid import load_problem
from benchmark.results.store import Store
from benchmark.training.latency import by_turns
from benchmark.training.options import RunOptions
from benchmark.worker import Worker

torch.set_num_threads(1)
RECIPE = {"epochs": 1, "milestones": [], "warmup_epochs": 0, "model": "tests.user_networks:convolutional"}
PROBLEM, _ = load_problem("digits", RECIPE)
WHOLE = check_hyperparameters("IMP", {"criterion": "filters"})
FILTERS = Cell(PROBLEM, "IMP", 0, "LLR", 0.5, Budget.parse("1it"), WHOLE)
POINTS = r"\d+\.\d+ \(\d+\.\d+ to \d+\.\d+\)"
FORMS = ("dense", "masked", "compact")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    worker = Worker(Store(tmp_path_factory.mktemp("runs")), RunOptions("cpu", 1, keep="weights"))
    for cell in (Cell.dense(PROBLEM, 0), FILTERS):
        worker.run(cell)
    return worker.store


@pytest.mark.parametrize("missing", ["onnx", pytest.param("", marks=pytest.mark.long)])  # exports take seconds each
def test_it_prints_every_form_in_both_runtimes_and_a_dash_with_a_word_for_what_is_not_there(
    store: Store, tmp_path: Path, monkeypatch, capsys, missing: str
):
    monkeypatch.setattr("benchmark.measure.forms.find_spec", lambda name: None if name == missing else name)
    monkeypatch.setattr("benchmark.latency.console.width", 200)
    out = tmp_path / "latency.csv"
    arguments = [FILTERS.id, "--results", str(store.path), "--repeats", "3", "--batch", "8", "--device", "cpu"]
    assert cli.main(app, [*arguments, "--out", str(out)]) == 0
    heading, titles, *lines = capsys.readouterr().out.splitlines()
    assert re.search(r"user_networks:convolutional on digits, fp32, .*1 thread,.*\(quartiles\) of 3 turns", heading)
    assert re.search(r"batch 1: ms +x dense +batch 8: ms +x dense +MB +file, kB +mJ", titles)
    expected = [("torch", name) for name in (*FORMS, "csr")] + [("onnxruntime", name) for name in FORMS]
    assert [tuple(line.split()[:2]) for line in lines] == expected
    measured = rf"{POINTS} +x {POINTS} +{POINTS} +x {POINTS} +-?\d+\.\d +(\d+\.\d)"
    sizes = [float(match[1]) for line in lines if (match := re.search(measured, line))]
    assert sizes[2] < sizes[1] == sizes[0], "zeros take as much"
    assert re.search(rf"csr +{measured}.* 1 of 3 layers", lines[3])
    if missing:
        assert all(re.search(r"( +-){7} +onnx is not installed", line) for line in lines[4:])
    else:
        assert sizes[-1] < sizes[-2]
    rows = list(csv.DictReader(out.open()))
    assert [(row["runtime"], row["form"]) for row in rows] == 2 * expected
    assert [row["batch"] for row in rows] == ["1"] * 7 + ["8"] * 7
    assert float(rows[0]["milliseconds_low"]) <= float(rows[0]["milliseconds"]) <= float(rows[0]["milliseconds_high"])


ROW = LatencyRow("cell", "torch", "masked", 1, (1.0, 2.0, 3.0), (0.9, 0.97, 1.2), 1.5, 2000, None, "")


def test_a_slowdown_is_shown_as_plainly_as_a_gain(capsys):
    from rich.console import Console

    Console(width=200).print(latency.table([ROW]))
    line = capsys.readouterr().out.splitlines()[1]
    assert "2.000 (1.000 to 3.000)  x 0.97 (0.90 to 1.20)  1.5       2.0   -" in line


def test_the_numbers_are_there_as_json_and_csv():
    (values,) = json.loads(latency.to_json([ROW]))
    assert (values["gain"], values["energy_mj"]) == ([0.9, 0.97, 1.2], None)
    (line,) = csv.DictReader(io.StringIO(latency.to_csv([ROW])))
    assert (line["gain_low"], line["gain"], line["gain_high"], line["energy_mj"]) == ("0.9", "0.97", "1.2", "")


def test_every_turn_makes_all_calls_back_and_forth_each_after_one_that_does_not_count():
    made: list[str] = []
    times = by_turns({name: lambda name=name: made.append(name) for name in "ab"}, torch.device("cpu"), repeats=2)
    assert "".join(made) == "bbaa" + "aabb" + "bbaa"
    assert [len(values) for values in times.values()] == [2, 2]


def test_energy_is_that_of_the_counters_where_they_can_be_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmark.measure.energy.SECONDS", 0.0005)
    assert joules({"a": int}, tmp_path) is None
    counter = tmp_path / "intel-rapl:0"
    counter.mkdir()
    (counter / "name").write_text("package-0\n")
    machine = tmp_path / "intel-rapl:1"
    machine.mkdir()
    for name, text in (("name", "psys\n"), ("energy_uj", "5"), ("max_energy_range_uj", "10")):
        (machine / name).write_text(text)
    (counter / "max_energy_range_uj").write_text("1000000")
    (counter / "energy_uj").write_text("999000")

    def spend() -> None:  # 2000 microjoules, across the end of the counter's range
        value = int((counter / "energy_uj").read_text())
        (counter / "energy_uj").write_text(str((value + 2000) % 1000000))

    assert joules({"a": spend}, tmp_path) == {"a": pytest.approx(0.002)}
    (counter / "energy_uj").unlink()
    assert joules({"a": int}, tmp_path) is None


def test_sparse_rows_compute_the_same():
    network = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        network[0].weight[:, ::3] = 0
    converted, remark = sparse_rows(network)
    inputs = torch.randn(3, 16)
    assert remark == "1 of 2 layers"
    assert converted[0].weight.layout == torch.sparse_csr
    assert torch.allclose(converted(inputs), network(inputs), atol=1e-6)


def test_layers_without_the_zeros_that_kernels_need_are_a_word():
    with pytest.raises(NotHere, match="no linear layer has zeros"):
        sparse_rows(nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-of-the-sort"], ["CELL nothing-of-the-sort"]),
        (["dense", "--out", "x.txt"], ["--out x.txt", ".csv or .json"]),
        (["dense", "--device", "tpu"], ["--device tpu"]),
        (["dense", "--batch", "0"], ["--batch"]),
    ],
)
def test_mistakes_cost_a_line(store: Store, capsys, arguments: list[str], words: list[str]):
    assert cli.main(app, [*arguments, "--results", str(store.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line
