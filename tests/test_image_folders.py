"""Image folders as people have them: whatever lies there is data with its pixels, or left out with a count, or refused
in one line. The first seven kinds come from bug reports on other loaders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from benchmark import cli, export
from benchmark.planning.grid import load_sweep
from benchmark.problems.folder import complete, describe
from benchmark.problems.sources import open_source
from benchmark.problems.streaming import StreamedData
from benchmark.sweep import app
from tests.image_folders import CLASSES, CPU, make_folder, problem
from tests.test_image_files import RGB, everything, own_cache, refusal, said, save, streamed

__all__ = ("own_cache",)

# Seven folders


def test_sixteen_bits_of_grey_keep_their_levels(tmp_path: Path):
    levels = np.random.default_rng(0).integers(65536, size=(16, 16)).astype(np.uint16)
    for split in ("train", "test"):
        for label in ("dark", "light"):
            for number in range(4):
                save(tmp_path / split / label / f"{number}.png", levels)
    assert describe(tmp_path) == {"classes": 2, "channels": 1, "image_size": 16}
    recipe = problem(classes=2, channels=1)
    assert np.array_equal(open_source(recipe, tmp_path).test.images[0, ..., 0], levels // 256)
    pixels, _ = next(iter(streamed(problem(classes=2), tmp_path).evaluation_batches("test")))
    assert np.array_equal(pixels[0, 1].round().numpy(), levels // 256)


def test_copies_of_images_are_counted(tmp_path: Path):
    cats = make_folder(tmp_path) / "train" / "cat"
    shutil.copy(cats / "00.png", tmp_path / "test" / "dog" / "00.png")
    shutil.copy(cats / "01.png", tmp_path / "train" / "owl" / "99.png")
    assert open_source(problem(), tmp_path).remarks == (
        "1 of 6 test images have the pixels of a training image",
        "1 of 25 training images have the pixels of another one",
    )


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path: Path):
    cat = os.fsencode(make_folder(tmp_path) / "train" / "cat")
    os.rename(cat + b"/00.png", cat + b"/caf\xe9[red].png")
    assert len(open_source(problem(), tmp_path).training) == 24
    assert len(everything(streamed(problem(), tmp_path))) == 30
    Path(os.fsdecode(cat + b"/caf\xe9[red].png")).write_bytes(b"no image")
    assert r"cat/caf\xe9[red].png (" in refusal(lambda: open_source(problem(), tmp_path))
    assert r"cat/caf\xe9[red].png (" in said(problem(unreadable_images="skip"), tmp_path)


@pytest.mark.parametrize("target", ["..", "../..", "/", ".", "../dog"])
def test_a_link_upwards_is_named_and_not_followed(tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]):
    """Also by way of another link: dog/back leads to cat, which leads to dog."""
    (make_folder(tmp_path) / "train" / "cat" / "up").symlink_to(target)
    (tmp_path / "train" / "dog" / "back").symlink_to("../cat" if target == "../dog" else tmp_path / "test")
    found = "cat/up/back" if target == "../dog" else "cat/up"
    arguments = ("table1", "--problem", "imagefolder", "--data", str(tmp_path), "--results", str(tmp_path / "r"))
    assert cli.main(app, arguments) == 2
    line = f"error: {tmp_path}/train/{found}: a link to a folder that it lies in; remove it\n"
    assert capsys.readouterr().err == line


def test_links_that_lead_elsewhere_are_followed(tmp_path: Path):
    make_folder(tmp_path / "images")
    (tmp_path / "images" / "train" / "dog").rename(tmp_path / "dogs")
    (tmp_path / "images" / "train" / "dog").symlink_to("../../dogs")
    save(tmp_path / "more" / "x.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "images" / "train" / "cat" / "more").symlink_to(tmp_path / "more")
    save(tmp_path / "else" / "x.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "images" / "train" / "owl" / "link.png").symlink_to(tmp_path / "else" / "x.png")
    assert np.bincount(open_source(problem(), tmp_path / "images").training.labels).tolist() == [9, 8, 9]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "@eaDir", "__MACOSX"])
def test_hidden_folders_are_no_data(tmp_path: Path, name: str):
    (make_folder(tmp_path) / "train" / "cat" / name).mkdir()
    shutil.copy(tmp_path / "test" / "cat" / "00.png", tmp_path / "train" / "cat" / name / "00-checkpoint.png")
    shutil.copytree(tmp_path / "train" / "cat", tmp_path / "train" / name)
    source = open_source(problem(), tmp_path)
    assert len(source.training) == 24
    assert source.remarks == (f"left out: 2 hidden files or folders, the first: {tmp_path}/train/{name}",)
    assert streamed(problem(), tmp_path).remarks == source.remarks


def test_companions_and_other_files_are_left_out_with_a_count(tmp_path: Path):
    for image in list(make_folder(tmp_path).rglob("*.png")):
        (image.parent / f"._{image.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    for name in ("Thumbs.db", "desktop.ini", "no ending", "00.png~"):
        (tmp_path / "train" / "dog" / name).write_bytes(b"x")
    (tmp_path / "test" / "stray.png").write_bytes(b"x")
    source = open_source(problem(), tmp_path)
    assert len(source.training) + len(source.test) == 30
    assert source.remarks == (
        f"left out: 1 files beside the class folders, the first: {tmp_path}/test/stray.png",
        f"left out: 4 files that are not named as images, the first: {tmp_path}/train/dog/00.png~",
        f"left out: 30 hidden files or folders, the first: {tmp_path}/test/cat/._00.png",
    )
    for recipe in (problem(), problem(resized_crop=True)):
        assert said(recipe, tmp_path).splitlines()[-3:] == list(source.remarks)


@pytest.mark.parametrize("before", ["flat", "one class", "empty"])
def test_the_test_set_is_the_first_with_the_training_classes(tmp_path: Path, before: str):
    make_folder(tmp_path, name="val")
    (tmp_path / "test").mkdir()
    if before == "flat":
        shutil.copy(tmp_path / "train" / "cat" / "00.png", tmp_path / "test" / "challenge_00000001.png")
    elif before == "one class":
        shutil.copytree(tmp_path / "val" / "cat", tmp_path / "test" / "cat")
    source = open_source(problem(), tmp_path)
    assert np.array_equal(source.test.images[5], np.array(Image.open(tmp_path / "val" / "owl" / "01.png")))
    assert source.remarks[0].startswith("the test images are those of val/: class folder '")
    shutil.rmtree(tmp_path / "val" / "owl")
    line = refusal(lambda: open_source(problem(), tmp_path))
    assert "no test images in test/, val/, validation/: class folder '" in line
    assert line.endswith("in only one of train/ and test/; class folder 'owl' is in only one of train/ and val/")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet as its archive unpacks."""
    top, names = tmp_path / "tiny-imagenet-200", [f"n{i:08}" for i in range(3)]
    for k, name in enumerate(names):
        for i in range(6):
            save(top / "train" / name / "images" / f"{name}_{i}.JPEG", np.full((64, 64, 3), 40 * k + i, np.uint8))
        (top / "train" / name / f"{name}_boxes.txt").write_text("0\n")
    for split in ("val", "test"):
        for i in range(3):
            save(top / split / "images" / f"{split}_{i}.JPEG", np.full((64, 64, 3), 50 * i, np.uint8))
    lines = [f"val_{i}.JPEG\t{names[2 - i]}\t0\t0\t62\t62\n" for i in range(3)]
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    return top


def test_tiny_imagenet_is_taken_with_its_unlabelled_test_folder(tiny: Path):
    recipe = problem(dataset="tinyimagenet", image_size=64)
    source = open_source(recipe, tiny.parent)
    assert source.test.labels.tolist() == [2, 1, 0]
    assert source.test.images[:, 32, 32, 0].tolist() == [0, 50, 100]
    assert source.remarks[0].startswith("left out: 3 files that are not named as images, the first: ")
    save(tiny / "val" / "images" / "more.JPEG", np.zeros((64, 64, 3), np.uint8))
    assert "left out: 1 images that no annotation names, " in open_source(recipe, tiny.parent).remarks[1]
    (tiny / "val" / "images" / "val_1.JPEG").unlink()
    line = refusal(lambda: open_source(recipe, tiny.parent))
    assert "1 of 3 images cannot be read, the first: " in line
    assert "val/images/val_1.JPEG (No such file or directory)" in line
    source = open_source(recipe.model_copy(update={"unreadable_images": "skip"}), tiny.parent)
    assert source.test.labels.tolist() == [2, 0]


def test_annotations_that_windows_has_saved_are_read(tiny: Path):
    path = tiny / "val" / "val_annotations.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert open_source(problem(dataset="tinyimagenet", image_size=64), tiny.parent).test.labels.tolist() == [2, 1, 0]


def test_corrected_annotations_count_although_no_image_changed(tiny: Path):
    recipe = problem(dataset="tinyimagenet", image_size=64)
    before = open_source(recipe, tiny.parent)
    path = tiny / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("n00000002", "n00000001", 1))
    after = open_source(recipe, tiny.parent)
    assert after.test.labels.tolist() == [1, 1, 0]
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"val_0.JPEG\tn00000000\n", "line 4: 'val_0.JPEG' is there a second time"),
        (b"x.JPEG\tn00000009\n", "line 4: 'n00000009' is not a class folder of train/"),
        (b"caf\xe9.JPEG\tn00000000\n", r"images/caf\xe9.JPEG (No such file"),
        (b"a\0b.JPEG\tn00000000\n", r"images/a\x00b.JPEG (embedded null byte)"),
        (b"../../train/n00000000/images/n00000000_0.JPEG\tn00000000\n", "is no name of a file in images/"),
        (b"/etc/passwd\tn00000000\n", "line 4: '/etc/passwd' is no name of a file in images/"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tiny: Path, line: bytes, words: str):
    with open(tiny / "val" / "val_annotations.txt", "ab") as file:
        file.write(line)
    assert words in refusal(lambda: open_source(problem(dataset="tinyimagenet", image_size=64), tiny.parent))


def test_annotations_that_were_sorted_into_class_folders_are_not_looked_at(tiny: Path):
    """As many scripts do it, which leave the file where it was."""
    for i in range(3):
        (tiny / "val" / f"n{2 - i:08}").mkdir()
        (tiny / "val" / "images" / f"val_{i}.JPEG").rename(tiny / "val" / f"n{2 - i:08}" / f"val_{i}.JPEG")
    (tiny / "val" / "images").rmdir()
    recipe = problem(dataset="tinyimagenet", image_size=64)
    assert open_source(recipe, tiny.parent).test.labels.tolist() == [0, 1, 2]


# What was data stays what it was


def test_plain_folders_keep_their_fingerprints(tmp_path: Path):
    stream = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label in CLASSES:
            for number in range(count):
                save(tmp_path / split / label / f"{number}.BMP", stream.integers(256, size=(9, 12, 3), dtype=np.uint8))
    assert open_source(problem(), tmp_path).fingerprint == "folder-d7210cfab2687548"
    assert streamed(problem(), tmp_path).fingerprint == "files-b3205aa6ef610096"


@pytest.mark.parametrize("where", ["train/dog", "train/owl", "test"])
def test_a_class_and_a_test_set_of_which_nothing_can_be_read_are_refused(tmp_path: Path, where: str):
    for path in (make_folder(tmp_path) / where).rglob("*.png"):
        path.write_bytes(b"")
    skip = problem(unreadable_images="skip")
    for read in (lambda: open_source(skip, tmp_path), lambda: everything(streamed(skip, tmp_path))):
        line = refusal(read)
        kind = "test images" if where == "test" else f"training images of class {where[-3:]!r}"
        assert f"none of the {kind} can be read" in line
        assert f"{tmp_path}/{where}" in line


def test_streamed_images_of_which_none_can_be_measured_or_validated_are_refused(tmp_path: Path):
    for path in (make_folder(tmp_path) / "train").rglob("*.png"):
        path.write_bytes(b"")
    skip = problem(unreadable_images="skip", resized_crop=True)
    assert "can be read" in refusal(lambda: StreamedData(skip, CPU, tmp_path))
    data = streamed(skip, make_folder(tmp_path / "other"))
    for index in data._evaluation["validation"].tolist():
        Path(data._images.path(index)).write_bytes(b"")
    assert "none of the validation images can be read" in refusal(lambda: everything(data))


@contextmanager
def as_nobody() -> Iterator[None]:
    """With rights that files and folders can refuse, also where the tests are run by root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("where", ["train", "train/dog", "train/dog/more", "test", "test/dog/00.png"])
def test_what_may_not_be_read_is_named(where: str, monkeypatch: pytest.MonkeyPatch):
    with TemporaryDirectory() as folder:
        root = make_folder(Path(folder) / "images")
        save(root / "train" / "dog" / "more" / "x.png", RGB)
        (Path(folder) / "cache").mkdir()
        monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(Path(folder) / "cache"))
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (root / where).chmod(0)
        with as_nobody():
            line = refusal(lambda: open_source(problem(), root))
        (root / where).chmod(0o777)
        assert str(root / where) in line
        assert "Permission denied" in line


def test_links_that_cross_are_read_once_however_many_ways_lead_there(tmp_path: Path):
    """24 folders, each with two links to the next: 16 million ways to the last."""
    cat = make_folder(tmp_path) / "train" / "cat"
    chain = [tmp_path / "chain" / str(number) for number in range(25)]
    for folder in chain:
        folder.mkdir(parents=True)
    for here, there in pairwise(chain):
        for name in "ab":
            (here / name).symlink_to(there)
    shutil.copy(next(cat.glob("*.png")), chain[-1] / "one.png")
    (cat / "chain").symlink_to(chain[0])
    assert len(open_source(problem(), tmp_path).training) == 25
    assert "24 links to folders that are read already" in said(problem(), tmp_path)


@pytest.mark.parametrize("link", ["class", "image"])
def test_test_images_that_are_training_images_are_refused(tmp_path: Path, link: str):
    cat, count = make_folder(tmp_path) / "test" / "cat", 1
    if link == "class":
        shutil.rmtree(cat)
        cat.symlink_to("../train/cat")
        count = len(list(cat.iterdir()))
    else:
        (cat / "00.png").unlink()
        (cat / "00.png").symlink_to(tmp_path / "train" / "cat" / "00.png")
    line = f"{tmp_path}: {count} test images are training images too, through links, the first: {cat}/00.png is "
    assert refusal(lambda: open_source(problem(), tmp_path)).startswith(line)
    assert refusal(lambda: streamed(problem(), tmp_path)).startswith(line)


def test_a_class_that_is_a_link_to_another_is_refused(tmp_path: Path):
    owl = make_folder(tmp_path) / "train" / "owl"
    shutil.rmtree(owl)
    owl.symlink_to("cat")
    assert ": 8 training images have two classes, through links, the first: " in refusal(
        lambda: open_source(problem(), tmp_path)
    )


@pytest.mark.parametrize("store", ["hard links", "a store of contents"])
def test_equal_images_of_a_data_set_that_a_store_has_once_are_data_with_a_word(tmp_path: Path, store: str):
    root = make_folder(tmp_path / "images")
    trained, tested = root / "train" / "cat" / "00.png", root / "test" / "dog" / "00.png"
    tested.unlink()
    if store == "hard links":
        os.link(trained, tested)
    else:
        trained.rename(tmp_path / "8f14e45f.png")
        for path in (trained, tested):
            path.symlink_to(tmp_path / "8f14e45f.png")
    line = f"1 test images are training images too: the same file, the first: {tested} is {trained}"
    assert open_source(problem(), root).remarks[0] == line
    assert streamed(problem(), root).remarks == (line,)


def test_a_test_folder_that_is_the_training_folder_is_refused(tmp_path: Path):
    shutil.rmtree(make_folder(tmp_path) / "test")
    (tmp_path / "test").symlink_to("train")
    assert "test/ is train/ itself" in refusal(lambda: open_source(problem(), tmp_path))


def test_a_sweep_says_which_streamed_images_it_skipped(tmp_path: Path, capsys):
    for shade, path in enumerate(sorted(make_folder(tmp_path / "images").glob("*/*/*.png"))):
        save(path, np.full((16, 16, 3), 100 * CLASSES.index(path.parent.name) + shade % 8, np.uint8))
    (tmp_path / "images" / "train" / "cat" / "00.png").write_bytes(b"")
    fields = "resized_crop=true", "image_size=16", "evaluation_size=18", "unreadable_images=skip", "model=resnet8"
    fields += "width=4", "epochs=10", "milestones=[8]", "warmup_epochs=0", "batch_size=8", "learning_rate=0.05"
    command = ["table1", "--problem", "imagefolder", "--data", f"{tmp_path}/images", "--results", f"{tmp_path}/r"]
    command += [part for field in fields for part in ("--set", field)]
    command += ["--only", "schedule=FT,sparsity=0.7,budget=11.11%", "--seeds", "1", "--tracking", "off"]
    assert cli.main(app, [*command, "--workers", "1"]) == 0
    line = f"skipped: 1 of 30 images cannot be read, the first: {tmp_path}/images/train/cat/00.png"
    assert line in capsys.readouterr().out
    options = command[: command.index("--only")]
    assert cli.main(export.app, [*options, "--seeds", "1", "--output", str(tmp_path)]) == 1
    assert "2 of 55 records" in capsys.readouterr().out


def test_another_size_of_large_images_is_cropped_from_as_much_of_them(tmp_path: Path):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            save(tmp_path / split / label / "0.png", np.zeros((120, 120, 3), np.uint8))
    assert describe(tmp_path)["evaluation_size"] == 256
    for size, evaluated in ((64, 73), (300, 343)):
        recipe = load_sweep("table1", "imagefolder", settings={"image_size": size}, complete=complete(tmp_path)).problem
        assert (recipe.image_size, recipe.evaluation_size, recipe.resized_crop) == (size, evaluated, True)
