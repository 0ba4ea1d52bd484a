"""Folders of images on disk: what is there, and one clear line where it is not. Imports no torch, so that a sweep can
look before it starts any worker."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cells import Problem
from benchmark.errors import UserError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))
TEST_NAMES = ("test", "val", "validation")
SAMPLED = 64
"""Images that are looked at to find the image size."""
LARGE = 96
"""Image size, in pixels a side, above which images are streamed and cropped at random as ImageNet's are."""

DEFAULT_FOLDER = Path("data")
EMBEDDED = ("digits", "noise")
"""Data sets that need no folder."""

HOW_TO_GET = {
    "cifar10": "the sweep's --download fetches it (170 MB, https://www.cs.toronto.edu/~kriz/cifar.html)",
    "cifar100": "the sweep's --download fetches it (169 MB, https://www.cs.toronto.edu/~kriz/cifar.html)",
    "tinyimagenet": "the sweep's --download fetches it (248 MB, http://cs231n.stanford.edu/tiny-imagenet-200.zip)",
    "imagenet": "it needs an account at https://image-net.org; torchvision.datasets.ImageNet unpacks its archives "
    "into the folders that are looked for",
    "imagefolder": "one folder of images for each class, in DIR/train and in DIR/test or DIR/val",
}
ARCHIVES = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
"""The folder that torchvision unpacks the original arrays into."""
UNPACKED = {"tinyimagenet": "tiny-imagenet-200"}
"""The folder inside an archive of class folders."""


Labelled = tuple[str, int]
"""Path and label of an image file."""


@dataclass(frozen=True)
class Listing:
    """Image files and their labels, in one fixed order: by class, then by name."""

    classes: tuple[str, ...]
    training: tuple[Labelled, ...]
    test: tuple[Labelled, ...]


@dataclass(frozen=True)
class Found:
    """kind: "archive" (original arrays in torchvision's layout) or "folder" (class folders); root: where that is."""

    kind: str
    root: Path


def find(problem: Problem, folder: Path) -> Found:
    """Where the problem's images are under `folder` (--data). Raises UserError with how to get them."""
    name = problem.dataset
    if name not in HOW_TO_GET:
        known = ", ".join((*EMBEDDED, *HOW_TO_GET))
        raise UserError(f"problem {problem.name}: dataset {name!r} is unknown: one of {known}")
    for root in (folder, folder / name, folder / UNPACKED.get(name, name)):
        if name in ARCHIVES and (root / ARCHIVES[name]).is_dir():
            return Found("archive", root)
        if (root / "train").is_dir() and _test_folder(root) is not None:
            return Found("folder", root)
    wanted = f"{ARCHIVES[name]}/ nor " if name in ARCHIVES else ""
    raise UserError(
        f"--data {folder}: {name} is not there ({'neither ' if wanted else 'no '}{wanted}train/ with test/ or val/); "
        f"{HOW_TO_GET[name]}; --problem digits needs no data"
    )


def list_images(root: Path) -> Listing:
    """All images in the class folders of `root`. Raises UserError where classes are missing, empty or do not match."""
    test_root = _test_folder(root)
    assert test_root is not None
    classes = _class_names(root / "train")
    if len(classes) < 2:
        raise UserError(f"{root / 'train'}: {len(classes)} class folders; a problem has 2 or more")
    training = tuple(_images(root / "train", classes))
    annotations = test_root / "val_annotations.txt"
    if annotations.is_file():  # Tiny ImageNet: one folder, and a file that says which is what
        test = tuple(_annotated(annotations, classes))
    else:
        odd = sorted(set(classes) ^ set(_class_names(test_root)))
        if odd:
            raise UserError(f"{root}: class folder {odd[0]!r} is in only one of train/ and {test_root.name}/")
        test = tuple(_images(test_root, classes))
    present = Counter(label for _, label in training)
    for label, name in enumerate(classes):
        if not present[label]:
            raise UserError(f"{root / 'train' / name}: no images ({', '.join(sorted(SUFFIXES))})")
    if not test:
        raise UserError(f"{test_root}: no images ({', '.join(sorted(SUFFIXES))})")
    return Listing(classes, training, test)


def check_classes(problem: Problem, classes: int, where: Path) -> None:
    if classes != problem.classes:
        raise UserError(
            f"{where}: {classes} classes, but problem {problem.name} has {problem.classes}; --set classes={classes}"
        )


def describe(root: Path) -> dict[str, Any]:
    """Recipe fields that a folder tells: classes, channels and image size, and how large images are cropped."""
    from PIL import Image

    listing = list_images(root)
    step = max(1, len(listing.training) // SAMPLED)
    sides, colours = [], False
    for path, _ in listing.training[::step]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
                colours |= image.mode not in ("1", "L", "I", "I;16", "F")
        except OSError:
            continue  # decoding names it
    if not sides:
        raise UserError(f"{root / 'train'}: none of {len(listing.training[::step])} images looked at can be read")
    found: dict[str, Any] = {"classes": len(listing.classes), "channels": 3 if colours else 1}
    side = round(statistics.median(sides))
    if side <= LARGE:
        return {**found, "image_size": side}
    return {**found, "image_size": 224, "evaluation_size": 256, "resized_crop": True}


def complete(folder: Path | None) -> Callable[[Problem], dict[str, Any]]:
    """For `load_sweep`: the recipe fields that an image folder tells and the recipe leaves open."""

    def fields_of(problem: Problem) -> dict[str, Any]:
        if problem.dataset != "imagefolder" or {"classes", "channels", "image_size"} <= problem.model_fields_set:
            return {}
        found = describe(find(problem, folder or DEFAULT_FOLDER).root)
        return {key: value for key, value in found.items() if key not in problem.model_fields_set}

    return fields_of


def _test_folder(root: Path) -> Path | None:
    return next((root / name for name in TEST_NAMES if (root / name).is_dir()), None)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _images(folder: Path, classes: tuple[str, ...]) -> Iterator[Labelled]:
    for label, name in enumerate(classes):
        for path in sorted(_files(os.path.join(folder, name))):
            yield path, label


def _files(folder: str) -> Iterator[str]:
    """Image files in `folder` and below; as strings, since there may be a million."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield entry.path


def _annotated(annotations: Path, classes: tuple[str, ...]) -> Iterator[Labelled]:
    labels = {name: label for label, name in enumerate(classes)}
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        if label not in labels:
            raise UserError(f"{annotations} line {number}: {label!r} is not a class folder of train/")
        yield os.path.join(annotations.parent, "images", name), labels[label]
