"""Batches: what training and evaluation need of a problem's data, wherever the images are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmark.cells import Problem
from benchmark.problems.augment import Normalisation
from benchmark.problems.fits import check_loader, check_split
from benchmark.problems.seeds import generator
from benchmark.tasks.symbols import Vocabulary

Batch = tuple[Tensor | tuple[Tensor, ...], Tensor]
"""inputs and targets, on the training device; inputs that are several tensors are the arguments of the network."""
ImageBatch = tuple[Tensor, Tensor]
"""A batch of images: float32 (b, channels, height, width), normalised, and labels int64 (b,) or masks int64
(b, height, width)."""


class Remembered(dict[str, Any]):
    """A cache of the last `capacity` results, such as accuracies and batch-norm statistics, by what determines them."""

    capacity = 256

    def __setitem__(self, key: str, result: Any) -> None:
        super().__setitem__(key, result)
        if len(self) > self.capacity:
            del self[next(iter(self))]


class Batches(ABC):
    """Batches of a problem's training, validation and test images.

    The validation split is drawn from the training images, the same for every seed, and never augmented. The order and
    the augmentation of an epoch depend on (seed, epoch) alone: they are the same for every schedule and method, for any
    number of workers, and for an epoch that is resumed in its middle.

    fingerprint: of images and labels. remarks: what a record should say about them. remembered: results of passes over
    the images (training.evaluation). shard: (rank, ranks); this process trains on its part of every batch.
    normalise: what pixels go through, None where the inputs are no images. vocabulary: what symbols stand for, where
    the data are texts that are translated.
    """

    fingerprint: str
    remarks: tuple[str, ...]
    normalise: Normalisation | None = None
    vocabulary = Vocabulary()

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
    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Batches start .. stop-1 of an epoch, augmented. stop: None for the end of the epoch."""

    @abstractmethod
    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        """Batches of the "validation" or "test" split, not augmented; each rank gets a part of them."""

    def example(self, count: int) -> tuple[Tensor, ...]:
        """Inputs of the data's shapes for the network, `count` of each, to count operations and to measure times."""
        problem = self.problem
        shape = (count, problem.channels, problem.image_size, problem.image_size)
        return (torch.zeros(shape, device=self.device),)

    @abstractmethod
    def target_counts(self) -> Tensor:
        """How often each value occurs among the training targets, int64 (values,)."""

    @property
    def iterations_per_epoch(self) -> int:
        """With the last, smaller batch, unless it is a single image: that has no batch statistics and is dropped."""
        full, rest = divmod(self.training_images, self.problem.batch_size)
        return full + (rest > 1)

    def positions(self, start: int, stop: int) -> tuple[slice | Tensor, list[int]]:
        """(positions in the epoch's order, lengths of the batches) of this rank's part of batches start .. stop-1."""
        size, n = self.problem.batch_size, self.training_images
        rank, ranks = self.shard
        bounds = [(k * size, min((k + 1) * size, n)) for k in range(start, stop)]
        if ranks == 1:
            return slice(bounds[0][0], bounds[-1][1]), [last - first for first, last in bounds]
        parts = [torch.arange(first + rank, last, ranks) for first, last in bounds]
        return torch.cat(parts), [len(part) for part in parts]


def held_out(problem: Problem, labels: Tensor, validates: bool = True) -> tuple[Tensor, Tensor]:
    """(training, validation): indices of the two splits, for labels (n,) of all images of the training folder.

    validates: False where the data have a validation split of their own, so that none is held out. Raises UserError if
    one of the splits has too few images.
    """
    fraction = problem.validation_fraction if validates else 0
    validation = stratified(labels, fraction, generator(0, problem.dataset, "validation"))
    training = ~validation
    if problem.training_share < 1:
        stream = generator(0, problem.dataset, "training share")
        kept = training.nonzero()[:, 0]
        training[kept[stratified(labels[kept], 1 - problem.training_share, stream)]] = False
    check_split(problem, labels.bincount().tolist(), validates)
    return training.nonzero()[:, 0], validation.nonzero()[:, 0]


def stratified(labels: Tensor, fraction: float, stream: torch.Generator) -> Tensor:
    """Mask (n,) of a random `fraction` of each class."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=stream)]
        chosen[shuffled[: round(fraction * len(members))]] = True
    return chosen
