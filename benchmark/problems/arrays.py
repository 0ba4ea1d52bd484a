"""Batches of examples in memory: shuffled, not augmented, for every task whose data are arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.cells import Problem
from benchmark.problems.batches import Batch, Batches, held_out
from benchmark.problems.examples import Examples, ExampleSet, open_examples
from benchmark.problems.seeds import generator


class ArrayData(Batches):
    """A problem's examples, those of `examples` if that is given. Validation is a random part of the training ones,
    unless the data set has examples for it.

    Batches have integers as int64, other numbers as float32, and inputs that say yes or no as bool.
    """

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        folder: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        examples: ExampleSet | None = None,
        given: Path | None = None,
    ):
        super().__init__(problem, device, shard)
        examples = examples or open_examples(problem, folder, given)
        self.fingerprint, self.remarks, self.vocabulary = examples.fingerprint, examples.remarks, examples.vocabulary
        one_class = torch.zeros(len(examples.training), dtype=torch.int64)
        training, validation = held_out(problem, one_class, examples.validation is None)
        part = (examples.training, validation.numpy()) if examples.validation is None else (examples.validation, ...)
        self._splits = {
            "training": self._part(examples.training, training.numpy()),
            "validation": self._part(*part),
            "test": self._part(examples.test, ...),
        }

    def _part(self, examples: Examples, index: NDArray[np.int64] | EllipsisType) -> tuple[tuple[Tensor, ...], Tensor]:
        inputs = tuple(_input(array[index]).to(self.device) for array in examples.inputs)
        return inputs, _tensor(examples.targets[index]).to(self.device)

    @property
    def training_images(self) -> int:
        return len(self._splits["training"][1])

    def target_counts(self) -> Tensor:
        return self._splits["training"][1].flatten().bincount().cpu()

    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        stop = self.iterations_per_epoch if stop is None else stop
        stream = generator(seed, self.problem.dataset, "epoch", epoch)
        order = torch.randperm(self.training_images, generator=stream).to(self.device)
        for k in range(start, stop):
            where, _ = self.positions(k, k + 1)
            yield self._batch("training", order[where])

    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        (rank, ranks), size = self.shard, self.problem.batch_size
        count = len(self._splits[name][1])
        for first in range(rank * size, count, ranks * size):
            yield self._batch(name, torch.arange(first, min(first + size, count), device=self.device))

    def _batch(self, name: str, index: Tensor | slice) -> Batch:
        """Copies: a network may change its inputs."""
        inputs, targets = self._splits[name]
        return tuple(map(_widened, (tensor[index] for tensor in inputs))), _widened(targets[index])

    def example(self, count: int) -> tuple[Tensor, ...]:
        """The first examples of the test split, again and again where it has fewer."""
        inputs, targets = self._splits["test"]
        index = torch.arange(count, device=self.device) % len(targets)
        return tuple(_widened(tensor[index]) for tensor in inputs)


NARROW = (np.dtype(np.int16), np.dtype(np.int32))
"""Kept as they are, and widened batch by batch: millions of sentences would take four times the memory as int64."""


def _input(array: NDArray[Any]) -> Tensor:
    return _shared(array) if array.dtype == bool else _tensor(array)


def _tensor(array: NDArray[Any]) -> Tensor:
    whole = np.issubdtype(array.dtype, np.integer) or array.dtype == bool
    kind = array.dtype if array.dtype in NARROW else np.int64 if whole else np.float32
    return _shared(np.ascontiguousarray(array, dtype=kind))


def _shared(array: NDArray[Any]) -> Tensor:
    """The same memory as a tensor. Nothing here writes to it, so that a memory map may be for reading alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _widened(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() or tensor.dtype == torch.bool else tensor.long()
