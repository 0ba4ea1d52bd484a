"""All weight tensors end to end in one vector, so that an operation on all of them is one call, not one a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.pruning.selection import (
    CHUNK,
    DIRECT,
    Bracket,
    find_threshold,
    keep_masks,
    mask_at_once,
    mask_on_device,
)


@dataclass(frozen=True, eq=False)
class Vector:
    """values: shape (n,); parts: views of it, one a weight tensor, in most vectors of its shape and strides."""

    values: Tensor
    parts: list[Tensor]

    def take(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self.parts, list(tensors))

    def give(self, tensors: Sequence[Tensor]) -> None:
        torch._foreach_copy_(list(tensors), self.parts)


class Flat:
    """Makes vectors over all elements of `weights`, each tensor in its own order of memory.

    chunks: slices that cover a vector. Elementwise work goes chunk by chunk, so that intermediate results stay in a
    CPU's cache; on an accelerator there is one chunk.
    """

    def __init__(self, weights: Sequence[Tensor]):
        kinds = sorted({f"{str(weight.dtype).removeprefix('torch.')} on {weight.device}" for weight in weights})
        if len(kinds) > 1:
            raise UserError(
                f"weights that are pruned together are {' and '.join(kinds)}: one type and device is accepted"
            )
        # `empty_like` keeps the weights' order of memory and leaves no gaps between the elements.
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
    """Write 0 into `out` for the k smallest scores and 1 for the others: for methods that select in every step.

    The result is that of `selection.keep_masks` over the parts, except for a NaN: on an accelerator it
    counts as the largest score instead of being refused, since to look for one would mean to wait for the device.
    """
    if scores.values.device.type != "cpu":
        mask_on_device(scores.parts, k, magnitude, out.parts)
        return
    if scores.values.numel() <= DIRECT and mask_at_once(scores.values, k, magnitude, out.values):
        return
    threshold = find_threshold([scores.values], k, magnitude=magnitude, bracket=bracket)
    if threshold.divides_ties:  # the tie rule goes by the indices of the parts, not by the order of memory
        keep_masks(scores.parts, threshold, magnitude=magnitude, out=out.parts)
    else:
        keep_masks([scores.values], threshold, magnitude=magnitude, out=[out.values])


class Segments:
    """The flat vector cut into segments: one a weight tensor, or one an output unit (dimension 0; by_unit).

    Methods keep one value a segment (thresholds, sums, counts), in the order of the flat vector. A CPU works layer by
    layer, an accelerator on all segments in one operation: each is the fastest there.
    """

    def __init__(self, flat: Flat, by_unit: bool):
        self.flat = flat
        self.shapes: list[tuple[int, int]] = []
        for (shape, stride), size in zip(flat.layouts, flat.sizes, strict=True):
            units = shape[0] if by_unit else 1
            length = size // max(units, 1)
            if by_unit and units > 1 and stride[0] != length:
                raise ValueError(f"the units of weights of shape {tuple(shape)} do not lie one after the other")
            self.shapes.append((units, length))
        self.units = [units for units, _ in self.shapes]
        lengths = [length for units, length in self.shapes for _ in range(units)]
        self.count = len(lengths)
        self.lengths = torch.tensor(lengths, device=flat.device)
        self._index: Tensor | None = None

    def rows(self, vector: Tensor) -> Vector:
        """A flat vector (n,) with parts of shape (segments, elements of a segment), one a weight tensor."""
        pieces = vector.split(self.flat.sizes)
        return Vector(vector, [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)])

    def columns(self, values: Tensor) -> Vector:
        """Values (count,) of the segments with parts of shape (segments, 1), one a weight tensor."""
        return Vector(values, [piece.unsqueeze(1) for piece in values.split(self.units)])

    def subtract_(self, rows: Vector, columns: Vector) -> None:
        """Subtract from every element the value of its segment."""
        if self.flat.device.type != "cpu":
            rows.values.sub_(columns.values.index_select(0, self.index))
            return
        for row, column in zip(rows.parts, columns.parts, strict=True):
            row.sub_(column)

    def sums(self, rows: Vector) -> Tensor:
        """Sums over each segment, shape (count,); bit for bit the same at every call."""
        if self.flat.device.type == "cuda":  # Apple's GPUs have no such operation
            return torch.segment_reduce(rows.values, "sum", lengths=self.lengths, axis=0, unsafe=True)
        return torch.cat([row.sum(1) for row in rows.parts])

    @property
    def index(self) -> Tensor:
        """The segment of every element, shape (n,)."""
        if self._index is None:
            numbers = torch.arange(self.count, dtype=torch.int32, device=self.lengths.device)
            self._index = torch.repeat_interleave(numbers, self.lengths, output_size=self.flat.size)
        return self._index
