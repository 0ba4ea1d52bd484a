"""Images in memory, and the batches that training draws from them.

Each split is one uint8 array, channels last. It is copied to a GPU once; on CPUs worker processes share it. Crops,
flips, rotations and normalisation are operations on whole batches, without loader processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.cells import Problem
from benchmark.problems.augment import Normalisation, Windows, laid_out, moments, rotate
from benchmark.problems.batches import Batches, ImageBatch, held_out
from benchmark.problems.cache import ArraySource
from benchmark.problems.examples import has_examples, has_masks
from benchmark.problems.seeds import generator
from benchmark.problems.sources import open_source

CHUNK_BYTES = {"cpu": 2 << 20, "gpu": 64 << 20}
"""Bytes of float32 images augmented at a time: a CPU keeps them in its cache, a GPU needs few launches."""
EVALUATION_BATCH = (32, 1000)
EVALUATION_PIXELS = {"cpu": 1 << 16, "gpu": 1 << 23}
"""Pixels of an evaluation batch, whose images are limited by EVALUATION_BATCH. A CPU evaluates batches of 64 CIFAR
images two to three times as fast as batches of 1000, whose activations fit no cache."""


def open_data(
    problem: Problem,
    device: torch.device,
    folder: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    given: Path | None = None,
) -> Batches:
    """The problem's data: in memory, or streamed from disk where the recipe crops large images. Raises UserError.

    folder: --data. given: the results folder's copies of what came with --weights.
    """
    if has_examples(problem):
        from benchmark.problems.arrays import ArrayData

        return ArrayData(problem, device, folder, shard, given=given)
    if problem.loader == "dali":
        from benchmark.problems.dali import DaliData

        return DaliData(problem, device, folder, shard)
    if problem.resized_crop:
        from benchmark.problems.streaming import StreamedData

        return StreamedData(problem, device, folder, shard)
    if has_masks(problem):
        from benchmark.problems.segmentation import MaskedData

        return MaskedData(problem, device, folder, shard)
    return Data(problem, device, folder, shard)


@dataclass(frozen=True)
class Draws:
    """The random draws of an epoch: order of the images (n,), offsets of crops (2, n), flips (n,), and angles (n,) in
    degrees or None."""

    order: Tensor
    crops: Tensor
    flips: Tensor
    angles: Tensor | None


class Data(Batches):
    """A problem's images in memory: those of `folder`, or of `source` if that is given."""

    normalise: Normalisation

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        folder: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        source: ArraySource | None = None,
    ):
        super().__init__(problem, device, shard)
        source = source or open_source(problem, folder)
        self.fingerprint, self.remarks = source.fingerprint, source.remarks
        pad, size = problem.crop_padding, problem.image_size
        training = source.training.padded(pad)
        labels = torch.from_numpy(training.labels)
        index, validation = held_out(problem, labels)
        inner = training.images[:, pad : pad + size, pad : pad + size]
        self.normalise = Normalisation(problem, device, lambda: moments(inner[..., : problem.channels], index))
        self._windows = Windows(training.images, size, device)
        self._index, self.labels = index.to(device), labels[index].to(device)
        self._copies: dict[str, Tensor] = {}
        self._evaluation = {
            "validation": (inner, validation, labels[validation].to(device)),
            "test": (
                source.test.images,
                torch.arange(len(source.test)),
                torch.from_numpy(source.test.labels).to(device),
            ),
        }

    @property
    def _kind(self) -> str:
        return "cpu" if self.device.type == "cpu" else "gpu"

    @property
    def evaluation_batch(self) -> int:
        least, most = EVALUATION_BATCH
        return min(max(EVALUATION_PIXELS[self._kind] // self.problem.image_size**2, least), most)

    @property
    def training_images(self) -> int:
        return len(self.labels)

    def target_counts(self) -> Tensor:
        return self.labels.bincount().cpu()

    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[ImageBatch]:
        problem, stop = self.problem, self.iterations_per_epoch if stop is None else stop
        draws = self._draw(seed, epoch)
        batch_bytes = problem.batch_size * problem.channels * problem.image_size**2 * 4
        step = max(1, CHUNK_BYTES[self._kind] // batch_bytes)
        for first in range(start, stop, step):
            where, sizes = self.positions(first, min(first + step, stop))
            images, labels = self._augmented(draws, where)
            yield from zip(images.split(sizes), labels.split(sizes), strict=True)

    def _augmented(self, draws: Draws, where: slice | Tensor) -> ImageBatch:
        """Images and labels at positions `where` of the epoch."""
        order = draws.order[where]
        flips = draws.flips[where] if self.problem.flip else None
        pixels = self._windows(self._index[order], draws.crops[:, where], flips)
        if draws.angles is not None:
            pixels = rotate(pixels.to(torch.float32), draws.angles[where])
        return self._batch(pixels, self.labels[order])

    def _batch(self, pixels: Tensor, labels: Tensor) -> ImageBatch:
        """What the network takes and the task compares with. pixels: from 0 to 255, (b, height, width, channels)."""
        return laid_out(self.normalise(pixels.to(torch.float32)), self.problem), labels

    def evaluation_batches(self, name: str) -> Iterator[ImageBatch]:
        images, index, labels = self._evaluation[name]
        rank, ranks = self.shard
        size = self.evaluation_batch
        whole = None if self.device.type == "cpu" else self._on_device(name)
        for first in range(rank * size, len(index), ranks * size):
            part = slice(first, first + size)
            pixels = torch.from_numpy(images[index[part].numpy()]) if whole is None else whole[part]
            yield self._batch(pixels, labels[part])

    def _on_device(self, name: str) -> Tensor:
        """All images of an evaluation split, uint8 channels last, copied to an accelerator once."""
        if name not in self._copies:
            images, index, _ = self._evaluation[name]
            self._copies[name] = torch.from_numpy(images[index.numpy()]).to(self.device)
        return self._copies[name]

    def _draw(self, seed: int, epoch: int) -> Draws:
        """From a generator on the CPU, so that every device trains on the same images."""
        stream = generator(seed, self.problem.dataset, "epoch", epoch)
        n, limit = self.training_images, self.problem.rotation
        order = torch.randperm(n, generator=stream)
        crops = torch.randint(2 * self.problem.crop_padding + 1, (2, n), generator=stream)
        flips = torch.rand(n, generator=stream) < 0.5
        angles = (2 * torch.rand(n, generator=stream) - 1) * limit if limit else None
        device = self.device
        return Draws(
            order.to(device), crops.to(device), flips.to(device), None if angles is None else angles.to(device)
        )
