"""The optimizers of a recipe: torch's own steps, and every method with each of them or a refusal."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from benchmark.cells import Budget, Cell, Problem
from benchmark.errors import UserError
from benchmark.methods import METHODS, declaration, load
from benchmark.planning.plan import refuse_unfit
from benchmark.problems import models
from benchmark.recording import make_record
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.loop import Run
from benchmark.training.optimizer import SGD, Adam, AdamW, make_optimizer
from benchmark.training.session import Interrupted, Session
from tests.method_runs import DATA, PROBLEM, batch, data_with, make_run

OPTIMIZERS = {
    "sgd": (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, {"betas": (0.8, 0.99)}),
    "adamw": (AdamW, torch.optim.AdamW, {"betas": (0.8, 0.99)}),
}


def adamw(**fields) -> Problem:
    return PROBLEM.model_copy(update={"optimizer": "adamw", "learning_rate": 0.01, **fields})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_steps_and_is_saved_as_torchs_own(name: str):
    of_ours, of_torch, options = OPTIMIZERS[name]

    def make(kind: Any) -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
        stream = torch.Generator().manual_seed(0)
        weights = [torch.randn(shape, generator=stream).requires_grad_() for shape in ((7, 3), (5,))]
        groups = [{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0}]
        return weights, kind(groups, lr=0.1, weight_decay=1e-2, fused=True, **options)

    def train(weights: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        for rate in (0.1, 0.3, 0.01):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            torch.stack([(weight**3).sum() for weight in weights]).sum().backward()
            optimizer.step()

    (ours, optimizer), (theirs, expected) = make(of_ours), make(of_torch)
    train(ours, optimizer)
    train(theirs, expected)
    optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    expected.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(ours, optimizer)
    train(theirs, expected)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert ours[0].requires_grad


def test_the_recipe_names_the_optimizer_and_its_settings():
    optimizer = make_optimizer(make_run("DNW").method, adamw(momentum=0.8, beta2=0.95))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].retrains])
def test_norms_and_biases_do_not_decay_where_the_recipe_says_so(method: str):
    run = make_run(method) if method != "dense" else dense(PROBLEM)
    every = make_optimizer(run.method, PROBLEM).param_groups
    some = make_optimizer(run.method, PROBLEM.model_copy(update={"decay_all": False})).param_groups

    def decays(groups: list[dict[str, Any]]) -> dict[int, float]:
        return {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}

    before, after = decays(every), decays(some)
    assert before.keys() == after.keys()
    for parameter in run.network.parameters():
        expected = before[id(parameter)] if parameter.dim() > 1 else 0.0
        assert after[id(parameter)] == expected


def dense(problem: Problem, **options) -> Run:
    cell = Cell.dense(problem, 0)
    return Run(cell, models.build(problem, 0), DATA, load("dense"), {}, **options)


def test_a_gradient_is_clipped_to_its_largest_norm():
    def norm_after_a_step(largest: float) -> float:
        run = make_run("DNW", data=data_with(gradient_norm=largest))
        run.network.train()
        run.step(0, 0.1, *batch())
        return float(torch.nn.utils.get_total_norm([weight.grad for weight in run.network.parameters()]))

    free = norm_after_a_step(0)
    assert norm_after_a_step(free / 10) == pytest.approx(free / 10, rel=1e-4)
    assert norm_after_a_step(10 * free) == pytest.approx(free)


@pytest.mark.parametrize(
    ("method", "optimizer"), [*((method, "adamw") for method in METHODS), ("dense", "adam"), ("GMP", "adam")]
)
def test_every_method_trains_with_every_optimizer_or_is_refused_in_one_line(method: str, optimizer: str):
    problem = adamw(optimizer=optimizer, epochs=4, milestones=(2,), warmup_epochs=0, decay_all=False, gradient_norm=1.0)
    declared = declaration(method)
    retraining = ("LLR", Budget(50, "%")) if declared.retrains else (None, None)
    sparsity = None if method == "dense" else 0.5
    cell = Cell(problem, method, 0, retraining[0], sparsity, retraining[1])
    if method == "GSM":
        with pytest.raises(UserError, match="method GSM is defined by the momentum of SGD; optimizer adam"):
            refuse_unfit([cell])
        return
    refuse_unfit([cell])
    run = Run(
        cell,
        models.build(problem, 0),
        data_with(**{**problem.model_dump(), "training_share": 0.3}),
        load(method),
        dict(declared.defaults),
    )
    run.execute()
    record = make_record(cell, run, None)
    assert record["status"] != "collapsed", record["remarks"]
    for weight, mask in zip(run.method.masks.weights, run.method.masks.tensors, strict=True):
        assert not weight.detach()[mask == 0].any()


def test_gmp_clears_all_that_adam_remembers_of_what_it_prunes():
    run = make_run("GMP", data=data_with(optimizer="adamw", learning_rate=0.01))
    run.network.train()
    per_epoch = DATA.iterations_per_epoch
    for k in range(2 * per_epoch):
        run.step(k, 0.01, *batch(k % per_epoch))
    run.method.before_iteration(2 * per_epoch)
    masks = dict(zip(run.method.masks.names, run.method.masks.tensors, strict=True))
    for name, weight in run.method.weights.items():
        memory = run.step.optimizer.state[weight]
        for moment in ("exp_avg", "exp_avg_sq"):
            assert not memory[moment][masks[name] == 0].any()
            assert memory[moment][masks[name] == 1].all()


def test_a_run_with_adam_stopped_in_mid_epoch_ends_as_if_it_had_not_been(tmp_path):
    problem = adamw(epochs=2, milestones=(), warmup_epochs=0)
    plain = dense(problem)
    plain.execute()
    calls = iter(range(1000))
    checkpoints = Checkpoints(tmp_path / "checkpoint", "cell")
    stopped = dense(
        problem, session=Session(checkpoints, should_stop=lambda: next(calls) == DATA.iterations_per_epoch + 2)
    )
    with pytest.raises(Interrupted):
        stopped.execute()
    resumed = dense(problem, session=Session(checkpoints))
    resumed.execute()
    assert make_record(resumed.cell, resumed, None) == make_record(plain.cell, plain, None)
