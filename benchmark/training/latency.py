"""Latency: how long a prediction takes, before and after filters were removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import Problem
from benchmark.problems.batches import Batches
from benchmark.problems.models import memory_format
from benchmark.training.precision import autocast

REPEATS = 30
LEAST_REPEATS = 5
SECONDS = 5.0


@torch.no_grad()
def compare(masked: nn.Module, smaller: nn.Module, data: Batches) -> dict[str, Any]:
    """Median seconds of a forward pass by network and batch size (1 and the recipe's), inputs already on the device.

    Both networks end in evaluation mode. Returns {"batch": [1, 64], "masked": [...], "smaller": [...],
    "repeats": [...]}.
    """
    latencies: dict[str, Any] = {"batch": [], "masked": [], "smaller": [], "repeats": []}
    problem, device = data.problem, data.device
    networks = {"masked": masked.eval(), "smaller": smaller.to(memory_format=memory_format(problem)).eval()}  # type: ignore[call-overload]
    for batch in sorted({1, problem.batch_size}):
        inputs = tuple(in_format(value, problem) for value in data.example(batch))
        with autocast(problem.precision, device):
            times = by_turns({name: partial(network, *inputs) for name, network in networks.items()}, device)
        latencies["batch"].append(batch)
        latencies["repeats"].append(len(times["masked"]))
        for name, repeats in times.items():
            latencies[name].append(median(repeats))
    return latencies


def by_turns(
    calls: Mapping[str, Callable[[], object]], device: torch.device, repeats: int = REPEATS, most: float = SECONDS
) -> dict[str, list[float]]:
    """Seconds of each call by its name, a value a turn.

    Every turn makes all calls, back and forth, so that other load on the machine affects all alike. Before a call is
    timed it is made once: another one has emptied the caches, which made small networks twice as slow. A turn before
    the first does not count. most: seconds after which no turn begins, once there are LEAST_REPEATS.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for turn in range(1 + repeats):
        if turn > LEAST_REPEATS and time.perf_counter() - started > most:
            break
        for name in times if turn % 2 else reversed(times):
            calls[name]()
            seconds = _time(calls[name], device)
            if turn:
                times[name].append(seconds)
    return times


def in_format(value: Tensor, problem: Problem) -> Tensor:
    """Images as training has them; other inputs as they are."""
    return value.contiguous(memory_format=memory_format(problem)) if value.dim() == 4 else value


def _time(call: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
