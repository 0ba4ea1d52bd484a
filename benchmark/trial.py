"""A task, a data set and a network of one's own, tried before a sweep trains anything: the whole way to a record.

What the suite itself offers fits together by construction (`benchmark.problems.fits`). `benchmark.check --problem` asks
more: that batches and weights repeat, that sums add up, that something is learned.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmark.cells import Cell
from benchmark.errors import UserError, told
from benchmark.methods import load
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches
from benchmark.recording import make_record
from benchmark.tasks import TASKS
from benchmark.tasks.task import Inputs, Sums, predict
from benchmark.training.loop import Run

STEPS = 2
"""Of training; a network that keeps something from the first would fail in the second."""
NUMBERS = 1 << 20
EXAMPLES = 32
"""A batch is cut where its inputs have more numbers than these, to no fewer examples than these."""


class Few:
    """Data of which a trial sees one batch of each split, of a bearable size, uncompiled and on a CPU."""

    def __init__(self, data: Batches):
        precision = data.problem.precision
        changes = {"compile": "none", "precision": "fp32" if precision == "fp16" else precision}
        self._data, self.problem = data, data.problem.model_copy(update=changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def training_batches(self, seed: int, epoch: int, start: int, stop: int) -> Iterator[Batch]:
        return map(_cut, self._data.training_batches(seed, epoch, start, stop))

    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        return map(_cut, islice(self._data.evaluation_batches(name), 1))


def _cut(batch: Batch) -> Batch:
    inputs, targets = batch
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    each = max(1, sum(part.numel() for part in several) // max(1, len(targets)))
    some = slice(max(EXAMPLES, NUMBERS // each))
    return (tuple(part[some] for part in several) if isinstance(inputs, tuple) else inputs[some]), targets[some]


def try_out(data: Batches) -> None:
    """Train two iterations, evaluate a batch of each split, and make the record, with the weights of seed 0.

    Raises UserError where the parts do not fit together, with the line of code at which that shows.
    """
    problem = data.problem
    where = f"problem {problem.name}: task {problem.task}, dataset {problem.dataset}, model {problem.model}"
    network = models.build(problem, 0)
    few = cast(Batches, Few(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # workers say them again
            _attempt(network, few)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever somebody else's code does
        if "cuda" in str(error).lower() and torch.cuda.is_available():
            return  # made for a GPU, which a worker will have
        raise UserError(f"{where} do not fit together: {told(error)}") from error


def _attempt(network: nn.Module, few: Batches) -> None:
    run = Run(Cell.dense(few.problem, 0), network, few, load("dense"), {})
    _train(run, few)
    run.task.value = _lenient(run.task.value)  # type: ignore
    run.measure("final")
    if not math.isfinite(chance := run.task.chance(few)):
        raise UserError(f"its chance is {chance}: no run could be told from one that learned nothing")
    json.dumps(make_record(run.cell, run, None), allow_nan=False)


def _train(run: Run, data: Batches) -> None:
    run.network.train()
    for k, (inputs, targets) in enumerate(data.training_batches(0, 0, 0, min(STEPS, data.iterations_per_epoch))):
        if not k:
            _look(run, inputs, targets)
        run.step(k, data.problem.learning_rate / 100, inputs, targets)
    try:
        run.step.sums.totals()
    except (Exception, SystemExit) as error:
        raise UserError(
            f"its correct(outputs, targets) fails ({told(error)}): write one, or set counts_correct = False"
        ) from error


def _look(run: Run, inputs: Inputs, targets: Tensor) -> None:
    """At outputs and loss of the first batch, where a sentence says more than the error that would follow."""
    problem, task = run.cell.problem, run.task
    outputs = predict(run.network, inputs)
    if len(outputs) != len(targets):
        raise UserError(f"outputs of shape {tuple(outputs.shape)} for {len(targets)} examples: the first is the batch")
    if problem.task in TASKS:
        made = outputs.shape[-1 if problem.task in ("language_modelling", "translation") else 1]
        if made < problem.classes:
            raise UserError(f"outputs of shape {tuple(outputs.shape)} tell {made} classes apart, not {problem.classes}")
    loss = task.loss(outputs, targets)
    if loss.shape != () or not torch.isfinite(loss):
        raise UserError(f"the loss of {len(targets)} examples is {_short(loss)}, not one finite number")
    zeros, made_of = task.zeros(targets.device), _sums(run, inputs, targets)
    if len(zeros) != len(made_of):
        raise UserError(f"the task's zeros are {len(zeros)} tensors, its sums {len(made_of)}")


def _sums(run: Run, inputs: Inputs, targets: Tensor) -> Sums:
    run.network.eval()
    with torch.no_grad():
        sums = run.task.sums(run.network, inputs, predict(run.network, inputs).float(), targets)
    run.network.train()
    return sums


def _short(loss: Tensor) -> str:
    return f"{loss.item():g}" if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"


def _lenient(value: Callable[[Sums], float]) -> Callable[[Sums], float]:
    """A metric that may be undefined for the few examples of a batch, such as one that needs all classes."""

    def read(sums: Sums) -> float:
        try:
            return value(sums)
        except (ArithmeticError, ValueError):
            return float("nan")

    return read
