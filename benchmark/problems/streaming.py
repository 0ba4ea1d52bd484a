"""Large images, streamed from disk: loader processes decode, crop and resize them, a batch at a time.

JPEGs are decoded by TorchCodec where it is installed and otherwise by Pillow, into the same pixels; torchvision resizes
the crops. The random draws for an image depend on (seed, epoch, position) alone, so that batches are the same with any
number of loader processes, and an epoch can be resumed anywhere.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.augment import Normalisation, laid_out, moments
from benchmark.problems.batches import Batches, ImageBatch, held_out
from benchmark.problems.cache import stat_or_none
from benchmark.problems.decode import Unreadable, formats, open_image, reading, resized_shape
from benchmark.problems.folder import Labelled, check_classes, find, list_images
from benchmark.problems.seeds import generator

AREA = (0.08, 1.0)
"""Of a random crop, as a share of the image; these three are torchvision's values."""
RATIO = (3 / 4, 4 / 3)
"""Width / height of a random crop."""
ATTEMPTS = 10
"""Random crops that are tried before the centre is taken."""
EVALUATION_BATCH = {"cpu": 32, "gpu": 256}
MEASURED = 1024
"""Images that mean and standard deviation are measured on if the recipe has none."""
PREFETCH = 4
"""Batches that each loader process prepares ahead."""

Decoder = Callable[[str, int], Tensor]
"""(path, channels) -> uint8 (channels, height, width). Called within `reading`, which handles its errors."""
Box = tuple[int, int, int, int]
"""(top, left, height, width) of a part of an image."""
Request = tuple[int, int, int]
"""(index of an image, seed of the epoch, position in the epoch); without augmentation (index, 0, -1)."""


class StreamedData(Batches):
    """A problem's images on disk.

    Args:
        problem: the recipe.
        device: for the batches.
        folder: as --data.
        shard: (rank, ranks).
        loaders: processes that decode; 0 decodes in the training process, None is 0 on a CPU and torch's number of
            threads elsewhere.
        decoder: one of DECODERS; None is the fastest that is installed.
    """

    normalise: Normalisation

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        folder: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        loaders: int | None = None,
        decoder: str | None = None,
    ):
        super().__init__(problem, device, shard)
        root = find(problem, folder).root
        listing = list_images(root)
        check_classes(problem, len(listing.classes), root)
        self.fingerprint = _fingerprint(root, (*listing.training, *listing.test))
        self._listing_remarks = listing.remarks
        self._skipped: dict[int, str] = {}
        labels = torch.tensor([label for _, label in listing.training])
        self._index, validation = held_out(problem, labels)
        first_test = len(listing.training)
        self._evaluation = {
            "validation": validation,
            "test": torch.arange(first_test, first_test + len(listing.test)),
        }
        classes = (f"training images of class {name!r}" for name in listing.classes)
        self._part_names = (*classes, "validation images", "test images")
        self._part = torch.cat([labels, torch.full((len(listing.test),), len(self._part_names) - 1)])
        self._part[validation] = len(self._part_names) - 2
        self._readable = self._part[torch.cat([self._index, *self._evaluation.values()])].bincount()
        if loaders is None:
            loaders = 0 if device.type == "cpu" else max(1, torch.get_num_threads())
        self._requests: list[list[Request]] = []  # refilled for every pass, so that loader processes live on
        self._loading = False
        self._images = _Images(problem, (*listing.training, *listing.test), decoder)
        self._loader = DataLoader(
            self._images,
            batch_sampler=self._requests,
            collate_fn=_unchanged,
            num_workers=loaders,
            prefetch_factor=PREFETCH if loaders else None,
            persistent_workers=loaders > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else every new pass would draw from the global one, which dropout uses
        )
        self.normalise = Normalisation(problem, device, self._measure)

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self._skipped:
            return self._listing_remarks
        count = f"{len(self._skipped)} of {len(self._part)} images"
        return (*self._listing_remarks, f"skipped: {count} cannot be read, the first: {min(self._skipped.values())}")

    @property
    def training_images(self) -> int:
        return len(self._index)

    def target_counts(self) -> Tensor:
        return self._part[self._index].bincount()

    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[ImageBatch]:
        stream = generator(seed, self.problem.dataset, "epoch", epoch)
        order = torch.randperm(self.training_images, generator=stream)
        base = stream.initial_seed()
        requests = []
        for k in range(start, self.iterations_per_epoch if stop is None else stop):
            where, _ = self.positions(k, k + 1)
            places = torch.arange(self.training_images)[where]
            index = self._index[order[where]]
            requests.append([(i, base, place) for i, place in zip(index.tolist(), places.tolist(), strict=True)])
        yield from self._load(requests)  # a batch for every request, also an empty one: each is an iteration

    def evaluation_batches(self, name: str) -> Iterator[ImageBatch]:
        size = EVALUATION_BATCH["cpu" if self.device.type == "cpu" else "gpu"]
        rank, ranks = self.shard
        parts = self._evaluation[name].split(size)[rank::ranks]
        batches = self._load([[(i, 0, -1) for i in part.tolist()] for part in parts])
        yield from ((images, labels) for images, labels in batches if len(labels))

    def _load(self, requests: list[list[Request]]) -> Iterator[ImageBatch]:
        for images, labels in self._raw(requests):
            pixels = images.to(self.device, non_blocking=True).to(torch.float32)
            yield laid_out(self.normalise(pixels), self.problem), labels.to(self.device, non_blocking=True)

    def _raw(self, requests: list[list[Request]]) -> Iterator[ImageBatch]:
        nested = self._loading  # such as an evaluation in the middle of an epoch, whose loader must not start over
        if not nested:
            self._requests[:] = requests
        self._loading = True
        try:
            for images, labels, unreadable in map(self._images.__getitems__, requests) if nested else self._loader:
                for index, reason in unreadable:
                    self._skip(index, reason)
                yield images, labels
        finally:
            self._loading = nested

    def _skip(self, index: int, reason: str) -> None:
        """Note an unreadable image. UserError if the recipe skips none, or no image of its split or class is left."""
        path = escaped(self._images.path(index))
        if self.problem.unreadable_images == "stop":
            raise UserError(
                f"{path} cannot be read ({reason}); mend or remove it, or leave such images out with "
                "--set unreadable_images=skip"
            )
        if index not in self._skipped:
            self._skipped[index] = f"{path} ({reason})"
            part = self._part[index]
            self._readable[part] -= 1
            if not self._readable[part]:
                raise UserError(f"none of the {self._part_names[part]} can be read, the last: {path} ({reason})")

    def _measure(self) -> tuple[Tensor, Tensor]:
        step = max(1, len(self._index) // MEASURED)
        index = self._index[::step].tolist()
        batches = self._raw([[(i, 0, -1) for i in index[k : k + 32]] for k in range(0, len(index), 32)])
        images = torch.cat([images.cpu() for images, _ in batches]).numpy()
        if not len(images):
            raise UserError(f"none of {len(index)} training images looked at can be read: {self.remarks[-1]}")
        return moments(images, torch.arange(len(images)))


class _Images(Dataset[Any]):
    """Gives (images uint8 (b, height, width, channels), labels (b,), [(index, reason) of unreadable images])."""

    def __init__(self, problem: Problem, files: Sequence[Labelled], decoder: str | None):
        self.size, self.channels, self.flip = problem.image_size, problem.channels, problem.flip
        self.shorter = problem.evaluation_size or problem.image_size
        # Arrays: with a list, the reference counts of a million objects would make forked processes copy its memory.
        self.paths = np.array([os.fsencode(path) for path, _ in files])
        self.labels = torch.tensor([label for _, label in files])
        self.decoder = decoder
        self.decode: Decoder | None = None  # chosen in the process that decodes

    def __getitems__(self, requests: list[Request]) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
        self.decode = self.decode or pick_decoder(self.decoder)
        images, labels, unreadable = [], [], []
        for index, seed, place in requests:
            path = self.path(index)
            try:
                with reading(path):
                    image = self.decode(path, self.channels)
                    images.append(self._augmented(image, seed, place) if place >= 0 else self._centre(image))
                labels.append(self.labels[index])
            except Unreadable as error:
                unreadable.append((index, str(error)))
        if not images:
            return torch.empty((0, self.size, self.size, self.channels), dtype=torch.uint8), self.labels[:0], unreadable
        return torch.stack(images).permute(0, 2, 3, 1).contiguous(), torch.stack(labels), unreadable

    def path(self, index: int) -> str:
        return os.fsdecode(self.paths[index])

    def _augmented(self, image: Tensor, seed: int, place: int) -> Tensor:
        from torchvision.transforms.v2 import functional

        (top, left, height, width), mirrored = drawn(image.shape[1], image.shape[2], seed, place, self.flip)
        size = [self.size, self.size]
        cropped = functional.resized_crop(image, top, left, height, width, size, antialias=True)
        return cropped.flip(2) if mirrored else cropped

    def _centre(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        shape = resized_shape(image.shape[1], image.shape[2], self.shorter)
        return functional.center_crop(functional.resize(image, list(shape), antialias=True), [self.size, self.size])


def drawn(height: int, width: int, seed: int, place: int, flip: bool) -> tuple[Box, bool]:
    """The random draws for the image at position `place` of the epoch: (crop, whether it is mirrored)."""
    stream = np.random.default_rng((seed, place))
    box = random_box(height, width, stream)
    return box, bool(flip and stream.random() < 0.5)


def random_box(height: int, width: int, stream: np.random.Generator) -> Box:
    area = height * width
    for _ in range(ATTEMPTS):
        target = area * stream.uniform(*AREA)
        ratio = math.exp(stream.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(stream.integers(height - h + 1)), int(stream.integers(width - w + 1)), h, w
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


DECODERS = ("torchcodec", "pillow")


def pick_decoder(name: str | None = None) -> Decoder:
    """By name; without one TorchCodec where it is installed, else Pillow."""
    if name == "pillow":
        return decode_with_pillow
    try:
        from torchcodec.decoders import decode_image
    except (ImportError, RuntimeError, OSError):
        return decode_with_pillow

    def decode(path: str, channels: int) -> Tensor:
        mode, name = ("RGB", "RGB") if channels == 3 else ("L", "GRAY")
        with suppress(Exception):  # Pillow may still read the file, or say what is wrong with it
            # Other formats and modes would give other pixels; TorchCodec, unlike Pillow, rotates by orientation.
            with Image.open(path, formats=formats()) as file:
                orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
                same = (file.format, file.mode, orientation) == ("JPEG", mode, 1)
            if same:
                return decode_image(path, mode=name)
        return decode_with_pillow(path, channels)

    return decode


def decode_with_pillow(path: str, channels: int) -> Tensor:
    array = np.array(open_image(path, channels))
    return torch.from_numpy(array.reshape(*array.shape[:2], channels)).permute(2, 0, 1)


def _unchanged(batch: Any) -> Any:
    return batch


def _fingerprint(root: Path, files: Sequence[Labelled]) -> str:
    """Hash of names, sizes and labels: reading every pixel would take as long as an epoch."""
    content = hashlib.sha256()
    for path, label in files:
        status = stat_or_none(path)
        content.update(os.fsencode(f"{path.removeprefix(str(root))}/{status and status.st_size}/{label}\n"))
    return f"files-{content.hexdigest()[:16]}"
