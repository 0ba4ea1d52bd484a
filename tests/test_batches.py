"""Batches as a user relies on them: augmented as defined, complete, the same however they are loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from benchmark.cells import Cell, Problem
from benchmark.errors import UserError
from benchmark.methods import load
from benchmark.problems.augment import Normalisation, Windows, moments, rotate
from benchmark.problems.data import Data, open_data
from benchmark.problems.folder import list_images
from benchmark.problems.models import build
from benchmark.problems.seeds import generator
from benchmark.problems.sources import open_source
from benchmark.problems.streaming import StreamedData, decode_with_pillow
from benchmark.training.loop import Run
from tests.image_folders import CLASSES, CPU, evaluation_sizes, make_folder, problem

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images")


# Batches


def naive_batches(data: Data, source, seed: int, epoch: int) -> list[np.ndarray]:
    """Crops and flips one image at a time, as float64, from what chance decided."""
    draws, pad, size = data._draw(seed, epoch), data.problem.crop_padding, data.problem.image_size
    found = []
    for place in range(data.training_images):
        image = source.training.images[int(data._index[draws.order[place]])].astype(np.float64)
        top, left = draws.crops[:, place].tolist()
        assert 0 <= top <= 2 * pad
        image = image[top : top + size, left : left + size]
        if data.problem.flip and draws.flips[place]:
            image = image[:, ::-1]
        found.append((image / 255 - data.normalise.mean.numpy()) / data.normalise.std.numpy())
    return found


@pytest.mark.parametrize("size", [8, 16])
def test_batches_are_the_crops_and_flips_that_chance_decided(tmp_path: Path, size: int):
    root = make_folder(tmp_path / "images", (size, size))
    recipe = problem(image_size=size, crop_padding=3, flip=True)
    data = Data(recipe, CPU, root)
    images = torch.cat([images for images, _ in data.training_batches(0, 1)])
    expected = np.stack(naive_batches(data, open_source(recipe, root), 0, 1)).transpose(0, 3, 1, 2)
    assert images.shape == (18, 3, size, size)
    assert np.allclose(images.numpy(), expected, atol=1e-5)


def test_devices_gather_the_same_windows(monkeypatch: pytest.MonkeyPatch):
    """The gathering that GPUs use, run on the CPU."""
    stream = np.random.default_rng(0)
    images = stream.integers(256, size=(20, 14, 14, 3), dtype=np.uint8)
    index, crops = torch.randint(20, (50,)), torch.randint(5, (2, 50))
    flips = torch.rand(50) < 0.5
    there = Windows(images, 10, torch.device("meta"))
    there._views = torch.from_numpy(images).unfold(1, 10, 1).unfold(2, 10, 1).permute(0, 1, 2, 4, 5, 3)
    for chosen in (flips, None):
        assert torch.equal(Windows(images, 10, CPU)(index, crops, chosen), there(index, crops, chosen))


def test_batches_lie_channels_last_where_the_network_does(images: Path):
    batch, _ = next(Data(problem(), CPU, images).training_batches(0, 0))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_training_validation_and_test_images_are_apart_and_complete(images: Path):
    data = Data(problem(), CPU, images)
    assert evaluation_sizes(data) == {"validation": 6, "test": 6}
    held_out = data._evaluation["validation"][1]
    assert sorted([*data._index.tolist(), *held_out.tolist()]) == list(range(24))
    assert torch.bincount(data._evaluation["validation"][2]).tolist() == [2, 2, 2]


def test_a_share_of_the_training_images_is_taken_class_by_class(images: Path):
    half, whole = Data(problem(training_share=0.5), CPU, images), Data(problem(), CPU, images)
    assert torch.bincount(half.labels).tolist() == [3, 3, 3]
    assert set(half._index.tolist()) < set(whole._index.tolist())
    assert evaluation_sizes(half) == evaluation_sizes(whole)


def test_pixels_are_normalised_over_the_training_images_or_as_declared(images: Path):
    data = Data(problem(), CPU, images)
    pixels = torch.cat([batch for batch, _ in data.training_batches(0, 0)])
    assert torch.allclose(pixels.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std((0, 2, 3)), torch.ones(3), atol=1e-4)
    declared = Data(problem(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), CPU, images)
    assert torch.cat([batch for batch, _ in declared.training_batches(0, 0)]).abs().max() <= 1


def test_moments_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    images = np.random.default_rng(0).integers(256, size=(40, 5, 5, 3), dtype=np.uint8)
    images[..., 1] //= 3
    chosen = torch.arange(0, 40, 2)
    whole = moments(images, chosen)
    monkeypatch.setattr("benchmark.problems.augment.MOMENTS_VALUES", 5 * 5 * 3 * 7)
    parts = moments(images, chosen)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts, strict=True))
    pixels = images[::2].astype(np.float64).reshape(-1, 3) / 255
    assert np.allclose(parts[0], pixels.mean(0))
    assert np.allclose(parts[1], pixels.std(0, ddof=1))


@pytest.mark.parametrize("degrees", [0.0, 7.0, -15.0, 90.0])
def test_rotation_is_torchvision_s(degrees: float):
    pixels = torch.randint(256, (2, 3, 32, 32)).float()
    ours = rotate(pixels.permute(0, 2, 3, 1), torch.tensor([degrees, 0.0])).permute(0, 3, 1, 2)
    assert (ours[0] == reference.rotate(pixels[0], degrees)).float().mean() > 0.995  # ties between two pixels
    assert torch.equal(ours[1], pixels[1])


def test_rotation_takes_the_same_pixels_in_half_precision():
    pixels, degrees = torch.randint(256, (8, 32, 32, 3)).float(), torch.linspace(-15, 15, 8)
    with torch.autocast("cpu", torch.bfloat16):
        rotated = rotate(pixels, degrees)
    assert torch.equal(rotated, rotate(pixels, degrees))


def test_rotation_takes_angles_up_to_the_recipe_s(images: Path):
    data = Data(problem(rotation=15), CPU, images)
    angles = torch.cat([data._draw(0, epoch).angles for epoch in range(40)])
    assert -15 <= angles.min() < -12
    assert 12 < angles.max() <= 15
    assert torch.equal(data._draw(0, 3).order, Data(problem(), CPU, images)._draw(0, 3).order)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("resized_crop", [False, True])
def test_ranks_share_every_batch_between_them(images: Path, ranks: int, resized_crop: bool):
    recipe = problem(crop_padding=2, resized_crop=resized_crop, batch_size=5)
    whole = list(open_data(recipe, CPU, images).training_batches(0, 0))
    parts = [list(open_data(recipe, CPU, images, (rank, ranks)).training_batches(0, 0)) for rank in range(ranks)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for rank, (pixels, labels) in enumerate(shares):
            assert torch.equal(batch[0][rank::ranks], pixels)
            assert torch.equal(batch[1][rank::ranks], labels)
    sizes = [sum(len(labels) for _, labels in open_data(recipe, CPU, images, (rank, ranks)).evaluation_batches("test"))
             for rank in range(ranks)]  # fmt: skip
    assert sum(sizes) == 6


# Streamed


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "large", (40, 60))


def streamed(root: Path, loaders: int = 0, **fields) -> StreamedData:
    recipe = problem(image_size=24, resized_crop=True, flip=True, evaluation_size=28, **fields)
    return StreamedData(recipe, CPU, root, loaders=loaders)


def test_streamed_batches_do_not_depend_on_the_number_of_loaders_nor_on_where_an_epoch_is_taken_up(large: Path):
    alone, two = streamed(large), streamed(large, 2)
    whole = list(alone.training_batches(0, 1))
    assert len(whole) == alone.iterations_per_epoch == 3
    for other in (two.training_batches(0, 1), two.training_batches(0, 1)):
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole, other, strict=True))
    rest = list(two.training_batches(0, 1, 2))
    assert torch.equal(rest[0][0], whole[2][0])
    left_in_the_middle = two.training_batches(0, 2)
    next(left_in_the_middle)
    left_in_the_middle.close()
    assert torch.equal(next(two.training_batches(0, 1))[0], whole[0][0])
    assert not torch.equal(next(alone.training_batches(0, 2))[0], whole[0][0])


@pytest.mark.parametrize("loaders", [0, 1])
def test_an_epoch_goes_on_after_an_evaluation_in_its_middle(large: Path, loaders: int):
    """As a method asks for that measures while it trains."""
    data = streamed(large, loaders)
    whole = [images for images, _ in data.training_batches(0, 1)]
    batches = data.training_batches(0, 1)
    interrupted = [next(batches)[0]]
    assert list(data.evaluation_batches("test"))
    interrupted += [images for images, _ in batches]
    assert len(interrupted) == len(whole)
    assert all(torch.equal(*pair) for pair in zip(interrupted, whole, strict=True))


def test_streamed_evaluation_resizes_and_crops_the_centre(large: Path):
    data = streamed(large)
    pixels = torch.cat([batch for batch, _ in data.evaluation_batches("test")])[3]
    back = (pixels * data.normalise.std[:, None, None] + data.normalise.mean[:, None, None]) * 255
    image = decode_with_pillow(str(large / "test" / "dog" / "01.png"), 3)
    expected = reference.center_crop(reference.resize(image, [28], antialias=True), [24, 24])
    assert torch.allclose(back, expected.float(), atol=1.01)  # torchvision rounds once more where it comes from float32


def test_streamed_images_that_cannot_be_read_stop_the_run_or_are_left_out(large: Path):
    paths = [large / "train" / name / "03.png" for name in CLASSES] + [large / "test" / "cat" / "00.png"]
    for path in paths:
        path.write_bytes(b"no image")
    declared = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(UserError, match=r"cat/00\.png cannot be read .*unreadable_images=skip"):
        list(streamed(large, **declared).evaluation_batches("test"))
    data = streamed(large, unreadable_images="skip", **declared)
    assert sum(len(labels) for _, labels in data.evaluation_batches("test")) == 5
    assert data.remarks[0].startswith("skipped: 1 of 30 images cannot be read, the first: ")


def test_a_batch_without_a_readable_image_counts_as_an_iteration_and_is_no_step(large: Path):
    declared = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "unreadable_images": "skip", "batch_size": 2}
    whole = streamed(large, **declared)
    files = [*list_images(large).training]
    stream = generator(0, whole.problem.dataset, "epoch", 0)
    for place in torch.randperm(whole.training_images, generator=stream)[2:4]:  # the second batch
        Path(files[whole._index[place]][0]).write_bytes(b"no image")
    data = streamed(large, **declared)
    sizes = [len(labels) for _, labels in data.training_batches(0, 0)]
    assert sizes[:3] == [2, 0, 2]
    assert len(sizes) == data.iterations_per_epoch
    cell = Cell.dense(data.problem, 0)
    run = Run(cell, build(data.problem, 0), data, load("dense"), {})
    run.execute()
    assert run.progress.position == data.iterations_per_epoch
    assert len(run.progress.history["epoch"]) == 1
    assert run.progress.images == data.training_images - 2


def test_a_channel_that_is_the_same_everywhere_is_left_at_zero():
    recipe = Problem(name="two-dyes", dataset="none", model="none", epochs=1, channels=2, image_size=4)
    normalise = Normalisation(
        recipe, torch.device("cpu"), lambda: (torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.0]))
    )
    pixels = normalise(torch.full((1, 4, 4, 2), 255 * 0.25))
    assert pixels[..., 0].unique().tolist() == [-0.5]
    assert pixels[..., 1].unique().tolist() == [0.0]
