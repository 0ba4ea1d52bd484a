"""Training loops to be timed: the suite's, and forward, backward and step alone. All batches are whole: a smaller one
at the end of every epoch would run uncompiled, and have its algorithms chosen anew."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from benchmark.cells import Budget, Cell, Problem
from benchmark.measure.common import usable_device
from benchmark.methods import METHODS, load
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches
from benchmark.tasks.task import predict
from benchmark.training.loop import Run
from benchmark.training.optimizer import clip, make_optimizer
from benchmark.training.precision import autocast, prepare_device

SPARSITY = 0.9


def cell_of(name: str, problem: Problem) -> Cell:
    """Of this method, pruned to SPARSITY."""
    if name == "dense":
        return Cell.dense(problem, 0)
    retraining = ("LLR", SPARSITY, Budget(1000, "ep"))
    return Cell(problem, name, 0, *(retraining if METHODS[name].retrains else (None, SPARSITY)))


def of_noise(problem: str, settings: Mapping[str, Any], device: str) -> tuple[Problem, torch.device]:
    """A recipe for noise and its device, set up. Raises UserError for what cannot train."""
    recipe, _ = load_problem(problem, {**settings, "dataset": "noise"})
    there = usable_device(device)
    prepare_device(recipe, there)
    models.build(recipe, 0)
    return recipe, there


def dense_run(data: Batches, alone: bool = True, seed: int = 0) -> Run:
    """A dense run, ready to be driven. Raises UserError where the device cannot train in the recipe's precision.

    alone: whether no other process uses the GPU.
    """
    problem = data.problem
    prepare_device(problem, data.device, alone)
    network = models.build(problem, seed).to(data.device)
    run = Run(Cell.dense(problem, seed), network, data, load("dense"), {})
    network.train()
    return run


def retraining_run(data: Batches, network: nn.Module | None = None, alone: bool = True) -> Run:
    """IMP's retraining at 90 % sparsity, pruned and ready to be driven; `network` takes the place of the recipe's.

    alone: whether no other process uses the GPU.
    """
    problem = data.problem
    prepare_device(problem, data.device, alone)
    network = (models.build(problem, 0) if network is None else network).to(data.device)
    run = Run(cell_of("IMP", problem), network, data, load("IMP"), dict(METHODS["IMP"].defaults))
    run.rates = run.method.begin(0)
    network.train()
    return run


def whole_batches(data: Batches) -> int:
    """In an epoch; at least the one that there is."""
    return max(1, data.training_images // data.problem.batch_size)


def endless(data: Batches) -> Iterator[Batch]:
    """Whole batches of one epoch after the other, as training draws them."""
    for epoch in itertools.count():
        yield from data.training_batches(0, epoch, 0, whole_batches(data))


def drive(run: Run, iterations: int, batches: Iterator[Batch] | None = None) -> None:
    """Iterations of the suite's loop: losses are counted, stopping is asked for.

    batches: to go on with. Every epoch begins with work for all of it, which a turn that always began one would pay
    for more often than training does.
    """
    rate = run.cell.problem.learning_rate / 10
    for k, (inputs, targets) in enumerate(itertools.islice(batches or endless(run.data), iterations)):
        run.step(k, rate, inputs, targets)
        run.session.pause(run)
    run.step.sums.mean_loss()


def bare_loop(run: Run, iterations: int) -> Callable[[], None]:
    """As many forward, backward and optimizer steps on a prepared batch, nothing else."""
    problem, data = run.cell.problem, run.data
    optimizer = make_optimizer(run.method, problem)
    inputs, targets = next(data.training_batches(0, 0, 0, 1))

    def loop() -> None:
        for _ in range(iterations):
            with autocast(problem.precision, data.device):
                loss = run.task.loss(predict(run.network, inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            if problem.gradient_norm:
                clip(run.network, problem.gradient_norm)
            optimizer.step()

    return loop
