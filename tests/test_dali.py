"""The DALI loader on real JPEGs, on the processor: the same batches as the default loader's, but for rounding."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError
from benchmark.problems import fits
from benchmark.problems.data import open_data
from benchmark.problems.streaming import StreamedData
from benchmark.results.store import Store
from tests.image_folders import CPU, problem

DECLARED = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}
"""What leaves pixels as they are, from 0 to 255."""
LEVELS = 3
"""The most by which pixels differ, and their mean difference."""
MEAN_LEVELS = 0.3


def installed(test):
    """Needs DALI."""
    missing = pytest.mark.skipif(not fits.has_dali(), reason="DALI is not installed: pip install nvidia-dali-cuda130")
    return pytest.mark.dali(missing(test))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Smooth colours, of several sizes and both orientations; one of each class is grey and one a PNG."""
    stream = np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 3)):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(n):
                size = (120 + 7 * number, 90) if number % 2 else (80, 100 + 5 * number)
                colours = stream.integers(0, 120, size=(6, 8, 3)) + 130 * (label == "dog")  # something to learn
                coarse = Image.fromarray(colours.astype(np.uint8))
                image = coarse.resize(size, Image.Resampling.BICUBIC)
                if number == 1:
                    image = image.convert("L")
                image.save(tmp_path / split / label / f"{number:02}.{'png' if number == 2 else 'jpg'}", quality=92)
    return tmp_path


def recipe(**fields) -> Problem:
    numbers = {"image_size": 48, "evaluation_size": 56, "batch_size": 8, "classes": 2}
    return problem(**{**numbers, **DECLARED, "resized_crop": True, "flip": True, **fields})


def both(root: Path, **fields) -> tuple[StreamedData, StreamedData]:
    return open_data(recipe(**fields), CPU, root), open_data(recipe(loader="dali", **fields), CPU, root)


def assert_alike(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for (images, labels), (others, other_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(labels, other_labels)
        difference = (images - others).abs()
        assert difference.max() <= LEVELS
        assert difference.mean() <= MEAN_LEVELS


@installed
def test_batches_are_those_of_the_default_loader_but_for_rounding(photographs: Path):
    torch_loader, dali = both(photographs)
    for epoch in (0, 1):
        assert_alike([*torch_loader.training_batches(0, epoch)], [*dali.training_batches(0, epoch)])
    for split in ("validation", "test"):
        assert_alike([*torch_loader.evaluation_batches(split)], [*dali.evaluation_batches(split)])
    assert dali.fingerprint == torch_loader.fingerprint


@installed
def test_an_epoch_can_be_taken_up_anywhere_and_comes_again_bit_for_bit(photographs: Path):
    _, dali = both(photographs)
    whole = [images for images, _ in dali.training_batches(3, 1)]
    left_in_the_middle = dali.training_batches(3, 2)
    next(left_in_the_middle)
    left_in_the_middle.close()
    rest = [images for images, _ in both(photographs)[1].training_batches(3, 1, 2)]
    again = [images for images, _ in dali.training_batches(3, 1)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


@installed
@pytest.mark.parametrize("rank", range(4))
def test_every_rank_has_its_part_of_a_batch_be_it_empty(photographs: Path, rank: int):
    parts = [
        [*open_data(recipe(batch_size=9, loader=loader), CPU, photographs, (rank, 4)).training_batches(0, 0)]
        for loader in ("torch", "dali")
    ]
    assert [len(labels) for _, labels in parts[1]][-1] == (rank < 3)  # 30 images leave a batch of 3
    assert_alike([part for part in parts[0] if len(part[1])], [part for part in parts[1] if len(part[1])])


@installed
def test_grey_images_mean_and_deviation_are_measured(photographs: Path):
    torch_loader, dali = both(photographs, channels=1, mean=(), std=())
    assert dali.normalise.mean == pytest.approx(torch_loader.normalise.mean, abs=0.002)
    assert next(iter(dali.evaluation_batches("test")))[0].shape[1:] == (1, 48, 48)


@installed
def test_images_that_dali_does_not_read_take_the_other_way(photographs: Path):
    """A palette, which Pillow reads, and a JPEG cut off behind its header, which only decoding finds."""
    odd, broken = photographs / "test" / "cat" / "00.jpg", photographs / "test" / "dog" / "01.jpg"
    Image.new("RGB", (70, 60), (10, 200, 30)).convert("P").save(odd.with_suffix(".png"))
    odd.unlink()
    broken.write_bytes(broken.read_bytes()[:700])
    torch_loader, dali = both(photographs, unreadable_images="skip")
    sizes = [len(labels) for _, labels in dali.evaluation_batches("test")]
    assert sizes == [len(labels) for _, labels in torch_loader.evaluation_batches("test")] == [5]
    assert dali.remarks == torch_loader.remarks
    assert "01.jpg" in dali.remarks[0]
    assert_alike([*torch_loader.training_batches(0, 0)], [*dali.training_batches(0, 0)])
    with pytest.raises(UserError, match=r"01\.jpg cannot be read"):
        list(both(photographs)[1].evaluation_batches("test"))


@installed
def test_a_file_that_is_cut_off_is_found_in_every_epoch(photographs: Path):
    """DALI would decode a crop from above the cut."""
    for number in range(0, 20, 2):
        path = photographs / "train" / "cat" / f"{number:02}.jpg"
        if path.exists():
            path.write_bytes(path.read_bytes()[:-60])
    torch_loader, dali = both(photographs, unreadable_images="skip")
    for epoch in range(3):
        assert_alike([*torch_loader.training_batches(0, epoch)], [*dali.training_batches(0, epoch)])
    assert dali.remarks == torch_loader.remarks


@installed
def test_the_record_says_that_batches_were_left_to_the_default_loader(photographs: Path):
    odd = photographs / "test" / "cat" / "00.jpg"
    Image.open(odd).convert("P").save(odd.with_suffix(".png"))
    odd.unlink()
    _, dali = both(photographs)
    list(dali.training_batches(0, 0))
    assert dali.remarks == ()
    list(dali.evaluation_batches("test"))
    assert dali.remarks == (
        "loader: DALI left batches to the default loader, with images that are no plain JPEG or PNG",
    )


@installed
def test_a_pass_in_the_middle_of_another_disturbs_neither(photographs: Path):
    torch_loader, dali = both(photographs)
    training = dali.training_batches(0, 0)
    first = next(training)
    assert_alike([*torch_loader.evaluation_batches("test")], [*dali.evaluation_batches("test")])
    assert_alike([*torch_loader.training_batches(0, 0)], [first, *training])


@installed
def test_a_dali_that_decodes_nothing_is_no_slow_success(photographs: Path, monkeypatch):
    def run(pipeline, *stream):
        raise RuntimeError("an operator\nhas a wrong argument")

    monkeypatch.setattr("nvidia.dali.pipeline.Pipeline.run", run)
    _, dali = both(photographs)
    with pytest.raises(UserError, match=r"dali decodes nothing here \(an operator has a wrong argument\)"):
        list(dali.training_batches(0, 0))


@installed
def test_a_sweep_trains_with_it_and_its_cells_are_cells_of_their_own(photographs: Path, tmp_path: Path, command):
    recipe = ("model=resnet8", "image_size=48", "resized_crop=true", "epochs=4", "milestones=[3]", "warmup_epochs=0")
    choice = ["--only", "schedule=FT,sparsity=0.7,budget=11.11%", "--seeds", "1", "--tracking", "off"]
    options = [*choice, "--problem", "imagefolder", "--data", str(photographs), "--results", str(tmp_path / "runs")]
    for setting in (*recipe, "batch_size=8", "loader=dali"):
        options += ["--set", setting]
    done = command("benchmark.sweep", "table1", *options)
    records = {record["id"]: record for record in Store(tmp_path / "runs").records()}
    assert len(records) == 2, done.stdout + done.stderr
    for record in records.values():
        cell = Cell.from_json(record["cell"])
        assert cell.problem.loader == "dali"
        assert replace(cell, problem=cell.problem.model_copy(update={"loader": "torch"})).id not in records


def test_it_is_refused_where_it_has_nothing_to_do():
    with pytest.raises(UserError, match="loader dali reads large images from disk: it needs resized_crop"):
        fits.refuse_unfit(recipe(loader="dali", resized_crop=False))


def test_it_is_refused_in_one_line_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match=r"not installed: pip install nvidia-dali-cuda130.*--set loader=torch"):
        fits.refuse_unfit(recipe(loader="dali"))
