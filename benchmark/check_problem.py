"""Do a task, a data set and a network fit together and keep what the suite relies on? (`benchmark.check --problem`)

Nothing here is special to code from outside: built-in problems are checked in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError, told
from benchmark.methods import load
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches
from benchmark.problems.data import open_data
from benchmark.pruning.metrics import macs
from benchmark.pruning.prunable import prunable
from benchmark.tasks import make_task
from benchmark.tasks.task import Inputs, Sums, Task, changed, predict, several
from benchmark.training.evaluation import add, evaluate, loss_of
from benchmark.training.loop import Run
from benchmark.trial import outputs_of

EPOCHS = 3
"""Of the dense run that shows whether anything is learned."""
FELL = 0.5
"""Of the validation loss: when it is below this share of that of the initial weights, something was learned."""
APART = 2.0
"""How many times as large a loss may be as that of the same batch by its sums, which may leave a penalty out."""
CLOSE = 1e-4
"""Relative difference of two ways to add the same numbers up."""

Kept = tuple[bool, str]
"""Whether a promise is kept, and what was seen."""


@dataclass
class Subject:
    """A problem with its parts, made when they are first asked for."""

    problem: Problem
    folder: Path | None

    @cached_property
    def network(self) -> nn.Module:
        return models.build(self.problem, 0)

    @cached_property
    def data(self) -> Batches:
        return self.open()

    def open(self) -> Batches:
        return open_data(self.problem, torch.device("cpu"), self.folder)

    @cached_property
    def task(self) -> Task:
        task = make_task(self.problem)
        task.use(self.data)
        return task

    @property
    def batch(self) -> Batch:
        """The first one, anew each time: a network may change its inputs."""
        return next(iter(self.data.training_batches(0, 0, 0, 1)))

    def sums(self, inputs: Inputs, targets: Tensor) -> Sums:
        """Of one batch, in evaluation mode, checked for the shapes that `zeros` promises."""
        inputs = changed(inputs, Tensor.clone)
        self.network.eval()
        with torch.no_grad():
            zeros = self.task.zeros(torch.device("cpu"))
            add(zeros, self.task.sums(self.network, inputs, predict(self.network, inputs).float(), targets))
        self.network.train()
        return zeros


def check_problem(problem: Problem, folder: Path | None = None) -> Iterator[tuple[str, bool, str]]:
    """(promise, whether it is kept, what was seen) for each promise, up to the first error of somebody's code.

    Raises UserError for what cannot be opened at all.
    """
    subject = Subject(problem, folder)
    _ = subject.network, subject.data, make_task(problem)  # here, since what cannot be opened or made breaks no promise
    for promise, look in PROMISES.items():
        try:
            kept, seen = look(subject)
        except UserError as error:
            yield promise, False, str(error)
            return
        except (Exception, SystemExit) as error:  # whatever somebody else's code does
            yield promise, False, told(error)
            return
        yield promise, kept, seen


def _data_repeat(subject: Subject) -> Kept:
    """The same seed and epoch give the same batches, another epoch gives others."""
    data = subject.data
    first, again = (list(data.training_batches(0, 0)) for _ in range(2))
    other = list(data.training_batches(0, 1))
    if subject.problem.dataset in subject.problem.outside and subject.open().fingerprint != data.fingerprint:
        return False, f"{subject.problem.dataset} gives other data at the second time"
    if not all(map(_equal, first, again)):
        return False, "the same seed and epoch give other batches at the second time"
    if all(map(_equal, first, other)):
        return False, "two epochs have the same batches in the same order"
    splits = {"training": first, **{name: list(data.evaluation_batches(name)) for name in ("validation", "test")}}
    counts = {name: sum(len(targets) for _, targets in batches) for name, batches in splits.items()}
    odd = {name: sum(map(_not_finite, batches)) for name, batches in splits.items()}
    return all(counts.values()), (
        f"{data.training_images} examples to train on, {counts['validation']} to validate, {counts['test']} to test"
        + "".join(f"; {count} {name} numbers are not finite" for name, count in odd.items() if count)
    )


def _not_finite(batch: Batch) -> int:
    inputs, targets = batch
    return sum(int((~part.isfinite()).sum()) for part in (*several(inputs), targets))


def _equal(first: Batch, second: Batch) -> bool:
    parts = [(*several(inputs), targets) for inputs, targets in (first, second)]
    return all(a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True) for a, b in zip(*parts, strict=True))


def _network_repeats(subject: Subject) -> Kept:
    """Initial weights depend on the seed alone."""
    again, other = (models.build(subject.problem, seed).state_dict() for seed in (0, 1))
    state = subject.network.state_dict()
    if not all(torch.equal(state[name], again[name]) for name in state):
        return False, "the same seed gives other initial weights at the second time"
    if all(torch.equal(state[name], other[name]) for name in state):
        return False, "two seeds give the same initial weights"
    return True, f"{sum(weight.numel() for weight in subject.network.parameters())} parameters, drawn by the seed alone"


def _network_takes_data(subject: Subject) -> Kept:
    inputs, targets = subject.batch
    shapes = [tuple(tensor.shape) for tensor in several(inputs)]
    outputs = outputs_of(subject.problem, subject.network, inputs, targets)
    if not torch.isfinite(outputs).all():
        return False, "the outputs for the first batch are not finite"
    return True, (
        f"inputs {' and '.join(map(str, shapes))} to outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)}"
    )


def _has_prunable(subject: Subject) -> Kept:
    weights = prunable(subject.network)
    layers = macs(subject.network, subject.data.example(1)).layers
    parametrized = [name for name, module in subject.network.named_modules() if hasattr(module, "parametrizations")]
    remarks = (
        ("no product seen with", [name for name, count in layers.items() if not count]),
        ("never pruned, being parametrized:", parametrized),
    )
    return bool(weights), (
        f"{sum(weight.numel() for weight in weights.values())} weights in {len(weights)} tensors"
        + "".join(f"; {words} {', '.join(names)}" for words, names in remarks if names)
    )


def _loss_trains(subject: Subject) -> Kept:
    """The loss is one finite number, and its gradient reaches the weights."""
    loss = subject.task.loss(predict(subject.network, subject.batch[0]), subject.batch[1])
    if loss.shape != ():
        return False, f"the loss of the first batch has the shape {tuple(loss.shape)}, it is not one number"
    if not torch.isfinite(loss):
        return False, f"the loss of the first batch is {loss.item()}"
    subject.network.zero_grad()
    loss.backward()
    without = [name for name, weight in subject.network.named_parameters() if weight.grad is None]
    if len(without) == len(list(subject.network.parameters())):
        return False, "its gradient reaches no weight"
    return True, f"loss {loss.item():.4g} before training" + (f"; no gradient for {without[0]}" if without else "")


def _sums_add_up(subject: Subject) -> Kept:
    """Sums of two parts of a batch, unequal so that means of means are no mean, are those of the whole."""
    inputs, targets = subject.batch
    first = max(1, len(targets) // 3)
    parts = [
        subject.sums(changed(inputs, itemgetter(some)), targets[some])
        for some in (slice(None, first), slice(first, None))
    ]
    whole = subject.sums(inputs, targets)
    for place, (a, b, both) in enumerate(zip(*parts, whole, strict=True)):
        added = (a + b).double()
        size = float(both.double().nan_to_num(0, 0, 0).abs().sum())
        if not torch.allclose(added, both.double(), CLOSE, CLOSE * size, equal_nan=True):
            numbers = f"{_text(added)} of two parts of a batch, {_text(both)} of the whole"
            return False, f"sums[{place}] is {numbers}: it has to be a sum over examples, not a mean"
    said = "two parts of a batch add up to the whole"
    if subject.problem.label_smoothing:  # which is in the loss of training alone
        return True, said
    subject.network.eval()
    with torch.no_grad():
        loss = subject.task.loss(predict(subject.network, subject.batch[0]).float(), targets).item()
    subject.network.train()
    of_sums = loss_of(subject.task, whole)
    apart = max(loss, of_sums) > APART * min(loss, of_sums)
    if apart and min(loss, of_sums) > 0:
        said += f"; the loss of a batch is {loss:.4g}, but {of_sums:.4g} by its sums: does sums[1] count units()?"
    return True, said


def _text(tensor: Tensor) -> str:
    return f"{tensor.item():.6g}" if tensor.numel() == 1 else f"{tensor.double().sum().item():.6g} (added up)"


def _metric_fits(subject: Subject) -> Kept:
    task, metric = subject.task, subject.task.metric
    value, _ = evaluate(subject.network, task, subject.data, "validation")
    chance = task.chance(subject.data)
    if not (math.isfinite(value) and math.isfinite(chance)):
        return False, f"{metric.label} {value!r} before training, chance {chance!r}: not finite"
    low, high = metric.bounds
    better = "higher" if metric.higher_is_better else "lower"
    seen = (
        f"{metric.label} {metric.text(value, 2)} before training, chance {metric.text(chance, 2)}, {better} is better"
    )
    inside = (low is None or low <= chance) and (high is None or chance <= high)
    return inside, seen + ("" if inside else f"; its bounds are {low} to {high}")


def _learns(subject: Subject) -> Kept:
    """The training loss falls, and where the validation loss does, the metric is better than before."""
    problem = subject.problem.model_copy(
        update={"epochs": EPOCHS, "milestones": (), "decay": "linear", "warmup_epochs": 0}
    )
    network, metric = models.build(problem, 0), subject.task.metric
    before, loss_before = evaluate(network, subject.task, subject.data, "validation")
    run = Run(Cell.dense(problem, 0), network, subject.data, load("dense"), {})
    run.execute()
    losses: list[Any] = run.progress.history["train_loss"]
    final, loss = (run.progress.measures[name]["final"]["validation"] for name in (metric.name, "loss"))
    seen = f"training loss {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} epochs" if losses else "it diverged"
    seen += f"; validation {metric.label} {metric.text(before, 2)} to {metric.text(final, 2)}"
    learned = len(losses) == EPOCHS and losses[-1] < losses[0] and math.isfinite(final)
    worst = metric.limits[0 if metric.higher_is_better else 1]  # of a network that gives one answer to all, too
    worse = metric.is_better(before, final) and metric.is_better(subject.task.chance(subject.data), final)
    if learned and loss < FELL * loss_before and worse and final != worst:
        high = "higher" if metric.higher_is_better else "lower"
        return False, f"{seen}, though {high} is said to be better and the validation loss fell"
    return learned, seen


PROMISES: dict[str, Callable[[Subject], Kept]] = {
    "data repeat": _data_repeat,
    "initial weights repeat": _network_repeats,
    "network takes the data": _network_takes_data,
    "weights to prune": _has_prunable,
    "loss": _loss_trains,
    "sums add up": _sums_add_up,
    "metric": _metric_fits,
    "learns": _learns,
}
