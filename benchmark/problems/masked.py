"""Pascal VOC and Cityscapes: images with masks on disk, decoded once. torchvision lists them to fill the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.cache import ArraySource, Images, Progress, Raw, cached, key_of
from benchmark.problems.decode import Unreadable, decoded, fitted, formats, open_image, reading
from benchmark.problems.folder import MASKED
from benchmark.tasks.symbols import IGNORED

LAYOUT = "masked 1"
"""Part of the cache's keys: to be changed when the same files would give other arrays."""
VOC_CLASSES = 21
INVALID = 254
"""In a table: a number that no mask of the data set has."""

Pairs = Sequence[tuple[str, str]]
"""Paths of images and of their masks."""
Table = NDArray[np.uint8]
"""The class of a pixel by its number in the file, (256,)."""


def open_masked(problem: Problem, root: Path, progress: Progress) -> ArraySource:
    """Images and masks with the shorter side resized to image_size, then the centre. Raises UserError.

    The test images are those of the data set's "val", since nobody has the masks of its "test".
    """
    remarks: list[str] = []

    def raw(part: str) -> Raw:
        try:
            pairs, table = READERS[problem.dataset](root, part)
        except (OSError, RuntimeError, ValueError) as error:
            reason = f"cannot be listed: part {part}: {_line(error)}"
            raise UserError(f"{escaped(root)}: {problem.dataset} {reason}") from None
        if not pairs:
            raise UserError(f"{escaped(root)}: {problem.dataset} has no images in its part {part}")
        masks = dict(pairs)

        def read(path: str) -> Images:
            return decode_masked(path, masks[path], table, problem.image_size, problem.channels)

        return Raw(len(pairs), decoded(problem, [(path, 0) for path in masks], remarks, progress, read), masked=True)

    key = key_of(problem, f"{LAYOUT} {problem.dataset}", _files(problem.dataset, root), root)
    source = cached(problem, key, "masked", lambda: raw("train"), lambda: raw("val"), remarks)
    for split in (source.training, source.test):
        if not len(split):
            raise UserError(f"{escaped(root)}: none of the images of a part can be read; {source.remarks[0]}")
        if all((split.images[k][..., -1] == IGNORED).all() for k in range(len(split))):
            raise UserError(f"{escaped(root)}: no pixel of a part of {problem.dataset} has a label (all are {IGNORED})")
    return source


def _files(dataset: str, root: Path) -> list[str]:
    walks = (os.walk(root / part) for part in MASKED[dataset])
    return sorted(os.path.join(folder, name) for walk in walks for folder, _, names in walk for name in names)


def _voc(root: Path, part: str) -> tuple[Pairs, Table]:
    from torchvision.datasets import VOCSegmentation

    listed = VOCSegmentation(str(root), image_set=part)
    table = np.full(256, INVALID, dtype=np.uint8)
    table[:VOC_CLASSES] = np.arange(VOC_CLASSES)
    table[IGNORED] = IGNORED
    return list(zip(listed.images, listed.masks, strict=True)), table


def _cityscapes(root: Path, part: str) -> tuple[Pairs, Table]:
    """The 19 classes that are evaluated; every other one counts as no label."""
    from torchvision.datasets import Cityscapes

    listed = Cityscapes(str(root), split=part, mode="fine", target_type="semantic")
    table = np.full(256, IGNORED, dtype=np.uint8)
    for kind in Cityscapes.classes:
        if not kind.ignore_in_eval:
            table[kind.id] = kind.train_id
    return sorted((image, mask) for image, (mask,) in zip(listed.images, listed.targets, strict=True)), table


READERS: dict[str, Callable[[Path, str], tuple[Pairs, Table]]] = {"voc": _voc, "cityscapes": _cityscapes}
"""By data set, of the folder and of "train" or "val"."""


def decode_masked(path: str, mask_path: str, table: Table, size: int, channels: int) -> Images:
    """uint8 (size, size, channels + 1), of which the last is the mask. Raises Unreadable."""
    with reading(path):
        image = open_image(path, channels)
    try:
        with reading(mask_path), Image.open(mask_path, formats=formats()) as file:
            if file.mode not in ("L", "P") or file.size != image.size:
                sizes = " x ".join(map(str, file.size)), " x ".join(map(str, image.size))
                raise ValueError(f"{file.mode} of {sizes[0]} pixels; it needs a number a pixel (L or P) of {sizes[1]}")
            classes = table[np.asarray(fitted(file, size, Image.Resampling.NEAREST))]
            if (classes == INVALID).any():
                raise ValueError("it has numbers that are no classes")
    except Unreadable as error:
        raise Unreadable(f"its mask {escaped(mask_path)}: {error}") from None
    pixels = np.asarray(fitted(image, size, Image.Resampling.BILINEAR)).reshape(size, size, channels)
    return np.dstack([pixels, classes])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
