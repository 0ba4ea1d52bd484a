"""What each method's step costs, in images/s over dense training in the same run, and DST's over a plain one's.

Batches are drawn before the clock starts. On a CPU the processor time of the same steps is compared as well: it hardly
sees what else runs on the machine, while wall time does.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import torch

from analysis.paper.table2 import published_numbers
from benchmark.errors import UserError
from benchmark.measure.loops import SPARSITY, cell_of
from benchmark.measure.plain_dst import PlainDST
from benchmark.measure.timing import Seconds, Timed, Turns, clocked, quartiles, rates, take_turns, timed
from benchmark.methods import METHODS, load
from benchmark.problems import models
from benchmark.problems.batches import ImageBatch
from benchmark.problems.data import Data
from benchmark.training.loop import Run

MOST_BATCHES = 8


class Driven(Run):
    """A run whose steps are called from outside; pruning evaluates nothing."""

    def measure(self, name: str) -> dict[str, float]:
        return {"validation": 0.0, "test": 0.0}

    def recalibrate(self) -> None: ...


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

    def __init__(self, name: str, data: Data, batches: Sequence[ImageBatch]):
        problem, cell = data.problem, cell_of(name, data.problem)
        METHODS[name].check(cell, METHODS[name].defaults)
        network = models.build(problem, 0).to(data.device)
        self.run = Driven(cell, network, data, load(name), dict(METHODS[name].defaults))
        for phase in range(self.run.method.phases):
            rates = self.run.method.begin(phase)
        network.train()
        self.first = max(len(rates) - data.iterations_per_epoch, 0)
        self.length = len(rates) - self.first
        self.done = 0
        self.weights = self.run.method.masks.weights
        self.batches, self.rate = batches, problem.learning_rate / 10

    def __call__(self, iterations: int) -> None:
        for _ in range(iterations):
            images, labels = self.batches[self.done % len(self.batches)]
            self.run.step(self.first + self.done % self.length, self.rate, images, labels)
            self.done += 1

    def without_network(self, gradients: list[torch.Tensor]) -> None:
        """All of a step but the network's forward and backward. gradients: made up, at the masked weights."""
        method, optimizer = self.run.method, self.run.step.optimizer
        for group in optimizer.param_groups:
            group["lr"] = self.rate
        method.enter_forward()
        optimizer.zero_grad()
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        method.exit_forward()
        method.after_backward()
        optimizer.step()


def draw(data: Data, iterations: int) -> list[ImageBatch]:
    """Some whole batches of the first epoch."""
    count = max(1, min(iterations, MOST_BATCHES, data.training_images // data.problem.batch_size))
    return [(images.clone(), labels) for images, labels in data.training_batches(0, 0, 0, count)]


def compare_methods(data: Data, names: Sequence[str], iterations: int, repeats: int) -> list[str]:
    """A line a method: medians over dense training with quartiles, and its speed over BIMP's beside the published."""
    batches = draw(data, iterations)
    images = sum(len(batches[k % len(batches)][1]) for k in range(iterations))

    def steps(name: str) -> Timed:
        return clocked(partial(Steps(name, data, batches), iterations), images, data.device)

    turns = take_turns(steps("dense"), {name: steps(name) for name in names}, repeats)
    clock = "processor" if data.device.type == "cpu" else "wall"
    speed = statistics.median(rates(turns.baseline))
    published = published_numbers()  # without the rate of dense training: BIMP's stands in for it
    lines = [f"dense training: {speed:.0f} images/s, data loading excluded; over it:"]
    for name in names:
        parts = [f"{name:5} {_ratio(turns, name, data, '  by')}"]
        if "BIMP" in names:
            pairs = zip(turns.ratios(name, clock), turns.ratios("BIMP", clock), strict=True)
            parts.append(f"over BIMP {statistics.median(ratio / bimp for ratio, bimp in pairs):.2f}")
        if (name, SPARSITY) in published:
            rate, bimp_rate = (published[method, SPARSITY]["images_per_second"] for method in (name, "BIMP"))
            parts.append(f"(published {rate / bimp_rate:.2f})")
        lines.append("  ".join(parts))
    return lines


def _ratio(turns: Turns, name: str, data: Data, by: str) -> str:
    """Of images/s over the baseline's, by wall time, and on a CPU by processor time as well."""
    text = quartiles(turns.ratios(name))
    if data.device.type == "cpu":
        text += f"{by} processor time {quartiles(turns.ratios(name, 'processor'))}"
    return text


class PlainSteps:
    """Training steps of the plain implementation of DST, on as good as the same network."""

    def __init__(self, data: Data, batches: Sequence[ImageBatch]):
        problem = data.problem
        network = models.build(problem, 0).to(data.device)
        self.plain = PlainDST(problem, network, float(METHODS["DST"].defaults["alpha"]))
        self.plain.network.train()
        self.weights = [layer.layer.weight for layer in self.plain.layers]
        self.batches, self.rate = batches, problem.learning_rate / 10

    def __call__(self, iterations: int) -> None:
        for k in range(iterations):
            self.plain.step(self.rate, *self.batches[k % len(self.batches)])

    def without_network(self, gradients: list[torch.Tensor]) -> None:
        self.plain.step_without_network(self.rate, gradients)


def own_part(steps: Steps | PlainSteps, iterations: int, device: torch.device) -> Seconds:
    """Of an iteration without the network. Each overwrites its gradients, which are made before the clock starts."""
    weights = steps.weights
    gradients = [[torch.full_like(weight, 1e-3, requires_grad=False) for weight in weights] for _ in range(iterations)]

    def iterate() -> None:
        for tensors in gradients:
            steps.without_network(tensors)

    return timed(iterate, device)[0].per(iterations)


def compare_dst(data: Data, iterations: int, repeats: int) -> list[str]:
    """What the suite's DST takes and what a plain one does: the method's own part of a step, and whole steps."""
    batches = draw(data, iterations)
    suite, plain = Steps("DST", data, batches), PlainSteps(data, batches)
    suite(1)
    plain(1)  # every parameter has its momentum from here on
    plain_part, suite_part = (partial(own_part, steps, iterations, data.device) for steps in (plain, suite))
    parts = take_turns(plain_part, {"DST": suite_part}, repeats)
    plain_step, suite_step = (clocked(partial(steps, iterations), iterations, data.device) for steps in (plain, suite))
    whole = take_turns(plain_step, {"DST": suite_step}, repeats)
    plain_ms, suite_ms = (
        1000 * statistics.median(seconds.wall for seconds in values) for values in (parts.baseline, parts.others["DST"])
    )
    return [
        "DST's step over a plain implementation's, without the network's forward and backward: "
        f"{_ratio(parts, 'DST', data, ', by')}; plain {plain_ms:.2f} ms, the suite's {suite_ms:.2f} ms",
        f"whole step, network included: {_ratio(whole, 'DST', data, ', by')}",
    ]
