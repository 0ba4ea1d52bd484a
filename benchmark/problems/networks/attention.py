"""What transformers are made of: attention, blocks, and positions. Pre-norm, GELU, and no dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = 4
"""At least, where the width can be divided by it."""
HEAD_WIDTH = 64
"""Of each head in wide networks (Vaswani et al. 2017)."""


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, 3.2)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = math.gcd(width, max(HEADS, width // HEAD_WIDTH))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor | None = None, causal: bool = False) -> Tensor:
        """What each position of x (b, n, width) takes from memory (b, m, width), as (b, n, width).

        seen: bool (b, m), the positions of `memory` that are no padding. causal: position i sees those up to i.
        """
        query, key, value = (
            layer(source).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        mask = None if seen is None else seen[:, None, None]
        taken = functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
        return self.out(taken.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two linear layers, each behind a layer norm and beside a shortcut (pre-norm, Xiong et al. 2020).

    across: attend to a second sequence, too, as decoders do.
    """

    def __init__(self, width: int, across: bool = False):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width)
        if across:
            self.norm2 = nn.LayerNorm(width)
            self.across = Attention(width)
        self.norm3 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, seen: Tensor | None = None, memory: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """x: (b, n, width). seen: bool, what is no padding in `memory` (b, m, width), or in x where there is none."""
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, seen if memory is None else None, causal)
        if memory is not None:
            x = x + self.across(self.norm2(x), memory, seen)
        return x + self.contract(functional.gelu(self.expand(self.norm3(x))))


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """Positions 0 .. length-1 as sines and cosines (Vaswani et al. 2017, 3.5): (length, width), for any length."""
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000) / width))
    angles = torch.arange(length, device=like.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(like.dtype)


def initialise(network: nn.Module) -> None:
    """Glorot and Bengio's uniform initialisation of every linear layer, biases at 0; embeddings of length about 1."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
