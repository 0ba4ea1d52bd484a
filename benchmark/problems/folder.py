"""Folders of images on disk: what is there, and one clear line where it is not. Imports no torch, so that a sweep can
look before it starts any worker."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cells import Problem
from benchmark.errors import UserError, shown

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))
TEST_NAMES = ("test", "val", "validation")
ANNOTATIONS = "val_annotations.txt"
"""In a test folder of Tiny ImageNet's: which image of its images/ is what."""
BY_PROGRAMS = ("__MACOSX", "@eaDir")
"""Hidden folders under another name: of archives that a Mac packed, and of thumbnails on a Synology."""
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


LeftOut = defaultdict[str, list[str]]
"""Paths that are no data, by what they are."""


@dataclass(frozen=True)
class Listing:
    """Image files and their labels, in one fixed order: by class, then by name. remarks: what was left out."""

    classes: tuple[str, ...]
    training: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    remarks: tuple[str, ...]


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
        if name in ARCHIVES and os.path.isdir(root / ARCHIVES[name]):
            return Found("archive", root)
        if os.path.isdir(root / "train") and any(os.path.isdir(root / test) for test in TEST_NAMES):
            return Found("folder", root)
    wanted = f"{ARCHIVES[name]}/ nor " if name in ARCHIVES else ""
    raise UserError(
        f"--data {shown(folder)}: {name} is not there ({'neither ' if wanted else 'no '}{wanted}train/ with test/ or "
        f"val/); {HOW_TO_GET[name]}; --problem digits needs no data"
    )


def list_images(root: Path) -> Listing:
    """All images in the class folders of `root`. Raises UserError where classes are missing, empty or do not match."""
    left: LeftOut = defaultdict(list)
    classes = _class_names(root / "train")
    if len(classes) < 2:
        raise UserError(f"{shown(root)}/train: {len(classes)} class folders; a problem has 2 or more")
    test_root, passed = _test_folder(root, classes)
    list_test = _images if _class_names(test_root) == classes else _annotated
    training, test = tuple(_images(root / "train", classes, left)), tuple(list_test(test_root, classes, left))
    empty = [root / "train" / name for name in _without(training, classes)] + ([] if test else [test_root])
    if empty:
        raise UserError(f"{shown(empty[0])}: no images ({', '.join(sorted(SUFFIXES))})")
    remarks = [f"left out: {len(paths)} {what}, the first: {shown(min(paths))}" for what, paths in sorted(left.items())]
    if passed:
        remarks.append(f"the test images are those of {test_root.name}/: {'; '.join(passed)}")
    if untested := _without(test, classes):
        remarks.append(f"{len(untested)} classes have no test images, the first: {shown(untested[0])}")
    return Listing(classes, training, test, tuple(remarks))


def check_classes(problem: Problem, classes: int, where: Path) -> None:
    if classes != problem.classes:
        raise UserError(
            f"{shown(where)}: {classes} classes, but problem {problem.name} has {problem.classes}; "
            f"--set classes={classes}"
        )


def describe(root: Path) -> dict[str, Any]:
    """Recipe fields that a folder tells: classes, channels and image size, and how large images are cropped."""
    from PIL import Image

    from benchmark.problems.decode import Unreadable, reading

    listing = list_images(root)
    step = max(1, len(listing.training) // SAMPLED)
    sides, colours = [], False
    for path, _ in listing.training[::step]:
        try:
            with reading(path), Image.open(path) as image:
                sides.append(min(image.size))
                colours |= image.mode not in ("1", "L", "F") and image.mode[0] != "I"
        except Unreadable:
            continue  # decoding names it
    if not sides:
        raise UserError(f"{shown(root)}/train: none of {len(listing.training[::step])} images looked at can be read")
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


def _test_folder(root: Path, classes: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The first with the training classes or with annotations, and why each before it is not. Raises UserError."""
    passed: list[str] = []
    for folder in (root / name for name in TEST_NAMES if os.path.isdir(root / name)):
        odd = sorted(set(classes) ^ set(_class_names(folder)))
        if not odd or os.path.isfile(folder / ANNOTATIONS):
            return folder, passed
        passed.append(f"class folder {odd[0]!r} is in only one of train/ and {folder.name}/")
    raise UserError(f"{shown(root)}: no test images in {'/, '.join(TEST_NAMES)}/: {'; '.join(passed)}")


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _visible(str(folder), defaultdict(list)) if _is_folder(entry)))


def _without(images: tuple[Labelled, ...], classes: tuple[str, ...]) -> list[str]:
    """The classes that no image is of."""
    present = {label for _, label in images}
    return [name for label, name in enumerate(classes) if label not in present]


def _images(folder: Path, classes: tuple[str, ...], left: LeftOut) -> Iterator[Labelled]:
    for entry in _visible(str(folder), left):
        if not _is_folder(entry):
            left["files beside the class folders"].append(entry.path)
    for label, name in enumerate(classes):
        for path in sorted(_files(os.path.join(folder, name), left)):
            yield path, label


def _files(folder: str, left: LeftOut) -> Iterator[str]:
    """What is named as an image in `folder` and below; as strings, since there may be a million."""
    folders = [folder]
    while folders:
        folder = folders.pop()
        if os.path.islink(folder) and _lies_in(folder, os.path.realpath(folder)):
            raise UserError(f"{shown(folder)}: a link to a folder that it lies in; remove it")
        for entry in _visible(folder, left):
            if _is_folder(entry):
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield entry.path
            elif entry.name != ANNOTATIONS:
                left["files that are not named as images"].append(entry.path)


def _lies_in(link: str, folder: str) -> bool:
    """Whether the way to `link` leads through `folder`, also by other links."""
    above = (os.path.realpath(path) for path in Path(os.path.abspath(link)).parents)
    return any(os.path.commonpath((path, folder)) == folder for path in above)


def _visible(folder: str, left: LeftOut) -> Iterator[os.DirEntry[str]]:
    """What is in `folder`, but for hidden things. Raises UserError."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise UserError(f"{shown(folder)}: {error.strerror}") from None
    for entry in found:
        if entry.name[0] == "." or entry.name in BY_PROGRAMS:
            left["hidden files or folders"].append(entry.path)
        else:
            yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: an image that cannot be read, if it is named as one
        return False


def _annotated(folder: Path, classes: tuple[str, ...], left: LeftOut) -> Iterator[Labelled]:
    """Tiny ImageNet: one folder, and a file that says which is what."""
    labels = {name: label for label, name in enumerate(classes)}
    annotations, images = folder / ANNOTATIONS, os.path.join(folder, "images")
    try:
        lines = annotations.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{shown(annotations)}: {error.strerror}") from None
    found: dict[str, int] = {}
    for number, line in enumerate(map(os.fsdecode, lines), 1):
        name, _, rest = line.partition("\t")
        path, label = os.path.join(images, name), rest.partition("\t")[0]
        if label not in labels:
            raise UserError(f"{shown(annotations)} line {number}: {label!r} is not a class folder of train/")
        if path in found:
            raise UserError(f"{shown(annotations)} line {number}: {name!r} is there a second time")
        found[path] = labels[label]
    for path in set(_files(str(folder), left)) - set(found):
        left["images that no annotation names"].append(path)
    yield from found.items()
