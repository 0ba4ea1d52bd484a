"""Data sets as arrays, by name: embedded ones, torchvision's archives, and class folders, which are decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import Problem
from benchmark.errors import UserError, escaped
from benchmark.problems.cache import ArraySource, Progress, Raw, Split, cached, key_of, lock
from benchmark.problems.decode import decoded
from benchmark.problems.fits import check_fixed
from benchmark.problems.folder import (
    ARCHIVES,
    DEFAULT_FOLDER,
    EMBEDDED,
    Labelled,
    annotation_files,
    check_classes,
    find,
    idx_files,
    list_images,
)
from benchmark.problems.idx import read_split
from benchmark.problems.masked import open_masked
from benchmark.problems.scenes import compose

FOLDERS = "folder 2"
"""Part of the cache's keys: to be changed when the same files would give other arrays."""


def open_source(
    problem: Problem, folder: Path | None = None, progress: Progress = lambda done, total: None
) -> ArraySource:
    """The problem's images, from `folder` (--data) unless they are embedded. Raises UserError."""
    if problem.dataset in EMBEDDED:
        check_fixed(problem)
        return BUILT_IN[problem.dataset](problem)
    location = find(problem, folder)
    source = READERS[location.kind](problem, location.root, progress)
    if not source.training.masked:
        check_classes(problem, int(source.training.labels.max()) + 1, location.root)
    return source


def _folder(problem: Problem, root: Path, progress: Progress) -> ArraySource:
    listing = list_images(root)
    check_classes(problem, len(listing.classes), root)
    total = len(listing.training) + len(listing.test)
    remarks: list[str] = []

    def raw(images: Sequence[Labelled], before: int) -> Raw:
        report: Progress = lambda done, _: progress(before + done, total)  # noqa: E731
        return Raw(len(images), decoded(problem, images, remarks, report))

    training, test = lambda: raw(listing.training, 0), lambda: raw(listing.test, len(listing.training))
    files = [path for path, _ in (*listing.training, *listing.test)] + annotation_files(root)
    source = cached(problem, key_of(problem, FOLDERS, files, root), "folder", training, test, remarks)
    empty = [name for k, name in enumerate(listing.classes) if not (source.training.labels == k).any()]
    if empty or not len(source.test):
        what = f"training images of class {empty[0]!r}" if empty else "test images"
        raise UserError(f"{escaped(root)}: none of the {what} can be read; {source.remarks[0]}")
    return replace(source, remarks=(*listing.remarks, *source.remarks))


def _archive(problem: Problem, root: Path, progress: Progress) -> ArraySource:
    """CIFAR in torchvision's layout. torchvision, which checks the files' checksums, is imported to fill the cache."""
    folder = root / ARCHIVES[problem.dataset]

    def raw(train: bool) -> Raw:
        from torchvision import datasets

        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[problem.dataset]
        try:
            arrays = kind(str(root), train=train)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder}: {reason}; remove it, and --download fetches it again") from None
        return Raw(len(arrays.data), [(arrays.data, np.asarray(arrays.targets, dtype=np.int64))])

    if (problem.image_size, problem.channels) != (32, 3):
        raise UserError(f"problem {problem.name}: images of {problem.dataset} have image_size 32 and 3 channels")
    try:
        files = sorted(str(path) for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(f"{escaped(folder)}: {error.strerror}") from None
    key = key_of(problem, "archive", files, root)
    return cached(problem, key, "archive", lambda: raw(True), lambda: raw(False), [])


def _idx(problem: Problem, root: Path, progress: Progress) -> ArraySource:
    def raw(split: str) -> Raw:
        images, labels = read_split(root, split, problem.image_size)
        return Raw(len(images), [(images[..., None], labels)])

    if problem.channels != 1:
        raise UserError(f"problem {problem.name}: images of {problem.dataset} have 1 channel, not {problem.channels}")
    key = key_of(problem, "idx", list(map(str, idx_files(root))), root)
    return cached(problem, key, "idx", lambda: raw("training"), lambda: raw("test"), [])


READERS: dict[str, Callable[[Problem, Path, Progress], ArraySource]] = {
    "folder": _folder,
    "archive": _archive,
    "idx": _idx,
    "masked": open_masked,
}
"""By the kind of a location."""


def download(problem: Problem, folder: Path | None) -> None:
    """Fetch the data set into `folder` (--data) unless it is there, checked against its published checksum.

    Raises UserError. One process fetches with a progress bar, others wait for it.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    place = folder or DEFAULT_FOLDER

    def tiny_imagenet() -> None:
        url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        download_and_extract_archive(url, str(place), md5="90528d7ca1a48142e341f4ef8d21d0de")

    fetch: dict[str, Callable[[], object]] = {
        "cifar10": lambda: datasets.CIFAR10(str(place), download=True),
        "cifar100": lambda: datasets.CIFAR100(str(place), download=True),
        "tinyimagenet": tiny_imagenet,
        "fashion_mnist": lambda: datasets.FashionMNIST(str(place), download=True),
        "voc": lambda: datasets.VOCSegmentation(str(place), download=True),
    }
    if problem.dataset not in fetch:
        raise UserError(f"--download: {problem.dataset} cannot be downloaded; {', '.join(fetch)} can")
    try:
        with lock(place / f".{problem.dataset}.lock"):
            try:
                find(problem, folder)
            except UserError:
                fetch[problem.dataset]()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--download: {problem.dataset} cannot be fetched into {place}: {reason}") from None


def _digits(problem: Problem) -> ArraySource:
    return _embedded(*_digit_splits())


def _scenes(problem: Problem) -> ArraySource:
    training, test = _digit_splits()
    return _embedded(compose(training, "training"), compose(test, "test"))


def _digit_splits() -> tuple[Split, Split]:
    """scikit-learn's digits, training and test: every class gives its last 30 % to the test set.

    The file goes writer by writer, so that most test digits are by writers whom training has not seen. A random split
    would ask less: an SVM scores three points more on one (docs/findings.md).
    """
    table = _digits_table()
    images = (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = table[:, -1].astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test[members[round(0.7 * len(members)) :]] = True
    return Split(images[~test], labels[~test]), Split(images[test], labels[test])


def _digits_table() -> NDArray[np.float64]:
    """A row an image: 64 pixels from 0 to 16 and the class, as `sklearn.datasets.load_digits` reads them.

    Read from scikit-learn's file without importing scikit-learn, which would cost every worker two seconds.
    """
    library = find_spec("sklearn")
    for folder in (library and library.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target])


NOISE_BYTES = 1 << 26
"""The most that a split takes, unless 256 training or 64 test images are larger: so many there always are."""


def _noise(problem: Problem) -> ArraySource:
    """Random images of the problem's shape, for measuring speed; nothing can be learned from them."""
    stream = np.random.default_rng(0)
    most = NOISE_BYTES // (problem.image_size**2 * problem.channels)

    def make(count: int) -> Split:
        shape = (count, problem.image_size, problem.image_size, problem.channels)
        return Split(stream.integers(256, size=shape, dtype=np.uint8), stream.integers(problem.classes, size=count))

    return _embedded(make(max(256, min(4096, most))), make(max(64, min(512, most))))


def _embedded(training: Split, test: Split) -> ArraySource:
    content = hashlib.sha256()
    for split in (training, test):
        count, *sides, channels = split.images.shape
        content.update(str((count, channels, *sides)).encode())
        content.update(np.ascontiguousarray(split.images).data)
        content.update(split.labels.astype("<i8").data)
    return ArraySource(training, test, content.hexdigest()[:16])


BUILT_IN: dict[str, Callable[[Problem], ArraySource]] = {"digits": _digits, "noise": _noise, "scenes": _scenes}
