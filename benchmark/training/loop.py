"""The training loop: the phases of a cell's method, from the start or the last checkpoint to the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from benchmark.cells import Cell, Scalar, shown
from benchmark.errors import UserError
from benchmark.problems.batches import Batch, Batches
from benchmark.pruning.selection import NotANumber
from benchmark.tasks import make_task
from benchmark.training import generators
from benchmark.training.evaluation import evaluate, recalibrate
from benchmark.training.group import ALONE, Group
from benchmark.training.method import Context, Method
from benchmark.training.optimizer import make_optimizer
from benchmark.training.options import RunOptions
from benchmark.training.progress import Progress
from benchmark.training.schedules import LearningRates, dense_learning_rates, dense_warmup_iterations
from benchmark.training.session import Session
from benchmark.training.step import Step


class Run:
    """The phases of one cell's method, iteration by iteration.

    Args:
        cell: what is trained.
        network: with the weights that training starts from.
        data: batches and splits.
        make_method: makes the method from its context.
        hyperparameters: of the method, defaults included.
        options: how to run, such as seconds between checkpoints.
        session: checkpoints, trunks and requests to stop.
        group: the ranks that train together.
        start_position: iterations of the data order that the dense run used up.
    """

    def __init__(
        self,
        cell: Cell,
        network: nn.Module,
        data: Batches,
        make_method: Callable[[Context], Method],
        hyperparameters: dict[str, Scalar],
        options: RunOptions | None = None,
        session: Session | None = None,
        group: Group = ALONE,
        start_position: int = 0,
    ):
        generators.seed_all(cell.seed)
        self.cell, self.network, self.data, self.group = cell, network, data, group
        self.options, self.session = options or RunOptions(), session or Session()
        self.task = make_task(cell.problem)
        self.task.use(data)
        dense_rates = dense_learning_rates(cell.recipe, data.iterations_per_epoch)
        self.method = make_method(
            Context(
                cell=cell,
                network=network,
                hyperparameters=hyperparameters,
                metric=self.task.metric,
                example=data.example,
                iterations_per_epoch=data.iterations_per_epoch,
                dense_rates=dense_rates,
                dense_warmup=dense_warmup_iterations(cell.recipe, data.iterations_per_epoch, len(dense_rates)),
                measure=self.measure,
                recalibrate=self.recalibrate,
                note=self.note,
            )
        )
        self.progress = Progress.begin(start_position, self.task.metric.name)
        self.rates: LearningRates | None = None
        """Learning rates of the current phase, None between phases."""
        self.step = Step(network, self.task, self.method, make_optimizer(self.method, cell.problem), data, group)
        self._since = time.perf_counter()
        """When the time that is not yet counted as training began."""

    def execute(self) -> Progress:
        """Train to the end and measure "final". Raises Interrupted, after saving, if it is asked to stop."""
        self.session.resume(self)
        progress = self.progress
        try:
            while progress.phase < self.method.phases:
                rates = self._open_phase()
                while progress.iteration < len(rates):
                    for inputs, targets in self._rest_of_epoch(len(rates)):
                        self.session.pause(self)
                        if len(targets) or self.group.ranks > 1:  # ranks step together, also without images here
                            self.step(progress.iteration, rates[progress.iteration], inputs, targets)
                        progress.iteration += 1
                        progress.position += 1
                    self._end_epoch(rates[progress.iteration - 1], last=progress.iteration == len(rates))
                self._close_phase()
            self.method.finish()
        except NotANumber:
            progress.cut_short = True
        self.measure("final")
        return progress

    def _open_phase(self) -> list[float]:
        """Begin a phase, unless the run was resumed within it; returns its learning rates."""
        if self.rates is None:
            if self.progress.phase and not self.method.keeps_optimizer:
                self.step.use(make_optimizer(self.method, self.cell.problem))
            self.rates = self._begin(self.progress.phase)
            self.progress.rates.append(self.rates.tolist())
        self.network.train()
        rates: list[float] = self.rates.tolist()
        return rates

    def _begin(self, phase: int) -> LearningRates:
        """The learning rates of a phase. UserError where somebody else's method gives something else."""
        given = self.method.begin(phase)
        try:
            rates = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            rates = np.array([np.nan])
        if rates.ndim != 1 or not (np.isfinite(rates) & (rates >= 0)).all():
            raise UserError(
                f"method {self.cell.method}: begin({phase}) gave {shown(given)}; a learning rate from 0 up for each "
                "iteration of the phase is expected"
            )
        return rates

    def _close_phase(self) -> None:
        """Raises NotANumber if a weight is not finite: nothing that follows would be a number."""
        if not all(bool(weight.isfinite().all()) for weight in self.network.parameters()):
            raise NotANumber("a weight is not finite")
        self.progress.phase += 1
        self.progress.iteration = 0
        self.rates = None
        self.session.leave_trunk(self)

    def _rest_of_epoch(self, iterations: int) -> Iterator[Batch]:
        """Batches up to the end of the epoch of the data order, or of the phase if that comes sooner."""
        epoch, first = divmod(self.progress.position, self.data.iterations_per_epoch)
        last = min(self.data.iterations_per_epoch, first + iterations - self.progress.iteration)
        self._since = time.perf_counter()
        return self.data.training_batches(self.cell.seed, epoch, first, last)

    def _end_epoch(self, rate: float, last: bool) -> None:
        """Add the epoch to the history, validating if that is due. NotANumber if the training loss is not finite."""
        progress = self.progress
        total, correct, counted = self.step.sums.totals()
        count = max(1, int(counted))  # 0 if not one image of the epoch could be read
        train_loss = total.item() / count  # waits for the device, so the clock is read after it
        progress.seconds["training"] += time.perf_counter() - self._since
        progress.images += count
        if not math.isfinite(train_loss):
            raise NotANumber("the training loss is not finite")
        values = {
            "epoch": progress.position / self.data.iterations_per_epoch,
            "iteration": progress.position,
            "learning_rate": rate,
            "train_loss": train_loss,
            "train_accuracy": correct.item() / count if self.task.counts_correct else math.nan,
        }
        if last or progress.position // self.data.iterations_per_epoch % self.options.validate_every == 0:
            with self._evaluating():
                metric, loss = evaluate(self.network, self.task, self.data, "validation", self.group)
            values |= {"validation_loss": loss, f"validation_{self.task.metric.name}": metric}
        for name, column in progress.history.items():
            column.append(values.get(name, math.nan))
        self.step.sums.reset()
        self.session.report(progress.position, values)

    # What a method may call (training.method.Context)

    def measure(self, name: str) -> dict[str, float]:
        """Evaluate on the validation and test images and keep the results as `name`; returns the metric by split."""
        metric, loss = {}, {}
        with self._evaluating():
            for split in ("validation", "test"):
                metric[split], loss[split] = evaluate(self.network, self.task, self.data, split, self.group)
        self.progress.measures[self.task.metric.name][name] = metric
        self.progress.measures["loss"][name] = loss
        return metric

    def recalibrate(self) -> None:
        drawn = generators.states()  # a pass that is remembered ends early, and dropout draws less in it
        with self._evaluating():
            recalibrate(self.network, self.data, self.cell.seed)
        generators.restore(drawn)

    def note(self, values: dict[str, Any]) -> None:
        try:
            fits = isinstance(values, dict) and bool(json.dumps(values))
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(
                f"method {self.cell.method}: note({shown(values)}); a dict of numbers, texts and lists is expected"
            )
        self.progress.cycles.append(values)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """A block in which the network has the weights that it computes with; not after training diverged."""
        started = time.perf_counter()
        finite = not self.progress.cut_short
        if finite:
            self.method.enter_forward()
        yield
        if finite:
            self.method.exit_forward()
        self.progress.seconds["evaluation"] += time.perf_counter() - started

    # What a session calls (training.session.Session)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """A block whose time does not count as training."""
        self.progress.seconds["training"] += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Everything that decides how the run continues: what a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "scale": None if self.step.scale is None else self.step.scale.state_dict(),
            "method": self.method.state_dict(),
            "progress": vars(self.progress),
            "epoch so far": self.step.sums.state(),
            "generators": generators.states(),
        }

    def adopt(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` gave."""
        self.network.load_state_dict(state["network"])
        self.method.load_state_dict(state["method"])
        self.step.use(make_optimizer(self.method, self.cell.problem))
        self.step.optimizer.load_state_dict(state["optimizer"])
        if self.step.scale is not None:
            self.step.scale.load_state_dict(state["scale"])
        self.progress = Progress(**state["progress"])
        begun = len(self.progress.rates) > self.progress.phase  # lists, since Apple's GPUs have no float64 tensors
        self.rates = np.array(self.progress.rates[-1]) if begun else None
        self.step.sums.adopt(state["epoch so far"])
        generators.restore(state["generators"])
