"""The training loop: one step, and a run of phases around it that can stop and go on at any iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Cell, Scalar
from benchmark.problems.batches import Batches
from benchmark.pruning.selection import NotANumber
from benchmark.training import generators
from benchmark.training.checkpoint import Checkpoints, Trunks
from benchmark.training.compiled import Forward, compiled
from benchmark.training.evaluation import evaluate, recalibrate
from benchmark.training.group import ALONE, Group
from benchmark.training.method import Context, Method
from benchmark.training.optimizer import make_optimizer
from benchmark.training.precision import LossScale, autocast
from benchmark.training.schedules import LearningRates, dense_learning_rates, dense_warmup_iterations

EPOCH_PATIENCE = 0.25
"""Share of `checkpoint_seconds` after which the end of an epoch is a moment for a checkpoint."""
HISTORY = (
    "epoch",
    "iteration",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is saved."""


@dataclass
class Progress:
    """Where a run stands: everything of a checkpoint that is not tensors of network, optimizer or method.

    phase, iteration: the position in the phases; position: iterations since the start of the data order, which
    decides the next batch; cut_short: training stopped because loss or weights were no longer finite; seconds:
    "inherited" is the part of "training" that a run of another cell did (Method.trunk).
    """

    position: int
    phase: int = 0
    iteration: int = 0
    cut_short: bool = False
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY})
    measures: dict[str, dict[str, dict[str, float]]] = field(default_factory=lambda: {"accuracy": {}, "loss": {}})
    cycles: list[dict[str, Any]] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "inherited": 0.0})
    images: int = 0


class Step:
    """One training iteration. Loss and correct predictions accumulate on the device, read once an epoch."""

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        optimizer: torch.optim.Optimizer,
        data: Batches,
        group: Group = ALONE,
    ):
        problem = data.problem
        self.forward: Forward = group.wrap(network)
        self.group = group
        if problem.compile != "none":
            self.forward = compiled(network, problem)
        self.method = method
        self.precision, self.device = problem.precision, data.device
        self.scale = LossScale(data.device) if problem.precision == "fp16" else None
        self.use(optimizer)
        self.loss = torch.zeros((), device=data.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=data.device)
        self.count = 0

    def use(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = self.method.optimizer = optimizer
        if self.scale is not None:
            self.scale.prepare(optimizer)

    def __call__(self, k: int, rate: float, images: Tensor, labels: Tensor) -> None:
        method, optimizer, scale = self.method, self.optimizer, self.scale
        method.before_iteration(k)
        for group in optimizer.param_groups:
            group["lr"] = rate
        method.enter_forward()
        with autocast(self.precision, self.device):
            logits = self.forward(images)
            loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        weighed = self.group.weigh(loss, len(labels))
        (weighed if scale is None else scale.scale(weighed)).backward()
        method.exit_forward()
        if scale is None:
            method.after_backward()
            optimizer.step()
        else:
            scale.unscale(optimizer, method)
            method.after_backward()
            scale.step(optimizer)
        method.after_step()
        if len(labels):
            loss = loss.detach()
            # a loss that overflowed float16 belongs to a step that was skipped, which ends nothing
            self.loss += (loss if scale is None else loss.nan_to_num(0, 0, 0)) * len(labels)
            self.correct += (logits.detach().argmax(1) == labels).sum()
            self.count += len(labels)

    def totals(self) -> tuple[Tensor, ...]:
        """Loss, correct predictions and images of the epoch so far, over all ranks; shape () each."""
        return self.group.total(self.loss, self.correct, torch.tensor(self.count))

    def state(self) -> dict[str, Tensor]:
        """The same of each rank, shape (ranks,) each: added up here, they would be added in another order than by a run
        that was not stopped, which the last digits of the record would tell."""
        parts = self.group.of_each(self.loss, self.correct, torch.tensor(self.count))
        return dict(zip(("loss", "correct", "count"), parts, strict=True))

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`; where that is of another number of ranks, the first carries on what all had counted."""
        if len(state["loss"]) == self.group.ranks:
            own = {name: parts[self.group.rank] for name, parts in state.items()}
        else:
            own = {name: parts.sum() * int(self.group.leads) for name, parts in state.items()}
        self.loss.copy_(own["loss"])
        self.correct.copy_(own["correct"])
        self.count = int(own["count"])


class Run:
    """One cell's training from its start, or its last checkpoint, to its end.

    report(iterations done, of all, values) is called at every epoch; should_stop() is asked at every iteration.
    parent: hash of the dense weights that `network` starts with, "" if it starts from its initial ones.
    validate_every: epochs from one validation to the next; every phase ends with one.
    began: when this attempt did; earlier: "total", "training" and "evaluation" seconds of the attempts before it, each
    up to its last checkpoint.
    """

    def __init__(
        self,
        cell: Cell,
        network: nn.Module,
        data: Batches,
        make_method: Callable[[Context], Method],
        hyperparameters: dict[str, Scalar],
        checkpoints: Checkpoints | None = None,
        checkpoint_seconds: float = 60.0,
        validate_every: int = 1,
        report: Callable[[int, dict[str, float]], None] = lambda done, values: None,
        should_stop: Callable[[], bool] = lambda: False,
        start_position: int = 0,
        trunks: Trunks | None = None,
        group: Group = ALONE,
        parent: str = "",
    ):
        problem = cell.problem
        generators.seed_all(cell.seed)
        self.cell, self.network, self.data, self.group = cell, network, data, group
        self.checkpoints, self.checkpoint_seconds, self.trunks = checkpoints, checkpoint_seconds, trunks
        self.origin = {"data": data.fingerprint, "parent": parent}
        self.validate_every, self.report, self.should_stop = validate_every, report, should_stop
        dense_rates = dense_learning_rates(problem, data.iterations_per_epoch)
        self.method = make_method(
            Context(
                cell=cell,
                network=network,
                hyperparameters=hyperparameters,
                iterations_per_epoch=data.iterations_per_epoch,
                dense_rates=dense_rates,
                dense_warmup=dense_warmup_iterations(problem, data.iterations_per_epoch, len(dense_rates)),
                measure=self.measure,
                recalibrate=self.recalibrate,
                note=self.note,
            )
        )
        self.progress = Progress(position=start_position)
        self.rates: LearningRates | None = None
        self.step = Step(network, self.method, make_optimizer(self.method, problem), data, group)
        self._saved_at = time.monotonic()
        self.began = time.perf_counter()
        self.earlier: dict[str, float] = {}

    def execute(self) -> Progress:
        """Train to the end and measure "final". Raises Interrupted after saving when it is asked to stop."""
        self._restore()
        try:
            self._train()
            if not self.progress.cut_short:
                self.method.finish()
        except NotANumber:
            self.progress.cut_short = True
        self.measure("final")
        return self.progress

    def _train(self) -> None:
        while self.progress.phase < self.method.phases and not self.progress.cut_short:
            if self.rates is None:
                self._begin_phase()
            self._train_phase()
            self.progress.phase += 1
            self.progress.iteration = 0
            self.rates = None
            self._leave_trunk()

    def measure(self, name: str) -> dict[str, float]:
        """Evaluate on the validation and test images, kept under `name`; returns the accuracies by split."""
        accuracy, loss = {}, {}
        with self._evaluating():
            for split in ("validation", "test"):
                accuracy[split], loss[split] = evaluate(self.network, self.data, split, self.group)
        self.progress.measures["accuracy"][name] = accuracy
        self.progress.measures["loss"][name] = loss
        return accuracy

    def recalibrate(self) -> None:
        with self._evaluating():
            recalibrate(self.network, self.data, self.cell.seed)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """With the weights in place that the network computes with. They do not exist where training broke down."""
        started = time.perf_counter()
        defined = not self.progress.cut_short
        if defined:
            self.method.enter_forward()
        yield
        if defined:
            self.method.exit_forward()
        self.progress.seconds["evaluation"] += time.perf_counter() - started

    def note(self, values: dict[str, Any]) -> None:
        self.progress.cycles.append(values)

    def _begin_phase(self) -> None:
        if self.progress.phase and not self.method.keeps_optimizer:
            self._start_optimizer()
        self.rates = self.method.begin(self.progress.phase)
        self.progress.rates.append(self.rates.tolist())

    def _start_optimizer(self) -> None:
        self.step.use(make_optimizer(self.method, self.cell.problem))

    def _train_phase(self) -> None:
        assert self.rates is not None
        rates = self.rates.tolist()
        self.network.train()
        while self.progress.iteration < len(rates) and not self.progress.cut_short:
            self._train_epoch(rates)
        if not all(bool(weight.isfinite().all()) for weight in self.network.parameters()):
            self.progress.cut_short = True  # the last step broke them: nothing that follows would be a number

    def _train_epoch(self, rates: list[float]) -> None:
        """The rest of the current epoch of the data order, or of the phase if that ends sooner."""
        progress, per_epoch = self.progress, self.data.iterations_per_epoch
        epoch, first = divmod(progress.position, per_epoch)
        last = min(per_epoch, first + len(rates) - progress.iteration)
        started = time.perf_counter()
        for images, labels in self.data.training_batches(self.cell.seed, epoch, first, last):
            due = self._checkpoint_due(between_epochs=progress.position % per_epoch == 0)
            stop, save = self.group.decide(self.should_stop(), due)
            if stop or save:
                progress.seconds["training"] += time.perf_counter() - started
                self._save()
                if stop:
                    raise Interrupted(f"stopped before iteration {progress.iteration} of phase {progress.phase}")
                started = time.perf_counter()
            if len(labels) or self.group.ranks > 1:  # ranks take every step together, also one without images here
                self.step(progress.iteration, rates[progress.iteration], images, labels)
            progress.iteration += 1
            progress.position += 1
        self._end_epoch(rates[progress.iteration - 1], started)

    def _end_epoch(self, rate: float, started: float) -> None:
        progress, step = self.progress, self.step
        lost, correct, counted = step.totals()
        count = max(1, int(counted))  # none where not one image could be read
        train_loss = lost.item() / count  # waits for the device, so the clock is read after it
        progress.seconds["training"] += time.perf_counter() - started
        progress.images += count
        if not math.isfinite(train_loss):
            progress.cut_short = True
            return
        values = {
            "epoch": progress.position / self.data.iterations_per_epoch,
            "iteration": progress.position,
            "learning_rate": rate,
            "train_loss": train_loss,
            "train_accuracy": correct.item() / count,
        }
        if self._validation_due():
            with self._evaluating():
                accuracy, loss = evaluate(self.network, self.data, "validation", self.group)
            values |= {"validation_loss": loss, "validation_accuracy": accuracy}
        for name in HISTORY:
            progress.history[name].append(values.get(name, math.nan))
        step.loss.zero_()
        step.correct.zero_()
        step.count = 0
        self.report(progress.position, values)

    def _validation_due(self) -> bool:
        assert self.rates is not None
        epoch = self.progress.position // self.data.iterations_per_epoch
        return epoch % self.validate_every == 0 or self.progress.iteration == len(self.rates)

    # Checkpoints

    def _checkpoint_due(self, between_epochs: bool) -> bool:
        """Every `checkpoint_seconds`, and with every epoch unless epochs are so short that it would slow training."""
        patience = self.checkpoint_seconds * (EPOCH_PATIENCE if between_epochs else 1.0)
        return self.checkpoints is not None and time.monotonic() - self._saved_at >= patience

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        state = self._state()
        if self.group.leads:
            self.checkpoints.save(state)
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        state = self.checkpoints.load(self.data.device) if self.checkpoints is not None else None
        if state is not None and state["origin"] == self.origin:
            self._adopt(state)
            seconds = self.progress.seconds
            own = {"training": seconds["training"] - seconds["inherited"], "evaluation": seconds["evaluation"]}
            self.earlier = {"total": state["elapsed"], **own}
            return
        if state is not None and self.checkpoints is not None:
            changed = "data" if state["origin"]["data"] != self.origin["data"] else "dense network"
            self.checkpoints.refused.append(f"the {changed} changed since the checkpoint was written; starting again")
        self._start_from_trunk()

    def _leave_trunk(self) -> None:
        name = self.method.trunk(self.progress.phase)
        if self.trunks is not None and name is not None and not self.progress.cut_short:
            state = self._state()
            if self.group.leads:
                self.trunks.save(name, state)

    def _start_from_trunk(self) -> None:
        """Take up the longest part of this run that another one left."""
        for phase in range(self.method.phases - 1, 0, -1):
            name = self.method.trunk(phase)
            state = self.trunks.load(name, self.data.device) if self.trunks is not None and name is not None else None
            if state is not None and state["origin"] == self.origin:
                self._adopt(state)
                self.progress.seconds["inherited"] = self.progress.seconds["training"]
                self.progress.seconds["evaluation"] = 0.0
                return

    @property
    def seconds(self) -> dict[str, Any]:
        """What the cell took by now, in all attempts, as records have it."""
        elapsed = self.earlier.get("total", 0.0) + time.perf_counter() - self.began
        attempts = {"earlier": self.earlier} if self.earlier else {}
        return {"total": elapsed, **self.progress.seconds, **attempts}

    def _state(self) -> dict[str, Any]:
        """Everything that decides how the run goes on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "scale": None if self.step.scale is None else self.step.scale.state_dict(),
            "method": self.method.state_dict(),
            "progress": vars(self.progress),
            "elapsed": self.seconds["total"],
            "rates": None if self.rates is None else torch.from_numpy(self.rates),
            "epoch so far": self.step.state(),
            "origin": self.origin,
            "generators": generators.states(),
        }

    def _adopt(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.method.load_state_dict(state["method"])
        self._start_optimizer()
        self.step.optimizer.load_state_dict(state["optimizer"])
        if self.step.scale is not None:
            self.step.scale.load_state_dict(state["scale"])
        self.progress = Progress(**state["progress"])
        self.rates = None if state["rates"] is None else np.asarray(state["rates"].numpy())
        self.step.adopt(state["epoch so far"])
        generators.restore(state["generators"])
