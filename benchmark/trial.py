"""A task, a data set and a network of one's own, tried before a sweep trains anything: the whole way to a record.

What the suite itself offers fits together by construction (`benchmark.problems.fits`). `benchmark.check --problem` asks
more: that batches and weights repeat, that sums add up, that something is learned.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError, told
from benchmark.methods import load
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches, Remembered
from benchmark.recording import make_record
from benchmark.tasks import TASKS, make_task
from benchmark.tasks.task import Inputs, Sums, Task, changed, predict
from benchmark.training import given
from benchmark.training.evaluation import evaluate
from benchmark.training.loop import Run

STEPS = 2
"""Of training; a network that keeps something from the first would fail in the second."""
EXAMPLES = 32
"""Of a batch at first: few enough for a large network on a CPU. What fails with them is tried with the whole batch."""
MACHINES = re.compile(r"cuda|nvidia|\bhip\b|allocate|MemoryError|ImportError|ModuleNotFoundError", re.IGNORECASE)
"""In what a machine says that lacks a GPU, memory or a package which the one that trains may have."""


class Few:
    """Data of which a trial sees one small batch of each split, uncompiled, in a precision that every CPU has."""

    def __init__(self, data: Batches, examples: int):
        precision = data.problem.precision
        changes = {"compile": "none", "precision": "fp32" if precision == "fp16" else precision}
        self._data, self.problem = data, data.problem.model_copy(update=changes)
        self._some, self.remembered = slice(examples), Remembered()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def training_batches(self, seed: int, epoch: int, start: int, stop: int) -> Iterator[Batch]:
        return map(self._cut, self._data.training_batches(seed, epoch, start, stop))

    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        return map(self._cut, islice(self._data.evaluation_batches(name), 1))

    def _cut(self, batch: Batch) -> Batch:
        inputs, targets = batch
        return changed(inputs, itemgetter(self._some)), targets[self._some]


def try_out(data: Batches, weights: Path | None = None, elsewhere: bool = False) -> str:
    """Train two iterations, evaluate a batch of each split, and make the record, from the weights of seed 0.

    weights: the folder of those that the recipe names (`Store.given`). elsewhere: whether another machine trains.
    Returns why nothing was tried, where that is this machine's fault, else "". Raises UserError where the parts do not
    fit together, with the line of code at which that shows.
    """
    problem = data.problem
    where = f"problem {problem.name}: task {problem.task}, dataset {problem.dataset}, model {problem.model}"
    make_task(problem)  # whose refusal names the problem itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # workers say them again
            try:
                _attempt(_network(problem, weights), data, EXAMPLES)
            except Exception:
                if problem.batch_size <= EXAMPLES:
                    raise
                _attempt(_network(problem, weights), data, problem.batch_size)
    except (Exception, SystemExit) as error:  # whatever somebody else's code does
        causes = f"{type(error).__name__} {type(error.__cause__).__name__} {error}"
        if (elsewhere or torch.cuda.is_available()) and MACHINES.search(causes):
            return f"{where} were not tried here: {told(error)}"
        if isinstance(error, UserError):
            raise UserError(str(error) if str(error).startswith("problem ") else f"{where}: {error}") from error
        raise UserError(f"{where} do not fit together: {told(error)}") from error
    return ""


def _network(problem: Problem, weights: Path | None) -> nn.Module:
    network = models.build(problem, 0)
    if problem.weights and weights is not None:
        given.load(network, problem, weights)
    return network


def _attempt(network: nn.Module, data: Batches, examples: int) -> None:
    few = cast(Batches, Few(data, examples))
    run = Run(Cell.dense(few.problem, 0), network, few, load("dense"), {})
    task, rate = run.task, few.problem.learning_rate / 100  # the whole rate may diverge without a warm-up
    network.train()
    for k, (inputs, targets) in enumerate(few.training_batches(0, 0, 0, min(STEPS, few.iterations_per_epoch))):
        if not k:
            _look(task, outputs_of(few.problem, network, inputs, targets), targets)
        run.step(k, rate, inputs, targets)
    run.step.sums.totals()
    value, undefined = task.value, []

    def tolerant(sums: Sums) -> float:
        try:
            return value(sums)
        except Exception:
            undefined.append(sums)
            return math.nan

    task.value = tolerant  # type: ignore
    run.measure("final")
    task.value = value  # type: ignore
    if undefined:  # for so few examples a metric may be; whether it is for a split decides
        evaluate(network, task, data, "validation")
    if not math.isfinite(chance := task.chance(few)):
        raise UserError(f"its chance is {chance}: no run could be told from one that learned nothing")
    json.dumps(make_record(run.cell, run, None), allow_nan=False)


def outputs_of(problem: Problem, network: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
    """Of a batch. UserError where they do not fit the targets, which says more than the error that would follow."""
    outputs = predict(network, inputs)
    if not isinstance(outputs, Tensor):
        raise UserError(f"the network gives a {type(outputs).__name__}, not a tensor")
    shape = tuple(outputs.shape)
    if shape[:1] != (len(targets),):
        raise UserError(f"outputs of shape {shape} for {len(targets)} examples: the first dimension is the batch")
    if problem.task in TASKS:
        made = shape[-1] if problem.task in ("language_modelling", "translation") else (*shape, 1)[1]
        if made < problem.classes:
            raise UserError(f"outputs of shape {shape} tell {made} classes apart, not {problem.classes}")
    if problem.task == "segmentation" and shape[2:] != targets.shape[1:]:
        raise UserError(
            f"outputs of shape {shape} for masks of shape {tuple(targets.shape)}: not a class for each pixel"
        )
    return outputs


def _look(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """At the loss of the first batch, for the same reason. Raises UserError."""
    loss = task.loss(outputs, targets)
    if not isinstance(loss, Tensor):
        raise UserError(f"the loss is a {type(loss).__name__}, not a tensor")
    if loss.shape != () or not torch.isfinite(loss):
        shown = f"{loss.item():g}" if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"
        raise UserError(f"the loss of {len(targets)} examples is {shown}, not one finite number")
    if task.counts_correct:
        try:
            task.correct(outputs.detach(), targets)
        except Exception as error:
            remedy = "write one, or set counts_correct = False"
            raise UserError(f"its correct(outputs, targets) fails ({told(error)}): {remedy}") from error
