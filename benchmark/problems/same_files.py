"""One image file in two places of a data set, through a link: in training and test, or in two classes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.errors import UserError, escaped

Labelled = tuple[str, int]


def number(entry: os.DirEntry[str]) -> int:
    """That of the entry's file on its file system. Costs nothing but for links: there may be a million images."""
    try:
        return entry.stat().st_ino if entry.is_symlink() else entry.inode()
    except OSError:  # a link that leads nowhere, which decoding reports
        return entry.inode()


def refuse_shared(
    root: Path, training: Sequence[Labelled], test: Sequence[Labelled], numbers: tuple[array[int], array[int]]
) -> None:
    """Raises UserError for a test image that is a training image too, and for a training image of two classes.

    numbers: of the files of `training` and `test`, in any order. Equal ones are looked at more closely: files of two
    file systems may have the same.
    """
    first, second = (np.frombuffer(part, np.uint64) for part in numbers)
    if np.intersect1d(first, second).size:
        trained = {_identity(path): path for path, _ in training}
        shared = [(path, trained[name]) for path, _ in test if (name := _identity(path)) in trained]
        if shared:
            path, other = min(shared)
            raise UserError(
                f"{escaped(root)}: {len(shared)} test images are training images too, through links, the first: "
                f"{escaped(path)} is {escaped(other)}; remove one of the two"
            )
    if np.unique(first).size < first.size:
        seen: dict[object, Labelled] = {}
        for path, label in training:
            before, at = seen.setdefault(_identity(path), (path, label))
            if at != label:
                raise UserError(
                    f"{escaped(root)}: a training image of two classes, through a link: {escaped(before)} is "
                    f"{escaped(path)}; remove one of the two"
                )


def _identity(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino
