"""One image file in two places of a data set: in training and test, or in two classes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.errors import UserError, escaped

Labelled = tuple[str, int]
"""Path and label of an image file."""


def number(entry: os.DirEntry[str]) -> int:
    """That of the entry's file on its file system. Costs nothing but for links: there may be a million images."""
    try:
        return entry.stat().st_ino if entry.is_symlink() else entry.inode()
    except OSError:  # a link that leads nowhere, which decoding reports
        return entry.inode()


def find_shared(
    root: Path, training: Sequence[Labelled], test: Sequence[Labelled], numbers: tuple[array[int], array[int]]
) -> list[str]:
    """Remarks about test images that are training images too, and training images of two classes.

    Raises UserError where one is a link to the other. Two links to a third place, and hard links, are what stores make
    of equal images. numbers: of the files of `training` and `test`, in any order. Where some are equal the files are
    looked at more closely: those of two file systems may have the same.
    """
    first, second = (np.frombuffer(part, np.uint64) for part in numbers)
    if np.unique(first).size == first.size and not np.intersect1d(first, second).size:
        return []
    seen: dict[object, Labelled] = {}
    twice: list[tuple[str, str]] = []
    for path, label in training:
        before, at = seen.setdefault(_identity(path), (path, label))
        if at != label:
            twice.append((path, before))
    shared = [(path, seen[name][0]) for path, _ in test if (name := _identity(path)) in seen]
    remarks = []
    for pairs, what in ((shared, "test images are training images too"), (twice, "training images have two classes")):
        if not pairs:
            continue
        path, other = min(pairs)
        example = f"the first: {escaped(path)} is {escaped(other)}"
        if any(_leads(*pair) for pair in pairs):
            raise UserError(f"{escaped(root)}: {len(pairs)} {what}, through links, {example}; remove one of the two")
        remarks.append(f"{len(pairs)} {what}: the same file, {example}")
    return remarks


def _leads(path: str, other: str) -> bool:
    """Whether one of the two is a link to the other, itself or by its folder."""
    return os.path.realpath(path) == _place(other) or os.path.realpath(other) == _place(path)


def _place(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _identity(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino
