"""Normalisation and augmentation of whole batches of images, shape (b, height, width, channels)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmark.cells import LEAST_STD, Problem
from benchmark.problems.cache import Images
from benchmark.problems.models import memory_format

MOMENTS_VALUES = 1 << 20
"""Pixels times channels that `moments` works on at a time: they stay in a CPU's cache."""


class Normalisation:
    """(pixels / 255 - mean) / std by channel. mean, std: float32 (channels,), of pixels from 0 to 1.

    measure: gives both where the recipe does not.
    """

    def __init__(self, problem: Problem, device: torch.device, measure: Callable[[], tuple[Tensor, Tensor]]):
        if problem.mean:
            self.mean, self.std = torch.tensor(problem.mean), torch.tensor(problem.std)
        else:
            self.mean, std = measure()
            self.std = torch.where(std < LEAST_STD, 1.0, std)  # of a channel that is the same everywhere
        # Expanded to the size of an image: with a long inner dimension a CPU is several times faster.
        shape = (problem.image_size, problem.image_size, problem.channels)
        self._mean, self._std = (value.expand(shape).contiguous().to(device) for value in (self.mean, self.std))

    def __call__(self, pixels: Tensor) -> Tensor:
        """pixels: float32 from 0 to 255, changed in place."""
        return pixels.div_(255).sub_(self._mean).div_(self._std)


def moments(images: Images, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of images[chosen] / 255, float32 (channels,) each; read a part at a time."""
    count = max(1, MOMENTS_VALUES // math.prod(images.shape[1:]))
    n = 0
    mean = torch.zeros(images.shape[3], dtype=torch.float64)
    squares = torch.zeros_like(mean)
    for part in chosen.split(count):
        pixels = torch.from_numpy(images[part.numpy()]).float() / 255
        m = pixels.numel() // pixels.shape[3]
        part_mean = pixels.mean((0, 1, 2)).double()
        part_squares = pixels.std((0, 1, 2)).double() ** 2 * (m - 1)
        delta = part_mean - mean  # Chan, Golub and LeVeque 1983
        mean += delta * m / (n + m)
        squares += part_squares + delta**2 * n * m / (n + m)
        n += m
    return mean.float(), (squares / (n - 1)).sqrt().float()


def rotate(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image counter-clockwise about its centre; degrees: (b,).

    The nearest pixel is taken, and black outside the image, as torchvision's RandomRotation does by default.
    """
    angles = torch.deg2rad(degrees)[:, None, None]
    cos, sin = angles.cos(), angles.sin()
    planes = pixels.permute(0, 3, 1, 2)
    y, x = (((2 * torch.arange(n, device=pixels.device) + 1) / n - 1) for n in planes.shape[2:])
    y = y[:, None]
    # affine_grid without its matrix product, which TF32 and autocast would round
    grid = torch.stack([cos * x - sin * y, sin * x + cos * y], 3)
    rotated = functional.grid_sample(planes, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return rotated.permute(0, 2, 3, 1)


class Windows:
    """Gathers batches of crops from padded images, uint8 (n, height, width, channels)."""

    def __init__(self, images: Images, size: int, device: torch.device):
        if device.type == "cpu":  # numpy copies whole rows, torch single bytes, which takes 4 times as long
            views = np.lib.stride_tricks.sliding_window_view(np.asarray(images), (size, size), axis=(1, 2))
            self._views: np.ndarray | Tensor = views.transpose(0, 1, 2, 4, 5, 3)
        else:
            tensor = torch.from_numpy(np.asarray(images)).to(device)
            self._views = tensor.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)

    def __call__(self, index: Tensor, crops: Tensor, flips: Tensor | None) -> Tensor:
        """uint8 (b, size, size, channels). index: (b,); crops: offsets of rows and columns (2, b); flips: bool (b,)."""
        if isinstance(self._views, Tensor):
            images = self._views[index, crops[0], crops[1]]
            return images if flips is None else torch.where(flips[:, None, None, None], images.flip(2), images)
        rows, columns = crops.numpy()
        array = np.ascontiguousarray(self._views[index.numpy(), rows, columns])
        if flips is not None:
            flipped = np.flatnonzero(flips.numpy())
            planes = torch.from_numpy(array[flipped]).permute(0, 3, 1, 2)  # torch flips this layout fast
            array[flipped] = planes.flip(3).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(array)


def laid_out(pixels: Tensor, problem: Problem) -> Tensor:
    """(b, height, width, channels) as (b, channels, height, width), in the memory format of the problem's network."""
    planes = pixels.permute(0, 3, 1, 2)
    if memory_format(problem) == torch.channels_last:
        return planes.contiguous(memory_format=torch.channels_last)
    return planes.clone(
        memory_format=torch.contiguous_format
    )  # `contiguous` would keep odd strides of a single channel
