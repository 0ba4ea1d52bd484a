"""Training several networks as one batched model, over training them one after the other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmark.cells import Problem
from benchmark.grid import load_problem
from benchmark.measure.common import usable_device
from benchmark.method_costs import synchronise
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.problems.fits import check_stack
from benchmark.throughput import pruned_run, time_loop
from benchmark.training.loop import Run, Turn
from benchmark.training.precision import prepare_device
from benchmark.training.stack import Stack
from benchmark.training.together import Member, Stopwatch, step


def compare(
    name: str, settings: Mapping[str, Any], device: str, threads: int, count: int, iterations: int, repeats: int
) -> tuple[Problem, list[float], list[float]]:
    """(recipe, images/s of `count` pruned networks one after the other, and as one model), by turns. On noise."""
    there = usable_device(device)
    torch.set_num_threads(threads)
    problem, _ = load_problem(name, {**settings, "dataset": "noise"})
    check_stack(problem, count)
    prepare_device(problem, there)
    data = Data(problem, there)
    single, together = (
        [pruned_run(problem, data, models.build(problem, 0).to(there)) for _ in range(count)] for _ in range(2)
    )
    stack = Stack([run.network for run in together], problem)
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        spent = sum(time_loop(run, iterations) for run in single), _time_together(together, stack, iterations)
        if turn:  # the first warms up
            for found, seconds in zip(rates, spent, strict=True):
                found.append(count * iterations * problem.batch_size / seconds)
    return problem, *rates


def _time_together(runs: list[Run], stack: Stack, iterations: int) -> float:
    data, rate = runs[0].data, runs[0].cell.problem.learning_rate / 10
    members = {Member(run.turns(), Stopwatch()): run for run in runs}
    per_epoch = data.iterations_per_epoch
    synchronise(data.device)
    started = time.perf_counter()
    for epoch in range(-(-iterations // per_epoch)):
        left = min(per_epoch, iterations - epoch * per_epoch)
        for k, (images, labels) in enumerate(data.training_batches(0, epoch, 0, left)):
            step({member: Turn(run, k, k, rate, images, labels, last=False) for member, run in members.items()}, stack)
    synchronise(data.device)
    return time.perf_counter() - started
