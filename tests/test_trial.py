"""The trial of a task, a data set and a network of one's own before a sweep: what does not fit, and what does."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from benchmark.cells import Problem
from benchmark.check_problem import check_problem
from benchmark.errors import UserError
from benchmark.launch.launcher import Work
from benchmark.planning.grid import load_problem, load_sweep
from benchmark.problems.data import open_data
from benchmark.results.store import Store
from benchmark.tasks.classification import Classification
from benchmark.training import given
from benchmark.trial import try_out
from tests import user_task
from tests.commands import as_command
from tests.test_own_task import OWN, RECIPE

SMALL = {"epochs": 3, "milestones": (1,)}


def attempt(**change: str) -> str:
    parts = {**OWN, **{key: name if ":" in name else f"tests.test_trial:{name}" for key, name in change.items()}}
    return try_out(open_data(Problem(**{**RECIPE, **SMALL, **parts}), torch.device("cpu")))


def classify(**change: str) -> None:
    parts = {key: f"tests.test_trial:{name}" for key, name in change.items()}
    recipe = {**RECIPE, **SMALL, "task": "classification", "classes": 4, **parts}
    try_out(open_data(Problem(**recipe), torch.device("cpu")))


FITTING = [
    {"model": "tests.user_parts:large_batches"},
    {"task": "tests.user_parts:AreaUnderCurve"},
    {"task": "tests.user_parts:HardestFive"},
    {"task": "tests.user_parts:Density"},
    {"task": "tests.user_parts:HardestForty"},
    {"model": "tests.user_parts:changes_inputs"},
    {"model": "tests.user_parts:expanded"},
    {"dataset": "tests.user_parts:sets", "model": "tests.user_parts:of_sets"},
    {"model": "tests.user_parts:heads"},
    {"model": "tests.user_parts:inverse"},
    {"task": "tests.user_parts:Vectored"},
    {"dataset": "tests.user_parts:with_gaps", "model": "tests.user_parts:fills_gaps"},
]


@pytest.mark.parametrize("change", FITTING, ids=str)
def test_what_fits_is_neither_refused_nor_said_to_break_a_promise(change: dict[str, str]):
    assert attempt(**change) == ""
    broken = [found for found in check_problem(Problem(**{**RECIPE, **SMALL, **OWN, **change})) if not found[1]]
    assert not broken


# --- what does not -------------------------------------------------------------------------------------------------


def pair(problem):
    return nn.LSTM(16, 1)  # outputs and state


class Number(user_task.Turning):
    def loss(self, outputs, targets):
        return 0.5


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
        (
            {"model": "tests.test_own_task:wrong_width"},
            "do not fit together: RuntimeError: addmm: mat1 and mat2",
        ),
        ({"model": "one_for_all"}, "outputs of shape (1, 1) for 50 examples"),
        (
            {"model": "tests.user_parts:mapped"},
            "MACs cannot be counted of a network that multiplies within",
        ),
        ({"model": "pair"}, "the network gives a tuple, not a tensor"),
        ({"task": "Number"}, "the loss is a float, not a tensor"),
        ({"model": "remembers"}, "RuntimeError: Trying to backward through the graph a second time"),
        (
            {"task": "tests.test_own_task:Vectors"},
            "the loss of 50 examples is a tensor of shape (50,), not one finite",
        ),
        ({"task": "tests.test_own_task:Raises"}, "KeyError: 'degrees', at test_own_task.py line"),
        ({"task": "tests.test_own_task:Words"}, "metric mean error: its value is a str, not a number"),
        ({"task": "tests.test_own_task:Exits"}, "SystemExit: 0, at test_own_task.py line"),
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
    with pytest.raises(UserError, match="unsupported ScalarType BFloat16"):
        try_out(open_data(Problem(**recipe, precision="bf16"), torch.device("cpu")))


def test_a_sweep_refuses_before_it_trains_anything(tmp_path: Path):
    recipe = {**RECIPE, **OWN, "model": "tests.test_own_task:wrong_width", "milestones": [1]}
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


class NeedsDriver(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def forward(self, x):
        raise RuntimeError("Found no NVIDIA driver on your system")


def needs_driver(problem):
    return NeedsDriver()


def test_what_another_machine_may_have_is_no_fault_there(monkeypatch: pytest.MonkeyPatch):
    data = open_data(
        Problem(**{**RECIPE, **SMALL, **OWN, "model": "tests.test_trial:needs_driver"}), torch.device("cpu")
    )
    with pytest.raises(UserError, match="do not fit together: RuntimeError: Found no NVIDIA driver"):
        try_out(data)
    assert "were not tried here: RuntimeError: Found no NVIDIA driver" in try_out(data, elsewhere=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "were not tried here" in try_out(data)


def test_a_network_whose_weights_are_given_is_tried_with_them(tmp_path: Path):
    network = user_task.network(Problem(**{**RECIPE, **OWN}))
    torch.save(network.state_dict(), tmp_path / "own.pt")
    raw, identity = given.content(tmp_path / "own.pt")
    problem = Problem(**{**RECIPE, **SMALL, **OWN, "model": "tests.test_trial:uninitialised", "weights": identity})
    given.keep(raw, tmp_path / "own.pt", problem, tmp_path / "given")
    data = open_data(problem, torch.device("cpu"))
    assert try_out(data, tmp_path / "given") == ""
    with pytest.raises(UserError, match="is nan, not one finite number"):
        try_out(data)


def uninitialised(problem):
    made = user_task.network(problem)
    for parameter in made.parameters():
        nn.init.constant_(parameter, math.nan)
    return made


def test_a_cluster_s_large_data_are_left_to_its_jobs(tmp_path: Path, capsys):
    sweep = load_sweep("table1", problem="cifar10", settings={"model": "tests.user_networks:mlp"})
    Work("table1", sweep, Store(tmp_path), Console()).try_own(elsewhere=True)
    assert capsys.readouterr().out == "tests.user_networks:mlp: not tried here, since the jobs open cifar10\n"


def test_a_network_that_changes_its_inputs_changes_no_data():
    data = open_data(Problem(**{**RECIPE, **SMALL, **OWN}), torch.device("cpu"))
    before = [inputs.clone() for (inputs,), _ in data.evaluation_batches("test")]
    for (inputs,), _ in data.evaluation_batches("test"):
        inputs.zero_()
    assert all(
        torch.equal(inputs, old) for ((inputs,), _), old in zip(data.evaluation_batches("test"), before, strict=True)
    )


def test_a_metric_that_always_fails_is_found_also_where_a_batch_is_small():
    recipe = {**RECIPE, **SMALL, **OWN, "batch_size": 32, "task": "tests.test_own_task:Raises"}
    with pytest.raises(UserError, match="KeyError: 'degrees'"):
        try_out(open_data(Problem(**recipe), torch.device("cpu")))


def rare_symbol(problem):
    symbols = np.random.default_rng(0).integers(0, 256, (200, 17))
    symbols[150, 0] = 999  # in no batch of the trial
    inputs, targets = symbols[:, :-1], symbols[:, 1:]
    return (inputs[:180], targets[:180]), (inputs[180:], targets[180:])


def test_symbols_beyond_the_vocabulary_are_found_wherever_they_are():
    problem, _ = load_problem("language_model", {"dataset": "tests.test_trial:rare_symbol"})
    with pytest.raises(UserError, match=r"its training inputs go from \d+ to 999; classes 256 takes 0 to 255$"):
        open_data(problem, torch.device("cpu"))
