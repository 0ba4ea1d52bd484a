"""Every method and every schedule on every task, on tiny versions of them: it trains, or says in one line why not."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.cells import Budget, Cell, Problem
from benchmark.errors import UserError
from benchmark.methods import METHODS, declaration, load
from benchmark.planning.plan import refuse_unfit
from benchmark.problems import models
from benchmark.problems.arrays import ArrayData
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.problems.examples import Examples, ExampleSet, open_examples
from benchmark.problems.fits import refuse_unfit as refuse_unfit_recipe
from benchmark.recording import make_record
from benchmark.training.loop import Run
from benchmark.training.schedules import SCHEDULES

torch.set_num_threads(1)
CPU = torch.device("cpu")
ADAMW = {"optimizer": "adamw", "learning_rate": 0.003, "gradient_norm": 1.0, "decay_all": False}
SMALL = {"epochs": 2, "batch_size": 16, "milestones": (1,), "name": "tiny"}
OF_DIGITS = {"image_size": 8, "channels": 1}
OWN = {"task": "Turning", "dataset": "views", "model": "network"}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"dataset": "digits", "model": "resnet8", "width": 2, **OF_DIGITS},
    "transformers for images": {"dataset": "digits", "model": "vit", "width": 8, "depth": 1, **OF_DIGITS},
    "segmentation": {"task": "segmentation", "dataset": "tests.test_matrix:squares", "model": "unet", "width": 4}
    | {"classes": 2, **OF_DIGITS},
    "language modelling": {"task": "language_modelling", "dataset": "python_docs", "model": "transformer_lm"}
    | {"width": 16, "depth": 1, "classes": 256, "sequence_length": 16, **ADAMW},
    "translation": {"task": "translation", "dataset": "numbers", "model": "transformer", "width": 16, "depth": 1}
    | {"classes": 65, "label_smoothing": 0.1, **ADAMW},
    "one's own": {key: f"tests.user_task:{name}" for key, name in OWN.items()},
}
FILTERS = {"criterion": "filters"}


def squares(problem: Problem):
    """(training, test): bright squares on noise, and their pixels as class 1."""
    stream = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((count, 8, 8), np.int64)
        for mask, (row, column) in zip(masks, stream.integers(0, 5, (count, 2)), strict=True):
            mask[row : row + 3, column : column + 3] = 1
        return (masks + stream.normal(0, 0.3, masks.shape))[:, None], masks

    return part(160), part(40)


def recipe(task: str, **changes) -> Problem:
    return Problem(**{**SMALL, **TASKS[task], **changes})


@cache
def data(task: str) -> Batches:
    """The first few examples of the task's data."""
    problem = recipe(task)
    if problem.dataset == "digits":
        return open_data(problem.model_copy(update={"training_share": 0.2}), CPU)
    whole = open_examples(problem, None)
    few = ExampleSet(first(whole.training, 160), first(whole.test, 24))
    return ArrayData(problem, CPU, examples=few)


def first(examples: Examples, count: int) -> Examples:
    return Examples(tuple(values[:count] for values in examples.inputs), examples.targets[:count])


def train(task: str, method: str, schedule: str | None = None, sparsity: float = 0.5, **settings) -> tuple[Run, dict]:
    declared = declaration(method)
    budget = Budget(50, "%") if declared.retrains else None
    schedule = schedule or ("ALLR" if declared.retrains else None)
    target = None if method == "dense" else sparsity
    cell = Cell(recipe(task), method, 0, schedule, target, budget, tuple(sorted(settings.items())))
    refuse_unfit_recipe(cell.problem)
    refuse_unfit([cell])
    run = Run(cell, models.build(cell.problem, 0), data(task), load(method), {**declared.defaults, **settings})
    run.execute()
    return run, make_record(cell, run, None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_method_prunes_every_task_to_its_target_or_says_why_not(task: str, method: str):
    if (method, recipe(task).optimizer) == ("GSM", "adamw"):
        with pytest.raises(UserError, match=r"^problem tiny: method GSM is defined by the momentum of SGD"):
            train(task, method)
        return
    run, record = train(task, method)
    metric = run.task.metric
    for split in ("validation", "test"):
        value = record[metric.name]["final"][split]
        assert value is not None
        assert math.isfinite(value)
    assert record.get("metric") == (None if metric.name == "accuracy" else metric.to_json())
    if method != "dense":
        weights = sum(layer["weights"] for layer in record["sparsity"]["layers"].values())
        assert record["sparsity"]["prunable"] * weights >= round(0.5 * weights) - 0.5
        assert record["macs"]["speedup"] > 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("task", TASKS)
def test_every_schedule_retrains_every_task(task: str, schedule: str):
    run, record = train(task, "IMP", schedule)
    assert len(run.progress.rates[0]) == record["iterations"]["total"] > 0
    assert record["learning_rate"]["peak"] <= recipe(task).learning_rate


@pytest.mark.parametrize("task", TASKS)
def test_filters_are_for_networks_of_images(task: str):
    if recipe(task).task in ("language_modelling", "translation"):
        with pytest.raises(UserError, match="criterion filters is for networks for images"):
            train(task, "IMP", **FILTERS)
