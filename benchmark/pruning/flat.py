"""All weight tensors end to end in one vector, so that elementwise work is a few operations however many layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.pruning.selection import CHUNK


@dataclass(frozen=True)
class Vector:
    """values: shape (n,); parts: the same memory as tensors of the weights' shapes and strides."""

    values: Tensor
    parts: list[Tensor]

    def take(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self.parts, list(tensors))

    def give(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_copy_(list(tensors), self.parts)


class Flat:
    """Vectors over all elements of `weights`, each tensor in its own order of memory.

    chunks: slices that cover a vector. Elementwise work goes over them one after the other, so that on a CPU what it
    leaves in between stays in the cache; on an accelerator there is one chunk.
    """

    def __init__(self, weights: Sequence[Tensor]):
        self.weights = [weight.detach() for weight in weights]
        self.sizes = [weight.numel() for weight in weights]
        self.size = sum(self.sizes)
        self.device = self.weights[0].device
        step = CHUNK if self.device.type == "cpu" else self.size
        self.chunks = [slice(start, min(start + step, self.size)) for start in range(0, self.size, step)]

    def vector(self) -> Vector:
        """A new vector, its values undefined."""
        return self.view(torch.empty(self.size, dtype=self.weights[0].dtype, device=self.device))

    def view(self, values: Tensor) -> Vector:
        """A contiguous tensor (n,) as a vector."""
        pieces = values.split(self.sizes)
        parts = [
            piece.as_strided(weight.size(), weight.stride()) for piece, weight in zip(pieces, self.weights, strict=True)
        ]
        return Vector(values, parts)


class Segments:
    """One value for each weight tensor, or for each of its output units (dimension 0): thresholds, sums, counts.

    They are numbered in the order of the flat vector, where each covers one stretch.
    """

    def __init__(self, flat: Flat, by_unit: bool):
        self.flat = flat
        self.shapes: list[tuple[int, int]] = []
        for weight in flat.weights:
            units = weight.shape[0] if by_unit else 1
            each = weight.numel() // max(units, 1)
            if by_unit and units > 1 and weight.stride(0) != each:
                raise ValueError(f"the units of weights of shape {tuple(weight.shape)} do not lie one after the other")
            self.shapes.append((units, each))
        lengths = [each for units, each in self.shapes for _ in range(units)]
        self.count = len(lengths)
        self.lengths = torch.tensor(lengths, device=flat.device)
        self.index = torch.repeat_interleave(
            torch.arange(self.count, dtype=torch.int32, device=flat.device), self.lengths, output_size=flat.size
        )

    def spread(self, values: Tensor, chunk: slice) -> Tensor:
        """The value of every element's segment, for the elements of one chunk. values: (count,)."""
        return values.index_select(0, self.index[chunk])

    def sums(self, vector: Tensor) -> Tensor:
        """Sums of a vector (n,) over each segment, shape (count,), the same at every call."""
        if self.flat.device.type != "cpu":
            return self.reduced(vector)
        parts = vector.split(self.flat.sizes)
        return torch.cat([part.view(shape).sum(1) for part, shape in zip(parts, self.shapes, strict=True)])

    def reduced(self, vector: Tensor) -> Tensor:
        """`sums` as one operation for all layers, which is what counts on an accelerator."""
        return torch.segment_reduce(vector, "sum", lengths=self.lengths, axis=0, unsafe=True)
