"""What a setting of the recipe gains, and what it does to the metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmark.errors import UserError
from benchmark.measure.common import usable_device
from benchmark.measure.loops import dense_run, drive, endless
from benchmark.measure.timing import Seconds, take_turns, timed
from benchmark.metric import Metric
from benchmark.planning.grid import load_problem
from benchmark.problems.batches import Batch, Batches
from benchmark.problems.data import open_data
from benchmark.training.loop import Run
from benchmark.training.precision import prepare_device


def with_and_without(
    name: str, settings: Mapping[str, Any], setting: Mapping[str, Any], device: str, folder: Path | None, threads: int
) -> tuple[Batches, Batches]:
    """Data of the recipe without and with the setting. Raises UserError."""
    there = usable_device(device)
    torch.set_num_threads(threads)
    plain, changed = (load_problem(name, {**settings, **more})[0] for more in ({}, setting))
    if plain == changed:
        shown = ", ".join(f"{key}={value}" for key, value in setting.items())
        raise UserError(f"{shown}: that is the recipe of {name} already; give a setting that changes it")
    for problem in (plain, changed):
        prepare_device(problem, there)
    return open_data(plain, there, folder), open_data(changed, there, folder)


def gain(without: Batches, with_it: Batches, iterations: int, repeats: int) -> tuple[list[float], float]:
    """(images/s with the setting over those without, a value a turn; seconds of the first iteration with it)."""
    plain, changed = ((dense_run(data), endless(data)) for data in (without, with_it))
    first = _train(*changed, 1)
    turns = take_turns(lambda: _train(*plain, iterations), {"with it": lambda: _train(*changed, iterations)}, repeats)
    return turns.ratios("with it"), first.wall * _batch(with_it)


def _train(run: Run, batches: Iterator[Batch], iterations: int) -> Seconds:
    """An image's."""
    prepare_device(run.cell.problem, run.data.device)  # the process has one setting, and two recipes take turns
    return timed(lambda: drive(run, iterations, batches), run.data.device)[0].per(iterations * _batch(run.data))


def _batch(data: Batches) -> int:
    """Images of a whole batch, in which two recipes may differ."""
    return min(data.problem.batch_size, data.training_images)


def final_test(data: Batches, seed: int) -> tuple[Metric, float]:
    """The metric, and its value on the test images after a dense run, as tables show it."""
    run = dense_run(data, seed=seed)
    metric = run.task.metric
    return metric, metric.shown(run.execute().measures[metric.name]["final"]["test"])
