"""Image files: every mode keeps its pixels, and what cannot be read stops the run or is left out with its name."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems import decode
from benchmark.problems.decode import Unreadable
from benchmark.problems.folder import describe
from benchmark.problems.prepare import prepare
from benchmark.problems.sources import open_source
from benchmark.problems.streaming import StreamedData, pick_decoder
from tests.image_folders import CPU, make_folder, problem

torch.set_num_threads(1)
AS_THEY_ARE = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "batch_size": 1}
"""Normalisation that leaves pixels from 0 to 255, and no image of an epoch dropped."""


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNING_BENCHMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def streamed(recipe: Problem, root: Path) -> StreamedData:
    return StreamedData(recipe.model_copy(update={"resized_crop": True, **AS_THEY_ARE}), CPU, root, loaders=0)


def said(recipe: Problem, root: Path) -> str:
    """What a sweep prints when it opens the data."""
    console = Console(file=StringIO(), width=100)
    prepare(recipe, root, False, console)
    return console.file.getvalue()


def refusal(call: Callable[[], object]) -> str:
    """The one line that `call` ends with, which any terminal takes."""
    with pytest.raises(UserError) as raised:
        call()
    line = str(raised.value)
    assert line.isprintable(), line
    return line


def everything(data: StreamedData) -> list[int]:
    """Labels of all images of an epoch and of both evaluations."""
    batches = [*data.training_batches(0, 0), *data.evaluation_batches("validation"), *data.evaluation_batches("test")]
    return torch.cat([labels for _, labels in batches]).tolist()


RGB = np.random.default_rng(1).integers(256, size=(8, 8, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = np.random.default_rng(2).integers(65536, size=(8, 8)).astype(np.uint16)
PALETTE = Image.fromarray(RGB).quantize(16)


def with_alpha(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(255 - GREY))
    return image


IMAGES: dict[str, tuple[Image.Image, np.ndarray]] = {
    "rgb.png": (Image.fromarray(RGB), RGB),
    "rgb.BMP": (Image.fromarray(RGB), RGB),
    "rgb.ppm": (Image.fromarray(RGB), RGB),
    "grey.Png": (Image.fromarray(GREY), GREY),
    "grey.gif": (Image.fromarray(GREY), GREY),
    "bits.png": (Image.fromarray(GREY > 127), np.where(GREY > 127, 255, 0)),
    "palette.png": (PALETTE, np.array(PALETTE.getpalette()).reshape(-1, 3)[np.array(PALETTE)]),
    "palette-alpha.tif": (PALETTE.convert("PA"), np.array(PALETTE.getpalette()).reshape(-1, 3)[np.array(PALETTE)]),
    "rgba.png": (with_alpha(RGB), RGB),
    "grey-alpha.png": (with_alpha(GREY), GREY),
    "cmyk.TIFF": (Image.fromarray(np.dstack([255 - RGB, np.zeros_like(GREY)]), "CMYK"), RGB),
    "deep.png": (Image.fromarray(DEEP), DEEP // 256),
    "deep.tif": (Image.fromarray(DEEP), DEEP // 256),
    "deep-big-endian.tif": (Image.fromarray(DEEP.astype(">u2")), DEEP // 256),
    "deep.pgm": (Image.fromarray(DEEP), DEEP // 256),
    "32-bit.tif": (Image.fromarray(GREY.astype(np.int32)), GREY),
    "float.tif": (Image.fromarray(GREY.astype(np.float32)), GREY),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_mode_keeps_its_pixels_and_both_ways_of_reading_have_the_same(tmp_path: Path, name: str):
    image, pixels = IMAGES[name]
    path = str(tmp_path / name)
    image.save(path)
    expected = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
    assert np.array_equal(decode.decode(path, 8, 3), expected)
    if pixels.ndim == 2:
        assert np.array_equal(decode.decode(path, 8, 1)[..., 0], pixels)
    for channels in (1, 3):
        read = pick_decoder()(path, channels).permute(1, 2, 0)
        assert np.array_equal(read, decode.decode(path, 8, channels))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_images_are_not_turned_as_a_camera_marked_them(tmp_path: Path, ending: str):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = str(tmp_path / f"x.{ending}")
    Image.fromarray(RGB).resize((8, 16)).save(path, exif=exif, quality=100)
    assert pick_decoder()(path, 3).shape == (3, 16, 8)


def bomb() -> bytes:
    """A PNG of 400 million pixels in 57 bytes."""
    found = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0), b"IDAT", b"IEND"):
        found += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return found


def game_texture() -> bytes:
    """A file of another kind under a PNG's name, at which Pillow raises NotImplementedError."""
    return b"DDS " + struct.pack("<7I44x2I4s40x", 124, 0x1007, 8, 8, 0, 0, 0, 32, 4, b"NOPE")


def cut_off(path: Path, ending: str) -> None:
    whole = path.with_suffix(f".{ending}")
    Image.fromarray(np.random.default_rng(3).integers(256, size=(40, 40, 3), dtype=np.uint8)).save(whole)
    path.write_bytes(whole.read_bytes()[:-500])
    whole.unlink()


def values(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path, format="TIFF")


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "not a regular file": lambda path: os.mkfifo(path),
    "not a regular file ": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
    "No such file or directory": lambda path: path.symlink_to("nowhere"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    "cannot identify image file": lambda path: path.write_bytes(b""),
    "cannot identify image file ": lambda path: path.write_text("no image"),
    "Unimplemented pixel format": lambda path: path.write_bytes(game_texture()),
    "exceeds limit": lambda path: path.write_bytes(bomb()),
    "image file is truncated": lambda path: cut_off(path, "jpg"),
    "image file is truncated ": lambda path: cut_off(path, "bmp"),
    "": lambda path: cut_off(path, "webp"),
    "values, 0 to 1, are no grey levels": lambda path: values(path, np.float32(GREY > 127)),
    "values, nan to nan, are": lambda path: values(path, np.full((8, 8), np.nan, np.float32)),
    "values, -7 to 300, are": lambda path: values(path, np.array([[-7, 300]], np.int32)),
    "60000 x 1 pixels are too many": lambda path: Image.new("L", (60000, 1)).save(path),
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_what_cannot_be_read_stops_or_is_left_out_with_its_name(tmp_path: Path, reason: str):
    make_folder(tmp_path)
    UNREADABLE[reason](tmp_path / "test" / "dog" / "x.png")
    size = {"image_size": 64} if "too many" in reason else {}
    bad = f"{tmp_path}/test/dog/x.png"
    for read in (lambda recipe: open_source(recipe, tmp_path), lambda recipe: everything(streamed(recipe, tmp_path))):
        line = refusal(lambda read=read: read(problem(**size)))
        assert bad in line
        assert reason.strip() in line
        assert "--set unreadable_images=skip" in line
    skip = problem(unreadable_images="skip", **size)
    assert f"skipped: 1 of 7 images cannot be read, the first: {bad} (" in said(skip, tmp_path)
    data = streamed(skip, tmp_path)
    assert len(everything(data)) == 30
    assert data.remarks[0].startswith(f"skipped: 1 of 31 images cannot be read, the first: {bad} (")
    assert describe(tmp_path)["image_size"] == 16


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_the_smallest_images_are_images(tmp_path: Path, shape: tuple[int, int]):
    make_folder(tmp_path, shape)
    assert len(open_source(problem(), tmp_path).training) == 24
    assert len(everything(streamed(problem(), tmp_path))) == 30


ENDINGS = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ENDINGS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=9)
)
def test_a_damaged_image_is_read_or_cannot_be_read(ending: str, changes: list[tuple[int, int]]):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{ending}"
        Image.fromarray(RGB).save(path)
        content = bytearray(path.read_bytes())
        for place, byte in changes:
            content[place % len(content)] = byte
        path.write_bytes(content)
        with suppress(Unreadable):
            assert decode.decode(str(path), 8, 3).shape == (8, 8, 3)
