"""IDX files, the format of MNIST and its successors (LeCun et al. 1998). Imports no torch."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError, escaped
from benchmark.problems.cache import Images, Labels
from benchmark.problems.folder import IDX_FILES

BYTES = 0x0800
"""The magic number of an array of bytes, without its number of dimensions, which is added to it."""


def read_split(folder: Path, split: str, size: int) -> tuple[Images, Labels]:
    """(images (n, size, size), labels (n,)) of the "training" or the "test" split. UserError for damaged files."""
    image_file, label_file = (_present(folder / name) for name in IDX_FILES[split])
    images, labels = _read(image_file, 3), _read(label_file, 1)
    if images.shape[1:] != (size, size):
        height, width = images.shape[1:]
        raise UserError(f"{escaped(image_file)}: images of {height}x{width} pixels, but image_size is {size}")
    if len(images) != len(labels) or not len(labels):
        raise UserError(f"{escaped(image_file)}: {len(images)} images for {len(labels)} labels in {label_file.name}")
    return images, labels.astype(np.int64)


def _present(path: Path) -> Path:
    """The file itself or, where it is not there, the compressed one."""
    return path if path.is_file() else path.with_name(f"{path.name}.gz")


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of a file of bytes. A file has a magic number, a size by dimension (each of 4 bytes), and the bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from None
    start = 4 * (1 + dimensions)
    if int.from_bytes(content[:4]) != BYTES + dimensions or len(content) < start:
        beginning = content[:4].hex() or "nothing"
        raise _damaged(path, f"it begins with {beginning}, not with {BYTES + dimensions:08x} and {dimensions} sizes")
    shape = tuple(int(count) for count in np.frombuffer(content[4:start], dtype=">u4"))
    values = np.frombuffer(content, dtype=np.uint8, offset=start)
    if len(values) != math.prod(shape):
        raise _damaged(path, f"{len(values)} bytes of data, but its header says {math.prod(shape)}")
    return values.reshape(shape)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{escaped(path)}: not a whole IDX file ({reason}); remove it, and --download fetches it again")
