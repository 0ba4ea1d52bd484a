"""The interface of a task: loss(outputs, targets), a metric, and the sums that the metric is made of.

A batch is (inputs, targets). Inputs are a tensor or a tuple of tensors, which the network takes as its arguments;
targets are a tensor. The first dimension of all is the batch. What is averaged over is called a unit: an image, a
pixel, a symbol of a text. All sums add up over batches and ranks; the host reads none of them within an epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.cells import Problem
from benchmark.metric import Metric
from benchmark.tasks.symbols import Vocabulary

Inputs = Tensor | tuple[Tensor, ...]
Sums = tuple[Tensor, ...]
"""Tensors of fixed shapes on the training device: the mean loss times its units and the units first, then those of the
metric."""

CHANCE_MARGIN = 0.5
CHANCE_MOST = 0.05
"""A value counts as chance up to min(CHANCE_MARGIN * abs(chance), CHANCE_MOST) better than it, and no more than half of
the way to the best value that there is."""


class Targets(Protocol):
    """The data of a task, as `use` and `chance` may ask for them.

    vocabulary: what symbols stand for, where the data are texts that are translated.
    """

    vocabulary: Vocabulary

    def target_counts(self) -> Tensor:
        """How often each value occurs among the training targets, int64 (values,)."""


def predict(network: Callable[..., Any], inputs: Inputs) -> Tensor:
    """The network's outputs for the inputs of a batch."""
    outputs: Tensor = network(*several(inputs))
    return outputs


def several(inputs: Inputs) -> tuple[Tensor, ...]:
    """Inputs as the arguments of a network."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def changed(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Each tensor of the inputs changed, in the form that they have."""
    return tuple(map(change, inputs)) if isinstance(inputs, tuple) else change(inputs)


class Task(ABC):
    """A task, made for one recipe. `metric` says what the tables show.

    counts_correct: whether `correct` counts units, so that a history has the share of them that was predicted right.
    """

    metric: Metric
    counts_correct = True

    def __init__(self, problem: Problem):
        self.problem = problem

    def use(self, data: Targets) -> None:  # noqa: B027
        """Called with the data before all else; most tasks need nothing of them."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that training minimises, shape (): the mean over the units of the batch."""

    def units(self, targets: Tensor) -> int | Tensor:
        """What the loss of these targets is a mean over: a number or int64 (); their number if not overridden."""
        return targets.numel()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Units predicted right in one batch or several, int64 ()."""
        return (outputs.argmax(1) == targets).sum()

    @abstractmethod
    def zeros(self, device: torch.device) -> Sums:
        """The sums of no batch. Floating ones are float64 where the device has it (`floating`)."""

    @abstractmethod
    def sums(self, network: nn.Module, inputs: Inputs, outputs: Tensor, targets: Tensor) -> Sums:
        """Of one batch in evaluation, shapes as in `zeros`. outputs: float32, those of `network` for `inputs`."""

    @abstractmethod
    def value(self, sums: Sums) -> float:
        """The metric, in a record's scale, from the sums of a whole split."""

    def mean_loss(self, sums: Sums) -> float:
        return sums[0].item() / sums[1].item()

    @abstractmethod
    def chance(self, targets: Targets) -> float:
        """The metric of a network that looks at no input: what a trivial baseline reaches."""

    def is_chance(self, value: float, targets: Targets) -> bool:
        """Whether a value is no better than chance, or hardly."""
        chance = self.chance(targets)
        room = abs(self.metric.limits[1 if self.metric.higher_is_better else 0] - chance)
        margin = min(CHANCE_MARGIN * abs(chance), CHANCE_MOST, CHANCE_MARGIN * room)
        return value <= chance + margin if self.metric.higher_is_better else value >= chance - margin


def floating(device: torch.device) -> torch.dtype:
    """The widest floating type of a device: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
