"""Processes side by side, each with its share of the cores, over processes that nobody manages."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmark.cells import Problem
from benchmark.launch.machine import cores
from benchmark.measure.common import Crew
from benchmark.measure.loops import dense_run, drive, endless, of_noise
from benchmark.measure.timing import Seconds, Turns, take_turns, timed
from benchmark.problems.data import Data

MANAGED = "managed"


def compare(
    name: str, settings: Mapping[str, Any], count: int, iterations: int, repeats: int, device: str
) -> tuple[Problem, Turns]:
    """The recipe, and seconds an image of `count` processes: MANAGED have cores / count threads, the baseline a thread
    a core. Raises UserError."""
    recipe, there = of_noise(name, settings, device)
    images = count * iterations * recipe.batch_size

    def crew(threads: int) -> Crew:
        return Crew(multiprocessing.get_context("spawn"), count, _train, recipe, there, threads, count == 1)

    def train(crew: Crew) -> Seconds:
        """Until the last has done its iterations."""
        return timed(lambda: crew.ask(iterations))[0].per(images)

    with crew(max(1, cores() // count)) as managed, crew(cores()) as unmanaged:
        managed.receive()
        unmanaged.receive()
        return recipe, take_turns(lambda: train(unmanaged), {MANAGED: lambda: train(managed)}, repeats)


def _train(connection: Connection, recipe: Problem, device: torch.device, threads: int, alone: bool) -> None:
    torch.set_num_threads(threads)
    run = dense_run(Data(recipe, device), alone)
    batches = endless(run.data)
    connection.send("ready")
    while (iterations := connection.recv()) is not None:
        drive(run, iterations, batches)
        connection.send("trained")
