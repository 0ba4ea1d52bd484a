"""What a setting of the recipe gains, and what it does to accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError
from benchmark.measure.common import usable_device
from benchmark.methods import load
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.throughput import make_run, time_loop
from benchmark.training.loop import Run
from benchmark.training.precision import prepare_device


@dataclass(frozen=True)
class Recipe:
    """A problem and its data."""

    problem: Problem
    data: Batches

    @property
    def about(self) -> str:
        problem = self.problem
        return f"{problem.model} on {problem.dataset}, batch {problem.batch_size}, {self.data.device.type}"


@dataclass(frozen=True)
class Gain:
    """ratios: images/s with the setting over those without, a value a turn; first: seconds of its first iteration."""

    ratios: list[float]
    first: float


def two_recipes(
    name: str, settings: Mapping[str, Any], setting: Mapping[str, Any], device: str, folder: Path | None, threads: int
) -> tuple[Recipe, Recipe]:
    """Without and with the setting. Raises UserError."""
    there = usable_device(device)
    torch.set_num_threads(threads)
    plain, changed = (load_problem(name, {**settings, **more})[0] for more in ({}, setting))
    if plain == changed:
        shown = ", ".join(f"{key}={value}" for key, value in setting.items())
        raise UserError(f"{shown}: that is the recipe of {name} already; give a setting that changes it")
    for problem in (plain, changed):
        prepare_device(problem, there)
    first, second = (Recipe(problem, open_data(problem, there, folder)) for problem in (plain, changed))
    return first, second


def gain(without: Recipe, with_it: Recipe, iterations: int, repeats: int) -> Gain:
    plain, changed = (_begun(recipe) for recipe in (without, with_it))
    first = _timed(with_it, changed, 1)
    _timed(without, plain, iterations)
    _timed(with_it, changed, iterations)
    ratios = []
    for _ in range(repeats):
        before = _timed(without, plain, iterations)
        ours = _timed(with_it, changed, iterations)
        ratios.append((before + _timed(without, plain, iterations)) / 2 / ours)
    return Gain(ratios, first)


def _begun(recipe: Recipe) -> Run:
    return make_run(recipe.problem, recipe.data)


def _timed(recipe: Recipe, run: Run, iterations: int) -> float:
    prepare_device(recipe.problem, recipe.data.device)  # the process has one setting, and two recipes take turns
    return time_loop(run, iterations)


def accuracies(without: Recipe, with_it: Recipe, seed: int) -> tuple[float, float]:
    """Final test accuracy of the dense run without and with the setting, as fractions."""
    found = []
    for recipe in (without, with_it):
        prepare_device(recipe.problem, recipe.data.device)
        network = models.build(recipe.problem, seed).to(recipe.data.device)
        run = Run(Cell.dense(recipe.problem, seed), network, recipe.data, load("dense"), {})
        found.append(run.execute().measures["accuracy"]["final"]["test"])
    return found[0], found[1]
