"""Finding and listing images on disk. Imports no torch, so that a sweep checks its data before it starts a worker."""

from __future__ import annotations

import codecs
import os
import statistics
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cells import FUNCTION, Problem
from benchmark.errors import UserError, escaped
from benchmark.imports import check_named
from benchmark.problems.same_files import Labelled, find_shared, number

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))
TEST_NAMES = ("test", "val", "validation")
ANNOTATIONS = "val_annotations.txt"
"""In Tiny ImageNet's test folder: the classes of the images in images/."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")
"""Left out like hidden folders: from archives packed on a Mac, and thumbnails of a Synology."""
SAMPLED = 64
"""Images that are opened to find the image size."""
LARGE = 96
"""Pixels a side above which images are streamed and cropped at random, like ImageNet's."""

DEFAULT_FOLDER = Path("data")
INSTALLED = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where a package of the system puts a data set (Debian's dataset-fashion-mnist); the second place without --data."""
EMBEDDED = ("digits", "noise", "scenes", "python_docs", "numbers")
"""Data sets that need no folder."""

HOW_TO_GET = {
    "cifar10": "the sweep's --download fetches it (170 MB, https://www.cs.toronto.edu/~kriz/cifar.html)",
    "cifar100": "the sweep's --download fetches it (169 MB, https://www.cs.toronto.edu/~kriz/cifar.html)",
    "tinyimagenet": "the sweep's --download fetches it (248 MB, http://cs231n.stanford.edu/tiny-imagenet-200.zip)",
    "fashion_mnist": "the sweep's --download fetches it (30 MB, https://github.com/zalandoresearch/fashion-mnist), and "
    "Debian has it as the package dataset-fashion-mnist",
    "imagenet": "it needs an account at https://image-net.org; torchvision.datasets.ImageNet unpacks its archives "
    "into the folders that are looked for",
    "voc": "the sweep's --download fetches it (Pascal VOC 2012, 2 GB, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)",
    "cityscapes": "it needs an account at https://www.cityscapes-dataset.com; unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip side by side",
    "text": "a text of your own: --data FILE, or DIR with train.txt and test.txt",
    "pairs": "parallel text of your own: DIR with train.source, train.target, test.source and test.target",
    **dict.fromkeys(
        ("wmt16_en_de", "wmt16_de_en"),
        "DIR of Hugging Face's data set wmt/wmt16: de-en/train-*.parquet and de-en/test-*.parquet",
    ),
    "imagefolder": "one folder of images for each class, in DIR/train and in DIR/test or DIR/val",
}
ARCHIVES = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
"""The folder that torchvision unpacks the original arrays into."""
IDX = {"fashion_mnist": "FashionMNIST/raw"}
"""Data sets of IDX files, with the folder that torchvision keeps these in."""
IDX_FILES = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""By split, the files of images and labels; each may be compressed, with the suffix .gz."""
MASKED = {
    "voc": tuple(f"VOCdevkit/VOC2012/{part}" for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")),
    "cityscapes": ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"),
}
"""Data sets of images with masks, with the folders that they have in torchvision's layout."""
UNPACKED = {"tinyimagenet": "tiny-imagenet-200"}
"""The folder inside an archive of class folders."""


LeftOut = defaultdict[str, list[str]]
"""Paths that are ignored, by what they are."""


@dataclass(frozen=True)
class Listing:
    """Image files and their labels, ordered by class and then by name. remarks: what was left out."""

    classes: tuple[str, ...]
    training: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Location:
    """Where images are.

    kind: "archive" (original arrays in torchvision's layout), "idx" (IDX files in `root`), "masked" (images and masks,
    in torchvision's layout, too) or "folder" (class folders).
    """

    kind: str
    root: Path


def find(problem: Problem, folder: Path | None) -> Location:
    """Where the problem's images are under `folder` (--data; None: the default and what the system has installed).

    Raises UserError with how to get them.
    """
    check_dataset(problem)
    name = problem.dataset
    if name in MASKED:
        return _find_masked(name, folder or DEFAULT_FOLDER)
    places = [folder] if folder else [DEFAULT_FOLDER, *([INSTALLED[name]] if name in INSTALLED else [])]
    incomplete = ""
    for root in (path for place in places for path in (place, place / name, place / UNPACKED.get(name, name))):
        if name in ARCHIVES and os.path.isdir(root / ARCHIVES[name]):
            return Location("archive", root)
        for raw in (root / IDX[name], root) if name in IDX else ():
            lacking = _lacking(raw)
            if not lacking:
                return Location("idx", raw)
            incomplete = incomplete or (f"{escaped(raw)} lacks {lacking[0]}" if len(lacking) < 4 else "")
        if os.path.isdir(root / "train") and any(os.path.isdir(root / test) for test in TEST_NAMES):
            return Location("folder", root)
    for root in (path for place in places for path in (place, place / name)):
        if os.path.isdir(root) and not os.access(root, os.R_OK | os.X_OK):
            raise UserError(f"{escaped(root)}: this user may not read that folder")
    original = ARCHIVES.get(name) or IDX.get(name)
    missing = f"neither {original}/ nor" if original else "no"
    reason = incomplete or f"{missing} train/ with test/ or val/"
    raise UserError(
        f"--data {escaped(folder or DEFAULT_FOLDER)}: {name} is not there ({reason}); {HOW_TO_GET[name]}; "
        "--problem digits needs no data"
    )


def _find_masked(name: str, folder: Path) -> Location:
    missing = {
        root: [part for part in MASKED[name] if not os.path.isdir(root / part)] for root in (folder, folder / name)
    }
    root = min(missing, key=lambda root: len(missing[root]))
    if not missing[root]:
        return Location("masked", root)
    raise UserError(
        f"--data {escaped(folder)}: {name} is not there (no folder {missing[root][0]}/); {HOW_TO_GET[name]}; "
        "--problem segmentation needs no data"
    )


def idx_files(folder: Path) -> list[Path]:
    """The IDX files that lie in `folder`."""
    candidates = (
        folder / f"{name}{suffix}" for names in IDX_FILES.values() for name in names for suffix in ("", ".gz")
    )
    return [path for path in candidates if os.path.isfile(path)]


def _lacking(folder: Path) -> list[str]:
    """Names of the IDX files that are in `folder` neither plain nor compressed."""
    present = {path.name.removesuffix(".gz") for path in idx_files(folder)}
    return [name for names in IDX_FILES.values() for name in names if name not in present]


def annotation_files(root: Path) -> list[str]:
    """Files below `root` that say of which class images are."""
    return [path for name in TEST_NAMES if os.path.isfile(path := str(root / name / ANNOTATIONS))]


def check_dataset(problem: Problem) -> None:
    """Raises UserError unless the data set is one of those in folders, or from outside."""
    if FUNCTION.fullmatch(problem.dataset):
        check_named(problem.dataset, f"problem {problem.name}: dataset {problem.dataset!r}")
    elif problem.dataset not in HOW_TO_GET:
        known = ", ".join((*EMBEDDED, *HOW_TO_GET))
        raise UserError(
            f"problem {problem.name}: dataset {problem.dataset!r} is unknown: one of {known}, or your own as "
            "'module:function'"
        )


def list_images(root: Path) -> Listing:
    """All images in the class folders of `root`. UserError for classes that are missing, empty or do not match."""
    left: LeftOut = defaultdict(list)
    classes = _class_names(root / "train")
    if len(classes) < 2:
        raise UserError(f"{escaped(root)}/train: {len(classes)} class folders; a problem has 2 or more")
    test_root, rejected = _test_folder(root, classes)
    list_test = _images if _class_names(test_root) == classes else _annotated
    numbers = array("Q"), array("Q")
    training = tuple(_images(root / "train", classes, left, numbers[0]))
    test = tuple(list_test(test_root, classes, left, numbers[1]))
    empty = [root / "train" / name for name in _without(training, classes)] + ([] if test else [test_root])
    if empty:
        raise UserError(f"{escaped(empty[0])}: no images ({', '.join(sorted(SUFFIXES))})")
    remarks = [
        *find_shared(root, training, test, numbers),
        *(f"left out: {len(paths)} {what}, the first: {escaped(min(paths))}" for what, paths in sorted(left.items())),
    ]
    if rejected:
        remarks.append(f"the test images are those of {test_root.name}/: {'; '.join(rejected)}")
    if untested := _without(test, classes):
        remarks.append(f"{len(untested)} classes have no test images, the first: {escaped(untested[0])}")
    return Listing(classes, training, test, tuple(remarks))


def check_classes(problem: Problem, classes: int, where: Path) -> None:
    if classes != problem.classes:
        raise UserError(
            f"{escaped(where)}: {classes} classes, but problem {problem.name} has {problem.classes}; "
            f"--set classes={classes}"
        )


def describe(root: Path) -> dict[str, Any]:
    """Recipe fields from the images: classes, channels, image size, and how large images are cropped."""
    from PIL import Image

    from benchmark.problems.decode import Unreadable, formats, reading

    listing = list_images(root)
    step = max(1, len(listing.training) // SAMPLED)
    sides, colours = [], False
    for path, _ in listing.training[::step]:
        try:
            with reading(path), Image.open(path, formats=formats()) as image:
                sides.append(min(image.size))
                colours |= image.mode not in ("1", "L", "F") and image.mode[0] != "I"
        except Unreadable:
            continue  # decoding reports it
    if not sides:
        raise UserError(f"{escaped(root)}/train: none of {len(listing.training[::step])} images looked at can be read")
    fields: dict[str, Any] = {"classes": len(listing.classes), "channels": 3 if colours else 1}
    side = round(statistics.median(sides))
    if side <= LARGE:
        return {**fields, "image_size": side}
    return {**fields, "image_size": 224, "evaluation_size": 256, "resized_crop": True}


def complete(folder: Path | None) -> Callable[[Problem], dict[str, Any]]:
    """For `load_sweep`: gives the fields that a recipe for an image folder leaves open, found from the images.

    folder: --data; UserError if the data set reads none.
    """

    def fields_of(problem: Problem) -> dict[str, Any]:
        if folder is not None and (problem.dataset in EMBEDDED or FUNCTION.fullmatch(problem.dataset)):
            raise UserError(f"--data {escaped(folder)}: dataset {problem.dataset} reads no folder; leave it out")
        if problem.dataset != "imagefolder" or {"classes", "channels", "image_size"} <= problem.model_fields_set:
            return {}
        fields = describe(find(problem, folder).root)
        if not problem.resized_crop and "resized_crop" in problem.model_fields_set:
            fields.pop("evaluation_size", None)
        elif fields.get("resized_crop") and "image_size" in problem.model_fields_set:
            fields["evaluation_size"] = round(problem.image_size * fields["evaluation_size"] / fields["image_size"])
        return {key: value for key, value in fields.items() if key not in problem.model_fields_set}

    return fields_of


def _test_folder(root: Path, classes: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The first with the training classes or annotations, and why those before it were rejected. Raises UserError."""
    rejected: list[str] = []
    for folder in (root / name for name in TEST_NAMES if os.path.isdir(root / name)):
        odd = sorted(set(classes) ^ set(_class_names(folder)))
        if os.path.samefile(folder, root / "train"):
            rejected.append(f"{folder.name}/ is train/ itself")
            continue
        if not odd or os.path.isfile(folder / ANNOTATIONS):
            return folder, rejected
        rejected.append(f"class folder {odd[0]!r} is in only one of train/ and {folder.name}/")
    raise UserError(f"{escaped(root)}: no test images in {'/, '.join(TEST_NAMES)}/: {'; '.join(rejected)}")


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _visible(str(folder), defaultdict(list)) if _is_folder(entry)))


def _without(images: tuple[Labelled, ...], classes: tuple[str, ...]) -> list[str]:
    """The classes without images."""
    present = {label for _, label in images}
    return [name for label, name in enumerate(classes) if label not in present]


def _images(folder: Path, classes: tuple[str, ...], left: LeftOut, numbers: array[int]) -> Iterator[Labelled]:
    for entry in _visible(str(folder), left):
        if not _is_folder(entry):
            left["files beside the class folders"].append(entry.path)
    for label, name in enumerate(classes):
        for path in sorted(_files(os.path.join(folder, name), left, numbers)):
            yield path, label


def _files(folder: str, left: LeftOut, numbers: array[int]) -> Iterator[str]:
    """Files with the suffix of an image in `folder` and below; as strings, since there may be a million. A folder that
    several links lead to is read once. numbers: takes those of the files."""
    folders, read = [folder], set[str]()
    while folders:
        folder = folders.pop()
        place = os.path.realpath(folder)
        if os.path.islink(folder) and _lies_in(folder, place):
            raise UserError(f"{escaped(folder)}: a link to a folder that it lies in; remove it")
        if place in read:
            left["links to folders that are read already"].append(folder)
            continue
        read.add(place)
        for entry in _visible(folder, left):
            if _is_folder(entry):
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                numbers.append(number(entry))
                yield entry.path
            elif entry.name != ANNOTATIONS:
                left["files that are not named as images"].append(entry.path)


def _lies_in(link: str, folder: str) -> bool:
    """Whether `link` lies below `folder`, also through other links."""
    above = (os.path.realpath(path) for path in Path(os.path.abspath(link)).parents)
    return any(os.path.commonpath((path, folder)) == folder for path in above)


def _visible(folder: str, left: LeftOut) -> Iterator[os.DirEntry[str]]:
    """The entries of `folder` without hidden ones. Raises UserError."""
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except OSError as error:
        raise UserError(f"{escaped(folder)}: {error.strerror}") from None
    for entry in entries:
        if entry.name[0] == "." or entry.name in SYSTEM_FOLDERS:
            left["hidden files or folders"].append(entry.path)
        else:
            yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; decoding reports it if it has the suffix of an image
        return False


def _annotated(folder: Path, classes: tuple[str, ...], left: LeftOut, numbers: array[int]) -> Iterator[Labelled]:
    """Tiny ImageNet's test images: one folder, and a file with their classes."""
    labels = {name: label for label, name in enumerate(classes)}
    annotations, images = folder / ANNOTATIONS, os.path.join(folder, "images")
    try:
        lines = annotations.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError as error:
        raise UserError(f"{escaped(annotations)}: {error.strerror}") from None
    annotated: dict[str, int] = {}
    for row, line in enumerate(map(os.fsdecode, lines), 1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        if os.path.basename(name) != name:
            raise UserError(f"{escaped(annotations)} line {row}: {name!r} is no name of a file in images/")
        path, label = os.path.join(images, name), rest.partition("\t")[0]
        if label not in labels:
            raise UserError(f"{escaped(annotations)} line {row}: {label!r} is not a class folder of train/")
        if path in annotated:
            raise UserError(f"{escaped(annotations)} line {row}: {name!r} is there a second time")
        annotated[path] = labels[label]
    for path in set(_files(str(folder), left, numbers)) - set(annotated):
        left["images that no annotation names"].append(path)
    yield from annotated.items()
