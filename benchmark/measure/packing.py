"""Processes side by side, each with its share of the cores, over processes that nobody manages."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from benchmark.cells import Problem
from benchmark.launch.machine import cores
from benchmark.measure.common import Crew
from benchmark.planning.grid import load_problem


def compare(
    name: str, settings: Mapping[str, Any], count: int, iterations: int, repeats: int
) -> tuple[Problem, list[float], list[float]]:
    """(recipe, images/s of `count` processes with cores / count threads, of as many with a thread a core)."""
    recipe, _ = load_problem(name, {**settings, "dataset": "noise"})
    managed, unmanaged = _Team(recipe, count, max(1, cores() // count)), _Team(recipe, count, cores())
    teams = (managed, unmanaged)
    rates: tuple[list[float], list[float]] = ([], [])
    try:
        for turn in range(repeats + 1):
            for team, found in zip(teams, rates, strict=True):
                rate = team.run(iterations)
                if turn:  # the first warms up
                    found.append(rate)
    finally:
        for team in teams:
            team.end()
    return recipe, *rates


class _Team:
    """Processes that train the same thing at the same time."""

    def __init__(self, recipe: Problem, count: int, threads: int):
        self.images = count * recipe.batch_size
        context = multiprocessing.get_context("spawn")
        self.crew = Crew(context, count, _train, recipe, threads)
        self.crew.receive()

    def run(self, iterations: int) -> float:
        """Images/s of all together, until the last has done its iterations."""
        started = time.perf_counter()
        self.crew.send(iterations)
        self.crew.receive()
        return iterations * self.images / (time.perf_counter() - started)

    def end(self) -> None:
        self.crew.end()


def _train(connection: Connection, recipe: Problem, threads: int) -> None:
    import torch

    from benchmark.problems.data import Data
    from benchmark.throughput import make_run, time_loop

    torch.set_num_threads(threads)
    run = make_run(recipe, Data(recipe, torch.device("cpu")))
    connection.send("ready")
    while (iterations := connection.recv()) is not None:
        connection.send(time_loop(run, iterations))
