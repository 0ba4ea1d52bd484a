"""Does a pruning method keep what the suite promises of every method? (`benchmark.check METHOD`)"""

from __future__ import annotations

import difflib
import inspect
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import Budget, Cell, Problem, Scalar
from benchmark.errors import UserError, told
from benchmark.methods import check_hyperparameters, declaration, load, settings_of
from benchmark.metric import metric_of
from benchmark.planning.plan import refuse_unfit
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.recording import make_record
from benchmark.results.records import Record
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.loop import Run
from benchmark.training.method import Method
from benchmark.training.session import Interrupted, Session

TINY: dict[str, Any] = {"epochs": 4, "milestones": [2, 3], "warmup_epochs": 1}
RETRAINING = ("ALLR", Budget(50, "%"))
"""The schedule and budget that methods with retraining are checked with."""


@dataclass(frozen=True)
class Promise:
    """name: what is promised. kept: whether it is. detail: what was seen."""

    name: str
    kept: bool
    detail: str


@dataclass
class Trial:
    """Runs of one cell on the same data, from the same dense network if the method starts from one.

    Args:
        cell: that is run.
        data: of its problem.
        dense: the run of the dense network.
        dense_weights: those that it ended with, by name.
        dense_record: its record, in which the weights have no hash.
    """

    cell: Cell
    data: Batches
    dense: Run
    dense_weights: dict[str, torch.Tensor]
    dense_record: Record

    @classmethod
    def prepare(cls, cell: Cell) -> Trial:
        data = open_data(cell.problem, torch.device("cpu"))
        dense = Cell.dense(cell.problem, cell.seed)
        run = Run(dense, models.build(cell.problem, cell.seed), data, load("dense"), {})
        run.execute()
        weights = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        record = {**make_record(dense, run, None), "weights_sha256": ""}
        return cls(cell, data, run, weights, record)

    def run(self, should_stop: Callable[[], bool] = lambda: False, checkpoints: Checkpoints | None = None) -> Run:
        """A new run, set up as by a worker, to be executed."""
        declared = declaration(self.cell.method)
        network = models.build(self.cell.problem, self.cell.seed)
        if declared.from_dense:
            network.load_state_dict(self.dense_weights)
        return Run(
            self.cell,
            network,
            self.data,
            load(self.cell.method),
            settings_of(self.cell),
            session=Session(checkpoints, should_stop=should_stop),
            start_position=self.dense_iterations if declared.from_dense else 0,
        )

    def record(self, run: Run) -> Record:
        return make_record(self.cell, run, self.dense_record if declaration(self.cell.method).from_dense else None)

    @property
    def dense_iterations(self) -> int:
        return self.cell.problem.epochs * self.data.iterations_per_epoch

    @property
    def iterations(self) -> int:
        """The iterations that the cell should train for."""
        if self.cell.budget is None:
            return self.dense_iterations
        return self.cell.budget.iterations(self.cell.problem.epochs, self.data.iterations_per_epoch)


@dataclass
class Watch:
    """Checks the weights before every iteration, as the `should_stop` of a run; never stops it.

    revived: the first time that a pruned weight was not zero. changed: the first time that a forward pass left other
    trained weights behind. looked: iterations so far. masked: whether any weight was pruned in one of them.
    """

    run: Run | None = None
    revived: str = ""
    changed: str = ""
    looked: int = 0
    masked: bool = False

    def __call__(self) -> bool:
        assert self.run is not None
        method, masks = self.run.method, self.run.method.masks
        before = [weight.detach().clone() for weight in masks.weights]
        method.enter_forward()
        for name, weight, mask in zip(masks.names, masks.weights, masks.tensors, strict=True):
            pruned = mask == 0
            self.masked = self.masked or bool(pruned.any())
            nonzero = int(torch.count_nonzero(weight.detach()[pruned]))
            if nonzero and not self.revived:
                self.revived = f"{nonzero} pruned weights of {name} are not zero before iteration {self.looked}"
        method.exit_forward()
        for name, weight, earlier in zip(masks.names, masks.weights, before, strict=True):
            if not torch.equal(weight.nan_to_num(), earlier.nan_to_num()) and not self.changed:
                self.changed = f"{name} has changed in an evaluation before iteration {self.looked}"
        self.looked += 1
        return False


def make_cell(method: str, problem: Problem, sparsity: float, hyperparameters: dict[str, Scalar] | None = None) -> Cell:
    """The cell that a method is checked with. Raises UserError."""
    if method == "dense":
        raise UserError("method dense prunes nothing: there is nothing to check")
    schedule, budget = RETRAINING if declaration(method).retrains else (None, None)
    if not 0 < sparsity < 1:
        raise UserError(f"--sparsity {sparsity:g}: a fraction pruned, a number above 0 and below 1")
    cell = Cell(problem, method, 0, schedule, sparsity, budget, check_hyperparameters(method, hyperparameters or {}))
    refuse_unfit([cell])
    return cell


def check(cell: Cell, interruptions: Sequence[int] | None = None) -> Iterator[Promise]:
    """All promises, each with whether it is kept; the last one is an error of the method's code, if there was one.

    interruptions: the iterations to stop before, random ones if None.
    """
    kind = load(cell.method)
    if not issubclass(kind, Method):
        raise UserError(f"method {cell.method}: {kind.__name__} is no subclass of benchmark.training.method.Method")
    misspelled = _misspelled(kind)
    if misspelled:
        yield Promise("its hooks are called", False, misspelled)
    trial = Trial.prepare(cell)
    try:
        yield from _promises(trial, interruptions)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's method does
        yield Promise("runs without an error", False, told(error))


def _misspelled(method: type) -> str:
    """Which function of the class looks like a hook that there is not, "" if none does."""
    hooks = {name for name in vars(Method) if not name.startswith("_")}
    bases = method.__mro__[: method.__mro__.index(Method)]
    functions = [value for base in bases for value in vars(base).values() if inspect.isfunction(value)]
    called = {name for function in functions for name in function.__code__.co_names}
    for base in bases:
        for name in hooks & vars(base).keys():
            function = vars(base)[name]
            if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
                return f"{name} has a yield or is async, so that calling it runs none of it"
        public_names = [
            name for name, value in vars(base).items() if inspect.isfunction(value) and not name.startswith("_")
        ]
        for name in (name for name in public_names if name not in hooks | called):
            if near := difflib.get_close_matches(name, hooks - vars(base).keys(), n=1, cutoff=0.9):
                return f"{name} is called by nothing: perhaps {near[0]}"
    return ""


def _promises(trial: Trial, interruptions: Sequence[int] | None) -> Iterator[Promise]:
    plain = trial.run()
    plain.execute()
    smaller = plain.method.smaller()
    if not isinstance(smaller, torch.nn.Module | None):
        raise TypeError(f"smaller() gives a {type(smaller).__name__}, not a network or None")
    record = trial.record(plain)
    metric = metric_of(record)
    value = metric.text(record[metric.name]["final"]["validation"])
    remarks = "".join(f"; {remark}" for remark in record["remarks"])
    yield Promise("trains", record["status"] != "collapsed", f"validation {metric.label} {value}{remarks}")
    length = record["iterations"]["total"]
    yield Promise(
        "keeps to its length", length == trial.iterations, f"{length} iterations of {trial.iterations} that it has"
    )
    yield _sparsity(plain, record)
    watch = Watch()
    watched = watch.run = trial.run(should_stop=watch)
    watched.execute()
    kept = f"in {watch.looked} iterations" if watch.masked else "no weight was masked before the end of training"
    yield Promise("keeps pruned weights at zero", not watch.revived, watch.revived or kept)
    yield Promise("leaves trained weights alone", not watch.changed, watch.changed or "in every forward pass")
    different = _difference(record, trial.record(watched))
    yield Promise("is deterministic", not different, different or "a second run ended bit for bit as the first")
    yield _resumption(trial, record, interruptions)
    speed, dense = _speed(plain), _speed(trial.dense)
    yield Promise(
        "cost", True, f"{speed:.0f} images/s, about {speed / dense:.2f} of dense training on so small a network"
    )


def _sparsity(run: Run, record: Record) -> Promise:
    masks, target = run.method.masks, run.method.target_sparsity
    if target is None:
        return Promise("reaches its sparsity", True, "it has none that it must reach")
    zeros = sum(layer["zeros"] for layer in record["sparsity"]["layers"].values())
    missing = round(target * masks.total) - zeros
    detail = f"{zeros} of {masks.total} weights are zero, {100 * record['sparsity']['prunable']:.2f} %"
    learned = record["sparsity"]["learned"]
    if learned is not None:
        detail += f"; {100 * learned:.2f} % before the final prune"
    few = f"; {missing} too few" if missing > 0 else ""
    missed = "; tables will mark it as one that missed its target" if record["status"] == "missed_target" else ""
    return Promise("reaches its sparsity", missing <= 0, detail + few + missed)


def _resumption(trial: Trial, expected: Record, interruptions: Sequence[int] | None) -> Promise:
    stops = sorted(set(_draw(trial) if interruptions is None else interruptions))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", trial.cell.id)
        done = 0
        for stop in stops:
            run = trial.run(_stop_after(stop - done), checkpoints)
            try:
                run.execute()
            except Interrupted:
                done = stop
            else:
                return Promise("resumes exactly", False, f"it cannot be stopped before iteration {stop}")
        run = trial.run(checkpoints=checkpoints)
        run.execute()
    where = f"stopped before iterations {', '.join(map(str, stops))}"
    different = _difference(expected, trial.record(run))
    return Promise("resumes exactly", not different, f"{where}: {different or 'it ended as the run that was not'}")


def _draw(trial: Trial) -> list[int]:
    """Two random iterations, and the end of a random epoch."""
    per_epoch, last = trial.data.iterations_per_epoch, trial.iterations - 1
    return [random.randint(1, last), random.randint(1, last), per_epoch * random.randint(1, max(last // per_epoch, 1))]  # noqa: S311


def _stop_after(iterations: int) -> Callable[[], bool]:
    calls = count(1)
    return lambda: next(calls) > iterations


def _difference(first: Record, second: Record) -> str:
    """The keys whose values differ in two records, "" if none does."""
    parts = [key for key in first if first[key] != second[key]]
    return f"these differ: {', '.join(parts)}" if parts else ""


def _speed(run: Run) -> float:
    return run.progress.images / max(run.progress.seconds["training"], 1e-9)
