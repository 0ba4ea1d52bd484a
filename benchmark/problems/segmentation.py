"""Images with masks in memory: every crop and flip takes an image and its mask together, as channels of one array."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.cells import Problem
from benchmark.problems.batches import ImageBatch
from benchmark.problems.cache import ArraySource
from benchmark.problems.data import Data
from benchmark.problems.fits import check_fixed
from benchmark.problems.sources import open_source
from benchmark.tasks.symbols import IGNORED

COUNTED = 256
"""Masks that are counted at a time."""


class MaskedData(Data):
    """Batches of images float32 (b, channels, height, width) and masks int64 (b, height, width).

    What a crop takes from beyond an image has no label. The validation images are a random part of the training images.
    """

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        folder: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        source: ArraySource | None = None,
    ):
        check_fixed(problem)
        source = source or open_source(problem, folder)
        super().__init__(problem, device, folder, shard, source)
        inner = source.training.padding
        self._masks = source.training.images[..., -1]
        self._inner = slice(inner, inner + problem.image_size)

    def _batch(self, pixels: Tensor, labels: Tensor) -> ImageBatch:
        images, _ = super()._batch(pixels[..., :-1], labels)
        return images, pixels[..., -1].to(torch.int64)

    def target_counts(self) -> Tensor:
        return self._target_counts

    @cached_property
    def _target_counts(self) -> Tensor:
        """Of whole masks, without augmentation."""
        counts = np.zeros(IGNORED + 1, dtype=np.int64)
        for part in self._index.cpu().split(COUNTED):
            masks = self._masks[part.numpy(), self._inner, self._inner]
            counts += np.bincount(masks.reshape(-1), minlength=len(counts))
        return torch.from_numpy(counts)
