"""The vocabulary of the suite: Problem, Budget and Cell, with their identities and seeds.

Everything here is a frozen value, and nothing here imports another module of ours. An identity is a readable
slug plus a hash over what changes the result and nothing else: no path, host, device, date or worker count. A field
at its default is left out of the hash, so that a field added later leaves every existing identity as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

HASH_LENGTH = 12
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names that end up in file names: no separator, no leading dot, so that none can leave the results folder."""
FUNCTION = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")
"""Names of code from outside, as "module:function"; the group is the module."""

MOST_EPOCHS = 100_000
LEAST_STD = 1e-6
LARGEST_RATE = 1e38
"""Of a learning rate or a weight decay: float32 holds no larger one."""
MOST_SHOWN = 80
"""Characters of a value that an error repeats."""

UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

Scalar = bool | int | float | str
Hyperparameters = tuple[tuple[str, Scalar], ...]


def digest(value: object) -> str:
    """Short hash of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(CANONICAL.encode(value).encode()).hexdigest()[:HASH_LENGTH]


def shown(value: object) -> str:
    """`value` as an error repeats it: what a user typed, cut where it would hide the rest of the line."""
    return cut(repr(value))


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """`text`, or as much of it as fits into `most` characters with a mark that there is more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(number: float) -> str:
    """`number` as `:g` writes it, but with as many digits as tell it from every other: 0.7 and 0.70000001."""
    return next(text for digits in range(6, 18) if float(text := f"{number:.{digits}g}") == number or digits == 17)


class Problem(BaseModel):
    """What a sweep trains on: a data set, a model and the recipe of its dense run.

    Defaults are the ones that the CIFAR and ImageNet recipes of the paper (Appendix B) have in common; a problem's
    YAML file says what differs. Learning rates are per iteration of SGD on the mean loss of a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    name: str
    task: str = Field(default="classification", description="what is learned: its loss and its metric")
    dataset: str
    model: str
    width: int = Field(default=0, ge=0, le=100_000, description="channels of the first stage; 0 is the model's own")
    depth: int = Field(default=0, ge=0, le=10_000, description="layers of a transformer; 0 is the model's own")
    dense_layers: Literal["none", "first", "last", "first_and_last"] = Field(
        default="none", description="prunable layers that are never pruned"
    )
    classes: int = Field(default=10, ge=2, le=1_000_000, description="of images or pixels; symbols of a vocabulary")
    sequence_length: int = Field(default=0, ge=0, le=1_000_000, description="symbols of a text; 0 is the data's own")
    image_size: int = Field(default=32, ge=1, le=10_000, description="pixels a side")
    channels: int = Field(default=3, ge=1, le=1000)
    epochs: int = Field(gt=0, le=MOST_EPOCHS, description="epochs of the dense run, T in the paper")
    batch_size: int = Field(default=128, gt=0, le=10_000_000)
    learning_rate: float = Field(default=0.1, gt=0, le=LARGEST_RATE)
    decay: Literal["step", "linear", "cosine"] = "step"
    milestones: tuple[float, ...] = Field(default=(), description="epochs at which the step decay multiplies by gamma")
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0, ge=0)
    weights: str = Field(
        default="", pattern="^[0-9a-f]*$", description="hash of a file that stands for the dense run; --weights sets it"
    )
    tokenizer: str = Field(
        default="", pattern="^[0-9a-f]*$", description="hash of the tokenizer that came with the weights"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD; beta 1 of Adam and AdamW")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="of Adam and AdamW")
    nesterov: bool = Field(default=True, description="of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, le=LARGEST_RATE)
    decay_all: bool = Field(default=True, description="weight decay of norms and biases too")
    gradient_norm: float = Field(
        default=0, ge=0, le=LARGEST_RATE, description="largest 2-norm of a gradient, which is clipped; 0 is no limit"
    )
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    crop_padding: int = Field(default=0, ge=0, le=10_000, description="random crops after padding by so many pixels")
    flip: bool = False
    rotation: float = Field(default=0, ge=0, le=180, description="random rotations by up to so many degrees")
    resized_crop: bool = Field(
        default=False, description="large images: random crops of 8 to 100 % of the area, resized to image_size"
    )
    evaluation_size: int = Field(
        default=0,
        ge=0,
        le=20_000,
        description="pixels of the shorter side before the centre crop of evaluation; 0 is image_size",
    )
    loader: Literal["torch", "dali"] = Field(
        default="torch", description="of large images: torchvision in DataLoader processes, or NVIDIA DALI"
    )
    mean: tuple[float, ...] = Field(default=(), description="of pixels from 0 to 1, by channel; empty is measured")
    std: tuple[float, ...] = Field(default=(), description="of pixels from 0 to 1, by channel; empty is measured")
    unreadable_images: Literal["stop", "skip"] = "stop"
    training_share: float = Field(default=1, gt=0, le=1, description="share of the training images, class by class")
    validation_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the training images held out")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    compile: Literal["none", "default", "reduce-overhead"] = Field(
        default="none", description="torch.compile of training, by its mode; the second uses CUDA graphs on GPUs"
    )
    recalibration_batches: int = Field(
        default=100, ge=0, le=10_000_000, description="batches of the batch-norm pass after pruning; 0 turns it off"
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not SLUG.fullmatch(value):
            raise ValueError("letters, digits, '_', '.' and '-' only")
        return value

    @field_validator("task", "dataset", "model")
    @classmethod
    def _plain_name_or_function(cls, value: str) -> str:
        if not SLUG.fullmatch(value) and not FUNCTION.fullmatch(value):
            raise ValueError("letters, digits, '_', '.' and '-' only, or your own as 'module:function'")
        return value

    @model_validator(mode="after")
    def _schedule_fits(self) -> Problem:
        if list(self.milestones) != sorted(set(self.milestones)):
            shown_ones = ", ".join(f"{value:g}" for value in self.milestones)
            raise ValueError(f"milestones [{cut(shown_ones)}] must increase")
        if any(value < 0 for value in self.milestones):
            raise ValueError(f"milestones {self.milestones[0]:g} is before the start, epoch 0")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) != self.channels:
                raise ValueError(f"{key} has {len(values)} numbers for {self.channels} channels")
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be above 0")
        if not all(LEAST_STD <= value <= 1 for value in self.std) or not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"mean from 0 to 1 and std from {LEAST_STD:g} to 1 are accepted: pixels are from 0 to 1")
        if bool(self.mean) != bool(self.std):
            raise ValueError("mean and std are given together or not at all")
        if self.evaluation_size and self.evaluation_size < self.image_size:
            raise ValueError(f"evaluation_size {self.evaluation_size} is below image_size {self.image_size}")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} is longer than the run's {self.epochs} epochs")
        return self

    @property
    def outside(self) -> tuple[str, ...]:
        """What of the task, the data set and the network is from outside the suite: "module:function" each."""
        return tuple(filter(FUNCTION.fullmatch, (self.task, self.dataset, self.model)))

    @property
    def identity(self) -> str:
        """Hash of the recipe. The name is left out, since renaming a problem does not change its results, except where
        nothing else tells one data set from another: class folders of one's own."""
        global _latest
        known, identity = _latest
        if self is not known:  # not cached on the model: `model_copy` would carry the old hash along
            identity = _identity(self)
            _latest = self, identity
        return identity


_latest: tuple[Problem | None, str] = None, ""
"""The problem whose identity was asked for last, with it: millions of cells share one object."""


@lru_cache(maxsize=256)
def _identity(problem: Problem) -> str:
    unnamed = set() if problem.dataset == "imagefolder" else {"name"}
    return digest(problem.model_dump(mode="json", exclude_defaults=True, exclude=unnamed))


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to retrain, with its unit: "2.22%" of the dense run, "10ep" (epochs) or "500it" (iterations).

    It is the total over all prune-retrain cycles, or with "/cycle" behind it ("10ep/cycle") that of each.
    """

    amount: float
    unit: Literal["%", "ep", "it"]
    per_cycle: bool = False

    @classmethod
    def parse(cls, text: object) -> Budget:
        """Raises ValueError that says what is accepted."""
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%|ep|it)(/cycle)?\s*", str(text))
        if not match or (match[2] == "it" and "." in match[1]) or not isfinite(float(match[1])):
            raise ValueError(
                f"budget {shown(text)} is not a number with a unit: write '2.22%', '10ep' or '500it', "
                "with '/cycle' behind it if it is that of each cycle"
            )
        return cls(float(match[1]), match[2], bool(match[3]))  # type: ignore[arg-type]

    def iterations(self, dense_epochs: int, iterations_per_epoch: int, cycles: int = 1) -> int:
        """Iterations of the whole budget, rounded to the nearest: over all cycles, or in each of them."""
        times = cycles if self.per_cycle else 1
        if self.unit == "it":
            return int(self.amount) * times
        epochs = self.amount if self.unit == "ep" else self.amount / 100 * dense_epochs
        return round(epochs * iterations_per_epoch) * times

    def __str__(self) -> str:
        # never an exponent, which `parse` does not read
        return f"{Decimal(repr(self.amount)).normalize():f}{self.unit}{'/cycle' if self.per_cycle else ''}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of a grid: everything that decides its result.

    `budget` is None for runs that do not retrain (the dense run, methods that prune while they train), and so is their
    `schedule`, unless they train with another decay than the recipe's ("linear"); `sparsity` is the fraction of the
    prunable weights to remove, None for the dense run.
    """

    problem: Problem = field(hash=False)  # which takes long, and tells apart no two cells of a sweep
    method: str
    seed: int
    schedule: str | None = None
    sparsity: float | None = None
    budget: Budget | None = None
    hyperparameters: Hyperparameters = ()

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity {self.sparsity!r} is not a fraction pruned: a number above 0 and below 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative")

    @classmethod
    def dense(cls, problem: Problem, seed: int) -> Cell:
        return cls(problem, "dense", seed)

    @property
    def is_dense(self) -> bool:
        return self.method == "dense"

    @property
    def recipe(self) -> Problem:
        """The problem, with the decay of the learning rate that a run which does not retrain names as its schedule."""
        if self.budget is not None or self.schedule is None:
            return self.problem
        return self.problem.model_copy(update={"decay": self.schedule})

    @property
    def hash(self) -> str:
        """Hash of what changes the result; pinned by tests/test_identity.py."""
        return self._names()[0]

    @property
    def id(self) -> str:
        """File-name-safe identity, such as digits-IMP-ALLR-s0.9-b2.22pct-seed0-3f2a9c1b7d04.

        Made anew each time, in a few microseconds: kept, the ids of a million cells would take 100 MB.
        """
        return self._names()[1]

    def _names(self) -> tuple[str, str]:
        """(hash, id)."""
        problem = self.problem
        settings = self.method, self.schedule, self.sparsity, self.budget, self.hyperparameters
        before, behind, name = _around_seed(problem.identity, problem.name, *settings, repr(self.hyperparameters))
        hashed = hashlib.sha256(f"{before}{self.seed}{behind}".encode()).hexdigest()[:HASH_LENGTH]
        return hashed, f"{name}-seed{self.seed}-{hashed}"

    def with_seed(self, seed: int) -> Cell:
        return replace(self, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """JSON form, complete: `from_json` restores an equal cell."""
        return {"problem": self.problem.model_dump(mode="json"), **self.without_problem()}

    def without_problem(self) -> dict[str, Any]:
        """The same without the problem, which all cells of a sweep share."""
        names = [part.name for part in fields(self) if part.name != "problem"]
        values = {name: getattr(self, name) for name in names}
        values["budget"] = None if self.budget is None else str(self.budget)
        values["hyperparameters"] = dict(self.hyperparameters)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Cell:
        values = dict(values)
        values["problem"] = Problem.model_validate(values["problem"])
        values["budget"] = None if values["budget"] is None else Budget.parse(values["budget"])
        values["hyperparameters"] = tuple(sorted(values["hyperparameters"].items()))
        return cls(**values)


@lru_cache(maxsize=4096)
def _around_seed(
    problem: str,
    name: str,
    method: str,
    schedule: str | None,
    sparsity: float | None,
    budget: Budget | None,
    hyperparameters: Hyperparameters,
    spelled: str,
) -> tuple[str, str, str]:
    """What stands before and behind the seed in the JSON text that a cell's hash is of, and before it in the id.

    Keys of that text are sorted. spelled: the hyperparameters as text, since 3 and 3.0 are equal and have two hashes.
    """
    values: dict[str, Any] = {"problem": problem, "method": method}
    parts = [name, method]
    if schedule is not None:
        values["schedule"] = schedule
        parts.append(schedule)
    if sparsity is not None:
        values["sparsity"] = sparsity
        parts.append(f"s{plain(sparsity)}")
    if budget is not None:
        values["budget"] = str(budget)
        parts.append(f"b{budget}".replace("%", "pct"))
    if hyperparameters:
        values["hyperparameters"] = dict(hyperparameters)
    first, last = ({key: values[key] for key in values if (key < "seed") == early} for early in (True, False))
    behind = f",{CANONICAL.encode(last)[1:]}" if last else "}"
    return f'{CANONICAL.encode(first)[:-1]},"seed":', behind, UNSAFE.sub("_", "-".join(parts))
