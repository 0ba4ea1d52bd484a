"""Images in memory, and the batches that training draws from them.

A data set of small images is one uint8 tensor a split. Crops, flips and normalisation are batched tensor operations;
which image is where in an epoch and how it is augmented come from a generator per (seed, epoch), so the order is the
same for every schedule and method, for every number of workers, and when an epoch is taken up in its middle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.seeds import generator

CHUNK_BYTES = 32 << 20
"""How much of an epoch is augmented at once, as float32."""
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Split:
    """images: uint8 (n, channels, height, width); labels: int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def _digits(problem: Problem) -> tuple[Split, Split]:
    """scikit-learn's digits; every class gives its last 30 % to the test set."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(raw.target).long()
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        test[members[round(0.7 * len(members)) :]] = True
    return Split(images[~test], labels[~test]), Split(images[test], labels[test])


def _noise(problem: Problem) -> tuple[Split, Split]:
    """Random images of the problem's shape, to measure speed with: nothing can be learned from them."""
    stream = generator(0, "noise")

    def make(count: int) -> Split:
        shape = (count, problem.channels, problem.image_size, problem.image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=stream)
        return Split(images, torch.randint(problem.classes, (count,), generator=stream))

    return make(4096), make(512)


DATASETS: dict[str, Callable[[Problem], tuple[Split, Split]]] = {"digits": _digits, "noise": _noise}


class Data:
    """Training, validation and test images of a problem, and its batches, on one device.

    The validation split is drawn from the training images, the same for every seed, and never augmented.
    """

    def __init__(self, problem: Problem, device: torch.device):
        if problem.dataset not in DATASETS:
            raise UserError(
                f"problem {problem.name}: dataset {problem.dataset!r} is unknown: one of {', '.join(DATASETS)}"
            )
        self.problem = problem
        self.device = device
        whole, test = DATASETS[problem.dataset](problem)
        self.fingerprint = _fingerprint(whole, test)
        held_out = _stratified(whole.labels, problem.validation_fraction, generator(0, problem.dataset, "validation"))
        self.training = _on(device, Split(whole.images[~held_out], whole.labels[~held_out]))
        self._evaluation = {
            "validation": _on(device, Split(whole.images[held_out], whole.labels[held_out])),
            "test": _on(device, test),
        }
        pixels = self.training.images.float() / 255
        self._mean = pixels.mean((0, 2, 3))[:, None, None]
        self._std = pixels.std((0, 2, 3))[:, None, None]
        pad = problem.crop_padding
        padded = functional.pad(self.training.images, (pad, pad, pad, pad))
        height, width = self.training.images.shape[-2:]
        # Every crop of every image, as a view: (n, channels, 2 pad + 1, 2 pad + 1, height, width).
        self._windows = padded.unfold(2, height, 1).unfold(3, width, 1)

    @property
    def iterations_per_epoch(self) -> int:
        """The last, smaller batch counts; one image alone would have no batch statistics and is dropped."""
        full, rest = divmod(len(self.training), self.problem.batch_size)
        return full + (rest > 1)

    def evaluation_sizes(self) -> dict[str, int]:
        return {name: len(split) for name, split in self._evaluation.items()}

    def training_batches(
        self, seed: int, epoch: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented batches start .. stop-1 of an epoch: float32 (b, channels, height, width) and int64 (b,)."""
        order, crops, flips = self._epoch(seed, epoch)
        size = self.problem.batch_size
        stop = self.iterations_per_epoch if stop is None else stop
        batch_bytes = size * self.training.images[0].numel() * 4
        step = max(1, CHUNK_BYTES // batch_bytes)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            chosen = slice(first * size, last * size)
            images, labels = self._augment(order[chosen], crops[:, chosen], flips[chosen])
            yield from zip(images.split(size), labels.split(size), strict=True)

    def evaluation_batches(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the "validation" or "test" split, in order, not augmented."""
        split = self._evaluation[name]
        for first in range(0, len(split), EVALUATION_BATCH):
            chosen = slice(first, first + EVALUATION_BATCH)
            yield self._normalised(split.images[chosen]), split.labels[chosen]

    def _epoch(self, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Order of the images (n,), crop offsets (2, n) and flips (n,) of an epoch."""
        stream = generator(seed, self.problem.dataset, "epoch", epoch)
        n = len(self.training)
        order = torch.randperm(n, generator=stream)
        crops = torch.randint(2 * self.problem.crop_padding + 1, (2, n), generator=stream)
        flips = torch.rand(n, generator=stream) < 0.5
        return order.to(self.device), crops.to(self.device), flips.to(self.device)

    def _augment(self, order: Tensor, crops: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
        images = self._windows[order, :, crops[0], crops[1]]
        if self.problem.flip:
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
        return self._normalised(images), self.training.labels[order]

    def _normalised(self, images: Tensor) -> Tensor:
        return images.float().div_(255).sub_(self._mean).div_(self._std)


def _on(device: torch.device, split: Split) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def _stratified(labels: Tensor, fraction: float, stream: torch.Generator) -> Tensor:
    """Mask (n,) that holds out `fraction` of each class."""
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        shuffled = members[torch.randperm(len(members), generator=stream)]
        held_out[shuffled[: round(fraction * len(members))]] = True
    return held_out


def _fingerprint(*splits: Split) -> str:
    """Hash of every image and label."""
    content = hashlib.sha256()
    for split in splits:
        content.update(str(tuple(split.images.shape)).encode())
        content.update(split.images.numpy().data)
        content.update(split.labels.numpy().data)
    return content.hexdigest()[:16]
