"""Mixed precision and torch.compile: they train what plain float32 does, to tolerance, and resume as exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.cells import Budget, Cell
from benchmark.errors import CannotGoOn
from benchmark.methods import load, settings_of
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.recording import make_record
from benchmark.results.store import Store
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.compiled import compiled
from benchmark.training.group import Group
from benchmark.training.loop import Run
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted, Session
from benchmark.worker import Worker
from tests.conftest import assert_one_line_refusal

torch.set_num_threads(1)
SHORT = {"epochs": 6, "milestones": [2, 4, 5], "warmup_epochs": 1, "width": 4}
PLAIN, _ = load_problem("digits", SHORT)
BF16, FP16 = (PLAIN.model_copy(update={"precision": precision}) for precision in ("bf16", "fp16"))
NARROW = FP16.model_copy(update={"width": 2})
"""For what does not ask how well it trains: processors compute float16 step by step, a weight at a time."""


def make_run(cell: Cell, **options) -> Run:
    data = Data(cell.problem, torch.device("cpu"))
    return Run(
        cell,
        models.build(cell.problem, cell.seed),
        data,
        load(cell.method),
        settings_of(cell),
        session=Session(**options),
    )


def outcome(run: Run) -> dict:
    run.execute()
    return make_record(run.cell, run, None)


@pytest.fixture(scope="module")
def plain() -> dict:
    return outcome(make_run(Cell.dense(PLAIN, 0)))


@pytest.mark.parametrize("problem", [BF16, FP16], ids=["bf16", "fp16"])
def test_mixed_precision_trains_as_well_as_float32(problem, plain: dict):
    run = make_run(Cell.dense(problem, 0))
    computed = set()
    run.network.blocks.register_forward_hook(lambda module, inputs, output: computed.add(output.dtype))
    run.execute()
    assert computed == {torch.bfloat16 if problem is BF16 else torch.float16}
    record = make_record(run.cell, run, None)
    assert {weight.dtype for weight in run.network.parameters()} == {torch.float32}
    assert record["accuracy"]["final"]["test"] == pytest.approx(plain["accuracy"]["final"]["test"], abs=0.04)
    assert record["history"]["train_loss"][-1] == pytest.approx(plain["history"]["train_loss"][-1], abs=0.1)
    assert Cell.dense(problem, 0).id != Cell.dense(PLAIN, 0).id


def overflowing(cell: Cell, **options) -> Run:
    """Its loss scale starts so large that the first steps overflow."""
    run = make_run(cell, **options)
    run.step.scale.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    return run


@pytest.mark.parametrize("method", ["dense", "GSM", "DST"])
def test_steps_that_overflow_change_nothing_and_are_counted(method: str):
    cell = Cell(NARROW, method, 0, sparsity=None if method == "dense" else 0.5)
    run = overflowing(cell)
    rates = run.method.begin(0)
    start = {name: weight.clone() for name, weight in run.network.named_parameters()}
    batches = iter(run.data.training_batches(0, 0))
    run.step(0, rates[5], *next(batches))
    assert int(run.step.scale.skipped) == 1
    assert all(torch.equal(weight, start[name]) for name, weight in run.network.named_parameters())
    record = outcome(overflowing(cell))
    assert 5 < record["iterations"]["skipped"] < 40
    assert record["iterations"]["total"] == 6 * 17
    assert record["accuracy"]["final"]["test"] > 0.25


def test_a_loss_that_overflows_in_a_skipped_step_does_not_end_the_run():
    run = make_run(Cell.dense(NARROW, 0))
    forward, calls = run.step.forward, iter(range(1000))
    run.step.forward = lambda images: forward(images) * (torch.inf if next(calls) == 3 else 1)
    record = outcome(run)
    assert record["status"] == "ok"
    assert record["iterations"]["skipped"] == 1
    assert all(loss is not None and loss < 10 for loss in record["history"]["train_loss"])


def test_the_first_step_that_counts_is_sgd_s_though_others_were_skipped():
    """Momentum starts from zeros, not from what the memory held."""
    run, other = overflowing(Cell.dense(NARROW, 0)), make_run(Cell.dense(NARROW, 0))
    images, labels = next(run.data.training_batches(0, 0))
    other.step(0, 0.1, images, labels)
    while int(run.step.scale.skipped) == run.step.sums.totals()[2] // len(labels):
        run.network.load_state_dict(models.build(NARROW, 0).state_dict())  # batch-norm statistics moved
        run.step(0, 0.1, images, labels)
    for one, two in zip(run.network.parameters(), other.network.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("stop", [3, 20])
def test_a_run_in_fp16_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, stop: int):
    """Also where it stops among overflowing steps: the loss scale and its count go on."""
    cell = Cell(NARROW, "IMP", 0, "LLR", 0.8, Budget.parse("2ep"), (("cycles", 2),))
    expected = outcome(overflowing(cell))
    assert expected["iterations"]["skipped"] > 3
    asked = iter(range(1000))
    stopped = overflowing(cell, checkpoints=Checkpoints(tmp_path, "c"), should_stop=lambda: next(asked) == stop)
    with pytest.raises(Interrupted):
        stopped.execute()
    assert outcome(make_run(cell, checkpoints=Checkpoints(tmp_path, "c"))) == expected


def test_a_precision_that_the_device_cannot_train_in_stops_the_sweep_in_one_line(tmp_path: Path, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("float16 is not\nsupported")

    monkeypatch.setattr(torch, "autocast", refuse)
    worker = Worker(Store(tmp_path), RunOptions("cpu", 1))
    with pytest.raises(CannotGoOn, match=r"precision fp16 does not work on cpu .*float16 is not supported.*fp32 does"):
        worker.run(Cell.dense(NARROW, 0))


def test_tf32_is_refused_where_there_is_none(tmp_path: Path):
    with pytest.raises(CannotGoOn, match="precision tf32 is for NVIDIA GPUs, not cpu; fp32 is for all"):
        Worker(Store(tmp_path), RunOptions("cpu", 1)).run(Cell.dense(PLAIN.model_copy(update={"precision": "tf32"}), 0))


def test_an_unknown_precision_or_mode_is_refused(command):
    finished = command("benchmark.sweep", "table1", "--set", "precision=fp8", "--dry-run")
    assert_one_line_refusal(finished, "precision", "fp16")
    finished = command("benchmark.sweep", "table1", "--set", "compile=yes", "--dry-run")
    assert_one_line_refusal(finished, "compile", "reduce-overhead")


# torch.compile

COMPILED, _ = load_problem("digits", {**SHORT, "epochs": 1, "milestones": [], "compile": "default"})


@pytest.mark.long
def test_compiled_training_is_eager_training_to_tolerance_and_resumes_exactly(tmp_path: Path):
    """17 iterations an epoch, of which the last has a smaller batch."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8))
    except RuntimeError:
        pytest.skip("torch.compile has no C++ compiler here")
    cell = Cell.dense(COMPILED, 0)
    eager = outcome(make_run(Cell.dense(COMPILED.model_copy(update={"compile": "none"}), 0)))
    record = outcome(make_run(cell))
    assert record["id"] != eager["id"]
    assert record["history"]["train_loss"] == pytest.approx(eager["history"]["train_loss"], rel=0.01)
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        make_run(cell, checkpoints=Checkpoints(tmp_path, "c"), should_stop=lambda: next(asked) == 9).execute()
    resumed = make_run(cell, checkpoints=Checkpoints(tmp_path, "c"))
    assert outcome(resumed) == record
    assert resumed.step.forward is not resumed.network, "eager training would pass as compiled"


def test_a_network_of_two_inputs_is_compiled_for_whole_batches_and_runs_as_it_is_for_others(monkeypatch):
    compiled_calls = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: lambda *inputs: compiled_calls.append(inputs))
    problem, _ = load_problem("translation", {"compile": "default"})
    forward = compiled(lambda *inputs: len(inputs), problem)
    whole = torch.zeros(problem.batch_size, 3)
    assert forward(whole, whole) is None
    assert forward(whole[1:], whole[1:]) == 2
    assert len(compiled_calls) == 1


@pytest.mark.long
def test_without_a_compiler_the_sweep_stops_in_one_line(tmp_path: Path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "/none/such"))
    monkeypatch.setattr(config, "force_disable_caches", True)
    cell = Cell.dense(COMPILED.model_copy(update={"width": 3}), 0)
    with pytest.raises(
        CannotGoOn, match=r"compile=default does not work here \(.*C\+\+ compiler.*compile=none"
    ) as told:
        Worker(Store(tmp_path), RunOptions("cpu", 1)).run(cell)
    assert "\n" not in str(told.value)


def test_compiling_a_cell_on_several_gpus_is_refused(tmp_path: Path):
    worker = Worker(Store(tmp_path), RunOptions("cpu", 1), Group(0, 2, 0))
    with pytest.raises(CannotGoOn, match=r"compile=default with --gpus-per-cell 2"):
        worker.data(COMPILED)
