"""Whether training works on a device: every method's steps, precisions, resuming, and agreement with the processor."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import Problem, cut
from benchmark.errors import UserError
from benchmark.measure.loops import cell_of, dense_run, drive, of_noise
from benchmark.measure.method_costs import Steps, draw, parse_methods
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.pruning.masks import norm_of_difference
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.evaluation import evaluate
from benchmark.training.loop import Run
from benchmark.training.session import Interrupted, Session

ITERATIONS = 20
"""Of a method's steps: DPF selects every 16."""
CPU = torch.device("cpu")
PRECISIONS = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp16": 5e-2}
"""How far the mean loss of a few steps may be from the processor's in fp32, as a part of it."""
LINE = 200


def show(settings: Mapping[str, Any], device: str) -> bool:
    """Print a line a check; whether all went well. Raises UserError."""
    recipe, there = of_noise("cifar10", {"model": "resnet20", "epochs": 2, "milestones": [1], **settings}, device)
    name = torch.cuda.get_device_name(there) if there.type == "cuda" else there.type
    print(f"{recipe.model}, {recipe.precision}, {name}, torch {torch.__version__}", flush=True)
    good = True
    for label, check in _checks(Smoke(recipe, there)):
        started = time.perf_counter()
        try:
            result = check()
        except Exception as error:  # one check's trouble, whatever it is, is not the next one's
            message = cut(" ".join(f"{type(error).__name__}: {error}".split()), LINE)
            refused = isinstance(error, UserError) and there.type != "cuda"  # a GPU has every precision
            good, result = good and refused, f"left out: {error}" if refused else f"FAILED: {message}"
        print(f"{label}: {result} ({time.perf_counter() - started:.1f} s)", flush=True)
    return good


def _checks(smoke: Smoke) -> Iterator[tuple[str, Callable[[], str]]]:
    for name in ("dense", "IMP", *parse_methods("all")):
        yield f"steps of {name}", partial(smoke.steps, name)
    for precision in PRECISIONS:
        yield f"precision {precision}", partial(smoke.precision, precision)
    yield "evaluation", smoke.evaluation
    yield "resuming", smoke.resuming


class Smoke:
    """The checks. Each returns what it saw, and raises whatever goes wrong."""

    def __init__(self, recipe: Problem, device: torch.device):
        self.recipe, self.device = recipe, device
        self.data, self.reference = Data(recipe, device), Data(recipe, CPU)

    def steps(self, name: str) -> str:
        """After two that prepare, the host must not wait for the device, which is what reading a value does."""
        steps = Steps(name, self.data, draw(self.data, ITERATIONS))
        steps(2)
        with _without_reads(self.device):
            steps(ITERATIONS)
        waits = " without a wait" if self.device.type == "cuda" else ""
        return f"{ITERATIONS}{waits}, mean loss {_mean_loss(steps.run):.3f}"

    def precision(self, name: str) -> str:
        """The first steps of dense training against the processor's in float32."""
        recipe = self.recipe.model_copy(update={"precision": name})
        values = []
        for data in (Data(recipe, self.device), self.reference):
            run = dense_run(data)
            drive(run, 3)
            values.append(_mean_loss(run))
        difference = abs(values[0] / values[1] - 1)
        _demand(difference <= PRECISIONS[name], f"loss {values[0]:.5f}, on the processor {values[1]:.5f}")
        return f"loss within {difference:.1g} of the processor's in fp32"

    def evaluation(self) -> str:
        network = models.build(self.recipe, 0)
        task = dense_run(self.reference).task
        expected = evaluate(network, task, self.reference, "test")
        metric, loss = evaluate(network.to(self.device), task, self.data, "test")
        _demand(math.isclose(loss, expected[1], rel_tol=1e-3), f"loss {loss:.5f}, on the processor {expected[1]:.5f}")
        return f"loss within {abs(loss / expected[1] - 1):.1g} of the processor's, metric {metric:.3f}"

    def resuming(self) -> str:
        """A run that is stopped in mid-phase and goes on from its checkpoint, over one that never stopped."""
        with tempfile.TemporaryDirectory(prefix="smoke-") as folder, _deterministic():
            whole = self._run(Session())
            whole.execute()
            checkpoints = Checkpoints(Path(folder), whole.cell.id)
            stops = iter([False] * (self.data.iterations_per_epoch + 2))
            try:
                self._run(Session(checkpoints, should_stop=lambda: next(stops, True))).execute()
            except Interrupted:
                again = self._run(Session(checkpoints))
                again.execute()
            _demand(not checkpoints.refused, "; ".join(checkpoints.refused))
        weights = [run.network.parameters() for run in (whole, again)]
        apart = norm_of_difference([one.detach() - other.detach() for one, other in zip(*weights, strict=True)])
        difference = apart / norm_of_difference(list(whole.network.parameters()))
        _demand(difference <= 1e-2, f"the weights differ by {difference:.2g} of their norm")
        return "the same weights" if not difference else f"weights within {difference:.1g} of their norm"

    def _run(self, session: Session) -> Run:
        cell, network = cell_of("DPF", self.recipe), models.build(self.recipe, 0).to(self.device)
        return Run(cell, network, self.data, load("DPF"), dict(METHODS["DPF"].defaults), session=session)


def _mean_loss(run: Run) -> float:
    mean = run.step.sums.mean_loss()
    _demand(math.isfinite(mean), f"a loss of {mean}")
    return mean


def _demand(good: bool, complaint: str) -> None:
    if not good:
        raise ArithmeticError(complaint)


@contextmanager
def _without_reads(device: torch.device) -> Iterator[None]:
    """A block in which waiting for the GPU raises RuntimeError."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def _deterministic() -> Iterator[None]:
    """A block in which cuDNN takes algorithms that repeat exactly."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
