"""What an accelerator would notice, without one: tensors on torch's meta device, and reads of tensors counted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark import cli, sweep
from benchmark.errors import UserError
from benchmark.launch import serving
from benchmark.measure.loops import retraining_run
from benchmark.problems import models
from benchmark.problems.augment import Windows
from benchmark.problems.data import Data
from benchmark.training import checkpoint, evaluation, precision
from benchmark.training.evaluation import evaluate, recalibrate
from tests.conftest import ROOT
from tests.fake_gpu import Waits, on_a_gpu
from tests.method_runs import PROBLEM, SCRATCH, data_with, make_run


def test_a_checkpoint_that_is_loaded_onto_another_device_keeps_the_rates_on_the_host(tmp_path):
    """Every tensor in it lands on the device, and Apple's GPUs take none of float64: rates are lists, as in records."""
    run = make_run("DNW")
    run.rates = run.method.begin(0)
    run.progress.rates.append(run.rates.tolist())
    state = run.state()
    assert not [tensor for tensor in pytree.tree_leaves(state) if getattr(tensor, "dtype", None) == torch.float64]
    content, _ = checkpoint.encode("cell", state)
    (tmp_path / "c.pt").write_bytes(content)
    loaded, _ = checkpoint.load(tmp_path / "c.pt", "cell", "meta")
    again = make_run("DNW")
    again.adopt({**state, "progress": loaded["progress"]})
    assert again.rates.tolist() == run.rates.tolist()


def test_batch_statistics_are_re_estimated_without_reading_a_counter_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """torch reads num_batches_tracked on the host where a batch norm has no momentum."""
    network, data = models.build(PROBLEM, 0), Data(PROBLEM, torch.device("cpu"))
    momenta = []
    network.bn1.register_forward_pre_hook(lambda module, inputs: momenta.append(module.momentum))
    recalibrate(network, data, 0)
    assert momenta == [1 / (k + 1) for k in range(data.iterations_per_epoch)]
    assert network.bn1.momentum == 0.1


def test_batches_are_counted_by_one_operation_for_all_norms(monkeypatch: pytest.MonkeyPatch):
    data = data_with()
    runs = [make_run("dense", data=data) for _ in range(2)]
    norms = [module for module in runs[0].network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [id(norm) for norm in runs[0].step.counters.norms] == [id(norm) for norm in norms]
    runs[1].step.counters.norms.clear()  # each counts by itself

    class Additions(TorchDispatchMode):
        """Of whole numbers to single ones."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            first = arguments[0][0] if arguments and isinstance(arguments[0], list) else arguments[:1]
            if "add_" in str(function) and getattr(first, "dtype", None) == torch.int64:
                self.seen.append(str(function))
            return function(*arguments, **(keywords or {}))

    batches = list(data.training_batches(0, 0, 0, 3))
    with Additions() as additions:
        for k, batch in enumerate(batches):
            runs[0].step(k, 0.1, *batch)
    assert additions.seen == ["aten._foreach_add_.Scalar"] * 3
    for k, batch in enumerate(batches):
        runs[1].step(k, 0.1, *batch)
    states = [run.network.state_dict() for run in runs]
    assert int(states[0]["bn1.num_batches_tracked"]) == 3
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_images_of_an_evaluation_are_copied_to_a_device_once_and_in_their_order():
    data = Data(PROBLEM, torch.device("cpu"))
    copied = data._on_device("validation")
    assert data._on_device("validation") is copied
    pixels = torch.cat([images for images, _ in data.evaluation_batches("validation")]).permute(0, 2, 3, 1)
    assert torch.equal(data.normalise(copied.to(torch.float32)), pixels)


def test_a_worker_starts_without_packages_that_its_cells_do_not_use():
    """The traceback names the one that is not spared."""
    code = """
import sys
sys.modules |= dict.fromkeys(("wandb", "submitit", "plotly", "torch_pruning", "sklearn", "pandas"))
import benchmark.worker, benchmark.methods
from benchmark.methods import METHODS, load
for name in METHODS:
    load(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["dense", "IMP", *SCRATCH])
def test_every_step_of_a_method_stays_on_the_gpu(method: str):
    """No value is read, and nothing on the processor is computed with. Where GMP prunes, it reads how much."""
    data = data_with()
    run = retraining_run(data) if method == "IMP" else make_run(method, data=data)
    for phase in range(run.method.phases if method != "IMP" else 0):
        run.rates = run.method.begin(phase)
    assert run.rates is not None
    last = range(max(len(run.rates) - 20, 0), len(run.rates))
    with on_a_gpu(run) as moved:
        images = torch.zeros(64, 1, 8, 8, device="cuda")
        labels = torch.zeros(64, dtype=torch.int64, device="cuda")
        for k in set(last) - set(getattr(run.method, "steps", ())):
            moved.step(k, 0.1, images, labels)
        loss, correct, _ = moved.step.sums.totals()
        assert loss.device.type == correct.device.type == "cuda"


def test_the_fake_gpu_notices_what_a_gpu_would():
    with on_a_gpu(make_run("DNW", data=data_with())) as moved:
        images, labels = torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64, device="cuda")
        with pytest.raises(RuntimeError, match="device"):
            moved.step(0, 0.1, images, labels)
        with pytest.raises(DataDependentOutputException):
            moved.step.sums.loss.item()


def test_batches_evaluation_and_batch_statistics_stay_on_the_gpu(monkeypatch: pytest.MonkeyPatch):
    """What is read is the digest of a state that may be known already, and in the end the sums of loss and metric."""
    monkeypatch.setattr(evaluation, "_digest", lambda *tensors: str({tensor.device.type for tensor in tensors}))
    with on_a_gpu(make_run("DNW", data=data_with())) as moved:
        data = moved.data
        assert isinstance(data, Data)
        data._windows = Windows(np.zeros((data.training_images * 2, 10, 10, 1), np.uint8), 8, torch.device("cuda"))
        for images, labels in data.training_batches(0, 0):
            assert images.device.type == labels.device.type == "cuda"
        recalibrate(moved.network, data, 0)
        data._copies["test"] = torch.zeros(100, 8, 8, 1, dtype=torch.uint8, device="cuda")
        data._evaluation = {"test": (None, range(100), torch.zeros(100, dtype=torch.int64, device="cuda"))}
        monkeypatch.setattr(evaluation, "number_of", lambda task, sums: sums[0])
        monkeypatch.setattr(evaluation, "loss_of", lambda task, sums: sums[1])
        sums = evaluate(moved.network, moved.task, data, "test")
        assert {total.device.type for total in sums} == {"cuda"}
        assert all("cpu" not in key for key in data.remembered)


def test_the_host_reads_the_device_as_often_in_a_long_epoch_as_in_a_short_one():
    seen = {}
    for size in (128, 16):
        recipe = {"epochs": 2, "milestones": [1], "warmup_epochs": 0, "recalibration_batches": 0}
        run = make_run("BIMP", data=data_with(batch_size=size, **recipe))
        with Waits() as waits:
            run.execute()
        seen[run.data.iterations_per_epoch] = len(waits.seen)
    few, many = sorted(seen)
    assert many > 5 * few
    assert seen[many] == seen[few]


TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("Found no NVIDIA driver on your system. Please check"),
            "(Found no NVIDIA driver on your system,",
        ),
        (RuntimeError(TOO_OLD), "driver on your system is too old (found version 11040),"),
        (RuntimeError("No CUDA GPUs are available"), "(No CUDA GPUs are available, CUDA_VISIBLE_DEVICES is '7')"),
        (AssertionError("Torch not compiled with CUDA enabled"), "(Torch not compiled with CUDA enabled,"),
        (RuntimeError("CUDA error: no kernel image is available\nCompile with"), "(CUDA error: no kernel image is av"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_one_line_with_the_reason(monkeypatch, error: Exception, words: str):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(precision.torch, "ones", fail)
    with pytest.raises(
        UserError, match=r"--device cuda: torch .* cannot use a GPU here .*; --device cpu works"
    ) as raised:
        precision.prepare_device(PROBLEM, torch.device("cuda"))
    assert words in str(raised.value)


def test_a_gpu_that_others_have_filled_is_tried_again(monkeypatch):
    def fail(*arguments, **named):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(precision.torch, "ones", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        precision.prepare_device(PROBLEM, torch.device("cuda"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_cell_that_fits_on_no_gpu_says_what_to_change(error: RuntimeError):
    class Full:
        def run(self, *arguments):
            raise error

    kind, cause, line, _ = serving.attempt(Full(), make_run("DNW").cell, None, None)
    assert (kind, cause) == ("failed", "out of memory")
    advice = "the GPU is full; fewer --cells-per-gpu, or a smaller batch_size, need less: "
    assert line.startswith(advice + type(error).__name__)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_sweep_on_a_gpu_that_is_not_there_ends_in_one_line_and_fails_no_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    arguments = ["table1", "--device", "cuda", "--seeds", "1", "--tracking", "off", "--results", str(tmp_path / "runs")]
    assert cli.main(sweep.app, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --device cuda: torch ")
    assert "CUDA_VISIBLE_DEVICES is '0'" in line
    assert not (tmp_path / "runs" / "failures").exists()
