"""What each method's step costs, in images/s over dense training in the same run, and DST's over a plain one's.

Batches are drawn before the clock starts. On a CPU the processor time of the same steps is compared as well: it hardly
sees what else runs on the machine, while wall time does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError
from benchmark.measure.plain_dst import PlainDST
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.batches import Batch, Batches
from benchmark.training.loop import Run

PUBLISHED = {"BIMP": 1454, "GMP": 1425, "GSM": 1349, "DPF": 1456, "DNW": 530, "LC": 1436, "STR": 1396, "DST": 1219}
"""Images/s of Table 2 (Zimmer et al. 2023); their dense training is not printed, so they are read against BIMP's."""
SPARSITY = 0.9
MOST_BATCHES = 8


class Driven(Run):
    """A run whose steps are called from outside; pruning measures nothing."""

    def measure(self, name: str) -> dict[str, float]:
        return {"validation": 0.0, "test": 0.0}

    def recalibrate(self) -> None: ...


@dataclass
class Ratios:
    """Of images/s over the baseline's, a value a turn: by wall time, and by processor time (on CPUs)."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


@dataclass
class Comparison:
    """ratios: by method; speed: images/s of dense training, a value a turn."""

    ratios: dict[str, Ratios]
    speed: list[float]


def parse_methods(text: str) -> list[str]:
    """The methods of Table 2 by name, comma between, or "all". Raises UserError."""
    known = [name for name, declared in METHODS.items() if not declared.retrains and name != "dense"]
    chosen = known if text == "all" else [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in known:
            raise UserError(f"--methods {name}: all, or some of {','.join(known)}")
    return chosen


class Steps:
    """Training steps of one method in its last epoch, as if the ones before had been made."""

    def __init__(self, name: str, problem: Problem, data: Batches, batches: Sequence[Batch]):
        cell = Cell.dense(problem, 0) if name == "dense" else Cell(problem, name, 0, sparsity=SPARSITY)
        network = models.build(problem, 0).to(data.device)
        self.run = Driven(cell, network, data, load(name), dict(METHODS[name].defaults))
        for phase in range(self.run.method.phases):
            rates = self.run.method.begin(phase)
        network.train()
        self.first = max(len(rates) - data.iterations_per_epoch, 0)
        self.length = len(rates) - self.first
        self.done = 0
        self.batches, self.rate = batches, problem.learning_rate / 10

    def __call__(self, iterations: int) -> None:
        for _ in range(iterations):
            images, labels = self.batches[self.done % len(self.batches)]
            self.run.step(self.first + self.done % self.length, self.rate, images, labels)
            self.done += 1


def draw(data: Batches, iterations: int) -> list[Batch]:
    """Some whole batches of the first epoch."""
    count = max(1, min(iterations, MOST_BATCHES, data.training_images // data.problem.batch_size))
    return [(images.clone(), labels) for images, labels in data.training_batches(0, 0, 0, count)]


def timed(call: Callable[[int], None], iterations: int, device: torch.device) -> tuple[float, float]:
    """(wall, processor) seconds of some iterations."""
    synchronise(device)
    wall, processor = time.perf_counter(), time.process_time()
    call(iterations)
    synchronise(device)
    return time.perf_counter() - wall, time.process_time() - processor


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare_methods(problem: Problem, data: Batches, names: Sequence[str], iterations: int, repeats: int) -> Comparison:
    """Every turn times the methods one by one, in an order that rotates, and dense training before and after them."""
    batches = draw(data, iterations)
    dense = Steps("dense", problem, data, batches)
    steps = {name: Steps(name, problem, data, batches) for name in names}
    found = Comparison({name: Ratios() for name in names}, [])
    images = sum(len(batches[k % len(batches)][1]) for k in range(iterations))
    for turn in range(repeats + 1):
        start = turn % len(names)
        before = timed(dense, iterations, data.device)
        seconds = {name: timed(steps[name], iterations, data.device) for name in [*names[start:], *names[:start]]}
        after = timed(dense, iterations, data.device)
        if not turn:
            continue  # the first warms up
        found.speed.append(2 * images / (before[0] + after[0]))
        for name, (wall, processor) in seconds.items():
            found.ratios[name].wall.append((before[0] + after[0]) / 2 / wall)
            found.ratios[name].processor.append((before[1] + after[1]) / 2 / processor)
    return found


def lines(found: Comparison, device: torch.device) -> list[str]:
    """A line a method: medians over dense training with quartiles, and beside the published ratio ours to BIMP."""
    baseline = found.ratios.get("BIMP")
    shown = [f"dense training: {statistics.median(found.speed):.0f} images/s, data loading excluded; over it:"]
    for name, ratios in found.ratios.items():
        parts = [f"{name:5} {spread(ratios.wall)}"]
        if device.type == "cpu":
            parts.append(f"by processor time {spread(ratios.processor)}")
        if baseline is not None:
            pairs = zip(*((r.processor if device.type == "cpu" else r.wall) for r in (ratios, baseline)), strict=True)
            parts.append(f"over BIMP {statistics.median(one / other for one, other in pairs):.2f}")
        if name in PUBLISHED:
            parts.append(f"(published {PUBLISHED[name] / PUBLISHED['BIMP']:.2f})")
        shown.append("  ".join(parts))
    return shown


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})"


class PlainSteps:
    """Training steps of the plain implementation of DST, on as good as the same network."""

    def __init__(self, problem: Problem, data: Batches, batches: Sequence[Batch]):
        self.plain = PlainDST(
            problem, models.build(problem, 0).to(data.device), float(METHODS["DST"].defaults["alpha"])
        )
        self.plain.network.train()
        self.batches, self.rate = batches, problem.learning_rate / 10

    def __call__(self, iterations: int) -> None:
        for k in range(iterations):
            self.plain.step(self.rate, *self.batches[k % len(self.batches)])


class OwnPart:
    """All of a DST step but the network's own forward and backward, from given gradients at the masked weights."""

    def __init__(self, steps: Steps | PlainSteps):
        self.steps = steps
        if isinstance(steps, Steps):
            self.weights = list(steps.run.method.masks.weights)
        else:
            self.weights = [layer.layer.weight for layer in steps.plain.layers]
        self.given = [torch.full_like(weight, 1e-3, requires_grad=False) for weight in self.weights]
        self.copies: list[list[torch.Tensor]] = []

    def prepare(self, iterations: int) -> OwnPart:
        """Gradients of so many iterations, each of which overwrites its own: before the clock starts."""
        self.copies = [[gradient.clone() for gradient in self.given] for _ in range(iterations)]
        return self

    def __call__(self, iterations: int) -> None:
        for gradients in self.copies:
            if isinstance(self.steps, PlainSteps):
                self.steps.plain.step_without_network(self.steps.rate, gradients)
            else:
                self._ours(self.steps, gradients)

    def _ours(self, steps: Steps, gradients: list[torch.Tensor]) -> None:
        method, optimizer = steps.run.method, steps.run.step.optimizer
        for group in optimizer.param_groups:
            group["lr"] = steps.rate
        method.enter_forward()
        optimizer.zero_grad()
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        method.exit_forward()
        method.after_backward()
        optimizer.step()


def compare_dst(problem: Problem, data: Batches, iterations: int, repeats: int) -> list[str]:
    """What the suite's DST takes and what a plain one does: the method's own part of a step, and whole steps."""
    batches = draw(data, iterations)
    ours, plain = Steps("DST", problem, data, batches), PlainSteps(problem, data, batches)
    ours(1)
    plain(1)  # every parameter has its momentum from here on
    own = {"ours": OwnPart(ours), "plain": OwnPart(plain)}
    part, whole = Ratios(), Ratios()
    milliseconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(repeats + 1):
        parts = {name: timed(own[name].prepare(iterations), iterations, data.device) for name in own}
        steps = {"plain": timed(plain, iterations, data.device), "ours": timed(ours, iterations, data.device)}
        if not turn:
            continue  # the first warms up
        for ratios, seconds in ((part, parts), (whole, steps)):
            ratios.wall.append(seconds["plain"][0] / seconds["ours"][0])
            ratios.processor.append(seconds["plain"][1] / seconds["ours"][1])
        for name, (wall, _) in parts.items():
            milliseconds[name].append(1000 * wall / iterations)
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    found = [
        f"DST's step over a plain implementation's, without the network's forward and backward: {spread(part.wall)}",
        f"whole step, network included: {spread(whole.wall)}",
    ]
    if data.device.type == "cpu":
        found[0] += f", by processor time {spread(part.processor)}"
        found[1] += f", by processor time {spread(whole.processor)}"
    found[0] += f"; plain {medians['plain']:.2f} ms, ours {medians['ours']:.2f} ms"
    return found
