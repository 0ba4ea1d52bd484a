"""What training and evaluation ask of a problem's data, wherever the images are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmark.cells import Problem
from benchmark.problems.fits import check_loader, check_split
from benchmark.problems.seeds import generator

Batch = tuple[Tensor, Tensor]
"""images: float32 (b, channels, height, width), normalised; labels: int64 (b,); both on the training device."""


class Remembered(dict[str, Any]):
    """The last results that were assigned, by what they were made of: each a few numbers, or a network's batch-norm
    statistics."""

    capacity = 256

    def __setitem__(self, key: str, result: Any) -> None:
        super().__setitem__(key, result)
        if len(self) > self.capacity:
            del self[next(iter(self))]


class Batches(ABC):
    """Batches of a problem's training, validation and test images.

    The validation split is drawn from the training images, the same for every seed, and never augmented. Which image
    is where in an epoch and how it is augmented depend on (seed, epoch) alone: the order is the same for every
    schedule and method, for any number of workers, and when an epoch is taken up in its middle.

    fingerprint: of the images and labels; remarks: what a record should say of them. shard: (rank, ranks), the part
    of every batch that this process trains on. remembered: results of passes over the images (training.evaluation).
    """

    fingerprint: str
    remarks: tuple[str, ...]

    def __init__(self, problem: Problem, device: torch.device, shard: tuple[int, int] = (0, 1)):
        check_loader(problem)
        self.problem = problem
        self.device = device
        self.shard = shard
        self.remembered = Remembered()

    @property
    @abstractmethod
    def training_images(self) -> int: ...

    @abstractmethod
    def evaluation_sizes(self) -> dict[str, int]: ...

    @abstractmethod
    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Augmented batches start .. stop-1 of an epoch."""

    @abstractmethod
    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        """Batches of the "validation" or "test" split, not augmented; of several ranks, each has its part."""

    @property
    def iterations_per_epoch(self) -> int:
        """The last, smaller batch counts; one image alone would have no batch statistics and is dropped."""
        full, rest = divmod(self.training_images, self.problem.batch_size)
        return full + (rest > 1)

    def positions(self, start: int, stop: int) -> tuple[slice | Tensor, list[int]]:
        """Where batches start .. stop-1 lie in the epoch's order, this rank's part, and the length of each batch."""
        size, n = self.problem.batch_size, self.training_images
        rank, ranks = self.shard
        bounds = [(k * size, min((k + 1) * size, n)) for k in range(start, stop)]
        if ranks == 1:
            return slice(bounds[0][0], bounds[-1][1]), [last - first for first, last in bounds]
        parts = [torch.arange(first + rank, last, ranks) for first, last in bounds]
        return torch.cat(parts), [len(part) for part in parts]


def held_out(problem: Problem, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(training, validation): indices into the images of the training folder, for their labels (n,).

    Raises UserError where one of them has too few."""
    validation = stratified(labels, problem.validation_fraction, generator(0, problem.dataset, "validation"))
    training = ~validation
    if problem.training_share < 1:
        stream = generator(0, problem.dataset, "training share")
        kept = training.nonzero()[:, 0]
        training[kept[stratified(labels[kept], 1 - problem.training_share, stream)]] = False
    check_split(problem, labels.bincount().tolist())
    return training.nonzero()[:, 0], validation.nonzero()[:, 0]


def stratified(labels: Tensor, fraction: float, stream: torch.Generator) -> Tensor:
    """Mask (n,) of `fraction` of each class."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=stream)]
        chosen[shuffled[: round(fraction * len(members))]] = True
    return chosen
