"""`benchmark.api`: the suite's pruning and retraining in somebody else's loop."""

from __future__ import annotations

import copy
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from benchmark.api import Sparse, prune_gradually, sparsify
from benchmark.cells import Budget, Cell
from benchmark.errors import UserError
from benchmark.methods import declaration, load
from benchmark.problems import models
from benchmark.pruning.prunable import prunable
from benchmark.training.loop import Run
from benchmark.training.schedules import dense_learning_rates
from tests.conftest import ROOT
from tests.method_runs import DATA, PER_EPOCH, PROBLEM

DENSE_RATES = dense_learning_rates(PROBLEM, PER_EPOCH)
START = models.build(PROBLEM, 3).state_dict()


def network() -> nn.Module:
    made = models.build(PROBLEM, 0)
    made.load_state_dict(START)
    return made


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    options = {"momentum": PROBLEM.momentum, "nesterov": True, "weight_decay": PROBLEM.weight_decay, "fused": True}
    return torch.optim.SGD(model.parameters(), lr=PROBLEM.learning_rate, **options)


def loop(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, after: Callable[[int], object], first=0
) -> None:
    """A training loop as anybody has it, on the batches of the suite's cells from the end of the dense run on."""
    for k in range(steps):
        epoch, place = divmod(first + k, PER_EPOCH)
        images, labels = next(DATA.training_batches(0, epoch, place, place + 1))
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(k)


def cell_weights(
    method: str, schedule: str | None, budget: str | None, sparsity: float, first: int, **settings
) -> list[Tensor]:
    """The weights of a finished cell that starts from START."""
    cell = Cell(PROBLEM, method, 0, schedule, sparsity, Budget.parse(budget) if budget else None)
    hyperparameters = {**declaration(method).defaults, **settings}
    run = Run(cell, network(), DATA, load(method), hyperparameters, start_position=first)
    run.execute()
    return list(run.network.parameters())


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("schedule", "cycles"), [("ALLR", 1), ("ALLR", 3), ("FT", 1), ("CLR", 2), ("SLR", 1), ("LRW", 1)]
)
def test_a_loop_of_ones_own_ends_with_the_weights_of_a_cell_bit_for_bit(schedule: str, cycles: int):
    steps, first = 2 * PER_EPOCH, PROBLEM.epochs * PER_EPOCH
    expected = cell_weights("IMP", schedule, "2ep", 0.9, first, cycles=cycles, momentum="kept")
    model = network()
    optimizer = sgd(model)
    sparse = sparsify(
        model,
        optimizer,
        0.9,
        retrain=steps,
        schedule=schedule,
        dense_rates=DENSE_RATES,
        dense_warmup=PER_EPOCH * int(PROBLEM.warmup_epochs),
        cycles=cycles,
    )
    loop(model, optimizer, steps, lambda k: sparse.step(), first)
    assert same(list(sparse.finish().parameters()), expected)
    assert sparse.masks.sparsity == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(("method", "feedback"), [("GMP", False), ("DPF", True)])
def test_gradual_pruning_ends_with_the_weights_of_a_cell_bit_for_bit(method: str, feedback: bool):
    steps = PROBLEM.epochs * PER_EPOCH
    expected = cell_weights(method, None, None, 0.8, 0)
    model = network()
    optimizer = sgd(model)
    sparse = prune_gradually(model, optimizer, 0.8, steps=steps, interval=PER_EPOCH, feedback=feedback)

    def set_rate(k: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = DENSE_RATES[min(k, steps - 1)]

    def after(k: int) -> None:
        sparse.step()
        set_rate(k + 1)

    set_rate(0)
    loop(model, optimizer, steps, after)
    assert same(list(sparse.finish().parameters()), expected)


@given(sparsity=st.floats(0.01, 0.99), kind=st.sampled_from(["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"]))
@settings(max_examples=20, deadline=None)
def test_pruned_weights_stay_at_zero_through_any_optimizer(sparsity: float, kind: str):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.05, weight_decay=0.01)
    sparse = sparsify(model, optimizer, sparsity, retrain=4, peak_rate=0.05)
    zeros = [weight == 0 for weight in sparse.masks.weights]
    assert sum(int(where.sum()) for where in zeros) == round(sparsity * 72)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
        sparse.step()
        assert all(not weight[where].any() for weight, where in zip(sparse.masks.weights, zeros, strict=True))


@pytest.mark.parametrize("feedback", [None, False, True])
def test_a_loop_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(feedback: bool | None):
    def begin() -> tuple:
        model = network()
        optimizer = sgd(model)
        if feedback is None:
            return model, optimizer, sparsify(model, optimizer, 0.9, retrain=40, peak_rate=0.1, cycles=2)
        return model, optimizer, prune_gradually(model, optimizer, 0.9, steps=40, interval=8, feedback=feedback)

    model, optimizer, sparse = begin()
    saved: dict = {}

    def after(k: int) -> None:
        sparse.step()
        if k == 24:
            parts = (sparse, model, optimizer)
            saved.update(enumerate(copy.deepcopy([part.state_dict() for part in parts])))

    loop(model, optimizer, 40, after)
    again, fresh, resumed = begin()
    again.load_state_dict(saved[1])
    fresh.load_state_dict(saved[2])
    resumed.load_state_dict(saved[0])
    loop(again, fresh, 15, lambda k: resumed.step(), first=25)
    assert same(list(resumed.finish().parameters()), list(sparse.finish().parameters()))


def written(state: dict) -> bytes:
    """As a checkpoint on disk."""
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def test_a_state_holds_no_tensor_but_masks_which_a_device_may_take_elsewhere():
    model = network()
    state = sparsify(model, sgd(model), 0.9, retrain=40, peak_rate=0.1).state_dict()
    masks = state.pop("masks")
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert state == json.loads(json.dumps(state))


def test_a_loop_goes_on_where_the_optimizer_was_read_before_sparsify():
    """As a trainer does it: at its last step every rate is near 0, and says nothing of the peak nor of the ratios."""

    def begin() -> tuple:
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
        groups = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[1].parameters(), "lr": 0.1}]
        return model, torch.optim.SGD(groups, momentum=0.9)

    def prune(model: nn.Module, optimizer: torch.optim.Optimizer) -> Sparse:
        return sparsify(model, optimizer, 0.5, retrain=8, cycles=2)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, sparse: Sparse, first: int, last: int) -> None:
        for k in range(first, last):
            optimizer.zero_grad()
            model(torch.full((1, 6), 0.1 * k)).sum().backward()
            optimizer.step()
            sparse.step()

    torch.manual_seed(0)
    model, optimizer = begin()
    start = copy.deepcopy(model.state_dict())
    sparse = prune(model, optimizer)
    steps(model, optimizer, sparse, 0, 3)
    saved = copy.deepcopy([part.state_dict() for part in (model, optimizer, sparse)])
    steps(model, optimizer, sparse, 3, 8)
    again, fresh = begin()
    again.load_state_dict(start)
    again.load_state_dict(saved[0])
    fresh.load_state_dict(saved[1])
    resumed = prune(again, fresh)
    resumed.load_state_dict(torch.load(io.BytesIO(written(saved[2])), weights_only=True))
    steps(again, fresh, resumed, 3, 8)
    assert same(list(again.parameters()), list(model.parameters()))
    assert resumed.rates == sparse.rates


def test_groups_keep_the_ratios_of_their_learning_rates():
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    groups = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[1].parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    sparse = sparsify(model, optimizer, 0.5, retrain=20)
    for _ in range(5):
        sparse.step()
        low, high = (group["lr"] for group in optimizer.param_groups)
        assert low == pytest.approx(high / 5)
    assert max(sparse.rates) <= 0.1


def test_a_scheduler_that_steps_too_changes_no_rate_of_an_update(monkeypatch: pytest.MonkeyPatch):
    """A trainer has one, here with groups of two rates and a warm-up, from 0 on."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    groups = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[1].parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 7 * k)
    module = importlib.import_module("torch.optim.sgd")
    rates, update = [], module.sgd
    monkeypatch.setattr(module, "sgd", lambda *to, lr, **more: (rates.append(lr), update(*to, lr=lr, **more)))
    sparse = sparsify(model, optimizer, 0.5, retrain=3, schedule="LLR")
    for _ in range(4):
        model(torch.ones(1, 6)).sum().backward()
        optimizer.step()
        sparse.step()
        scheduler.step()
    assert rates[1:6:2] == pytest.approx(sparse.rates)
    assert rates[0:6:2] == pytest.approx([rate / 5 for rate in sparse.rates])
    assert max(sparse.rates) == pytest.approx(0.1)
    assert rates[6:] == pytest.approx([0.02 * 21, 0.1 * 21]), "after retraining the scheduler is free again"


def test_an_update_from_a_closure_trains_the_dense_weights_too():
    def train(with_closure: bool) -> list[Tensor]:
        model = network()
        optimizer = sgd(model)
        sparse = prune_gradually(model, optimizer, 0.9, steps=40, interval=8, feedback=True)
        for k in range(40):
            images, labels = next(DATA.training_batches(0, 0, k % PER_EPOCH, k % PER_EPOCH + 1))

            def loss(images: Tensor = images, labels: Tensor = labels) -> Tensor:
                optimizer.zero_grad()
                result = functional.cross_entropy(model(images), labels)
                result.backward()
                return result

            if with_closure:
                optimizer.step(loss)
            else:
                loss()
                optimizer.step()
            sparse.step()
        return list(sparse.finish().parameters())

    assert same(train(True), train(False))


def test_importing_it_imports_torch_and_numpy_alone():
    code = """
import sys, torch, numpy
before = {name.partition(".")[0] for name in sys.modules}
import benchmark.api
new = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
sys.exit(str(new - {"benchmark"}) if new - {"benchmark"} else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("steps", "interval"), [(15, 2), (31, 3), (47, 4), (63, 7), (64, 8)])
def test_dpf_ends_at_its_sparsity_however_its_last_rise_falls_between_two_masks(steps: int, interval: int):
    model = nn.Linear(10, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sparse = prune_gradually(model, optimizer, 0.9, steps=steps, interval=interval, feedback=True)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 10)).square().sum().backward()
        optimizer.step()
        sparse.step()
    assert int((sparse.finish().weight == 0).sum()) == 72


def test_gmp_leaves_an_optimizer_of_some_layers_a_state_that_can_be_saved():
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 2))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.01, momentum=0.9)
    with pytest.warns(UserWarning, match=r"0\.weight will be pruned and cannot recover, as this optimizer"):
        sparse = prune_gradually(model, optimizer, 0.5, steps=10, interval=2)
    for _ in range(10):
        model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
        sparse.step()
    assert len(optimizer.state_dict()["state"]) == 2
    assert sparse.masks.sparsity == pytest.approx(0.5, abs=0.01)


def test_what_a_network_keeps_from_pruning_is_kept_behind_a_wrapper():
    model = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 2))
    model.not_prunable = {"0.weight"}
    assert list(prunable(nn.DataParallel(model))) == ["module.1.weight"]
    assert list(prunable(nn.Sequential(nn.ReLU(), model))) == ["1.1.weight"]


@pytest.mark.parametrize("state", [{}, None, {"done": 3, "masks": {}}])
def test_a_state_of_something_else_is_refused(state):
    model = network()
    with pytest.raises(UserError, match=r"a state that Retrained\.state_dict\(\) did not give"):
        sparsify(model, sgd(model), 0.9, retrain=40, peak_rate=0.1).load_state_dict(state)


def test_the_peak_of_one_cycle_is_its_largest_rate():
    model = nn.Linear(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=60)
    assert max(sparsify(model, optimizer, 0.5, retrain=60, schedule="LLR").rates) == pytest.approx(0.01)
