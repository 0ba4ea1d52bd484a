"""Transformers for symbols: a language model and a translator.

The output layer is tied to the embeddings: both are one parameter, `symbols.weight`, which is never pruned. Positions
are sinusoids, so that no length is too long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.problems.networks.attention import Block, initialise, sinusoids
from benchmark.tasks.symbols import PADDING


class _OfSymbols(nn.Module):
    """Embeds symbols, and scores them by the same embeddings (Press and Wolf 2017; Vaswani et al. 2017, 3.4)."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.symbols = nn.Embedding(classes, width)

    def embed(self, symbols: Tensor) -> Tensor:
        """symbols: int64 (b, n); returns (b, n, width)."""
        x = self.symbols(symbols)
        return x * math.sqrt(x.shape[2]) + sinusoids(x.shape[1], x.shape[2], x)

    def scores(self, x: Tensor) -> Tensor:
        """(b, n, width) to logits (b, n, classes)."""
        return functional.linear(x, self.symbols.weight)


class LanguageModel(_OfSymbols):
    """A decoder-only transformer: logits of the next symbol at every position, from the symbols up to it.

    Args:
        width: channels of a symbol.
        depth: blocks.
        classes: symbols of the vocabulary.
    """

    def __init__(self, width: int, depth: int, classes: int):
        super().__init__(width, classes)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def forward(self, symbols: Tensor) -> Tensor:
        """symbols: int64 (b, n); returns logits (b, n, classes)."""
        x = self.embed(symbols)
        for block in self.blocks:
            x = block(x, causal=True)
        return self.scores(self.norm(x))


class Translator(_OfSymbols):
    """The encoder-decoder transformer (Vaswani et al. 2017), with one vocabulary for both languages. 0 is padding.

    Args:
        width: channels of a symbol.
        depth: blocks of the encoder, and of the decoder.
        classes: symbols of the vocabulary.
    """

    def __init__(self, width: int, depth: int, classes: int):
        super().__init__(width, classes)
        self.encoder = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm1 = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(Block(width, across=True) for _ in range(depth))
        self.norm2 = nn.LayerNorm(width)
        initialise(self)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source: int64 (b, s); target: int64 (b, t), from its start on; returns logits (b, t, classes) of what
        follows each symbol of the target."""
        seen = source != PADDING
        return self._decode(target, self._encode(source, seen), seen)

    def _encode(self, source: Tensor, seen: Tensor) -> Tensor:
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, seen)
        return self.norm1(x)

    def _decode(self, target: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """Padding of the target needs no mask: it comes last, and no position sees what follows it."""
        x = self.embed(target)
        for block in self.decoder:
            x = block(x, seen, memory, causal=True)
        return self.scores(self.norm2(x))

    @torch.no_grad()
    def generate(self, source: Tensor, length: int, start: int, stop: int) -> Tensor:
        """The most likely symbol after each other, from `start` until every sentence has had a `stop`.

        source: int64 (b, s); returns int64 (b, n), n <= length, without the start. What follows a stop has no meaning.
        """
        seen = source != PADDING
        memory = self._encode(source, seen)
        target = torch.full((len(source), 1), start, device=source.device)
        stopped = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        for _ in range(length):
            symbols = self._decode(target, memory, seen)[:, -1].argmax(1)
            target = torch.cat([target, symbols[:, None]], 1)
            stopped |= symbols == stop
            if stopped.all():
                break
        return target[:, 1:]
