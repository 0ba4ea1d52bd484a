"""Fashion-MNIST from IDX files: wherever they lie, plain or compressed, and in one line where they are damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import folder
from benchmark.problems.folder import IDX_FILES, find
from benchmark.problems.sources import download, open_source
from tests.conftest import assert_one_line_refusal

COUNTS = {"training": 60, "test": 20}
IMAGES, LABELS = IDX_FILES["training"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # no data/ there


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    count = COUNTS[split]
    labels = np.arange(count, dtype=np.uint8) % 10
    return np.random.default_rng(count).integers(256, size=(count, 28, 28), dtype=np.uint8), labels


def write(root: Path, compressed: bool = False) -> Path:
    """The four files in `root`."""
    root.mkdir(parents=True)
    for split, names in IDX_FILES.items():
        for name, array in zip(names, arrays(split), strict=True):
            content = encode(array)
            path = root / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
    return root


def recipe(**fields) -> Problem:
    return load_problem("fashion_mnist", fields)[0]


def same_pixels(root: Path | None) -> str:
    """The fingerprint, after a look at every pixel."""
    source, pad = open_source(recipe(), root), recipe().crop_padding
    for split, (images, labels) in {"training": arrays("training"), "test": arrays("test")}.items():
        found = getattr(source, split)
        inner = found.images[:, pad:-pad, pad:-pad] if split == "training" else found.images
        assert np.array_equal(inner[..., 0], images)
        assert np.array_equal(found.labels, labels)
    return source.fingerprint


def test_the_files_are_found_as_they_come_and_have_one_fingerprint(tmp_path: Path):
    places = {
        tmp_path / "a": write(tmp_path / "a"),
        tmp_path / "b": write(tmp_path / "b", compressed=True),
        tmp_path / "c": write(tmp_path / "c" / "FashionMNIST" / "raw"),  # as torchvision reads them, see below
        tmp_path / "d": write(tmp_path / "d" / "fashion_mnist"),
    }
    fingerprints = set()
    for given, place in places.items():
        assert find(recipe(), given).root == place
        fingerprints.add(same_pixels(given))
    assert len(fingerprints) == 1
    assert fingerprints.pop().startswith("idx-")
    theirs = datasets.FashionMNIST(str(tmp_path / "c"), train=False)
    assert np.array_equal(theirs.data, arrays("test")[0])


def test_without_data_a_package_of_the_system_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(folder.INSTALLED, "fashion_mnist", write(tmp_path / "system", compressed=True))
    same_pixels(None)
    with pytest.raises(UserError, match=r"--data .*elsewhere: fashion_mnist is not there"):
        open_source(recipe(), tmp_path / "elsewhere")  # a folder that was named is the one that counts


def test_the_package_of_debian_has_all_of_it():
    if not folder.INSTALLED["fashion_mnist"].is_dir():
        pytest.skip("needs Debian's package: apt-get install dataset-fashion-mnist")
    source = open_source(recipe())
    assert source.training.images.shape == (60000, 30, 30, 1), "padded by one pixel"
    assert source.test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(source.training.labels).tolist() == [6000] * 10


def test_absent_files_are_named(tmp_path: Path, command):
    finished = command("benchmark.sweep", "table1", "--problem", "fashion_mnist", "--data", str(tmp_path), "--results",
                       str(tmp_path / "r"))  # fmt: skip
    assert_one_line_refusal(finished, "fashion_mnist is not there", "FashionMNIST/raw", "--download", "Debian")
    root = write(tmp_path / "some")
    (root / LABELS).unlink()
    with pytest.raises(UserError, match=rf"fashion_mnist is not there \(.*some lacks {LABELS}\)"):
        open_source(recipe(), root)


WHOLE = encode(arrays("training")[0])
DAMAGES = {
    "short": (WHOLE[:-1], r"47039 bytes of data, but its header says 47040"),
    "long": (WHOLE + b"\0", r"47041 bytes of data, but its header says 47040"),
    "another magic number": (b"\0\0\x0d" + WHOLE[3:], r"it begins with 00000d03, not with 00000803"),
    "no header": (WHOLE[:9], r"it begins with 00000803"),
    "nothing": (b"", r"it begins with nothing, not with 00000803"),
    "labels": (encode(arrays("training")[1]), r"it begins with 00000801, not with 00000803"),
    "cut while compressed": (gzip.compress(WHOLE)[:-900], r"end-of-stream"),
    "no archive": (b"<html>404</html>", r"Not a gzipped file"),
    "broken archive": (gzip.compress(WHOLE)[:-8] + bytes(8), r"CRC check failed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_one_line_with_what_is_wrong(damage: str, tmp_path: Path):
    content, reason = DAMAGES[damage]
    compressed = "archive" in damage or "compressed" in damage
    root = write(tmp_path / "files", compressed)
    (root / f"{IMAGES}{'.gz' * compressed}").write_bytes(content)
    with pytest.raises(UserError, match=rf"{IMAGES}.*: not a whole IDX file \(.*({reason})") as caught:
        open_source(recipe(), root)
    assert "\n" not in str(caught.value)
    assert "remove it, and --download fetches it again" in str(caught.value)


def test_files_that_do_not_fit_each_other_or_the_recipe_are_refused(tmp_path: Path):
    root = write(tmp_path / "files")
    for fields, message in (
        ({"image_size": 32}, "images of 28x28 pixels, but image_size is 32"),
        ({"channels": 3}, "images of fashion_mnist have 1 channel, not 3"),
        ({"classes": 9}, "10 classes, but problem fashion_mnist has 9; --set classes=10"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(recipe(**fields), root)
    (root / LABELS).write_bytes(encode(arrays("training")[1][:-1]))
    with pytest.raises(UserError, match=f"60 images for 59 labels in {LABELS}"):
        open_source(recipe(), root)


def test_a_download_completes_what_is_there_and_fetches_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def fetch(root: str, download: bool) -> None:
        fetched.append(root)
        write(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr(datasets, "FashionMNIST", fetch)
    (write(tmp_path / "data") / LABELS).unlink()
    for _ in range(2):
        download(recipe(), tmp_path / "data")
    assert fetched == [str(tmp_path / "data")]
    same_pixels(tmp_path / "data")
