"""How many images/s the streaming loaders give, by decoder and number of processes or, for DALI, threads."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.cells import Problem
from benchmark.measure.timing import timed
from benchmark.problems import fits, streaming
from benchmark.problems.dali import DaliData
from benchmark.problems.streaming import StreamedData

SIZE = (500, 375)
"""Width and height, about those of ImageNet's photographs."""
COARSE = (25, 19)
QUALITY = 90
"""Noise of this many points enlarged to that size, so that files are about as large as a photograph's."""
BATCH = 32


def decoders() -> list[str]:
    """Those installed, of "torchcodec", "pillow" and "dali"."""
    names = ["pillow"] if streaming.pick_decoder() is streaming.decode_with_pillow else ["torchcodec", "pillow"]
    return [*names, *(["dali"] if fits.has_dali() else [])]


def decoding(decoder: str, images: int, most: int, repeats: int) -> tuple[dict[str, list[float]], list[float]]:
    """(images/s of whole epochs by number of loader processes or threads, images per second of processor time).

    0 loader processes is the training process itself, and DALI decodes in threads of it: its processor time gives the
    second, what one core decodes that has nothing else to do.
    """
    what, least = ("threads", 1) if decoder == "dali" else ("loader processes", 0)
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        root = _make_images(Path(folder), images)
        data = {f"{count} {what}": _open(root, count, decoder) for count in range(least, most + 1)}
        rates: dict[str, list[float]] = {name: [] for name in data}
        each_core = []
        for turn in range(repeats + 1):
            for name, loader in data.items():
                seconds, count = timed(lambda: sum(len(labels) for _, labels in loader.training_batches(0, turn)))  # noqa: B023
                if turn:  # the first starts the processes
                    rates[name].append(count / seconds.wall)
                    if name == next(iter(data)):
                        each_core.append(count / seconds.processor)
        return rates, each_core


def _open(root: Path, count: int, decoder: str) -> StreamedData:
    problem = Problem(
        name="streaming", dataset="imagefolder", model="resnet50", classes=2, image_size=224, evaluation_size=256,
        resized_crop=True, flip=True, mean=(0.5,) * 3, std=(0.25,) * 3, epochs=1, batch_size=BATCH,
        validation_fraction=0.25, loader="dali" if decoder == "dali" else "torch",
    )  # fmt: skip
    cpu = torch.device("cpu")
    if decoder == "dali":
        return DaliData(problem, cpu, root, threads=count)
    torch.set_num_threads(1)
    return StreamedData(problem, cpu, root, loaders=count, decoder=decoder)


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
