"""Data as a user relies on it: class folders found and checked, decoded once, augmented as defined, paired by seed."""

from __future__ import annotations

import functools
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets
from torchvision.transforms import functional as reference

from benchmark.cells import Budget, Cell
from benchmark.errors import UserError
from benchmark.planning.grid import SWEEPS, load_problem, load_sweep
from benchmark.problems import decode, folder, sources
from benchmark.problems.fits import refuse_unfit
from benchmark.problems.sources import download, open_source
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from benchmark.worker import Worker
from tests.conftest import ROOT, assert_one_line_refusal
from tests.image_folders import CLASSES, make_folder, problem

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images")


# Class folders


@pytest.mark.parametrize("file", ["there", "elsewhere"])
def test_digits_are_scikit_learns_whether_or_not_its_file_is_where_it_was(file: str, monkeypatch: pytest.MonkeyPatch):
    raw = load_digits()
    if file == "elsewhere":
        monkeypatch.setattr(sources, "find_spec", lambda name: None)
    source = open_source(load_problem("digits")[0])
    images = np.concatenate([source.training.images[..., 0], source.test.images[..., 0]])
    order = np.concatenate(
        [np.flatnonzero(~_last_of_its_class(raw.target)), np.flatnonzero(_last_of_its_class(raw.target))]
    )
    assert np.array_equal(images, (raw.images[order] * 255 / 16).round().astype(np.uint8))
    assert np.array_equal(np.concatenate([source.training.labels, source.test.labels]), raw.target[order])


def _last_of_its_class(labels: np.ndarray) -> np.ndarray:
    """Whether an image is among the last 30 % of its class."""
    found = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        found[members[round(0.7 * len(members)) :]] = True
    return found


def test_workers_that_train_on_digits_do_not_load_scikit_learn():
    code = "import sys; from benchmark.planning.grid import load_problem; "
    code += "from benchmark.problems.sources import open_source; "
    code += "open_source(load_problem('digits')[0]); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_class_folder_gives_its_images_in_the_order_of_their_names(tmp_path: Path, name: str):
    root = make_folder(tmp_path / "images", name=name)
    source = open_source(problem(), root)
    assert source.training.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert np.array_equal(source.training.images[9], np.array(Image.open(root / "train" / "dog" / "01.png")))
    assert np.array_equal(source.test.images[5], np.array(Image.open(root / name / "owl" / "01.png")))


def test_classes_channels_and_image_size_are_found_where_the_recipe_leaves_them_open(images: Path):
    find = folder.complete(images)
    sweep = load_sweep("table1", "imagefolder", complete=find)
    assert (sweep.problem.classes, sweep.problem.channels, sweep.problem.image_size) == (3, 3, 16)
    assert not sweep.problem.resized_crop
    declared = load_sweep("table1", "imagefolder", settings={"image_size": 12}, complete=find)
    assert (declared.problem.classes, declared.problem.image_size) == (3, 12)
    assert load_sweep("table1", "cifar10", complete=find).problem == load_sweep("table1", "cifar10").problem


def test_large_images_are_found_to_be_streamed_as_imagenet_is(tmp_path: Path):
    found = folder.describe(make_folder(tmp_path / "large", (120, 160), 2, 1))
    assert found == {"classes": 3, "channels": 3, "image_size": 224, "evaluation_size": 256, "resized_crop": True}


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (11, 13)])
def test_images_of_other_sizes_are_resized_and_cropped_as_torchvision_does(tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)).save(path)
    expected = reference.center_crop(reference.resize(Image.open(path), 16), [16, 16])
    assert np.array_equal(decode.decode(str(path), 16, 3), np.array(expected))


def test_decoded_images_are_kept_and_shared_until_a_file_changes(images: Path, monkeypatch: pytest.MonkeyPatch):
    first = open_source(problem(), images)
    decoded = []
    original = decode.decode
    monkeypatch.setattr(decode, "decode", lambda *arguments: decoded.append(1) or original(*arguments))
    again = open_source(problem(), images)
    assert not decoded
    os.utime(images / "train" / "cat" / "00.png", (1, 1))  # written again, perhaps with other pixels
    assert open_source(problem(), images).fingerprint == first.fingerprint
    assert decoded
    assert isinstance(again.training.images, np.memmap)
    assert again.fingerprint == first.fingerprint
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(images / "train" / "cat" / "00.png")
    assert open_source(problem(), images).fingerprint != first.fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(images: Path, tmp_path: Path):
    other = images.rename(tmp_path / "moved")
    fingerprint = open_source(problem(), other).fingerprint
    assert fingerprint.startswith("folder-")
    assert open_source(problem(crop_padding=2), other).fingerprint == fingerprint
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(other / "test" / "cat" / "00.png")
    assert open_source(problem(), other).fingerprint != fingerprint


def test_images_that_cannot_be_read_are_named_and_counted(images: Path):
    good = (images / "train" / "cat" / "03.png").read_bytes()
    (images / "train" / "cat" / "03.png").write_bytes(good[:200])
    (images / "train" / "owl" / "05.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2 of 24 images cannot be read, the first: .*cat/03\.png"):
        open_source(problem(), images)
    source = open_source(problem(unreadable_images="skip"), images)
    assert source.training.labels.tolist() == [0] * 7 + [1] * 8 + [2] * 7
    assert np.array_equal(source.training.images[3], np.array(Image.open(images / "train" / "cat" / "04.png")))
    assert source.remarks[0].startswith("skipped: 2 of 24 images")


def test_folders_that_do_not_fit_are_refused_in_words_that_say_what_to_do(images: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"3 classes, but problem mine has 10; --set classes=3"):
        open_source(problem(classes=10), images)
    with pytest.raises(UserError, match=r"--data .*empty: imagefolder is not there .*digits needs no data"):
        open_source(problem(), tmp_path / "empty")
    (images / "test" / "emu").mkdir()
    with pytest.raises(UserError, match=r"class folder 'emu' is in only one of train/ and test/"):
        open_source(problem(), images)
    (images / "train" / "emu").mkdir()
    with pytest.raises(UserError, match=r"emu: no images"):
        open_source(problem(classes=4), images)


def test_a_sweep_without_its_data_says_so_in_one_line_before_it_trains(command, tmp_path: Path):
    finished = command("benchmark.sweep", "table1", "--problem", "cifar10", "--data", str(tmp_path), "--results",
                       str(tmp_path / "r"))  # fmt: skip
    assert_one_line_refusal(finished, "cifar10 is not there", "--download", "digits needs no data")


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path: Path):
    root = make_folder(tmp_path / "tiny-imagenet-200", (64, 64), 2, 1, "val")
    lines = []
    (root / "val" / "images").mkdir()
    for number, label in enumerate(CLASSES):
        (root / "val" / label / "00.png").rename(root / "val" / "images" / f"v{number}.png")
        (root / "val" / label).rmdir()
        lines.append(f"v{number}.png\t{label}\t0\t0\t1\t1\n")
        (root / "train" / label / "images").mkdir()
        for path in list((root / "train" / label).glob("*.png")):
            path.rename(root / "train" / label / "images" / path.name)
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    source = open_source(problem(dataset="tinyimagenet", image_size=64), tmp_path)
    assert source.training.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test.labels.tolist() == [2, 1, 0]
    assert np.array_equal(source.test.images[0], np.array(Image.open(root / "val" / "images" / "v2.png")))


# CIFAR in both of its forms


def cifar_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A small archive in the original layout; its checksums in place of the published ones."""
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    stream = np.random.default_rng(0)
    images = stream.integers(256, size=(30, 3, 32, 32), dtype=np.uint8)

    def write(name: str, content: object) -> tuple[str, str]:
        (base / name).write_bytes(pickle.dumps(content))
        return name, datasets.utils.calculate_md5(str(base / name))

    labels = [number % 10 for number in range(20)]
    train = write("data_batch_1", {"data": images[:20].reshape(20, -1), "labels": labels})
    test = write("test_batch", {"data": images[20:].reshape(10, -1), "labels": list(range(10))})
    meta = write("batches.meta", {"label_names": [str(number) for number in range(10)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [list(train)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [list(test)])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return images


def test_cifar_is_taken_from_the_archive_or_from_class_folders_and_the_fingerprint_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cifar, _ = load_problem("cifar10")
    images = cifar_archive(tmp_path / "archive", monkeypatch)
    source = open_source(cifar, tmp_path / "archive")
    assert source.fingerprint.startswith("archive-")
    assert np.array_equal(source.training.images[3, 4:36, 4:36], images[3].transpose(1, 2, 0))
    assert source.test.labels.tolist() == list(range(10))
    for number in range(30):
        part = tmp_path / "folders" / ("train" if number < 20 else "test") / f"class{number % 10}"
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number].transpose(1, 2, 0)).save(part / f"{number}.png")
    assert open_source(cifar, tmp_path / "folders").fingerprint.startswith("folder-")


def test_a_damaged_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cifar, _ = load_problem("cifar10")
    cifar_archive(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cifar-10-batches-py: .*--download fetches it again"):
        open_source(cifar, tmp_path)


def test_a_download_is_checked_done_once_for_all_processes_and_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], request
):
    images = cifar_archive(tmp_path / "server", monkeypatch)
    with tarfile.open(tmp_path / "cifar.tgz", "w:gz") as archive:
        archive.add(tmp_path / "server" / "cifar-10-batches-py", "cifar-10-batches-py")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    request.addfinalizer(server.shutdown)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar.tgz")
    cifar, _ = load_problem("cifar10")
    with pytest.raises(UserError, match=r"--download: cifar10 cannot be fetched into .*corrupted"):
        download(cifar, tmp_path / "refused")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", datasets.utils.calculate_md5(str(tmp_path / "cifar.tgz")))
    fetched = []
    original = datasets.CIFAR10.download
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: fetched.append(1) or original(self))
    capfd.readouterr()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: download(cifar, tmp_path / "data"), range(3)))
    assert len(fetched) == 1
    assert re.search(r"100(\.0)?%", capfd.readouterr().err)
    assert np.array_equal(open_source(cifar, tmp_path / "data").training.images[3, 4:36, 4:36, 0], images[3][0])


# From problem file to record


@pytest.mark.parametrize("path", sorted((SWEEPS / "problems").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_problem_of_the_suite_loads_and_names_a_model_that_exists(path: Path):
    from benchmark.problems.models import MODELS

    recipe, _ = load_problem(path.stem)
    assert recipe.model in MODELS
    refuse_unfit(recipe)
    assert recipe.dataset in (*folder.EMBEDDED, *folder.HOW_TO_GET)


def test_a_cell_trains_on_a_folder_and_its_record_says_on_which_data(tmp_path: Path):
    root = make_folder(tmp_path / "images", training=24, test=4)
    for path in root.rglob("*.png"):  # one colour a class: something to learn in seconds
        colour = [40 * (label == path.parent.name) for label in CLASSES]
        Image.fromarray(np.array(Image.open(path)) // 8 + np.array(colour, dtype=np.uint8)).save(path)
    store = Store(tmp_path / "runs")
    dense = Cell.dense(problem(epochs=6, learning_rate=0.05), 0)
    Worker(store, RunOptions("cpu", data=root)).run(dense)
    record = store.read(dense.id)
    assert record["accuracy"]["final"]["test"] > 0.9
    assert record["provenance"]["data"] == open_source(problem(), root).fingerprint
    (root / "train" / "cat" / "00.png").unlink()
    retrained = Cell(dense.problem, "IMP", 0, "FT", 0.5, Budget.parse("1ep"))
    with pytest.raises(UserError, match=r"data.* \(fingerprint folder-.*--results"):
        Worker(store, RunOptions("cpu", data=root)).run(retrained)
