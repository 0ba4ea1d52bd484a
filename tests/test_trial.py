"""The trial of a task, a data set and a network of one's own before a sweep: what does not fit, and what does."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.check_problem import check_problem
from benchmark.errors import UserError
from benchmark.metric import Metric
from benchmark.planning.grid import load_problem
from benchmark.problems.data import open_data
from benchmark.results.store import Store
from benchmark.tasks.classification import Classification
from benchmark.trial import try_out
from tests import user_task
from tests.commands import as_command
from tests.test_own_task import OWN, RECIPE

SMALL = {"epochs": 3, "milestones": (1,)}


def attempt(**change: str) -> None:
    parts = {**OWN, **{key: f"tests.test_trial:{name}" for key, name in change.items()}}
    try_out(open_data(Problem(**{**RECIPE, **SMALL, **parts}), torch.device("cpu")))


def classify(**change: str) -> None:
    parts = {key: f"tests.test_trial:{name}" for key, name in change.items()}
    recipe = {**RECIPE, **SMALL, "task": "classification", "classes": 4, **parts}
    try_out(open_data(Problem(**recipe), torch.device("cpu")))


# --- what fits -----------------------------------------------------------------------------------------------------


class LargeBatches(nn.Module):
    """Takes no fewer than 8 examples in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        if self.training and len(x) < 8:
            raise ValueError("at least 8 examples")
        return self.layers(x)


def large_batches(problem):
    return LargeBatches()


class AreaUnderCurve(user_task.Turning):
    """Of "is the angle above 60 degrees"; undefined where all examples are of one class, as few are."""

    metric = Metric("auc", "AUC", bounds=(0.0, 1.0))

    def loss(self, outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], (targets > 0.9).float())

    def zeros(self, device):
        return torch.zeros((), device=device), torch.zeros((), device=device), torch.zeros(2, 100, device=device)

    def sums(self, network, inputs, outputs, targets):
        bins, positive = (99 * outputs[:, 0].sigmoid()).long(), targets > 0.9
        counts = [torch.bincount(bins[positive == kind], minlength=100) for kind in (False, True)]
        return (
            len(targets) * self.loss(outputs, targets),
            torch.tensor(float(len(targets))),
            torch.stack(counts).float(),
        )

    def value(self, sums):
        negative, positive = sums[2].sum(1).tolist()
        if not negative or not positive:
            raise ValueError("only one class present")
        below = sums[2][0].cumsum(0) - sums[2][0] / 2
        return float((sums[2][1] * below).sum() / (negative * positive))

    def chance(self, targets):
        return 0.5


class HardestFive(user_task.Turning):
    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).square().topk(5).values.mean()


class Density(user_task.Turning):
    """A loss below 0."""

    metric = Metric("nll", "negative log-likelihood", "nats", higher_is_better=False)

    def loss(self, outputs, targets):
        return ((outputs[:, 0] - targets) / 2).square().mean() - 3

    def sums(self, network, inputs, outputs, targets):
        total = len(targets) * self.loss(outputs, targets)
        return total, torch.tensor(float(len(targets))), total

    def value(self, sums):
        return (sums[2] / sums[1]).item()

    def chance(self, targets):
        return -2.9


class Heads(nn.Module):
    """The number of heads is a buffer, which says the shape of a view."""

    def __init__(self):
        super().__init__()
        self.register_buffer("heads", torch.tensor(4))
        self.first, self.last = nn.Linear(16, 32), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.first(x).relu().view(len(x), int(self.heads), -1).mean(1))


def heads(problem):
    return Heads()


class Inverse(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Linear(16, 16, bias=False), nn.Linear(16, 1)

    def forward(self, x):
        return self.last((x @ torch.linalg.inv(self.mix.weight)).relu())


def inverse(problem):
    return Inverse()


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.last(torch.func.vmap(lambda row: (row @ self.first.weight.t()).relu())(x))


def mapped(problem):
    return Mapped()


def with_gaps(problem):
    """Inputs with missing values."""
    (inputs, targets), test = user_task.views(problem)
    stream = np.random.default_rng(1)
    return (np.where(stream.random(inputs.shape) < 0.02, np.nan, inputs), targets), test


class FillsGaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.layers(x.nan_to_num())


def fills_gaps(problem):
    return FillsGaps()


FITTING = [
    {"model": "large_batches"},
    {"task": "AreaUnderCurve"},
    {"task": "HardestFive"},
    {"task": "Density"},
    {"model": "heads"},
    {"model": "inverse"},
    {"model": "mapped"},
    {"dataset": "with_gaps", "model": "fills_gaps"},
]


@pytest.mark.parametrize("change", FITTING, ids=str)
def test_what_fits_is_neither_refused_nor_said_to_break_a_promise(change: dict[str, str]):
    attempt(**change)
    parts = {**OWN, **{key: f"tests.test_trial:{name}" for key, name in change.items()}}
    broken = [finding for finding in check_problem(Problem(**{**RECIPE, **SMALL, **parts})) if not finding[1]]
    assert not broken


# --- what does not -------------------------------------------------------------------------------------------------


def wrong_width(problem):
    return nn.Linear(15, 1)


class OneForAll(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, x):
        return self.layer(x).mean(0, keepdim=True)


def one_for_all(problem):
    return OneForAll()


class Remembers(nn.Module):
    """Adds what it gave the last time, whose graph is gone."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(16, 1), None

    def forward(self, x):
        outputs = self.layer(x)
        outputs, self.last = outputs if self.last is None else outputs + self.last[: len(x)], outputs
        return outputs


def remembers(problem):
    return Remembers()


class Vectors(user_task.Turning):
    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).square()


class Raises(user_task.Turning):
    def value(self, sums):
        raise KeyError("degrees")


class Words(user_task.Turning):
    def value(self, sums):
        return "five"


class Exits(user_task.Turning):
    def loss(self, outputs, targets):
        raise SystemExit(0)


class FiveSums(user_task.Turning):
    def sums(self, *given):
        return (*super().sums(*given), torch.zeros(()), torch.zeros(()))


class NoChance(user_task.Turning):
    def chance(self, targets):
        raise LookupError("none")


class NanChance(user_task.Turning):
    def chance(self, targets):
        return math.nan


class WholeZeros(user_task.Turning):
    def zeros(self, device):
        return torch.zeros(3, dtype=torch.int64, device=device).unbind()


class Counts(user_task.Turning):
    """Of a vector an example: the inherited `correct` does not fit."""

    counts_correct = True

    def correct(self, outputs, targets):
        return (outputs.argmax(1) == targets[:-1]).sum()


class TensorLoss(user_task.Turning):
    def mean_loss(self, sums):
        return torch.stack(sums)


def test_columns(problem):
    training, (inputs, targets) = user_task.views(problem)
    return training, (inputs, targets[:, None])


test_columns.__test__ = False  # type: ignore[attr-defined]


def fewer_features(problem):
    training, (inputs, targets) = user_task.views(problem)
    return training, (inputs[:, :15], targets)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "wrong_width"}, "wrong_width do not fit together: RuntimeError: addmm: mat1 and mat2"),
        ({"model": "one_for_all"}, "outputs of shape (1, 1) for 50 examples"),
        ({"model": "remembers"}, "RuntimeError: Trying to backward through the graph a second time"),
        ({"task": "Vectors"}, "the loss of 50 examples is a tensor of shape (50,), not one finite number"),
        ({"task": "Raises"}, "KeyError: 'degrees', at test_trial.py line"),
        ({"task": "Words"}, "metric mean error: its value is a str, not a number"),
        ({"task": "Exits"}, "SystemExit: 0, at test_trial.py line"),
        ({"task": "FiveSums"}, "the task's zeros are 3 tensors, its sums 5"),
        ({"task": "NoChance"}, "LookupError: none, at test_trial.py line"),
        ({"task": "NanChance"}, "its chance is nan"),
        ({"task": "WholeZeros"}, "can't be cast to the desired output type Long"),
        ({"task": "Counts"}, "write one, or set counts_correct = False"),
        ({"task": "TensorLoss"}, "be converted to Python scalars"),
        ({"dataset": "test_columns"}, "to train on are float32 (1000,), and to test on float32 (200, 1)"),
        ({"dataset": "fewer_features"}, "mat1 and mat2 shapes cannot be multiplied (50x15 and 16x32)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, str], words: str):
    with pytest.raises(UserError, match=r"^problem own: ") as caught:
        attempt(**change)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def labels(low: int, high: int):
    def made(problem):
        stream = np.random.default_rng(0)
        targets = stream.integers(0, 4, 300)
        targets[200], targets[250] = low, high
        inputs = stream.normal(0, 1, (300, 16)).astype(np.float32)
        return (inputs[:250], targets[:250]), (inputs[250:], targets[250:])

    return made


fitting_labels, high_labels, low_labels = labels(0, 3), labels(0, 4), labels(-1, 0)


def four(problem):
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))


def three(problem):
    return nn.Linear(16, 3)


class OnNumpy(Classification):
    """By numpy, which has no bfloat16."""

    def correct(self, outputs, targets):
        return torch.tensor(int((outputs.numpy().argmax(1) == targets.numpy()).sum()))


def test_targets_and_outputs_are_the_classes_of_the_recipe():
    classify(dataset="fitting_labels", model="four")
    with pytest.raises(UserError, match=r"its test targets go from 0 to 4; classes 4 takes 0 to 3$"):
        classify(dataset="high_labels", model="four")
    with pytest.raises(UserError, match=r"its training targets go from -1 to 3; classes 4 takes 0 to 3$"):
        classify(dataset="low_labels", model="four")
    with pytest.raises(UserError, match=r"outputs of shape \(50, 3\) tell 3 classes apart, not 4$"):
        classify(dataset="fitting_labels", model="three")


def test_the_trial_is_in_the_recipes_precision():
    parts = {"dataset": "fitting_labels", "model": "four", "task": "OnNumpy"}
    recipe = {**RECIPE, **SMALL, "classes": 4, **{key: f"tests.test_trial:{name}" for key, name in parts.items()}}
    try_out(open_data(Problem(**recipe), torch.device("cpu")))
    with pytest.raises(UserError, match=r"correct\(outputs, targets\) fails .*BFloat16"):
        try_out(open_data(Problem(**recipe, precision="bf16"), torch.device("cpu")))


def test_a_sweep_refuses_before_it_trains_anything(tmp_path: Path):
    recipe = {**RECIPE, **OWN, "model": "tests.test_trial:wrong_width", "milestones": [1]}
    recipe.pop("name")
    (tmp_path / "own.yaml").write_text(json.dumps({"about": "own", "recipe": recipe}))
    arguments = ["table1", "--problem", str(tmp_path / "own.yaml"), "--seeds", "1", "--tracking", "off"]
    done = as_command("benchmark.sweep", *arguments, "--results", str(tmp_path / "runs"))
    assert done.returncode == 2, done.stdout
    assert re.fullmatch(r"error: problem own: task .* do not fit together: .*\n", done.stderr), done.stderr
    assert not Store(tmp_path / "runs").ids()
    assert not list((tmp_path / "runs").glob("failures/*/*"))


def test_a_network_that_cannot_translate_is_refused_with_what_it_lacks():
    problem, _ = load_problem("translation", {"model": "tests.user_networks:only_logits"})
    with pytest.raises(UserError, match=r"the network has no generate\(source, length, start, stop\)"):
        try_out(open_data(problem, torch.device("cpu")))
