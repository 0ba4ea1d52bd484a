"""What a network is to learn: loss, metric and what they add up from. One file a task, and the table of their names.

A task of your own needs no line here: name it "module:Class" in a recipe. Imports torch only when one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cells import FUNCTION, Problem
from benchmark.errors import UserError
from benchmark.imports import check_named, code_of_others, load
from benchmark.metric import Metric

if TYPE_CHECKING:
    from benchmark.tasks.task import Task

TASKS = {
    "classification": "benchmark.tasks.classification:Classification",
    "segmentation": "benchmark.tasks.segmentation:Segmentation",
    "language_modelling": "benchmark.tasks.language_modelling:LanguageModelling",
    "translation": "benchmark.tasks.translation:Translation",
}
"""By the names that recipes use."""

TAKEN = (
    *("schema", "id", "cell", "parent", "status", "remarks", "metric", "loss", "sparsity", "macs", "smaller"),
    *("learning_rate", "cycles", "history", "iterations", "parameters_sha256", "weights_sha256", "seconds"),
    *("images_per_second", "provenance"),
)
"""Keys of a record, which no metric of a user's can have."""


def check_task(problem: Problem) -> None:
    """Raises UserError for an unknown name."""
    if FUNCTION.fullmatch(problem.task):
        check_named(problem.task, f"problem {problem.name}: task {problem.task!r}")
    elif problem.task not in TASKS:
        raise UserError(
            f"problem {problem.name}: task {problem.task!r} is unknown: one of {', '.join(TASKS)}, "
            "or your own as 'module:Class'"
        )


def make_task(problem: Problem) -> Task:
    """The problem's task. Raises UserError if it is unknown, cannot be imported or is no Task."""
    from benchmark.tasks.task import Task

    check_task(problem)
    kind = load(TASKS.get(problem.task, problem.task), f"problem {problem.name}: task {problem.task!r}")
    with code_of_others(f"problem {problem.name}: task {problem.task!r}"):
        made = kind(problem)
    if not isinstance(made, Task):
        raise UserError(
            f"problem {problem.name}: task {problem.task!r} is a {type(made).__name__}, not a benchmark.tasks.task.Task"
        )
    if not isinstance(getattr(made, "metric", None), Metric):
        raise UserError(f"problem {problem.name}: task {problem.task!r}: its metric is no benchmark.metric.Metric")
    if (name := made.metric.name) in TAKEN:
        raise UserError(
            f"problem {problem.name}: task {problem.task!r}: {name!r} is no name for a metric: records use it"
        )
    return made
