"""What worker processes take, and how much of the images each of them has to itself, as Linux counts it."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.measure.common import MB, Crew, peak_mb, usable_device
from benchmark.measure.loops import dense_run, drive
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.cache import ArraySource, Images, Labels, Raw, cached
from benchmark.problems.data import Data

PART = 5_000


@dataclass(frozen=True)
class Memory:
    """Of one worker, in MB.

    Args:
        peak: resident at most.
        proportional: resident, where what it shares is divided among those that share it.
        images: the mapped array.
        resident: of that array.
        private: of that array.
        gpu: allocated at most on the GPU; 0 without one.
    """

    peak: float
    proportional: float
    images: float
    resident: float
    private: float
    gpu: float


def of_workers(images: int, model: str, workers: int, iterations: int, device: str) -> list[Memory]:
    """Workers that are forked as the pool's are, and all train at once. Raises UserError away from Linux."""
    there = usable_device(device)
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("memory: /proc/self/smaps_rollup is not there; this measurement needs Linux")
    recipe, _ = load_problem("cifar10", {"model": model})
    models.build(recipe, 0)  # refuses what is no network before any images are made
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        os.environ["PRUNING_BENCHMARK_CACHE"] = folder
        _open(recipe, images)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmark.launch.preload"])
        with Crew(context, workers, _work, recipe, images, iterations, there, workers == 1) as crew:
            crew.receive()  # they have trained
            return crew.ask("look")


def _open(recipe: Problem, images: int) -> ArraySource:
    """Noise in the cache of decoded images, where a real problem's images are."""

    def noise(count: int) -> Raw:
        return Raw(count, _noise(count, recipe.classes))

    return cached(recipe, "noise", "noise", lambda: noise(images), lambda: noise(1000), [])


def _noise(count: int, classes: int) -> Iterator[tuple[Images, Labels]]:
    stream = np.random.default_rng(0)
    for first in range(0, count, PART):
        n = min(PART, count - first)
        yield stream.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), stream.integers(classes, size=n)


def _work(
    connection: Connection, recipe: Problem, images: int, iterations: int, device: torch.device, alone: bool
) -> None:
    torch.set_num_threads(1)
    run = dense_run(Data(recipe, device, source=_open(recipe, images)), alone)
    drive(run, iterations)
    for _ in run.data.training_batches(0, 1):  # every image once
        pass
    connection.send("trained")
    connection.recv()
    connection.send(_look(device))
    connection.recv()  # until all have looked, since what is shared depends on who lives


def _look(device: torch.device) -> Memory:
    rollup = dict(_fields(Path("/proc/self/smaps_rollup").read_text()))
    mapped: dict[str, float] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith("/training.npy")
        elif inside:
            for name, value in _fields(line):
                mapped[name] = mapped.get(name, 0) + value
    private = mapped.get("Private_Clean", 0) + mapped.get("Private_Dirty", 0)
    peak = peak_mb()
    gpu = torch.cuda.max_memory_allocated(device) / MB if device.type == "cuda" else 0.0
    return Memory(peak, rollup["Pss"], mapped.get("Size", 0), mapped.get("Rss", 0), private, gpu)


def _fields(text: str) -> Iterator[tuple[str, float]]:
    """Lines such as "Rss:   123 kB", in MB."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            yield name, int(rest.split()[0]) / 1024
