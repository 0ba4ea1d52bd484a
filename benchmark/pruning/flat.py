"""All weight tensors end to end in one vector, so that work on them is a few operations however many layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.pruning.selection import CHUNK, Bracket, find_threshold, keep_masks, mask_on_device


@dataclass(frozen=True, eq=False)
class Vector:
    """values: shape (n,); parts: the same memory in pieces, such as tensors of the weights' shapes and strides."""

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
        # As `empty_like` would lay them out: as the weights lie in memory, without the gaps between their elements.
        layouts = [torch.empty_like(weight, device="meta") for weight in weights]
        self.layouts = [(layout.size(), layout.stride()) for layout in layouts]
        self.sizes = [layout.numel() for layout in layouts]
        self.size = sum(self.sizes)
        self.device = weights[0].device if weights else torch.device("cpu")
        self.dtype = weights[0].dtype if weights else torch.float32
        step = CHUNK if self.device.type == "cpu" else max(self.size, 1)
        self.chunks = [slice(start, min(start + step, self.size)) for start in range(0, self.size, step)]

    def vector(self) -> Vector:
        """A new vector, its values undefined."""
        return self.view(torch.empty(self.size, dtype=self.dtype, device=self.device))

    def view(self, values: Tensor) -> Vector:
        """A contiguous tensor (n,) as a vector."""
        pieces = values.split(self.sizes)
        return Vector(values, [piece.as_strided(*layout) for piece, layout in zip(pieces, self.layouts, strict=True)])


def mask_smallest(
    scores: Vector, k: int, *, magnitude: bool = False, bracket: Bracket | None = None, out: Vector
) -> None:
    """Write 0 into `out` for the k smallest scores and 1 for the others: for selections in every step.

    The result is that of `selection.keep_all_but_smallest` over the parts. An accelerator is not waited for: there a
    NaN counts as the largest score instead of being refused.
    """
    if scores.values.device.type != "cpu":
        mask_on_device(scores.parts, k, magnitude, out.parts)
        return
    threshold = find_threshold([scores.values], k, magnitude=magnitude, bracket=bracket)
    if threshold.divides_ties:  # which of the equal ones go is a matter of the parts' indices, not of the memory
        keep_masks(scores.parts, threshold, magnitude=magnitude, out=out.parts)
    else:
        keep_masks([scores.values], threshold, magnitude=magnitude, out=[out.values])


class Segments:
    """One value for each weight tensor, or for each of its output units (dimension 0): thresholds, sums, counts.

    They are numbered in the order of the flat vector, where each covers one stretch. On a CPU a layer at a time is
    quickest; on an accelerator what counts is that it is one operation for all of them.
    """

    def __init__(self, flat: Flat, by_unit: bool):
        self.flat = flat
        self.shapes: list[tuple[int, int]] = []
        for (shape, stride), size in zip(flat.layouts, flat.sizes, strict=True):
            units = shape[0] if by_unit else 1
            each = size // max(units, 1)
            if by_unit and units > 1 and stride[0] != each:
                raise ValueError(f"the units of weights of shape {tuple(shape)} do not lie one after the other")
            self.shapes.append((units, each))
        self.units = [units for units, _ in self.shapes]
        lengths = [each for units, each in self.shapes for _ in range(units)]
        self.count = len(lengths)
        self.lengths = torch.tensor(lengths, device=flat.device)
        self._index: Tensor | None = None

    def rows(self, vector: Tensor) -> Vector:
        """A flat vector (n,) with parts of shape (segments, elements of each), one a weight tensor."""
        pieces = vector.split(self.flat.sizes)
        return Vector(vector, [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)])

    def columns(self, values: Tensor) -> Vector:
        """Values (count,) of the segments with parts of shape (segments, 1), one a weight tensor."""
        return Vector(values, [piece.unsqueeze(1) for piece in values.split(self.units)])

    def subtract_(self, rows: Vector, columns: Vector) -> None:
        """From every element its segment's value."""
        if self.flat.device.type != "cpu":
            rows.values.sub_(columns.values.index_select(0, self.index))
            return
        for row, column in zip(rows.parts, columns.parts, strict=True):
            row.sub_(column)

    def sums(self, rows: Vector) -> Tensor:
        """Sums over each segment, shape (count,), the same at every call."""
        if self.flat.device.type != "cpu":
            return torch.segment_reduce(rows.values, "sum", lengths=self.lengths, axis=0, unsafe=True)
        return torch.cat([row.sum(1) for row in rows.parts])

    @property
    def index(self) -> Tensor:
        """The segment of every element, shape (n,)."""
        if self._index is None:
            numbers = torch.arange(self.count, dtype=torch.int32, device=self.lengths.device)
            self._index = torch.repeat_interleave(numbers, self.lengths, output_size=self.flat.size)
        return self._index
