"""Decoding of image files to uint8 arrays of one size, and what happens to unreadable ones. Imports no torch."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.cache import Images, Labels, Progress

BATCH, BATCH_BYTES = 512, 1 << 26
"""Images that are decoded at a time, and their bytes."""
THREADS = 4
MOST_PIXELS = 2 * 89_478_485
"""Of a resized image: the most that Pillow opens."""

warnings.filterwarnings("ignore", module="PIL")  # about files that it reads nevertheless


class Unreadable(Exception):
    """An image file that cannot be decoded. The message says why, in one line."""


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Raises Unreadable for any error in its block, and if `path` is no regular file: a pipe might never end.

    Decoders may raise any exception for damaged files, NotImplementedError among them.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreadable("not a regular file")
        yield
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise Unreadable(escaped(" ".join(reason.split()))) from None


@cache
def formats() -> tuple[str, ...]:
    """What Pillow reads by itself: for EPS, under whatever name, it would start Ghostscript."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def decode(path: str, size: int, channels: int) -> Images:
    """uint8 (size, size, channels): shorter side resized to `size`, then the centre cropped. Raises Unreadable."""
    with reading(path):
        image = fitted(open_image(path, channels), size, Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(size, size, channels)


def fitted(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """The shorter side resized to `size`, then the centre, as torchvision's Resize and CenterCrop."""
    if image.size == (size, size):
        return image
    height, width = resized_shape(image.height, image.width, size)
    top, left = centre_corner(height, width, size)
    return image.resize((width, height), how).crop((left, top, left + size, top + size))


def open_image(path: str, channels: int) -> Image.Image:
    """Grey or RGB, without transparency. Camera orientation is ignored, except in a TIFF, where Pillow applies it."""
    with Image.open(path, formats=formats()) as file:
        deep = file.mode == "F" or file.mode.startswith("I")
        return (_eight_bits(file) if deep else file).convert("RGB" if channels == 3 else "L")


def _eight_bits(file: Image.Image) -> Image.Image:
    """The upper 8 bits of grey levels of up to 16 bits. Pillow does so for colours, but would clip grey levels at 255.

    Raises ValueError if the file does not say which number is white.
    """
    values = np.asarray(file)
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        bits = getattr(file, "tag_v2", {}).get(258, (16,))[0]  # a TIFF may have 12
        values = values >> (bits - 8)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255) or (file.mode == "F" and 0 < high <= 1):
        raise ValueError(f"its values, {low:g} to {high:g}, are no grey levels from 0 to 255")
    return Image.fromarray(values.astype(np.uint8))


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) with the shorter side resized to `shorter`. ValueError if that makes too many pixels."""
    short = min(height, width)
    shape = int(shorter * height / short), int(shorter * width / short)
    if shape[0] * shape[1] > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many with the shorter side resized to {shorter}")
    return shape


def centre_corner(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of the middle `size` x `size` pixels."""
    return round((height - size) / 2), round((width - size) / 2)


def decoded(
    problem: Problem,
    files: Sequence[tuple[str, int]],
    remarks: list[str],
    progress: Progress = lambda done, total: None,
    read: Callable[[str], Images] | None = None,
) -> Iterator[tuple[Images, Labels]]:
    """Batches of decoded images and labels, in order.

    Args:
        problem: says size and channels, and what happens to images that cannot be read.
        files: paths and labels.
        remarks: get a line if images were left out.
        progress: is told how far it is.
        read: gives the image of a path, or raises Unreadable; `decode` if not given.

    If images cannot be read, a UserError at the end names the first and counts them all. With unreadable_images: skip
    in the recipe they are left out, and a line is added to `remarks`.
    """
    bad: list[str] = []

    def attempt(item: tuple[str, int]) -> Images | None:
        try:
            return read(item[0]) if read else decode(item[0], problem.image_size, problem.channels)
        except Unreadable as error:
            bad.append(f"{escaped(item[0])} ({error})")
            return None

    step = max(THREADS, min(BATCH, BATCH_BYTES // (problem.image_size**2 * problem.channels)))
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(files), step):
            batch = files[first : first + step]
            results = zip(pool.map(attempt, batch), batch, strict=True)
            readable = [(image, label) for image, (_, label) in results if image is not None]
            progress(min(first + step, len(files)), len(files))
            if readable:
                images, labels = zip(*readable, strict=True)
                yield np.stack(images), np.array(labels, dtype=np.int64)
    if not bad:
        return
    bad.sort()
    count = f"{len(bad)} of {len(files)} images cannot be read, the first: {bad[0]}"
    if problem.unreadable_images == "stop":
        raise UserError(f"{count}; mend or remove them, or leave them out with --set unreadable_images=skip")
    remarks.append(f"skipped: {count}")
