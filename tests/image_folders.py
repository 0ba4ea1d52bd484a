"""Folders of images, as tests make them, and problems on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.cells import Problem
from benchmark.problems.data import Data

CPU = torch.device("cpu")
CLASSES = ("cat", "dog", "owl")


def make_folder(root: Path, size: tuple[int, int] = (16, 16), training: int = 8, test: int = 2, name="test") -> Path:
    """Class folders of random PNGs; every pixel differs between images."""
    stream = np.random.default_rng(0)
    for split, count in (("train", training), (name, test)):
        for label in CLASSES:
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(256, size=(*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number:02}.png")
    return root


def problem(**fields) -> Problem:
    given = {"name": "mine", "dataset": "imagefolder", "model": "resnet8", "width": 4, "classes": 3, "image_size": 16}
    return Problem(**{**given, "epochs": 1, "batch_size": 6, "validation_fraction": 0.25, **fields})


def evaluation_sizes(data: Data) -> dict[str, int]:
    names = ("validation", "test")
    return {name: sum(len(labels) for _, labels in data.evaluation_batches(name)) for name in names}
