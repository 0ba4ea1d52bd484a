"""Runs of the methods on digits, stopped and looked into where a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from benchmark.cells import Cell
from benchmark.methods import METHODS, check_hyperparameters, load, settings_of
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.training.loop import Run
from benchmark.training.session import Session

torch.set_num_threads(1)
RECIPE = {"epochs": 6, "milestones": [3, 5], "warmup_epochs": 1, "training_share": 0.5}
PROBLEM, _ = load_problem("digits", RECIPE)
DATA = open_data(PROBLEM, torch.device("cpu"))
PER_EPOCH = DATA.iterations_per_epoch
SCRATCH = [name for name, declared in METHODS.items() if not declared.from_dense and name != "dense"]


def make_run(
    method: str,
    sparsity: float = 0.9,
    data: Batches = DATA,
    channels_last: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    schedule: str | None = None,
    **hyperparameters,
) -> Run:
    chosen = check_hyperparameters(method, hyperparameters)
    problem = data.problem
    cell = Cell(problem, method, 0, schedule, sparsity, hyperparameters=chosen)
    network = models.build(problem, 0)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Run(cell, network, data, load(method), settings_of(cell), session=Session(should_stop=should_stop))


def data_with(**recipe) -> Batches:
    return open_data(PROBLEM.model_copy(update=recipe), torch.device("cpu"))


def batch(number: int = 0) -> tuple[Tensor, Tensor]:
    images, labels = next(iter(DATA.training_batches(0, 0, number, number + 1)))
    return images, labels


def flat(tensors) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def prunable(run: Run) -> Tensor:
    return flat(run.method.weights.values())


def backward(run: Run, k: int = 0) -> dict[str, Tensor]:
    """One iteration up to the optimizer's step; returns the gradients of the loss at the weights used, untouched."""
    run.network.train()
    run.method.before_iteration(k)
    run.method.enter_forward()
    run.network.zero_grad()
    images, labels = batch()
    functional.cross_entropy(run.network(images), labels).backward()
    gradients = {name: weight.grad.clone() for name, weight in run.network.named_parameters()}
    run.method.exit_forward()
    run.method.after_backward()
    return gradients


def train(run: Run, iterations: int, first: int = 0) -> None:
    for k in range(first, first + iterations):
        run.step(k, 0.1, *batch(k % PER_EPOCH))


def loss_with(run: Run, weights: Mapping[str, Tensor]) -> Tensor:
    """The loss of the first batch where the network computes with `weights`; gradients flow into them."""
    images, labels = batch()
    buffers = {name: tensor.clone() for name, tensor in run.network.named_buffers()}
    return functional.cross_entropy(functional_call(run.network, {**weights, **buffers}, (images,)), labels)


def leaves(run: Run) -> dict[str, Tensor]:
    """Copies of the trained weights, to differentiate by."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in run.method.weights.items()}


def watch(method: str, look: Callable[[Run, int], None], **settings) -> Run:
    """Train a whole run and call look(run, k) before every iteration k."""
    k = 0

    def before() -> bool:
        nonlocal k
        look(run, k)
        k += 1
        return False

    run = make_run(method, should_stop=before, **settings)
    run.execute()
    return run


def run_size() -> int:
    """Prunable weights of the network."""
    return sum(weight.numel() for weight in make_run("DNW").method.weights.values())
