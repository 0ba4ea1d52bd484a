"""Networks to take away: files that load without the suite, kept weights, and cells that are trained again for them."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from benchmark import cli
from benchmark.cells import Budget, Cell
from benchmark.checkpoint import app
from benchmark.errors import UserError
from benchmark.launch.launcher import Options, build
from benchmark.launch.slurm.launcher import Slurm
from benchmark.methods import check_hyperparameters
from benchmark.planning.grid import load_problem
from benchmark.problems.sources import open_source
from benchmark.results.records import encode
from benchmark.results.store import Store
from benchmark.trained import Trained
from benchmark.training.options import RunOptions
from benchmark.worker import Worker
from tests import user_networks
from tests.conftest import ROOT

torch.set_num_threads(1)
RECIPE = {"epochs": 3, "milestones": [2], "warmup_epochs": 0, "model": "tests.user_networks:convolutional"}
PROBLEM, _ = load_problem("digits", RECIPE)
DENSE = Cell.dense(PROBLEM, 0)
WEIGHTS = Cell(PROBLEM, "IMP", 0, "LLR", 0.8, Budget.parse("1ep"))
FILTERS = Cell(
    PROBLEM, "IMP", 0, "LLR", 0.5, Budget.parse("1ep"), check_hyperparameters("IMP", {"criterion": "filters"})
)
SUFFIX = {"safetensors": "safetensors", "torch": "pt2", "onnx": "onnx"}


def trained(folder: Path, *cells: Cell, keep: str = "nothing") -> Store:
    worker = Worker(Store(folder), RunOptions("cpu", 1, keep=keep))
    for cell in cells:
        assert worker.run(cell) == "done"
    return worker.store


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trained(tmp_path_factory.mktemp("keeping"), DENSE, WEIGHTS, FILTERS, keep="weights")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trained(tmp_path_factory.mktemp("plain"), DENSE, WEIGHTS)


def checkpoint(store: Store, text: str, *more: str) -> int:
    return cli.main(app, [text, "--results", str(store.path), *more])


def written(store: Store, cell: Cell, folder: Path, format_: str, *more: str) -> Path:
    file = folder / f"cell.{SUFFIX[format_]}"
    assert checkpoint(store, cell.id, "--format", format_, "--out", str(file), *more) == 0
    return file


@pytest.fixture(scope="module")
def files(keeping: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one cell in all formats."""
    folder = tmp_path_factory.mktemp("files")
    for format_ in SUFFIX:
        written(keeping, WEIGHTS, folder, format_)
    return folder


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


# Files that load without the suite


@dataclass(frozen=True)
class Page:
    """Python blocks of docs/checkpoints.md: of each format, and the one that makes images."""

    torch: str
    safetensors: str
    onnx: str
    images: str

    @classmethod
    def read(cls) -> Page:
        return cls(*re.findall(r"```python\n(.*?)```", (ROOT / "docs/checkpoints.md").read_text(), re.S))


def loaded_as_the_page_says(folder: Path) -> dict[str, float]:
    """Test accuracies and differences of logits of the files in a folder, by a process that does not have the suite."""
    test = open_source(PROBLEM, None).test
    np.save(folder / "pixels.npy", test.images.transpose(0, 3, 1, 2))
    np.save(folder / "labels.npy", test.labels)
    page = Page.read()
    script = f"""
import sys, json, types
import numpy, torch
from torch import nn
{inspect.getsource(user_networks.convolutional)}
build = lambda: convolutional(types.SimpleNamespace(channels=1, classes=10))
pixels, labels = (torch.from_numpy(numpy.load(name + ".npy")) for name in ("pixels", "labels"))
correct = lambda logits: (logits.argmax(1) == labels).sum().item() / len(labels)
torch.set_grad_enabled(False)
{page.images}
{page.torch}
accuracies = {{"torch": correct(logits)}}
{page.safetensors}
accuracies["safetensors"] = correct(network(images))
{page.onnx}
accuracies["onnx"] = correct(torch.from_numpy(outputs))
accuracies["apart"] = (torch.from_numpy(outputs) - logits).abs().max().item()
accuracies["recorded"] = json.loads(texts["record"])["accuracy"]["final"]["test"]
assert "benchmark" not in sys.modules
print(json.dumps(accuracies))
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_s_lines_load_each_format_with_exactly_the_accuracy_of_the_record(keeping: Store, files: Path):
    accuracies = loaded_as_the_page_says(files)
    assert accuracies.pop("apart") < 1e-5
    expected = keeping.read(WEIGHTS.id)["accuracy"]["final"]["test"]
    assert expected > 0.2, "it has learned nothing"
    assert accuracies == dict.fromkeys(("torch", "safetensors", "onnx", "recorded"), expected)


def test_every_format_has_the_record_inside(keeping: Store, files: Path):
    import onnxruntime

    record = keeping.read(WEIGHTS.id)
    with safe_open(files / "cell.safetensors", "pt") as file:
        assert json.loads(file.metadata()["record"]) == record
    session = onnxruntime.InferenceSession(files / "cell.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["record"]) == record


def test_pruned_weights_are_zero_in_the_file(keeping: Store, files: Path):
    tensors = load_file(files / "cell.safetensors")
    layers = keeping.read(WEIGHTS.id)["sparsity"]["layers"]
    assert {name: int((tensors[name] == 0).sum()) for name in layers} == {n: v["zeros"] for n, v in layers.items()}


def test_a_dense_network_can_be_taken_away_as_well(plain: Store, tmp_path: Path, capsys):
    written(plain, DENSE, tmp_path, "safetensors")
    assert capsys.readouterr().err == ""


# Compact


def test_compact_files_have_smaller_tensors_and_the_same_outputs(keeping: Store, tmp_path: Path):
    import onnxruntime

    whole = torch.export.load(written(keeping, FILTERS, tmp_path, "torch")).module()
    shape = load_file(written(keeping, FILTERS, tmp_path, "safetensors"))["0.weight"].shape
    compact = torch.export.load(written(keeping, FILTERS, tmp_path, "torch", "--compact")).module()
    smaller = load_file(written(keeping, FILTERS, tmp_path, "safetensors", "--compact"))
    assert shape == (8, 1, 3, 3)
    assert {name: tuple(smaller[name].shape) for name in ("0.weight", "1.weight", "3.weight", "7.weight")} == {
        "0.weight": (4, 1, 3, 3),
        "1.weight": (4,),
        "3.weight": (6, 4, 3, 3),
        "7.weight": (10, 24),
    }
    onnx = written(keeping, FILTERS, tmp_path, "onnx", "--compact")
    images = torch.randn(5, 1, 8, 8)
    outputs = whole(images)
    assert torch.allclose(compact(images), outputs, atol=1e-5)
    session = onnxruntime.InferenceSession(onnx)
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.abs(found - outputs.detach().numpy()).max() < 1e-5


def test_compact_is_refused_for_single_weights(keeping: Store, tmp_path: Path, capsys):
    out = tmp_path / "x"
    assert checkpoint(keeping, WEIGHTS.id, "--compact", "--out", str(out)) == 2
    assert "--compact" in line_of(capsys)
    assert not out.exists()


# Weights that are kept, and cells that are trained again


def test_kept_weights_are_those_that_training_again_gives_and_change_no_record(
    keeping: Store, plain: Store, tmp_path: Path, capsys
):
    assert [path.suffix for path in plain.path.glob("weights/*/*")] == [".pt"], "weights that nobody asked for"
    kept = load_file(written(keeping, WEIGHTS, tmp_path, "safetensors"))
    assert capsys.readouterr().err == ""
    again = load_file(written(plain, WEIGHTS, tmp_path, "safetensors"))
    first, second = capsys.readouterr().err.splitlines()
    assert re.search(r"training it again, about \d+\.\d s", first)
    assert re.search(r"trained in \d+\.\d s", second)
    assert kept.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in kept.items())
    ids = [keeping.read(WEIGHTS.id)[key] for key in ("id", "parameters_sha256")]
    assert ids == [plain.read(WEIGHTS.id)[key] for key in ("id", "parameters_sha256")]


def test_a_record_of_another_version_is_named(keeping: Store, tmp_path: Path, capsys):
    (name, *_) = keeping.ids()
    record = keeping.read(name)
    record["cell"]["problem"]["newfield"] = 5
    path = Store(tmp_path).record_path(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(encode(record))
    assert cli.main(app, [name, "--out", str(tmp_path / "x.safetensors"), "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} was written by another version of this suite (")


def test_damaged_weights_are_not_taken_for_those_of_the_record(keeping: Store, tmp_path: Path, capsys):
    shutil.copytree(keeping.path, tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    path = copy.kept_path(copy.read(WEIGHTS.id))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    written(copy, WEIGHTS, tmp_path, "safetensors")
    assert "training it again" in capsys.readouterr().err


def test_a_machine_that_trains_to_another_result_says_so_and_writes_nothing(plain: Store, tmp_path: Path, capsys):
    shutil.copytree(plain.path, tmp_path / "copy")
    copy, out = Store(tmp_path / "copy"), tmp_path / "x"
    record = copy.read(WEIGHTS.id)
    record["parameters_sha256"] = "0" * 12
    record["accuracy"]["final"]["test"] = 0.5
    copy.record_path(WEIGHTS.id).unlink()
    copy.commit(record)
    assert checkpoint(copy, WEIGHTS.id, "--out", str(out)) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert re.search(r"other weights.*test accuracy of \d+\.\d %.*record says 50.0 %", line)
    assert not out.exists()


def test_a_cell_whose_dense_network_is_gone_is_refused_in_a_line(plain: Store, tmp_path: Path, capsys):
    shutil.copytree(plain.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "weights")
    assert checkpoint(Store(tmp_path / "copy"), WEIGHTS.id, "--out", str(tmp_path / "x")) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert DENSE.id in line


@pytest.mark.parametrize(("keep", "settings"), [("weights", {}), ("nothing", {"keep": "weights"})])
def test_slurm_s_tasks_are_asked_to_keep_weights(keep: str, settings: dict[str, str]):
    launcher = build("slurm", Options(keep=keep, settings=settings))
    assert isinstance(launcher, Slurm)
    assert launcher.profile.keep == "weights"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["IMP"], ["CELL IMP", "2 cells", WEIGHTS.id]),
        (["nothing-of-the-sort"], ["CELL nothing-of-the-sort", "none of the 3 finished cells"]),
        ([DENSE.id, "--format", "pickle"], ["--format pickle", "safetensors, torch, onnx"]),
        ([DENSE.id, "--out", "/nowhere/x"], ["--out /nowhere/x", "/nowhere is not there"]),
        ([DENSE.id, "--out", "/"], ["--out /", "a folder"]),
        ([DENSE.id, "--out", "x.onnx"], ["--out x.onnx", "a file of --format onnx, not of safetensors"]),
        ([DENSE.id, "--results", "/nowhere"], ["--results /nowhere", "no such folder"]),
    ],
)
def test_mistakes_cost_a_line(keeping: Store, tmp_path: Path, capsys, arguments: list[str], words: list[str]):
    text, *more = arguments
    assert checkpoint(keeping, text, "--out", str(tmp_path / "x"), *more) == 2
    line = line_of(capsys)
    for word in words:
        assert word in line
    assert not list(tmp_path.iterdir())


def test_without_onnx_s_packages_the_format_is_refused(keeping: Store, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("benchmark.training.formats.find_spec", lambda name: None)
    assert checkpoint(keeping, DENSE.id, "--format", "onnx", "--out", str(tmp_path / "x")) == 2
    assert "pip install" in line_of(capsys)


def test_a_network_that_cannot_be_exported_is_refused(keeping: Store, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("torch.export.export", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("data-dependent\nx")))
    assert checkpoint(keeping, DENSE.id, "--format", "torch", "--out", str(tmp_path / "x")) == 2
    assert "data-dependent x" in line_of(capsys)


def test_a_network_that_only_a_gpu_can_train_can_be_taken_away_anywhere(keeping: Store):
    problem = WEIGHTS.problem.model_copy(update={"precision": "tf32"})
    taken = Trained(replace(WEIGHTS, problem=problem), keeping.read(WEIGHTS.id), nn.Identity(), None, keeping.given)
    assert taken.example(2)[0].shape == (2, 1, 8, 8)
    changed = {"provenance": {"data": "other"}}
    with pytest.raises(UserError, match="it was trained on data other, and here are"):
        _ = replace(taken, record=changed).data
