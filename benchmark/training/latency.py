"""Latency: how long a prediction takes, before and after filters were removed."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.problems.batches import Batches
from benchmark.problems.models import memory_format
from benchmark.training.precision import autocast

WARM_UP = 3
REPEATS = 30
LEAST_REPEATS = 5
SECONDS = 5.0
"""After this long no repeat begins, once there are LEAST_REPEATS."""


@torch.no_grad()
def compare(masked: nn.Module, smaller: nn.Module, data: Batches) -> dict[str, Any]:
    """Median seconds of a forward pass by network and batch size (1 and the recipe's), inputs already on the device.

    The networks alternate, so that other load on the machine affects both alike. Both end in evaluation mode. Returns
    {"batch": [1, 64], "masked": [...], "smaller": [...], "repeats": [...]}.
    """
    latencies: dict[str, Any] = {"batch": [], "masked": [], "smaller": [], "repeats": []}
    problem, device, layout = data.problem, data.device, memory_format(data.problem)
    networks = {"masked": masked.eval(), "smaller": smaller.to(memory_format=layout).eval()}  # type: ignore[call-overload]
    for batch in sorted({1, problem.batch_size}):
        inputs = tuple(_laid_out(value, layout) for value in data.example(batch))
        times: dict[str, list[float]] = {name: [] for name in networks}
        started = time.perf_counter()
        with autocast(problem.precision, device):
            for repeat in range(WARM_UP + REPEATS):
                if repeat >= WARM_UP + LEAST_REPEATS and time.perf_counter() - started > SECONDS:
                    break
                for name, network in networks.items():
                    seconds = _time(network, inputs, device)
                    if repeat >= WARM_UP:
                        times[name].append(seconds)
        latencies["batch"].append(batch)
        latencies["repeats"].append(len(times["masked"]))
        for name, repeats in times.items():
            latencies[name].append(median(repeats))
    return latencies


def _laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    """Images as training has them; other inputs as they are."""
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value


def _time(network: nn.Module, inputs: tuple[Tensor, ...], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    network(*inputs)
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
