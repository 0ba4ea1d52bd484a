"""A U-Net: a class for every pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.problems.networks.convolutional import initialise

HALVINGS = 3
"""Of the image, on the way down."""


def two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


class Up(nn.Module):
    """Doubles the image and halves its channels, and takes in what the way down had at this size."""

    def __init__(self, outputs: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * outputs, outputs, 2, 2)
        nn.init.normal_(self.up.weight, std=outputs**-0.5)  # He et al.'s: a pixel has a sum over 2 * outputs channels
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]
        self.convolutions = two_convolutions(2 * outputs, outputs)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.convolutions(torch.cat([shortcut, self.up(x)], 1))


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions and batch norm, three halvings deep.

    Args:
        width: channels of the first level; each further level has twice as many.
        channels: of an image, whose sides are multiples of 8.
        classes: of a pixel.
    """

    def __init__(self, width: int, channels: int, classes: int):
        super().__init__()
        widths = [width << level for level in range(HALVINGS + 1)]
        self.down = nn.ModuleList(
            two_convolutions(*pair) for pair in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(Up(outputs) for outputs in reversed(widths[:-1]))
        self.out = nn.Conv2d(width, classes, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """images: (b, channels, height, width); returns logits (b, classes, height, width)."""
        x, levels = images, []
        for level, layers in enumerate(self.down):
            x = layers(nn.functional.max_pool2d(x, 2) if level else x)
            levels.append(x)
        for layers, shortcut in zip(self.up, reversed(levels[:-1]), strict=True):
            x = layers(x, shortcut)
        return self.out(x)
