"""Image files to uint8 arrays of one size, and what to do with those that cannot be read. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.cache import Images, Labels, Progress
from benchmark.problems.folder import Labelled

BATCH = 512
THREADS = 4


def decode(path: str, size: int, channels: int) -> Images:
    """uint8 (size, size, channels): the shorter side resized to `size`, then the centre. OSError if it is no image."""
    with Image.open(path) as file:
        image = file.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = centre(image, size, size)
    return np.asarray(image).reshape(size, size, channels)


def centre(image: Image.Image, shorter: int, size: int) -> Image.Image:
    """The middle `size` x `size` pixels, after the shorter side was resized to `shorter`, as torchvision does it."""
    height, width = resized_shape(image.height, image.width, shorter)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = centre_corner(height, width, size)
    return image.crop((left, top, left + size, top + size))


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) after the shorter side was resized to `shorter`."""
    short = min(height, width)
    return int(shorter * height / short), int(shorter * width / short)


def centre_corner(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of the middle `size` x `size` pixels."""
    return round((height - size) / 2), round((width - size) / 2)


def decoded(
    problem: Problem,
    files: Sequence[Labelled],
    remarks: list[str],
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[Images, Labels]]:
    """Batches of decoded images and labels, in order.

    Images that cannot be read end it with a UserError that names the first and counts them all; where the recipe says
    unreadable_images: skip, they are left out and a line is added to `remarks`.
    """
    bad: list[str] = []

    def attempt(item: Labelled) -> Images | None:
        try:
            return decode(item[0], problem.image_size, problem.channels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            bad.append(f"{item[0]} ({' '.join(str(error).split())})")
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(files), BATCH):
            batch = files[first : first + BATCH]
            found = [(image, label) for image, (_, label) in zip(pool.map(attempt, batch), batch, strict=True)]
            good = [(image, label) for image, label in found if image is not None]
            progress(min(first + BATCH, len(files)), len(files))
            if good:
                yield np.stack([image for image, _ in good]), np.array([label for _, label in good], dtype=np.int64)
    if not bad:
        return
    bad.sort()
    count = f"{len(bad)} of {len(files)} images cannot be read, the first: {bad[0]}"
    if problem.unreadable_images == "stop":
        raise UserError(f"{count}; mend or remove them, or leave them out with --set unreadable_images=skip")
    remarks.append(f"skipped: {count}")
