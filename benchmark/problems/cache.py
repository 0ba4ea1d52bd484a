"""Images decoded once, into uint8 arrays that worker processes map into memory and share. Imports no torch.

    <cache>/<key>/training.npy   uint8 (n, height + 2 padding, width + 2 padding, channels), zeros around each image
    <cache>/<key>/test.npy       uint8 (n, height, width, channels)
    <cache>/<key>/*-labels.npy   int64 (n,)
    <cache>/<key>/about.json     fingerprint of the content, remarks

The key is over the source's path, its files' names, sizes and times, and what of the recipe decides the arrays; the
fingerprint is over pixels and labels alone, so that it stays when data are moved or decoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.cells import Problem
from benchmark.environment import cache_folder
from benchmark.errors import UserError

FORMAT = 1
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Told how many images of how many are decoded."""


@dataclass(frozen=True)
class Split:
    """images: uint8 (n, height, width, channels), with `padding` pixels of zeros around each; labels: int64 (n,)."""

    images: Images
    labels: Labels
    padding: int = 0

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """A data set as arrays. fingerprint: of pixels and labels; remarks: what a user should know of them."""

    training: Split
    test: Split
    fingerprint: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Images to be decoded. total: how many; batches: (images, labels) without padding, one after the other."""

    total: int
    batches: Iterable[tuple[Images, Labels]]


def key_of(problem: Problem, kind: str, files: Iterable[str], root: Path) -> str:
    """Names the cached arrays of these files, as this recipe wants them."""
    recipe = (problem.image_size, problem.channels, problem.crop_padding, problem.unreadable_images)
    content = hashlib.sha256(repr((FORMAT, kind, str(root.resolve()), recipe)).encode())
    for path in files:
        about = stat_or_none(path)
        content.update(
            os.fsencode(f"{path.removeprefix(str(root))}/{about and about.st_size}/{about and about.st_mtime_ns}\n")
        )
    return content.hexdigest()[:24]


def stat_or_none(path: str) -> os.stat_result | None:
    """None where a link leads nowhere, which decoding says."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def cached(
    problem: Problem, key: str, prefix: str, training: Callable[[], Raw], test: Callable[[], Raw], remarks: list[str]
) -> Source:
    """The arrays under `key`, decoded first if nobody has; one process decodes, others wait for it.

    `remarks` is filled while the batches are drawn. The fingerprint starts with `prefix`, which says what was decoded.
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
    return _open(folder, problem.crop_padding)


def _open(folder: Path, padding: int) -> Source:
    try:
        about = json.loads((folder / "about.json").read_bytes())

        # Copy on write: pages are shared between processes, and nothing can be written back.
        def load(name: str) -> Any:
            return np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)

        training = Split(load("training"), np.array(load("training-labels")), padding)
        test = Split(load("test"), np.array(load("test-labels")))
        return Source(training, test, about["fingerprint"], tuple(about["remarks"]))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: the decoded images cannot be read ({error}); delete that folder") from None


def _write(
    problem: Problem,
    folder: Path,
    prefix: str,
    training: Callable[[], Raw],
    test: Callable[[], Raw],
    remarks: list[str],
) -> None:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        content = hashlib.sha256()
        _write_split(problem, temporary, "training", problem.crop_padding, training(), content)
        _write_split(problem, temporary, "test", 0, test(), content)
        about = {"fingerprint": f"{prefix}-{content.hexdigest()[:16]}", "remarks": remarks}
        (temporary / "about.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)  # of a version that was cut off or damaged
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(problem: Problem, folder: Path, name: str, padding: int, raw: Raw, content: Any) -> None:
    side = problem.image_size + 2 * padding
    shape = (raw.total, side, side, problem.channels)
    array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
    labels = [np.empty(0, dtype=np.int64)]
    count = 0
    inner = slice(padding, side - padding)
    for images, some in raw.batches:
        array[count : count + len(some), inner, inner] = images
        count += len(some)
        labels.append(some)
        content.update(np.ascontiguousarray(images).data)
        content.update(some.astype("<i8").data)
    if count < raw.total:  # images were skipped
        kept = np.lib.format.open_memmap(folder / "kept.npy", mode="w+", dtype=np.uint8, shape=(count, *shape[1:]))
        for first in range(0, count, 1024):
            kept[first : first + 1024] = array[first : min(first + 1024, count)]
        kept.flush()
        (folder / "kept.npy").replace(folder / f"{name}.npy")
    array.flush()
    np.save(folder / f"{name}-labels.npy", np.concatenate(labels))


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Held by one process at a time, also when another one was killed; on file systems that know flock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
