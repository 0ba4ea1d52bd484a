"""Data sets that are arrays of examples: texts, pairs of texts, and what a function of one's own gives. No torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import FUNCTION, Problem, shown
from benchmark.errors import UserError
from benchmark.imports import code_of_others, load
from benchmark.tasks import TASKS
from benchmark.tasks.symbols import IGNORED, Vocabulary


@dataclass(frozen=True)
class Examples:
    """inputs: arrays (n, ...), the arguments of the network; targets: an array (n, ...)."""

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class ExampleSet:
    """A data set.

    Args:
        training, test: the examples of these parts.
        remarks: what a user should know about the data.
        validation: None where a part of the training examples is held out for it.
        vocabulary: what symbols stand for, where the examples are texts that are translated.
    """

    training: Examples
    test: Examples
    remarks: tuple[str, ...] = ()
    validation: Examples | None = None
    vocabulary: Vocabulary = field(default_factory=Vocabulary)

    @property
    def fingerprint(self) -> str:
        """Hash of all arrays, their types and shapes, and of the file of the vocabulary where it has one."""
        content = hashlib.sha256(self.vocabulary.identity.encode())
        for part in filter(None, (self.training, self.test, self.validation)):
            for array in (*part.inputs, part.targets):
                content.update(f"{array.dtype.str} {array.shape}".encode())
                content.update(np.ascontiguousarray(array).data)
        return f"examples-{content.hexdigest()[:16]}"


WMT16 = ("wmt16_en_de", "wmt16_de_en")
EXAMPLES = {
    "python_docs": "benchmark.problems.texts:python_docs",
    "text": "benchmark.problems.texts:read_text",
    "numbers": "benchmark.problems.numbers:numbers",
    "pairs": "benchmark.problems.texts:read_pairs",
    **dict.fromkeys(WMT16, "benchmark.problems.wmt16:read_wmt16"),
}
"""By the names that recipes use: functions of the problem, the folder of --data and `Store.given`."""
TASK_OF = {
    **dict.fromkeys(("python_docs", "text"), "language_modelling"),
    **dict.fromkeys(("numbers", "pairs", *WMT16), "translation"),
    **dict.fromkeys(("scenes", "voc", "cityscapes"), "segmentation"),
}
"""What can be learned from a data set; "classification" from all others."""


def has_examples(problem: Problem) -> bool:
    """Whether the problem's data set is one of these or from outside, and not one of images."""
    return problem.dataset in EXAMPLES or FUNCTION.fullmatch(problem.dataset) is not None


def has_masks(problem: Problem) -> bool:
    """Whether the images of the problem's data set come with masks."""
    return TASK_OF.get(problem.dataset) == "segmentation"


def open_examples(problem: Problem, folder: Path | None, given: Path | None = None) -> ExampleSet:
    """The problem's examples. Raises UserError where they are missing, cannot be read or do not fit the recipe.

    folder: --data. given: the results folder's copies of what came with --weights.
    """
    where = EXAMPLES.get(problem.dataset)
    examples = load(where, where)(problem, folder, given) if where else _from_outside(problem)
    for name, part in (("training", examples.training), ("test", examples.test)):
        if len(part) < 2:
            raise UserError(f"problem {problem.name}: data set {problem.dataset} has {len(part)} {name} examples")
    return examples


def _from_outside(problem: Problem) -> ExampleSet:
    """What "module:function" gives for the problem: an ExampleSet, or (training, test) of (inputs, targets) each."""
    where = f"problem {problem.name}: dataset {problem.dataset!r}"
    with code_of_others(where):
        made = load(problem.dataset, where)(problem)
        if not isinstance(made, ExampleSet):
            if not _is_pair(made) or not all(map(_is_pair, made)):
                raise UserError(f"{where}: it gives {shown(made)}, not (training, test), each (inputs, targets)")
            training, test = (_examples(*part) for part in made)
            made = ExampleSet(training, test)
    for part in (made.training, made.test):
        for array in (*part.inputs, part.targets):
            if array.ndim == 0 or array.dtype.kind not in "biuf":
                raise UserError(
                    f"{where}: an array of shape {array.shape} and type {array.dtype}; inputs and targets are arrays "
                    "of numbers, an example a row"
                )
        lengths = {len(array) for array in (*part.inputs, part.targets)}
        if len(lengths) > 1:
            numbers = " and ".join(map(str, sorted(lengths)))
            raise UserError(f"{where}: arrays of {numbers} examples do not fit together")
    _check_alike(made, where)
    floats = [array for array in made.training.inputs if array.dtype.kind == "f"]
    odd = sum(array.size - int(np.count_nonzero(np.isfinite(array))) for array in floats)
    if odd:
        made = replace(made, remarks=(*made.remarks, f"{odd} numbers of the training inputs are not finite"))
    if problem.task in TASKS:
        _check_labels(problem, made, where)
    return made


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _check_alike(made: ExampleSet, where: str) -> None:
    """Whether test examples are of the same kind as training ones. Raises UserError."""
    for what, training, test in (
        *(("inputs", a, b) for a, b in zip(made.training.inputs, made.test.inputs, strict=False)),
        ("targets", made.training.targets, made.test.targets),
    ):
        kinds = [(array.ndim, "f" if array.dtype.kind == "f" else "whole") for array in (training, test)]
        if kinds[0] != kinds[1] or len(made.training.inputs) != len(made.test.inputs):
            shown = [f"{array.dtype} {array.shape}" for array in (training, test)]
            raise UserError(f"{where}: {what} to train on are {shown[0]}, and to test on {shown[1]}: not of one kind")


def _check_labels(problem: Problem, made: ExampleSet, where: str) -> None:
    """Whether targets, and inputs that are symbols of a text, are classes of the recipe. Raises UserError."""
    masks, texts = problem.task == "segmentation", problem.task in ("language_modelling", "translation")
    for name, part in (("training", made.training), ("validation", made.validation), ("test", made.test)):
        for what, arrays in (("targets", (part.targets,)), ("inputs", part.inputs * texts)) if part else ():
            for array in arrays:
                labels = array[array != IGNORED] if masks else array
                if labels.dtype.kind == "f":
                    raise UserError(f"{where}: task {problem.task} takes whole numbers as {what}, not {array.dtype}")
                if labels.size and not 0 <= labels.min() <= labels.max() < problem.classes:
                    raise UserError(
                        f"{where}: its {name} {what} go from {labels.min()} to {labels.max()}; "
                        f"classes {problem.classes} takes 0 to {problem.classes - 1}"
                        + (f", and {IGNORED} where there is no label" * masks)
                    )


def _examples(inputs: Any, targets: Any) -> Examples:
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    return Examples(tuple(np.asarray(array) for array in several), np.asarray(targets))
