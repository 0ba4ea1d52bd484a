"""Processes side by side, each with its share of the cores, over processes that nobody manages."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmark.cells import Problem
from benchmark.launch.machine import cores
from benchmark.measure.common import Crew, usable_device
from benchmark.measure.loops import dense_run, drive, endless
from benchmark.measure.timing import Seconds, Turns, take_turns, timed
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.training.precision import prepare_device

MANAGED = "managed"


def compare(
    name: str, settings: Mapping[str, Any], count: int, iterations: int, repeats: int, device: str
) -> tuple[Problem, Turns]:
    """The recipe, and seconds an image of `count` processes: MANAGED have cores / count threads, the baseline a thread
    a core. Raises UserError."""
    recipe, _ = load_problem(name, {**settings, "dataset": "noise"})
    there = usable_device(device)
    prepare_device(recipe, there)
    models.build(recipe, 0)  # refuses what is no network before any process is started
    images = count * iterations * recipe.batch_size
    with ExitStack() as stack:

        def crew(threads: int) -> Crew:
            made = Crew(multiprocessing.get_context("spawn"), count, _train, recipe, there, threads, count == 1)
            stack.callback(made.end)
            made.receive()
            return made

        def train(crew: Crew) -> Seconds:
            """Until the last has done its iterations."""
            return timed(lambda: (crew.send(iterations), crew.receive()))[0].per(images)  # type: ignore[func-returns-value]

        managed, unmanaged = crew(max(1, cores() // count)), crew(cores())
        return recipe, take_turns(lambda: train(unmanaged), {MANAGED: lambda: train(managed)}, repeats)


def _train(connection: Connection, recipe: Problem, device: torch.device, threads: int, alone: bool) -> None:
    torch.set_num_threads(threads)
    run = dense_run(Data(recipe, device), alone)
    batches = endless(run.data)
    connection.send("ready")
    while (iterations := connection.recv()) is not None:
        drive(run, iterations, batches)
        connection.send("trained")
