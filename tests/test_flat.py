"""All weights as one vector: the same numbers as layer by layer, whatever the memory layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.pruning.flat import Flat, Segments
from benchmark.pruning.selection import CHUNK

SHAPES = [(6, 1, 3, 3), (12, 6, 3, 3), (1, 5), (10, 24), (64, 300, 3, 3)]
"""The last one alone is longer than a chunk."""


def weights(channels_last: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator) for shape in SHAPES]
    if channels_last:
        made = [w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w for w in made]
    return made


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_vector_takes_all_weights_and_gives_them_back(channels_last: bool):
    tensors = weights(channels_last)
    flat = Flat(tensors)
    vector = flat.vector()
    vector.take(tensors)
    assert torch.equal(vector.values.sort().values, torch.cat([t.flatten() for t in tensors]).sort().values)
    copies = [torch.zeros_like(t) for t in tensors]
    vector.give(copies)
    assert all(torch.equal(copy, t) and copy.stride() == t.stride() for copy, t in zip(copies, tensors, strict=True))


def test_chunks_cover_every_element_once_in_pieces_that_stay_in_the_cache():
    flat = Flat(weights(False))
    seen = torch.zeros(flat.size, dtype=torch.int)
    for chunk in flat.chunks:
        seen[chunk] += 1
        assert chunk.stop - chunk.start <= CHUNK
    assert (seen == 1).all()
    assert len(flat.chunks) > 1


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_segments_spread_values_and_sum_them_by_layer_or_output_unit(channels_last: bool, by_unit: bool, device: str):
    """By the way of CPUs and by that of accelerators, which runs on any device."""
    tensors = weights(channels_last)
    flat = Flat(tensors)
    segments = Segments(flat, by_unit)
    flat.device = torch.device(device)  # it decides which way is gone, and nothing else
    vector = flat.view(torch.empty(flat.size))
    vector.take(tensors)
    rows = segments.rows(vector.values)
    sums, start = segments.sums(rows), 0
    segments.subtract_(rows, segments.columns(torch.arange(segments.count, dtype=torch.float32)))
    for tensor, part in zip(tensors, vector.parts, strict=True):
        units = tensor.shape[0] if by_unit else 1
        values = torch.arange(start, start + units, dtype=torch.float32).view(-1, *[1] * (tensor.dim() - 1))
        assert torch.equal(part, tensor - values)
        reference = tensor.reshape(units, -1).double().sum(1).float()
        torch.testing.assert_close(sums[start : start + units], reference, rtol=1e-4, atol=1e-3)
        start += units
    assert start == segments.count


def test_weights_with_gaps_between_them_have_vectors_without():
    gaps = torch.randn(3, 4, 9)[..., :5]
    flat = Flat([gaps])
    vector = flat.vector()
    vector.take([gaps])
    assert torch.equal(vector.parts[0], gaps)
    assert flat.size == 60


def test_no_weights_at_all():
    flat = Flat([])
    assert flat.vector().parts == []
    assert flat.chunks == []


def test_units_that_are_scattered_over_memory_are_refused():
    scattered = torch.randn(4, 6).t()
    with pytest.raises(ValueError, match="do not lie one after the other"):
        Segments(Flat([scattered]), by_unit=True)
