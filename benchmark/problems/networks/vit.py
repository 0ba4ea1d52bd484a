"""A vision transformer for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.problems.networks.attention import Block, initialise

PATCH = 4
"""Pixels a side."""


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2021): patches as a sequence. The mean over patches is classified (Beyer et al. 2022).

    Args:
        width: channels of a patch.
        depth: blocks.
        size: pixels a side of an image, a multiple of PATCH.
        channels: of an image.
        classes: outputs.
    """

    def __init__(self, width: int, depth: int, size: int, channels: int, classes: int):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, PATCH, PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn((size // PATCH) ** 2, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))
