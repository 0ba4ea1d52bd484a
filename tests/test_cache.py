"""The cache of decoded images, where its folder cannot be, its disk fills, or its files are damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.cache import Raw, cached


@pytest.mark.parametrize("place", ["file", "x" * 300])
def test_a_cache_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path / place))
    problem = Problem(name="x", dataset="x", model="x", epochs=1)
    with pytest.raises(UserError, match=r"cannot be kept there.*PRUNING_BENCHMARK_CACHE"):
        cached(problem, "key", "x", pytest.fail, pytest.fail, [])


def test_a_disk_that_fills_while_images_are_decoded_is_one_line_and_nothing_is_left(monkeypatch, tmp_path: Path):
    """Reserved at once, since a page of a mapped file that the disk has no room for ends the process."""

    def full(file: int, offset: int, length: int) -> None:
        assert (offset, length) == (0, os.fstat(file).st_size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path))
    (tmp_path / ".key.left-by-a-kill.tmp").mkdir()
    problem = Problem(name="x", dataset="x", model="x", epochs=1)
    with pytest.raises(UserError, match=r"cannot be kept there \(No space left on device\)"):
        cached(problem, "key", "x", lambda: Raw(4, []), pytest.fail, [])
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


@pytest.mark.parametrize("name", ["test-labels.npy", "about.json"])
def test_an_emptied_file_of_the_cache_is_one_line(monkeypatch, tmp_path: Path, name: str):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path))
    problem = Problem(name="x", dataset="x", model="x", epochs=1)
    split = lambda: Raw(1, [(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64))])  # noqa: E731
    cached(problem, "key", "x", split, split, [])
    (tmp_path / "key" / name).write_bytes(b"[]" if name == "about.json" else b"")
    with pytest.raises(UserError, match=r"the decoded images cannot be read \(.*\); delete that folder"):
        cached(problem, "key", "x", split, split, [])
