"""Tiny folders in the layouts of Pascal VOC and of Cityscapes, whose colours tell the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = {0: (20, 20, 20), 5: (230, 30, 30), 15: (30, 30, 230), 255: (128, 128, 128)}
"""Of pixels by their class in Pascal VOC, with a little noise; 255 is its border without a label."""
VOC = Path("VOCdevkit") / "VOC2012"


def picture(stream: np.random.Generator, height: int, width: int, colours: dict[int, tuple[int, int, int]]):
    """(image uint8 (height, width, 3), mask uint8 (height, width)): a rectangle of each class on the first one."""
    first, *others = colours
    mask = np.full((height, width), first, dtype=np.uint8)
    for number in others:
        top, left = stream.integers(height // 2), stream.integers(width // 2)
        mask[top : top + height // 2, left : left + width // 3] = number
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for number, colour in colours.items():
        image[mask == number] = colour
    return image + stream.integers(10, size=image.shape, dtype=np.uint8), mask


def save_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """As Pascal VOC has it: with a palette."""
    image = Image.fromarray(mask)
    image.putpalette([(7 * k) % 256 for k in range(768)])
    image.save(path)


def make_voc(root: Path, training: int = 40, test: int = 8, size: tuple[int, int] = (20, 30)) -> Path:
    stream = np.random.default_rng(0)
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / VOC / part).mkdir(parents=True)
    for part, count in (("train", training), ("val", test)):
        names = [f"{part}_{number:03}" for number in range(count)]
        (root / VOC / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image, mask = picture(stream, *size, COLOURS)
            Image.fromarray(image).save(root / VOC / "JPEGImages" / f"{name}.jpg", quality=95)
            save_mask(root / VOC / "SegmentationClass" / f"{name}.png", mask)
    return root


def make_cityscapes(root: Path, masks: dict[str, list[NDArray[np.uint8]]]) -> Path:
    """masks: of label ids, by part. Images have in each pixel the number of its label, three times."""
    for part, several in masks.items():
        for number, mask in enumerate(several):
            for kind, suffix, array in (
                ("leftImg8bit", "leftImg8bit", np.dstack([mask] * 3)),
                ("gtFine", "gtFine_labelIds", mask),
                ("gtFine", "gtFine_instanceIds", mask),
            ):
                folder = root / kind / part / "ulm"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / f"ulm_{number:06}_000019_{suffix}.png")
    return root
