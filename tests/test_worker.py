"""What a worker keeps from one cell to the next changes no record, and is not trusted when its files change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark.cells import Budget, Cell
from benchmark.planning.grid import load_problem
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.tasks import make_task
from benchmark.training import checkpoint
from benchmark.training.loop import Run
from benchmark.training.options import RunOptions
from benchmark.training.progress import Progress
from benchmark.training.session import Interrupted
from benchmark.worker import ParentMissing, Worker
from tests.conftest import ROOT

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {"epochs": 2, "milestones": [], "warmup_epochs": 0, "width": 4})
DENSE = Cell.dense(PROBLEM, 0)
CELLS = [Cell(PROBLEM, "IMP", 0, schedule, 0.8, Budget.parse("1ep")) for schedule in ("FT", "LLR", "CLR")]


@pytest.fixture
def trained(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    Worker(store, RunOptions("cpu", 1)).run(DENSE)
    return store


def test_a_worker_loads_no_compiler(tmp_path: Path):
    """It would cost every worker over a second."""
    code = f"""
import sys
import tests.test_worker as here
for precision in ("fp32", "bf16", "fp16"):
    problem = here.PROBLEM.model_copy(update={{"precision": precision, "width": 2}})
    here.Worker(here.Store({str(tmp_path)!r}), here.RunOptions("cpu", 1)).run(here.Cell.dense(problem, 0))
    assert "torch._dynamo" not in sys.modules, precision
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path).ids()) == 3


def test_cells_of_one_worker_have_the_records_of_workers_of_their_own(trained: Store, monkeypatch):
    reads = []
    original = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *a, **k: reads.append(a) or original(*a, **k))
    worker = Worker(trained, RunOptions("cpu", 1))
    for cell in CELLS:
        assert worker.run(cell) == "done"
    assert len(reads) == 1, "the dense weights were read again for every cell"
    together = [trained.read(cell.id) for cell in CELLS]
    for cell, record in zip(CELLS, together, strict=True):
        trained.record_path(cell.id).unlink()
        assert Worker(trained, RunOptions("cpu", 1)).run(cell) == "done"
        assert result(trained.read(cell.id)) == result(record)
    assert len({record["parameters_sha256"] for record in together}) == len(CELLS)


def test_compiled_cells_of_one_worker_train_one_network_in_place(trained: Store, monkeypatch):
    """CUDA graphs know weights by their addresses. Nothing is compiled here."""
    monkeypatch.setattr("benchmark.training.step.compiled", lambda network, problem: network)
    problem = PROBLEM.model_copy(update={"compile": "reduce-overhead"})
    cells = [Cell.dense(problem, 0), *(Cell(problem, c.method, 0, c.schedule, c.sparsity, c.budget) for c in CELLS)]
    addresses, original = set(), Run.execute

    def execute(run: Run) -> Progress:
        addresses.add(tuple(weight.data_ptr() for weight in run.network.parameters()))
        return original(run)

    monkeypatch.setattr(Run, "execute", execute)
    worker = Worker(trained, RunOptions("cpu", 1))
    assert [worker.run(cell) for cell in cells] == ["done"] * len(cells)
    assert len(addresses) == 1
    for cell in cells:
        record = trained.read(cell.id)
        trained.record_path(cell.id).unlink()
        assert Worker(trained, RunOptions("cpu", 1)).run(cell) == "done"
        assert result(trained.read(cell.id)) == result(record)


def test_dense_weights_that_change_on_disk_are_read_and_checked_again(trained: Store):
    worker = Worker(trained, RunOptions("cpu", 1))
    worker.run(CELLS[0])
    path = trained.weights_path(DENSE.id, trained.read(DENSE.id)["weights_sha256"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ParentMissing, match="cannot be used"):
        worker.run(CELLS[1])
    trained.record_path(DENSE.id).unlink()
    with pytest.raises(ParentMissing, match="no usable record of the dense run"):
        worker.run(CELLS[2])


def test_seconds_are_those_of_all_attempts(trained: Store):
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        Worker(trained, RunOptions("cpu", 1)).run(CELLS[1], should_stop=lambda: next(asked) == 12)
    Worker(trained, RunOptions("cpu", 1)).run(CELLS[0])
    Worker(trained, RunOptions("cpu", 1)).run(CELLS[1])
    whole, parts = (trained.read(cell.id)["seconds"] for cell in CELLS[:2])
    assert "earlier" not in whole
    earlier = parts["earlier"]
    assert 0 < earlier["training"] < parts["training"] < parts["total"]
    assert earlier["training"] < earlier["total"] < parts["total"]


def test_a_checkpoint_of_another_dense_network_is_refused_and_the_cell_starts_again(trained: Store):
    """As after --repair on a machine that does not repeat its sums: the record must not name a parent it never had."""
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        Worker(trained, RunOptions("cpu", 1)).run(CELLS[0], should_stop=lambda: next(asked) == 12)
    record = trained.read(DENSE.id)
    weights, _ = checkpoint.load(trained.weights_path(DENSE.id, record["weights_sha256"]), DENSE.id)
    other = {name: tensor * 0.9 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    content, record["weights_sha256"] = checkpoint.encode(DENSE.id, other)
    trained.weights_path(DENSE.id, record["weights_sha256"]).write_bytes(content)
    trained.record_path(DENSE.id).unlink()
    trained.commit(record)
    Worker(trained, RunOptions("cpu", 1)).run(CELLS[0])
    found = trained.read(CELLS[0].id)
    assert found["provenance"]["refused_checkpoints"] == [
        "the dense network changed since the checkpoint was written; starting again"
    ]
    trained.record_path(CELLS[0].id).unlink()
    Worker(trained, RunOptions("cpu", 1)).run(CELLS[0])
    assert result(trained.read(CELLS[0].id)) == result(found)


@pytest.mark.parametrize(
    ("classes", "accuracy", "status"),
    [
        *((2, 0.74, "ok"), (2, 0.56, "ok"), (2, 0.54, "collapsed"), (3, 0.45, "ok"), (3, 0.38, "collapsed")),
        *(
            (10, 0.16, "ok"),
            (10, 0.15, "collapsed"),
            (100, 0.016, "ok"),
            (1000, 0.002, "ok"),
            (1000, 0.001, "collapsed"),
        ),
    ],
)
def test_a_run_is_taken_for_collapsed_near_chance_whatever_the_number_of_classes(classes, accuracy, status):
    balanced = SimpleNamespace(target_counts=lambda: torch.full((classes,), 7))
    task = make_task(PROBLEM.model_copy(update={"classes": classes}))
    assert task.is_chance(accuracy, balanced) == (status == "collapsed")
