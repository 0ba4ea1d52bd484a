"""IMP's retraining as one CUDA graph a step, over the suite's eager loop and over torch.compile's own graphs.

What is captured is the suite's own step, with tensors of the device in place of what the host hands it: the number of
the batch within a chunk of augmented ones, and the learning rate. On a processor the same code runs uncaptured.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.measure.common import Crew
from benchmark.measure.loops import of_noise, retraining_run, whole_batches
from benchmark.measure.timing import Seconds, Turns, take_turns, timed
from benchmark.problems.batches import ImageBatch
from benchmark.problems.data import Data
from benchmark.training.latency import synchronise
from benchmark.training.loop import Run

EAGER, COMPILED, GRAPH = "eager", "reduce-overhead", "graph"
LOOPS = (EAGER, COMPILED, GRAPH)
BATCHES = 14
"""Of a chunk: 22 MB of CIFAR's images, and half an epoch of the noise."""
WARM_UP = 3
CHECKED = 8
"""Steps whose losses are compared; rounding grows from step to step."""
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 3e-2, "fp16": 3e-2}
"""Of a loss, by precision, relative to the eager one. A loop that reads wrong batches or rates is far beyond it."""

Steps = Iterator[None]
"""Endless; every `next` is one training step."""


def chunks(data: Data) -> Iterator[list[ImageBatch]]:
    """Whole augmented batches, epoch after epoch."""
    whole = whole_batches(data)
    length = min(BATCHES, whole)
    for epoch in count():
        for first in range(0, whole - length + 1, length):
            yield list(data.training_batches(0, epoch, first, first + length))


def eager(run: Run, data: Data) -> Steps:
    """As the suite trains, compiled where the recipe says so."""
    rates = run.rates
    assert rates is not None
    k = 0
    for chunk in chunks(data):
        for inputs, targets in chunk:
            run.step(k, float(rates[k % len(rates)]), inputs, targets)
            run.session.pause(run)
            k += 1
            yield


class WholeStep:
    """A training step for which the host only says "go": `replay`. It goes through the batches of `fill`."""

    def __init__(self, run: Run, example: list[ImageBatch]):
        device, rates = run.data.device, run.rates
        assert rates is not None
        self.run = run
        self.images = _stacked(images for images, _ in example)
        self.targets = torch.stack([targets for _, targets in example])
        self.rates = torch.from_numpy(np.asarray(rates, dtype=np.float32)).to(device)
        self.k, self.number = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        run.step.sums.keeps = False  # a replay writes where the one before has written
        self.replay: Callable[[], None] = self._step
        start = {name: value.clone() for name, value in run.network.state_dict().items()}
        if device.type == "cuda":
            self.replay = self._captured()
        else:
            self._warm_up()
        self._back_to(start)

    def fill(self, chunk: list[ImageBatch]) -> None:
        self.images.copy_(_stacked(images for images, _ in chunk))
        self.targets.copy_(torch.stack([targets for _, targets in chunk]))
        self.number.zero_()

    def _step(self) -> None:
        inputs = self.images.index_select(0, self.number)[0].permute(0, 3, 1, 2)
        targets = self.targets.index_select(0, self.number)[0]
        rate: Any = self.rates.index_select(0, self.k)[0]
        self.run.step(0, rate, inputs, targets)  # IMP does the same in every iteration
        self.k.add_(1).remainder_(len(self.rates))
        self.number.add_(1).remainder_(len(self.images))

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._step()

    def _captured(self) -> Callable[[], None]:
        """torch asks for a few steps on another stream before a capture: they choose algorithms and make momentum."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._warm_up()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def _back_to(self, start: Mapping[str, Tensor]) -> None:
        """Undo the warm-up in place, since a graph knows addresses. Momentum that is zero is momentum that is new."""
        self.run.network.load_state_dict(start)
        for state in self.run.step.optimizer.state.values():
            state["momentum_buffer"].zero_()
        self.run.step.sums.reset()
        self.k.zero_()
        self.number.zero_()


def _stacked(batches: Iterator[Tensor]) -> Tensor:
    """(batches, b, height, width, channels), so that a batch is channels last."""
    return torch.stack([images.permute(0, 2, 3, 1) for images in batches])


def whole_steps(run: Run, data: Data) -> Steps:
    step = WholeStep(run, next(chunks(data)))
    for chunk in chunks(data):
        step.fill(chunk)
        for _ in chunk:
            step.replay()
            yield


def make(name: str, recipe: Problem, device: torch.device, alone: bool = True) -> tuple[Run, Steps]:
    """A loop of LOOPS from the same pruned network as the others, at the schedule's largest rates: before them losses
    hardly change, and would be the same whatever a step did."""
    data = Data(recipe.model_copy(update={"compile": COMPILED if name == COMPILED else "none"}), device)
    run = retraining_run(data, alone=alone)
    assert run.rates is not None
    run.rates = run.rates[run.rates.argmax() :]
    return run, (whole_steps if name == GRAPH else eager)(run, data)


def losses(run: Run, steps: Steps) -> Tensor:
    """Of CHECKED steps: shape (CHECKED,)."""
    totals = [torch.zeros(())]
    for _ in islice(steps, CHECKED):
        totals.append(run.step.sums.totals()[0].detach().cpu().clone())
    return torch.stack(totals).diff() / run.data.problem.batch_size


def compare(
    model: str,
    settings: Mapping[str, Any],
    loops: Sequence[str],
    processes: int,
    iterations: int,
    repeats: int,
    device: str,
) -> tuple[Problem, dict[str, float], Turns]:
    """The recipe, the largest relative difference of a loss from eager by loop, and seconds an image, eager being the
    baseline. `processes` train at the same time, each a network of its own. Raises UserError."""
    for name in loops:
        if name not in LOOPS[1:]:
            raise UserError(f"--loops {name}: some of {','.join(LOOPS[1:])}, which are compared with {EAGER}")
    recipe, there = of_noise("cifar10", {"precision": "bf16", **settings, "model": model}, device)
    images = processes * iterations * recipe.batch_size
    with Crew(
        multiprocessing.get_context("spawn"), processes, _work, recipe, there, tuple(loops), processes == 1
    ) as crew:
        answers = crew.receive()
        differences = {name: max(answer[name] for answer in answers) for name in loops}

        def train(name: str) -> Seconds:
            """Until the last has done its iterations."""
            return timed(lambda: crew.ask((name, iterations)))[0].per(images)

        turns = take_turns(lambda: train(EAGER), {name: lambda name=name: train(name) for name in loops}, repeats)  # type: ignore[misc]
    for name, difference in differences.items():
        if not difference <= TOLERANCE[recipe.precision]:
            raise UserError(
                f"{name}: its losses are not those of eager training, but differ by {difference:.2g} of them"
            )
    return recipe, differences, turns


def _work(connection: Connection, recipe: Problem, device: torch.device, loops: Sequence[str], alone: bool) -> None:
    torch.set_num_threads(1)  # the host says only what comes next
    made = {name: make(name, recipe, device, alone) for name in (EAGER, *loops)}
    trained = {name: losses(run, steps) for name, (run, steps) in made.items()}
    connection.send({name: _difference(trained[name], trained[EAGER]) for name in loops})
    while (order := connection.recv()) is not None:
        name, iterations = order
        for _ in islice(made[name][1], iterations):
            pass
        synchronise(device)
        connection.send("trained")


def _difference(values: Tensor, expected: Tensor) -> float:
    return float(((values - expected).abs() / expected.abs()).max())
