"""A task, a data set and a network in one file of a user's, as docs/tasks.md has them."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.cells import Budget, Cell, Problem
from benchmark.check_problem import PROMISES, check_problem
from benchmark.errors import UserError
from benchmark.metric import Metric
from benchmark.problems import arrays
from benchmark.problems.examples import open_examples
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from benchmark.worker import Worker
from tests import user_task
from tests.commands import as_command
from tests.conftest import ROOT

DOCS = (ROOT / "docs" / "tasks.md").read_text()
MOST_LINES = 60
RECIPE: dict[str, Any] = {"name": "own", "epochs": 3, "batch_size": 50, "learning_rate": 0.02}
OWN = {"task": "tests.user_task:Turning", "dataset": "tests.user_task:views", "model": "tests.user_task:network"}


def block(name: str, language: str) -> str:
    (found,) = re.findall(rf"<!-- {name} -->\n```{language}\n(.*?)```", DOCS, re.S)
    return found


def own(**changes) -> Problem:
    return Problem(**{**RECIPE, **OWN, **changes})


def test_the_file_of_the_docs_is_short_and_is_the_one_that_is_tested_here():
    code = block("turning.py", "python")
    assert code == (ROOT / "tests" / "user_task.py").read_text()
    assert len(code.splitlines()) <= MOST_LINES


def test_table_1_of_a_task_of_ones_own(tmp_path: Path):
    """What docs/tasks.md says, shorter; the best of a column is the lowest, and an edit is noticed."""
    (tmp_path / "turning.py").write_text(block("turning.py", "python"))
    (tmp_path / "turning.yaml").write_text(block("turning.yaml", "yaml"))
    sweep = ["table1", "--problem", str(tmp_path / "turning.yaml"), "--seeds", "1", "--tracking", "off"]
    sweep += ["--results", str(tmp_path / "runs"), "--only", "sparsity=0.9,budget=11.11%", "--workers", "1"]
    sweep += ["--set", "epochs=6", "--set", "milestones=[2,4,5]"]
    done = as_command("benchmark.sweep", *sweep, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "mean error" in done.stdout
    assert "lower is better" in done.stdout
    store = Store(tmp_path / "runs")
    records = [store.read(name) for name in store.ids()]
    assert len(records) == 7
    assert all(record["metric"]["name"] == "error" for record in records)
    assert all(record["provenance"]["outside"]["turning"] for record in records)
    scores = {r["cell"]["schedule"]: r["error"]["final"]["test"] for r in records if r["cell"]["schedule"]}
    best = min(scores, key=lambda name: scores[name])
    assert re.search(rf"{best} .*#1", done.stdout), done.stdout
    (tmp_path / "turning.py").write_text(block("turning.py", "python") + "# edited\n")
    again = as_command("benchmark.sweep", *sweep, "--dry-run", PYTHONPATH=str(tmp_path))
    assert "turning.py changed since" in again.stdout + again.stderr


def test_what_is_fine_keeps_every_promise():
    findings = list(check_problem(own()))
    assert [promise for promise, _, _ in findings] == list(PROMISES)
    assert all(kept for _, kept, _ in findings), findings


class HalfSums(user_task.Turning):
    def sums(self, network, inputs, outputs, targets):
        loss, count, error = super().sums(network, inputs, outputs, targets)
        return loss, count, error * len(targets)


class Detached(user_task.Turning):
    def loss(self, outputs, targets):
        return super().loss(outputs, targets).detach().requires_grad_()


class Vectors(user_task.Turning):
    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).square()


class Negative(user_task.Turning):
    def chance(self, targets):
        return -1.0


class Means(user_task.Turning):
    """Of a batch, so that halves of even batches add up by chance."""

    def sums(self, network, inputs, outputs, targets):
        squares, count, error = super().sums(network, inputs, outputs, targets)
        return squares / count, count / count, error / count


class Endless(user_task.Turning):
    def value(self, sums):
        return math.inf


class Words(user_task.Turning):
    def value(self, sums):
        return "five"


class Beyond(user_task.Turning):
    def value(self, sums):
        return -5.0


class WrongWay(user_task.Turning):
    metric = dataclasses.replace(user_task.Turning.metric, higher_is_better=True)


class Exits(user_task.Turning):
    def loss(self, outputs, targets):
        raise SystemExit(0)


def other_data(problem: Problem):
    (inputs, targets), test = user_task.views(problem)
    noise = np.random.default_rng().normal(0, 1, inputs.shape)
    return (inputs + noise, targets), test


class Raises(user_task.Turning):
    def value(self, sums):
        raise KeyError("degrees")


def fixed_network(problem: Problem) -> nn.Module:
    torch.manual_seed(1)
    return user_task.network(problem)


def wild_network(problem: Problem) -> nn.Module:
    made = user_task.network(problem)
    with torch.random.fork_rng():
        torch.seed()
        nn.init.normal_(made[0].weight)
    return made


def wrong_width(problem: Problem) -> nn.Module:
    return nn.Linear(15, 1)


@pytest.mark.parametrize(
    ("change", "promise", "words"),
    [
        ({"task": "HalfSums"}, "sums add up", "sums[2] is "),
        ({"task": "Means"}, "sums add up", "sums[0] is "),
        ({"task": "Endless"}, "metric", "mean error inf before training, chance 45.0: not finite"),
        ({"task": "Exits"}, "loss", "SystemExit: 0, at test_own_task.py line"),
        ({"dataset": "other_data"}, "data repeat", "gives other data at the second time"),
        ({"task": "Detached"}, "loss", "its gradient reaches no weight"),
        ({"task": "Vectors"}, "loss", "has the shape (50,), it is not one number"),
        ({"task": "Negative"}, "metric", "its bounds are 0.0 to None"),
        ({"task": "Raises"}, "metric", "KeyError: 'degrees', at test_own_task.py line"),
        ({"model": "fixed_network"}, "initial weights repeat", "two seeds give the same initial weights"),
        ({"model": "wild_network"}, "initial weights repeat", "other initial weights at the second time"),
        ({"model": "wrong_width"}, "network takes the data", "mat1 and mat2 shapes cannot be multiplied"),
        ({"task": "WrongWay"}, "learns", "though higher is said to be better and the validation loss fell"),
    ],
)
def test_a_broken_promise_is_found_and_named(change: dict[str, str], promise: str, words: str):
    changed = {key: f"tests.test_own_task:{name}" for key, name in change.items()}
    findings = {name: (kept, seen) for name, kept, seen in check_problem(own(**changed))}
    kept, seen = findings[promise]
    assert not kept
    assert words in seen


class Loss(user_task.Turning):
    metric = Metric("loss", "loss")


def no_task(problem: Problem) -> int:
    return 3


class Unmeasured(user_task.Turning):
    metric = "error"


def scalars(problem: Problem):
    return (1.0, 2.0), (1.0, 2.0)


def texts(problem: Problem):
    return (np.array(["a", "b"]), np.zeros(2)), (np.array(["a", "b"]), np.zeros(2))


def ends(problem: Problem):
    raise SystemExit(0)


def names_a_number(problem: Problem) -> nn.Module:
    made = user_task.network(problem)
    made.not_prunable = 5
    return made


def three_parts(problem: Problem):
    return 1, 2, 3


def uneven(problem: Problem):
    return (np.zeros((5, 2)), np.zeros(4)), (np.zeros((5, 2)), np.zeros(5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "tests.test_own_task:no_task"}, "is a int, not a benchmark.tasks.task.Task"),
        ({"task": "tests.test_own_task:Loss"}, "'loss' is no name for a metric: records use it"),
        ({"task": "tests.test_own_task:Missing"}, "has no 'Missing'"),
        ({"task": "tests.test_own_task:Unmeasured"}, "its metric is no benchmark.metric.Metric"),
        ({"task": "tests.test_own_task:ends"}, "SystemExit: 0"),
        ({"model": "tests.test_own_task:ends"}, "SystemExit: 0"),
        ({"model": "tests.test_own_task:names_a_number"}, "its not_prunable is 5, not names of parameters"),
        ({"dataset": "tests.test_own_task:scalars"}, "an array of shape () and type float64"),
        ({"dataset": "tests.test_own_task:texts"}, "an array of shape (2,) and type <U1"),
        ({"task": "nowhere:Task"}, "cannot import 'nowhere'"),
        (
            {"dataset": "tests.test_own_task:three_parts"},
            "it gives (1, 2, 3), not (training, test), each (inputs, targets)",
        ),
        ({"dataset": "tests.test_own_task:uneven"}, "arrays of 4 and 5 examples do not fit together"),
        ({"dataset": "nowhere:data"}, "cannot import 'nowhere'"),
    ],
)
def test_what_cannot_be_used_is_one_line(change: dict[str, str], words: str):
    with pytest.raises(UserError, match=r"^problem own: ") as caught:
        list(check_problem(own(**change)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a METHOD, or --problem"),
        (("DNW", "--problem", "digits"), "give a METHOD or --problem, not both"),
        (("turning.yaml",), "for a problem write --problem turning.yaml"),
        (("--problem", "nosuch"), "nosuch"),
        (("--problem", "imagefolder", "--data", "/no/such"), "/no/such"),
        (("--problem", "digits", "--set", "task=segmentation"), "task segmentation does not fit dataset digits"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: tuple[str, ...], words: str):
    done = as_command("benchmark.check", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


class Unused(nn.Module):
    def __init__(self, problem: Problem):
        super().__init__()
        self.used, self.unused = user_task.network(problem), nn.Linear(16, 16)

    def forward(self, x):
        return self.used(x)


def unused(problem: Problem) -> nn.Module:
    return Unused(problem)


def test_a_weight_that_no_product_was_seen_with_is_a_remark(tmp_path: Path):
    cell = Cell.dense(own(model="tests.test_own_task:unused", milestones=()), 0)
    Worker(Store(tmp_path), RunOptions("cpu", 1)).run(cell)
    record = Store(tmp_path).read(cell.id)
    assert record is not None
    assert "no product with unused.weight was seen: MACs leave that out" in record["remarks"]


class Undefined(user_task.Turning):
    """Of what pruning leaves, as a correlation is with constant outputs."""

    def sums(self, network, *given):
        empty = any(bool((weight == 0).all(1).any()) for weight in network.parameters() if weight.dim() == 2)
        loss, count, error = super().sums(network, *given)
        return loss, count, error * (math.nan if empty else 1)


def test_a_metric_that_is_undefined_after_pruning_is_null_in_a_record(tmp_path: Path):
    problem = own(task="tests.test_own_task:Undefined", milestones=())
    store, cell = Store(tmp_path), Cell(problem, "IMP", 0, "LLR", 0.98, Budget(1, "ep"))
    worker = Worker(store, RunOptions("cpu", 1))
    worker.run(Cell.dense(problem, 0))
    worker.run(cell)
    record = store.read(cell.id)
    assert record is not None
    assert record["status"] == "collapsed"
    assert record["error"]["pruned"]["test"] is None
    assert None in record["cycles"][0].values(), record["cycles"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("Words", "its value is a str, not a number"), ("Beyond", "-5 is not between its bounds 0 and inf")],
)
def test_a_metric_that_is_none_is_refused_before_a_record_is_written(name: str, words: str, tmp_path: Path):
    problem = own(task=f"tests.test_own_task:{name}", epochs=1, milestones=())
    store = Store(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"metric mean error: {words}")):
        Worker(store, RunOptions("cpu", 1)).run(Cell.dense(problem, 0))
    assert not store.ids()


def not_finite(problem: Problem):
    part = np.array([[0.0], [np.nan], [2.0]], np.float32), np.array([0, 1, 2])
    return part, part


def test_numbers_of_the_data_that_are_not_finite_are_a_remark():
    examples = open_examples(own(dataset="tests.test_own_task:not_finite"), None)
    assert examples.remarks == ("1 numbers of the training inputs are not finite",)


@pytest.mark.parametrize("kind", [bool, np.float32, np.int64])
@pytest.mark.filterwarnings("error")
def test_a_memory_map_for_reading_alone_is_taken_as_it_is(tmp_path: Path, kind: type):
    np.save(tmp_path / "inputs.npy", np.ones((3, 1), kind))
    assert arrays._input(np.load(tmp_path / "inputs.npy", mmap_mode="r")).shape == (3, 1)
