"""Code from outside the suite is known by its source: an edit is said, and what it left behind is not gone on with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import cli, sweep
from benchmark.cells import Budget, Cell
from benchmark.planning.finished import FinishedCells
from benchmark.planning.grid import load_problem
from benchmark.results import outside
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted
from benchmark.worker import Worker
from tests.commands import ROOT

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {"epochs": 2, "milestones": [1], "warmup_epochs": 0, "width": 4})
MINE = """
import numpy as np
from shape import power

def root(retraining):
    n = retraining.iterations
    return retraining.eta_max * (1 - np.arange(n) / n) ** power
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "shape.py").write_text("power = 0.5\n")
    (tmp_path / "stranger.py").write_text("raise SystemExit('nobody imports this')\n")
    for name in ("mine", "shape"):  # of another test
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    outside.source_hash.cache_clear()
    yield tmp_path
    outside.source_hash.cache_clear()
    for name in ("mine", "shape"):
        sys.modules.pop(name, None)


def cell(schedule: str = "mine:root") -> Cell:
    return Cell(PROBLEM, "IMP", 0, schedule, 0.8, Budget.parse("1ep"))


def edit(path: Path, text: str) -> None:
    path.write_text(text)
    outside.source_hash.cache_clear()  # as a new command begins


def train(store: Store, of: Cell) -> None:
    worker = Worker(store, RunOptions("cpu", 1))
    worker.run(Cell.dense(PROBLEM, 0))
    assert worker.run(of) == "done"


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def shape(problem):\n    name = 1", True),
        ("name = 1", False),
        ("from shape import power as name", False),
        ("try:\n    import numpy as name\nexcept ImportError:\n    name = None", False),
        ("from shape import *", False),
        ("def __getattr__(name):\n    return 1", False),
        ("globals()['na' + 'me'] = 1", False),
        ("vars()['na' + 'me'] = 1", False),
        ("[name := one for one in (1,)]", False),
    ],
)
@pytest.mark.parametrize("field", ["model", "task", "dataset"])
def test_a_dry_run_knows_of_a_name_that_the_module_lacks_without_importing_it(
    folder: Path, capsys, field: str, source: str, missing: bool
):
    (folder / "names.py").write_text(f"{source}\nraise SystemExit('not to be imported')\n")
    command = ["table1", "--set", f"{field}=names:name", "--seeds", "1", "--dry-run", "--results", str(folder / "runs")]
    assert cli.main(sweep.app, command) == (2 if missing else 0)
    error = f"error: problem digits: {field} 'names:name': module 'names' has no 'name'\n"
    assert capsys.readouterr().err == (error if missing else "")


@pytest.mark.parametrize("field", ["model", "task", "dataset"])
def test_a_dry_run_knows_of_a_module_that_is_no_python(folder: Path, capsys, field: str):
    (folder / "names.py").write_text("def name(:\n")
    command = ["table1", "--set", f"{field}=names:name", "--dry-run", "--results", str(folder / "runs")]
    assert cli.main(sweep.app, command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: problem digits: {field} 'names:name': cannot import 'names' (SyntaxError: ")


def test_an_edit_is_said_by_the_plan_also_of_what_the_module_imports_beside_it(folder: Path):
    store = Store(folder / "runs")
    train(store, cell())
    assert FinishedCells([cell()], store).edited() == []
    edit(folder / "stranger.py", "x = 1\n")
    assert FinishedCells([cell()], store).edited() == []
    edit(folder / "shape.py", "power = 2\n")
    (line,) = FinishedCells([cell(), cell("LLR")], store).edited()
    assert line.startswith("mine.py changed since 1 of these cells and dense runs were trained")
    edit(folder / "shape.py", "power = 0.5\n")
    assert FinishedCells([cell()], store).edited() == []


def test_a_record_names_its_code_from_outside_and_others_do_not(folder: Path):
    store = Store(folder / "runs")
    train(store, cell())
    train(store, cell("LLR"))
    own = store.read(cell().id)["provenance"]
    assert list(own["outside"]) == ["mine"]
    assert "outside" not in store.read(cell("LLR").id)["provenance"]


def test_a_checkpoint_is_not_gone_on_with_after_an_edit(folder: Path):
    store, asked = Store(folder / "runs"), iter(range(10**6))
    worker = Worker(store, RunOptions("cpu", 1))
    worker.run(Cell.dense(PROBLEM, 0))
    with pytest.raises(Interrupted):
        worker.run(cell(), should_stop=lambda: next(asked) == 9)
    edit(folder / "shape.py", "power = 2\n")
    worker.run(cell())
    (refused,) = store.read(cell().id)["provenance"]["refused_checkpoints"]
    assert "other code" in refused


@pytest.mark.parametrize(
    "name", ["nowhere:function", "FT", "a word: of text", "colorsys:rgb_to_hls", "benchmark.cells:Cell"]
)
def test_what_is_no_file_of_somebody_else_s_has_no_hash_or_one_that_stays(name: str):
    first = outside.sources(cell(name))
    outside.source_hash.cache_clear()
    assert outside.sources(cell(name)) == first
    assert not first or name == "colorsys:rgb_to_hls"


def test_a_module_that_cannot_be_parsed_or_imports_itself_has_a_hash(folder: Path):
    (folder / "mine.py").write_text("import mine\nthis is no Python\n")
    assert outside.source_hash("mine")


def test_an_edit_of_the_same_size_and_time_is_trained_and_not_the_bytecode_of_what_was_there(folder: Path):
    """As after cp -p, tar, or two edits within a second."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); from benchmark.imports import load; "
    program += "print(load('mine:power', 'schedule'))"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    printed = []
    for power in ("0.5", "2.5"):
        (folder / "shape.py").write_text(f"power = {power}\n")
        os.utime(folder / "shape.py", (1e9, 1e9))
        command = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
        printed.append(done.stdout.strip())
    assert printed == ["0.5", "2.5"]


def test_what_importing_a_package_runs_is_part_of_the_source(folder: Path):
    (folder / "helpers").mkdir()
    (folder / "helpers" / "rates.py").write_text("x = 1\n")
    (folder / "helpers" / "__init__.py").write_text("V = 1.0\n")
    (folder / "mine.py").write_text("import helpers.rates\n")
    before = [outside.source_hash(name) for name in ("mine", "helpers.rates")]
    edit(folder / "helpers" / "__init__.py", "V = 0.1\n")
    after = [outside.source_hash(name) for name in ("mine", "helpers.rates")]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_a_module_that_ends_the_process_ends_in_one_line(folder: Path, capsys):
    (folder / "mine.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "s.yaml").write_text((ROOT / "sweeps" / "table1.yaml").read_text().replace("FT, LRW", "'mine:f', LRW"))
    for arguments in ([str(folder / "s.yaml")], ["table1", "--executor", "mine:A"]):
        assert cli.main(sweep.app, [*arguments, "--dry-run", "--results", str(folder / "r")]) == 2
        assert "cannot import 'mine'" in capsys.readouterr().err


def test_a_launcher_that_lacks_a_method_is_refused_in_one_line(tmp_path: Path, capsys):
    executor = ["--executor", "benchmark.launch.launcher:Launcher"]
    assert cli.main(sweep.app, ["table1", *executor, "--dry-run", "--results", str(tmp_path)]) == 2
    assert "class 'Launcher' lacks cancel, submit" in capsys.readouterr().err
