"""Segmentation as a user relies on it: image and mask stay together, pixels without a label count in nothing, and cells
train, resume and are recorded as those of any task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis import captions
from benchmark.cells import Budget, Cell, Problem
from benchmark.errors import UserError
from benchmark.metric import MEAN_IOU, metric_of
from benchmark.planning.grid import load_problem
from benchmark.problems import scenes, sources
from benchmark.problems.cache import ArraySource, Split
from benchmark.problems.data import open_data
from benchmark.problems.fits import refuse_unfit
from benchmark.problems.segmentation import MaskedData
from benchmark.problems.sources import open_source
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.tasks import make_task
from benchmark.tasks.symbols import IGNORED
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted
from benchmark.worker import Worker
from tests.mask_folders import COLOURS, VOC, make_cityscapes, make_voc, save_mask

torch.set_num_threads(1)
CPU = torch.device("cpu")
AS_THEY_ARE = {"mean": [0.0], "std": [1 / 255]}
"""Normalisation that leaves pixels from 0 to 255."""


def recipe(**fields) -> Problem:
    return load_problem("segmentation", fields)[0]


# Scenes


@pytest.fixture(scope="module")
def source() -> ArraySource:
    return open_source(recipe())


def test_scenes_are_the_same_everywhere(source: ArraySource):
    """Another fingerprint would be another data set: of existing records none could be continued."""
    assert source.fingerprint == "58e17ac975209278"
    assert (len(source.training), len(source.test)) == (1500, 500)


def test_masks_are_exact(source: ArraySource):
    """Strokes are brighter than any background, so that the mask can be seen in the image."""
    for split in (source.training, source.test):
        grey, masks = split.images[..., 0], split.images[..., 1]
        assert np.array_equal(grey >= 100, masks > 0)
        assert np.unique(masks).tolist() == [0, 1, 2, 3, 4, 5]


def test_scenes_have_the_digits_of_their_own_split_alone(monkeypatch: pytest.MonkeyPatch):
    training, test = sources._digit_splits()
    ones, threes = (
        Split(split.images[split.labels == digit], split.labels[split.labels == digit])
        for split, digit in ((training, 1), (test, 3))
    )
    monkeypatch.setattr(sources, "_digit_splits", lambda: (ones, threes))
    source = open_source(recipe())
    assert np.unique(source.training.images[..., 1]).tolist() == [0, 2]
    assert np.unique(source.test.images[..., 1]).tolist() == [0, 4]


def test_captions_say_that_scenes_are_semi_synthetic():
    assert "unet of width 8 on scenes (semi-synthetic), 40 epochs" in captions.problem(recipe())


# Batches


def lit(count: int = 40) -> ArraySource:
    """Random masks, and images whose grey level tells the class: 40 * class + 7."""
    masks = np.random.default_rng(0).integers(6, size=(count, scenes.SIZE, scenes.SIZE), dtype=np.uint8)
    masks[0, 0, 0] = IGNORED
    split = Split(np.stack([40 * np.minimum(masks, 6) + 7, masks], 3), np.zeros(count, dtype=np.int64), masked=True)
    return ArraySource(split, split, "lit")


@given(epoch=st.integers(0, 1000), flip=st.booleans(), padding=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_an_image_and_its_mask_get_the_same_crop_and_flip(epoch: int, flip: bool, padding: int):
    data = MaskedData(recipe(flip=flip, crop_padding=padding, **AS_THEY_ARE), CPU, source=lit())
    for images, masks in data.training_batches(0, epoch):
        assert masks.dtype == torch.int64
        assert masks.shape == (len(images), scenes.SIZE, scenes.SIZE)
        grey = torch.where(masks == IGNORED, 0, 40 * masks + 7)
        beyond = (masks == IGNORED) & (images[:, 0].round() == 247)  # the one pixel without a label within an image
        assert torch.equal(torch.where(beyond, 0, images[:, 0].round().long()), grey)


def test_evaluation_has_whole_masks_and_training_images_stay_out_of_it(source: ArraySource):
    data = open_data(recipe(), CPU)
    assert isinstance(data, MaskedData)
    masks = torch.cat([masks for _, masks in data.evaluation_batches("test")])
    assert np.array_equal(masks.numpy(), source.test.images[..., 1])
    validation = torch.cat([masks for _, masks in data.evaluation_batches("validation")]).numpy()
    held_out = sorted(set(range(1500)) - set(data._index.tolist()))
    assert np.array_equal(validation, source.training.images[held_out][..., 1])
    assert len(held_out) == 150


def test_batches_are_those_of_their_seed_and_epoch_wherever_an_epoch_is_taken_up_and_on_however_many_ranks():
    problem = recipe(flip=True)
    whole = list(open_data(problem, CPU).training_batches(0, 3))
    other, rest = open_data(problem, CPU), list(open_data(problem, CPU).training_batches(0, 3, 5))
    assert all(torch.equal(a, b) for pair in zip(whole[5:], rest, strict=True) for a, b in zip(*pair, strict=True))
    assert not torch.equal(whole[0][1], next(other.training_batches(0, 4))[1])
    assert not torch.equal(whole[0][1], next(other.training_batches(1, 3))[1])
    for rank in range(2):
        for (images, masks), part in zip(
            whole, open_data(problem, CPU, None, (rank, 2)).training_batches(0, 3), strict=True
        ):
            assert torch.equal(images[rank::2], part[0])
            assert torch.equal(masks[rank::2], part[1])


def test_chance_is_the_background_everywhere_in_the_training_masks(source: ArraySource):
    problem = recipe()
    data = open_data(problem, CPU)
    masks = source.training.images[data._index.numpy()][..., 1]
    assert data.target_counts()[:6].tolist() == [int((masks == k).sum()) for k in range(6)]
    task = make_task(problem)
    assert task.chance(data) == pytest.approx((masks == 0).mean() / 6)
    assert task.is_chance(1.2 * task.chance(data), data)


def test_a_batch_without_a_label_moves_nothing():
    task = make_task(recipe())
    outputs = torch.randn(2, 6, 4, 4, requires_grad=True)
    loss = task.loss(outputs, torch.full((2, 4, 4), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert not outputs.grad.any()


def test_pixels_are_normalised_over_images_alone(source: ArraySource):
    data = open_data(recipe(crop_padding=0), CPU)
    pixels = torch.cat([images for images, _ in data.training_batches(0, 0)])
    assert pixels.shape[1:] == (1, 24, 24)
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": 10}, "classes 10 does not fit dataset scenes, which has 6"),
        ({"image_size": 32}, "image_size 32 does not fit dataset scenes, which has 24"),
        ({"channels": 3}, "channels 3 does not fit dataset scenes, which has 1"),
        ({"rotation": 10}, "rotation changes images and not their masks: dataset scenes takes none"),
        ({"resized_crop": True}, "resized_crop changes images and not their masks: dataset scenes takes none"),
        ({"task": "classification"}, "task classification does not fit dataset scenes, whose task is segmentation"),
        ({"model": "resnet8"}, "model resnet8 is for task classification, not for task segmentation"),
        ({"dataset": "voc"}, "classes 6 does not fit dataset voc, which has 21"),
        ({"model": "fcn_resnet50"}, "model fcn_resnet50 takes 3 channels, not 1"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_in_one_line(fields: dict, words: str):
    with pytest.raises(UserError, match=r"^problem segmentation: ") as caught:
        refuse_unfit(recipe(**fields))
    assert words in str(caught.value)


# Pascal VOC and Cityscapes


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("voc"), 60)


def voc_recipe(**fields) -> Problem:
    return load_problem(
        "voc", {"model": "unet", "width": 4, "image_size": 16, "crop_padding": 2, "milestones": [], **fields}
    )[0]


def file_of(root: Path, kind: str, name: str) -> Path:
    return root / VOC / kind / f"{name}.{'jpg' if kind == 'JPEGImages' else 'png'}"


def test_voc_is_read_in_the_order_of_its_lists_resized_and_cropped_with_masks_by_the_nearest_pixel(voc: Path):
    source = open_source(voc_recipe(), voc)
    assert (len(source.training), len(source.test)) == (60, 8)
    assert source.training.images.shape == (60, 20, 20, 4)
    for split, name, pad in ((source.training, "train_003", 2), (source.test, "val_003", 0)):
        inner = split.images[3, pad : pad + 16, pad : pad + 16]
        with (
            Image.open(file_of(voc, "JPEGImages", name)) as image,
            Image.open(file_of(voc, "SegmentationClass", name)) as mask,
        ):
            assert np.array_equal(
                inner[..., :3], image.resize((24, 16), Image.Resampling.BILINEAR).crop((4, 0, 20, 16))
            )
            assert np.array_equal(inner[..., 3], mask.resize((24, 16), Image.Resampling.NEAREST).crop((4, 0, 20, 16)))
    assert set(np.unique(source.test.images[..., 3])) == set(COLOURS)
    border = source.training.images.copy()
    border[:, 2:18, 2:18, 3] = IGNORED
    assert (border[..., 3] == IGNORED).all()
    assert not source.training.images[:, :2, :, :3].any()


def test_decoded_masks_are_kept_and_their_pixels_are_part_of_the_fingerprint(tmp_path: Path):
    root = make_voc(tmp_path, 8, 2)
    first = open_source(voc_recipe(), root)
    assert first.fingerprint.startswith("masked-")
    assert isinstance(open_source(voc_recipe(), root).training.images, np.memmap)
    mask = np.zeros((20, 30), dtype=np.uint8)
    save_mask(file_of(root, "SegmentationClass", "val_001"), mask)
    changed = open_source(voc_recipe(), root)
    assert changed.fingerprint != first.fingerprint
    assert not changed.test.images[1, ..., 3].any()


def test_cityscapes_has_the_19_classes_that_are_evaluated_and_no_label_elsewhere(tmp_path: Path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    large = np.random.default_rng(0).integers(34, size=(32, 80), dtype=np.uint8)
    root = make_cityscapes(tmp_path, {"train": [labels] * 3, "val": [labels.T.copy(), large]})
    problem = load_problem("cityscapes", {"image_size": 16, "crop_padding": 0})[0]
    source = open_source(problem, root)
    assert (len(source.training), len(source.test)) == (3, 2)
    by_id = source.training.images[0, ..., 3].reshape(-1)
    of_training = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
    of_training |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert by_id.tolist() == [of_training.get(number, IGNORED) for number in range(256)]
    assert np.array_equal(source.test.images[0, ..., 0], labels.T)
    middle = large[1::2, 25:57:2]  # the nearest pixels of half the size, and of these the middle 16 of 40 columns
    assert np.array_equal(source.test.images[1, ..., 3], by_id[middle])


def test_folders_of_another_layout_are_refused_in_one_line(voc: Path, tmp_path: Path):
    with pytest.raises(
        UserError, match=r"--data .*: voc is not there \(no folder VOCdevkit/VOC2012/JPEGImages/\); the sweep"
    ):
        open_source(voc_recipe(), tmp_path)
    with pytest.raises(
        UserError, match=r"cityscapes is not there \(no folder leftImg8bit/train/\).*segmentation needs no"
    ):
        open_source(load_problem("cityscapes")[0], voc)
    (tmp_path / "leftImg8bit" / "train").mkdir(parents=True)
    (tmp_path / "leftImg8bit" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no folder gtFine/train/"):
        open_source(load_problem("cityscapes")[0], tmp_path)
    (tmp_path / "gtFine" / "train").mkdir(parents=True)
    (tmp_path / "gtFine" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cityscapes has no images in its part train"):
        open_source(load_problem("cityscapes")[0], tmp_path)
    root = make_voc(tmp_path / "unlisted", 8, 2)
    (root / VOC / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(UserError, match=r"voc cannot be listed: part val: .*val\.txt"):
        open_source(voc_recipe(), root)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.full((20, 30), 21, dtype=np.uint8), "it has numbers that are no classes"),
        (np.zeros((20, 31), dtype=np.uint8), "L of 31 x 20 pixels; it needs a number a pixel (L or P) of 30 x 20"),
        (np.zeros((20, 30, 3), dtype=np.uint8), "RGB of 30 x 20 pixels; it needs a number a pixel (L or P) of 30 x 20"),
        (None, "No such file or directory"),
    ],
)
def test_a_mask_that_does_not_fit_its_image_stops_the_run_or_is_left_out_with_it(tmp_path: Path, mask, reason: str):
    root = make_voc(tmp_path, 8, 2)
    path = file_of(root, "SegmentationClass", "train_005")
    path.unlink()
    if mask is not None:
        Image.fromarray(mask).save(path)
    with pytest.raises(UserError, match="1 of 8 images cannot be read, the first: ") as caught:
        open_source(voc_recipe(), root)
    assert f"train_005.jpg (its mask {path}: {reason})" in str(caught.value)
    source = open_source(voc_recipe(unreadable_images="skip"), root)
    assert len(source.training) == 7
    assert source.remarks[0].startswith("skipped: 1 of 8 images cannot be read")


# Cells


def tiny() -> Problem:
    return voc_recipe(
        epochs=2, warmup_epochs=0, batch_size=4, optimizer="adam", learning_rate=0.02, recalibration_batches=2
    )


DENSE = Cell.dense(tiny(), 0)
CELLS = [
    Cell(tiny(), "IMP", 0, "ALLR", 0.5, Budget.parse("1ep")),
    Cell(tiny(), "GMP", 0, None, 0.5, None, (("interval", 1),)),
    Cell(tiny(), "STR", 0, None, 0.5, None, (("s_init", -9.0),)),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, voc: Path) -> Store:
    store = Store(tmp_path_factory.mktemp("runs"))
    worker = Worker(store, RunOptions("cpu", 1, data=voc))
    for cell in (DENSE, *CELLS):
        assert worker.run(cell) == "done"
    return store


def test_cells_have_records_of_their_mean_iou(store: Store):
    for cell in (DENSE, *CELLS):
        record = store.read(cell.id)
        assert metric_of(record) == MEAN_IOU
        assert "accuracy" not in record
        assert 0.3 < record["mean_iou"]["final"]["test"] <= 1
        assert len(record["history"]["validation_mean_iou"]) == (1 if cell.method == "IMP" else 2)
    assert store.read(CELLS[0].id)["mean_iou"].keys() == {"dense", "pruned", "final"}
    assert store.read(CELLS[1].id)["sparsity"]["prunable"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("cell", [DENSE, *CELLS], ids=lambda cell: cell.method)
def test_a_cell_that_goes_on_in_the_middle_of_an_epoch_changes_no_bit(
    cell: Cell, store: Store, voc: Path, tmp_path: Path
):
    asked, again = iter(range(1000)), Store(tmp_path)
    options = RunOptions("cpu", 1, data=voc)
    if cell.method == "IMP":
        Worker(again, options).run(DENSE)
    with pytest.raises(Interrupted):
        Worker(again, options).run(cell, should_stop=lambda: next(asked) == 5)
    assert Worker(again, options).run(cell) == "done"
    assert result(again.read(cell.id)) == result(store.read(cell.id))


def test_masks_without_a_label_and_lists_of_other_bytes_are_refused_before_training(tmp_path: Path):
    root = make_voc(tmp_path / "unlabelled", 8, 2)
    for path in (root / VOC / "SegmentationClass").glob("val_*.png"):
        save_mask(path, np.full((20, 30), IGNORED, np.uint8))
    with pytest.raises(UserError, match=r"no pixel of a part of voc has a label \(all are 255\)"):
        open_source(voc_recipe(), root)
    root = make_voc(tmp_path / "latin", 8, 2)
    listed = root / VOC / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_bytes(listed.read_bytes() + b"\xff\n")
    with pytest.raises(UserError, match=r"voc cannot be listed: part train: "):
        open_source(voc_recipe(), root)
