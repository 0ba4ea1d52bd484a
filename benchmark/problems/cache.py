"""Cache of decoded images: uint8 arrays that worker processes map into memory and share. Imports no torch.

    <cache>/<key>/training.npy   uint8 (n, height + 2 padding, width + 2 padding, channels), zeros around each image
    <cache>/<key>/test.npy       uint8 (n, height, width, channels); with masks, these are one channel more
    <cache>/<key>/*-labels.npy   int64 (n,)
    <cache>/<key>/about.json     fingerprint of the content, remarks

The key is a hash of the data's path, the names, sizes and times of its files, and the recipe's fields that decide the
arrays. The fingerprint is a hash of pixels and labels alone, so that it stays when data are moved or decoded
again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import Problem
from benchmark.environment import cache_folder
from benchmark.errors import UserError
from benchmark.tasks.symbols import IGNORED

FORMAT = 1
ABANDONED_SECONDS = 3600.0
"""After which nobody writes to a temporary folder any more."""
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with (images decoded so far, images in all)."""


@dataclass(frozen=True)
class Split:
    """Images and what is to be learned of them.

    images: uint8 (n, height, width, channels), with `padding` pixels of zeros around each; labels: int64 (n,).
    masked: the last channel is a mask, the class of each pixel, with IGNORED around it; all labels are 0 then.
    """

    images: Images
    labels: Labels
    padding: int = 0
    masked: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def padded(self, padding: int) -> Split:
        """The same with `padding` pixels around each image, which has none or as many already."""
        if self.padding == padding:
            return self
        n, height, width, channels = self.images.shape
        wide = np.zeros((n, height + 2 * padding, width + 2 * padding, channels), dtype=np.uint8)
        if self.masked:
            wide[..., -1] = IGNORED
        wide[:, padding : padding + height, padding : padding + width] = self.images
        return replace(self, images=wide, padding=padding)


@dataclass(frozen=True)
class ArraySource:
    """A data set as arrays. fingerprint: of pixels and labels. remarks: what a user should know about the data."""

    training: Split
    test: Split
    fingerprint: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Images to be decoded. total: how many. batches: (images, labels) without padding. masked: as in a Split."""

    total: int
    batches: Iterable[tuple[Images, Labels]]
    masked: bool = False


def key_of(problem: Problem, kind: str, files: Iterable[str], root: Path) -> str:
    """The key of the arrays that this recipe makes of these files, which are all that decide images and labels."""
    recipe = (problem.image_size, problem.channels, problem.crop_padding, problem.unreadable_images)
    content = hashlib.sha256(repr((FORMAT, kind, str(root.resolve()), recipe)).encode())
    for path in files:
        status = stat_or_none(path)
        content.update(
            os.fsencode(f"{path.removeprefix(str(root))}/{status and status.st_size}/{status and status.st_mtime_ns}\n")
        )
    return content.hexdigest()[:24]


def stat_or_none(path: str) -> os.stat_result | None:
    """None for a broken link, which decoding reports."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def cached(
    problem: Problem, key: str, prefix: str, training: Callable[[], Raw], test: Callable[[], Raw], remarks: list[str]
) -> ArraySource:
    """The arrays under `key`, decoded first if they are not there; one process decodes, others wait for it.

    Args:
        problem: whose recipe decides size, channels and padding.
        key: as `key_of` gives it.
        prefix: of the fingerprint, says what was decoded.
        training, test: give the images to decode.
        remarks: of the data; decoding adds to them while the batches are drawn.
    """
    folder = cache_folder() / key
    if not os.path.isfile(folder / "about.json"):  # False as well where nobody may look
        try:
            with lock(folder.with_suffix(".lock")):
                if not (folder / "about.json").is_file():
                    _write(problem, folder, prefix, training, test, remarks)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{folder.parent}: decoded images cannot be kept there ({reason}); set PRUNING_BENCHMARK_CACHE"
            ) from None
    return _open(problem, folder)


def _open(problem: Problem, folder: Path) -> ArraySource:
    try:
        about = json.loads((folder / "about.json").read_bytes())

        # Copy on write: processes share the pages, and none can change the file.
        def load(name: str) -> Any:
            return np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)

        def split(name: str, padding: int) -> Split:
            images = load(name)
            masked = images.shape[3] > problem.channels
            return Split(images, np.array(load(f"{name}-labels")), padding, masked)

        training, test = split("training", problem.crop_padding), split("test", 0)
        return ArraySource(training, test, about["fingerprint"], tuple(about["remarks"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: the decoded images cannot be read ({error}); delete that folder") from None


def _write(
    problem: Problem,
    folder: Path,
    prefix: str,
    training: Callable[[], Raw],
    test: Callable[[], Raw],
    remarks: list[str],
) -> None:
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # by a killed process, or another node without locks
        if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        content = hashlib.sha256()
        seen = _write_split(problem, temporary, "training", problem.crop_padding, training(), content)
        tested = _write_split(problem, temporary, "test", 0, test(), content)
        about = {"fingerprint": f"{prefix}-{content.hexdigest()[:16]}", "remarks": [*remarks, *_copies(seen, tested)]}
        (temporary / "about.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copies(training: Sequence[bytes], test: Sequence[bytes]) -> Iterator[str]:
    """Remarks about images whose pixels occur twice, from hashes of them."""
    seen = set(training)
    if count := sum(image in seen for image in test):
        yield f"{count} of {len(test)} test images have the pixels of a training image"
    if count := len(training) - len(seen):  # of which a part may be held out for validation
        yield f"{count} of {len(training)} training images have the pixels of another one"


def _write_split(problem: Problem, folder: Path, name: str, padding: int, raw: Raw, content: Any) -> list[bytes]:
    """Hashes of the images' pixels. Written piece by piece: a disk that fills is an OSError then, where a mapped file
    would end the process."""
    hashes: list[bytes] = []
    side = problem.image_size + 2 * padding
    labels = [np.empty(0, dtype=np.int64)]
    with open(folder / f"{name}.npy", "wb") as file:

        def write_header(count: int) -> None:
            shape = (count, side, side, problem.channels + raw.masked)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

        write_header(raw.total)
        for images, batch_labels in raw.batches:
            padded = Split(images, batch_labels, masked=raw.masked).padded(padding).images
            file.write(np.ascontiguousarray(padded).data)
            labels.append(batch_labels)
            content.update(np.ascontiguousarray(images).data)
            hashes += (
                hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images[..., : problem.channels]
            )
            content.update(batch_labels.astype("<i8").data)
        every = np.concatenate(labels)
        file.seek(0)
        write_header(len(every))  # of as many bytes, also where images were skipped: numpy leaves room for any count
    np.save(folder / f"{name}-labels.npy", every)
    return hashes


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time; the lock of a killed process is free. Only on file systems with flock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
