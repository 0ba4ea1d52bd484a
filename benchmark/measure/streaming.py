"""How many images/s the streaming loader gives, by decoder and number of loader processes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.cells import Problem
from benchmark.problems import streaming
from benchmark.problems.streaming import StreamedData

SIZE = (500, 375)
"""Width and height, about those of ImageNet's photographs."""
COARSE = (25, 19)
QUALITY = 90
"""Noise of this many points enlarged to that size, so that files are about as large as a photograph's."""
BATCH = 32


def decoders() -> list[str]:
    """Those installed, of "torchcodec" and "pillow"."""
    return ["pillow"] if streaming.pick_decoder() is streaming.decode_with_pillow else ["torchcodec", "pillow"]


def measure(decoder: str, images: int, most: int, repeats: int) -> tuple[dict[int, list[float]], list[float]]:
    """(images/s of whole epochs by number of loader processes, images per second of processor time).

    0 loader processes is the training process itself, whose processor time gives the second: what one core decodes
    that has nothing else to do.
    """
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        root = _make_images(Path(folder), images)
        counts = [0, *range(1, most + 1)]
        data = {loaders: _open(root, loaders, decoder) for loaders in counts}
        rates: dict[int, list[float]] = {loaders: [] for loaders in counts}
        each_core = []
        for turn in range(repeats + 1):
            for loaders, one in data.items():
                started, worked = time.perf_counter(), time.process_time()
                seen = sum(len(labels) for _, labels in one.training_batches(0, turn))
                if turn:  # the first starts the processes
                    rates[loaders].append(seen / (time.perf_counter() - started))
                    if not loaders:
                        each_core.append(seen / (time.process_time() - worked))
        return rates, each_core


def _open(root: Path, loaders: int, decoder: str) -> StreamedData:
    problem = Problem(
        name="streaming", dataset="imagefolder", model="resnet50", classes=2, image_size=224, evaluation_size=256,
        resized_crop=True, flip=True, mean=(0.5,) * 3, std=(0.25,) * 3, epochs=1, batch_size=BATCH,
        validation_fraction=0.25,
    )  # fmt: skip
    torch.set_num_threads(1)
    return StreamedData(problem, torch.device("cpu"), root, loaders=loaders, decoder=decoder)


def _make_images(root: Path, count: int) -> Path:
    stream = np.random.default_rng(0)
    for split, n in (("train", count), ("test", 2)):
        for number in range(n):
            folder = root / split / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(stream.integers(256, size=(COARSE[1], COARSE[0], 3), dtype=np.uint8))
            grain = stream.integers(-12, 13, size=(SIZE[1], SIZE[0], 1))
            pixels = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int64) + grain
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=QUALITY)
    return root
