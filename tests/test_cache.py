"""The cache of decoded images, where its folder cannot be, its disk fills, or its files are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.cache import Raw, cached
from tests.test_outputs import no_file_above

PROBLEM = Problem(name="x", dataset="x", model="x", epochs=1)


@pytest.mark.parametrize("place", ["file", "x" * 300])
def test_a_cache_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path / place))
    with pytest.raises(UserError, match=r"cannot be kept there.*PRUNING_BENCHMARK_CACHE"):
        cached(PROBLEM, "key", "x", pytest.fail, pytest.fail, [])


def test_a_disk_that_fills_while_images_are_decoded_is_one_line_and_nothing_is_left(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path))
    left = tmp_path / ".key.left-by-a-kill.tmp"
    left.mkdir()
    os.utime(left, (0, 0))
    batch = np.zeros((64, 32, 32, 3), np.uint8), np.zeros(64, np.int64)
    with pytest.raises(UserError, match=r"cannot be kept there \(File too large\)"), no_file_above(100_000):
        cached(PROBLEM, "key", "x", lambda: Raw(64, [batch]), pytest.fail, [])
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_images_that_were_skipped_leave_no_gap(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path))
    batch = np.full((3, 32, 32, 3), 7, np.uint8), np.arange(3)
    source = cached(PROBLEM, "key", "x", lambda: Raw(1000, [batch, batch]), lambda: Raw(3, [batch]), [])
    padding = PROBLEM.crop_padding
    assert source.training.images.shape == (6, 32 + 2 * padding, 32 + 2 * padding, 3)
    assert (source.training.images[:, padding:-padding, padding:-padding] == 7).all()
    assert source.training.images.sum() == 7 * 6 * 32 * 32 * 3
    assert source.training.labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["test-labels.npy", "about.json"])
def test_an_emptied_file_of_the_cache_is_one_line(monkeypatch, tmp_path: Path, name: str):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path))
    split = lambda: Raw(1, [(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64))])  # noqa: E731
    cached(PROBLEM, "key", "x", split, split, [])
    (tmp_path / "key" / name).write_bytes(b"[]" if name == "about.json" else b"")
    with pytest.raises(UserError, match=r"the decoded images cannot be read \(.*\); delete that folder"):
        cached(PROBLEM, "key", "x", split, split, [])
