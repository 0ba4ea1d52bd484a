"""A dense network of one's own instead of a trained one (--weights)."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark import cli
from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.results.store import Store
from benchmark.sweep import app
from benchmark.training import given
from benchmark.training.options import RunOptions
from benchmark.worker import Worker

RECIPE = {"epochs": 12, "milestones": [4, 8, 10], "warmup_epochs": 1}
PROBLEM, _ = load_problem("digits", RECIPE)
ONE_CELL = ("table1", "--problem", "digits", "--seeds", "1", "--only", "schedule=ALLR,sparsity=0.7,budget=11.11%")
SETTINGS = ("--set", "epochs=12", "--set", "milestones=[4,8,10]", "--set", "warmup_epochs=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict]:
    """State and record of a dense network."""
    store = Store(tmp_path_factory.mktemp("dense"))
    dense = Cell.dense(PROBLEM, 0)
    worker = Worker(store, RunOptions("cpu", 1))
    worker.run(dense)
    return worker._read_parent(dense).weights, store.read(dense.id)


def sweep(results: Path, *more: str) -> int:
    arguments = (*ONE_CELL, *SETTINGS, "--tracking", "off", "--workers", "1", "--results", str(results), *more)
    return cli.main(app, arguments)


def records(results: Path) -> list[dict]:
    store = Store(results)
    return sorted((store.read(name) for name in store.ids()), key=lambda record: record["cell"]["method"] != "dense")


@pytest.mark.parametrize("form", ["state.pt", "weights.safetensors", "script.pth", "parallel.pt"])
def test_weights_stand_for_the_dense_run_whatever_file_they_are_in(trained, form: str, tmp_path: Path):
    state, of_dense = trained
    file = tmp_path / form
    if form == "weights.safetensors":
        save_file(state, file)
    else:
        inside = {"script.pth": {"epoch": 3, "state_dict": state}, "state.pt": state}
        torch.save(inside.get(form, {f"module.{name}": tensor for name, tensor in state.items()}), file)
    assert sweep(tmp_path / "runs", "--weights", str(file)) == 0
    dense, cell = records(tmp_path / "runs")
    assert dense["accuracy"]["final"] == of_dense["accuracy"]["final"]
    assert dense["iterations"]["total"] == 0
    assert dense["cell"]["problem"]["weights"] == hash_of(tmp_path)
    assert cell["accuracy"]["dense"] == of_dense["accuracy"]["final"]
    assert cell["parent"]["id"] == dense["id"] != of_dense["id"]


def test_files_of_other_programs_and_names_are_read_by_their_content(trained, tmp_path: Path):
    """Options of a training script beside the weights, no counters of batches, and a suffix that says nothing."""
    state, _ = trained
    plain = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({"args": argparse.Namespace(lr=0.1), "model": plain}, tmp_path / "script.pth")
    save_file(state, tmp_path / "weights.bin")
    for name in ("script.pth", "weights.bin"):
        raw, _ = given.content(tmp_path / name)
        network = models.build(PROBLEM, 1)
        given.fit(network, given._decode(raw, name), name)
        assert all(torch.equal(network.state_dict()[key], value) for key, value in plain.items())


def test_values_that_are_too_large_for_the_network_are_refused(trained):
    state, _ = trained
    with pytest.raises(UserError, match=r"fc\.weight has values that are not finite in torch\.float32"):
        given.fit(models.build(PROBLEM, 1), {**state, "fc.weight": state["fc.weight"].double() * 1e200}, "--weights x")


def hash_of(folder: Path) -> str:
    (copy,) = (folder / "runs" / "given").iterdir()
    assert hashlib.sha256(copy.read_bytes()).hexdigest().startswith(copy.stem)
    return copy.stem


def _with(state: dict[str, torch.Tensor], **changes) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: _with(state, **{"fc.bias": torch.zeros(3)}),
            "tensor fc.bias has shape (3,), in the network (10,)",
        ),
        (lambda state: _with(state, **{"fc.bias": None}), "tensor fc.bias of shape (10,) is missing"),
        (lambda state: _with(state, **{"fc.bias": None, "b": torch.zeros(10)}), "the network needs it, and has no b"),
        (lambda state: _with(state, extra=torch.zeros(1)), "tensor extra is not in the network (1 such tensors)"),
        (
            lambda state: _with(state, **{"fc.bias": torch.full((10,), torch.nan)}),
            "tensor fc.bias has values that are not finite",
        ),
        (lambda state: _with(state, **{"fc.bias": torch.zeros(10).to_sparse()}), "tensor fc.bias is sparse, quantized"),
        (lambda state: _with(state, **{"fc.bias": torch.zeros(10).long()}), "tensor fc.bias is of torch.int64, in the"),
        (lambda state: _with(state, **{"fc.bias": torch.zeros(10) * 1j}), "tensor fc.bias is of torch.complex64, in"),
        (lambda state: {3: torch.zeros(3)}, "it holds no tensors by name"),
        (lambda state: {"epoch": 3}, "it holds no tensors by name"),
        (lambda state: [1, 2], "it holds no tensors by name"),
        (lambda state: models.build(PROBLEM, 0), "cannot be read as weights (UnpicklingError)"),
        (None, "cannot be read as weights"),
    ],
)
def test_weights_that_do_not_fit_are_one_line_and_nothing_is_written(trained, change, words, tmp_path: Path, capsys):
    file = tmp_path / "w.pt"
    if change is None:
        file.write_bytes(b"no weights")
    else:
        torch.save(change(trained[0]), file)
    assert sweep(tmp_path / "runs", "--weights", str(file)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --weights {file}: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_results_folder_has_a_copy_of_the_weights(trained, tmp_path: Path):
    file = tmp_path / "w.pt"
    torch.save(trained[0], file)
    raw, name = given.content(file)
    problem = PROBLEM.model_copy(update={"weights": name})
    given.keep(raw, file, problem, tmp_path / "given")
    file.unlink()
    network = models.build(problem, 5)
    given.load(network, problem, tmp_path / "given")
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in trained[0].items())
    (tmp_path / "given" / f"{name}.pt").write_bytes(raw[:-1])
    with pytest.raises(UserError, match="its content is not that of its name"):
        given.load(network, problem, tmp_path / "given")


def test_a_plan_with_weights_trains_no_dense_network_and_writes_nothing(trained, tmp_path: Path, capsys):
    file = tmp_path / "w.pt"
    torch.save(trained[0], file)
    assert sweep(tmp_path / "runs", "--weights", str(file), "--dry-run") == 0
    assert not (tmp_path / "runs" / "given").exists()


def test_weights_that_are_not_in_the_results_folder_are_asked_for(tmp_path: Path, capsys):
    assert sweep(tmp_path / "runs", "--set", "weights=0123456789ab") == 2
    assert "weights 0123456789ab are not in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["ResNet50_Weights.IMAGENET", "ResNet50_Weight.DEFAULT", "ResNet50_Weights", "nothing"]
)
def test_weights_that_torchvision_does_not_have_are_refused_in_a_line(name: str):
    with pytest.raises(UserError, match="torchvision has no such weights; accepted: such as") as caught:
        given.find(f"torchvision:{name}")
    assert "\n" not in str(caught.value)
