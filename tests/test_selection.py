"""Exact selection of the k smallest scores against a plain stable sort, and the tie rule that everything shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.pruning import selection
from benchmark.pruning.flat import Flat, mask_smallest
from benchmark.pruning.selection import (
    DIRECT,
    Bracket,
    NotANumber,
    find_threshold,
    keep_masks,
)


def reference(scores: Sequence[Tensor], k: int, magnitude: bool = False) -> list[Tensor]:
    """A stable sort of everything, in the order of the tensors and of their indices; the first k go."""
    flat = torch.cat([tensor.reshape(-1) for tensor in scores])
    order = torch.sort(flat.abs() if magnitude else flat, stable=True).indices
    keep = torch.ones_like(flat)
    keep[order[:k]] = 0
    parts = keep.split([tensor.numel() for tensor in scores])
    return [part.view(tensor.shape) for part, tensor in zip(parts, scores, strict=True)]


def keep_all_but_smallest(
    scores: Sequence[Tensor], k: int, magnitude: bool = False, bracket: Bracket | None = None
) -> list[Tensor]:
    return keep_masks(scores, find_threshold(scores, k, magnitude=magnitude, bracket=bracket), magnitude=magnitude)


def assert_same(scores: Sequence[Tensor], k: int, magnitude: bool = False, bracket: Bracket | None = None) -> None:
    masks = keep_all_but_smallest(scores, k, magnitude=magnitude, bracket=bracket)
    assert sum(int((mask == 0).sum()) for mask in masks) == k
    for mask, expected, tensor in zip(masks, reference(scores, k, magnitude), scores, strict=True):
        assert mask.dtype == tensor.dtype
        assert mask.shape == tensor.shape
        assert torch.equal(mask, expected)


def guess_for_small_tensors(patch: pytest.MonkeyPatch) -> None:
    """Guesses and chunks are for large tensors; here small ones go the same way."""
    patch.setattr(selection, "DIRECT", 4)
    patch.setattr(selection, "CHUNK", 8)


def memory_formats(values: list[float], dtype: torch.dtype, layout: str) -> list[Tensor]:
    flat = torch.tensor(values, dtype=dtype)
    if layout == "one":
        return [flat]
    if layout == "gaps":
        return [torch.stack([flat, -flat], dim=1)[:, 0]]
    if layout == "several":
        return [part.clone() for part in flat.tensor_split(3)]
    pad = torch.cat([flat, flat.new_zeros(-flat.numel() % 12)])
    four = pad.view(-1, 3, 2, 2)
    if layout == "channels_last":
        return [four.contiguous(memory_format=torch.channels_last)]
    return [four.permute(3, 1, 0, 2)]  # "permuted"


specials = [0.0, -0.0, 1.0, -1.0, 2.5, float("inf"), -float("inf"), 1e-45, -1e-45, 3e-39, 3.4e38]
values = st.lists(
    st.one_of(st.sampled_from(specials), st.integers(-3, 3).map(float), st.floats(width=32, allow_nan=False)),
    min_size=1,
    max_size=60,
)
layouts = st.sampled_from(["one", "gaps", "several", "channels_last", "permuted"])


@given(values, layouts, st.sampled_from([torch.float32, torch.float64]), st.booleans(), st.floats(0, 1), st.booleans())
@settings(max_examples=400, deadline=None)
def test_equals_a_stable_sort(
    values: list[float], layout: str, dtype: torch.dtype, magnitude: bool, share: float, guess: bool
) -> None:
    """Ties, infinities, denormals, one element, k = 0 and k = n, several tensors, any memory format."""
    scores = memory_formats(values, dtype, layout)
    k = round(share * sum(tensor.numel() for tensor in scores))
    with pytest.MonkeyPatch.context() as patch:
        if guess:
            guess_for_small_tensors(patch)
        assert_same(scores, k, magnitude)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_equals_a_stable_sort_at_every_step_of_a_series(data: st.DataObject) -> None:
    """A remembered bracket, right or wrong, never shows in the result: the scores drift, jump, and k changes."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    bracket = Bracket()
    scores = [torch.randn(n, generator=generator) for n in (40, 1, 25)]
    with pytest.MonkeyPatch.context() as patch:
        guess_for_small_tensors(patch)
        for move in data.draw(st.lists(st.sampled_from([0, 0.01, 0.1, 10, "round", "inf"]), max_size=8)):
            for tensor in scores:
                if move == "round":
                    tensor.round_()
                elif move == "inf":
                    tensor[::2] = float("inf")
                else:
                    tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=move)
            assert_same(scores, data.draw(st.integers(0, 66)), magnitude=True, bracket=bracket)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, float("inf")])
@pytest.mark.parametrize("k", [0, 1, 50_000, 99_999, 100_000])
def test_constant_tensors_lose_their_first_k(value: float, k: int) -> None:
    scores = [torch.full((250, 100), value), torch.full((75_000,), value)]
    masks = keep_all_but_smallest(scores, k)
    flat = torch.cat([mask.reshape(-1) for mask in masks])
    assert not flat[:k].any()
    assert flat[k:].all()


def test_ties_follow_the_index_and_not_the_memory() -> None:
    plain = torch.ones(1, 2, 2, 2)
    last = plain.contiguous(memory_format=torch.channels_last)
    (mask,) = keep_all_but_smallest([last], 4)
    assert mask.is_contiguous(memory_format=torch.channels_last)
    assert mask[0, 0].sum() == 0  # the first channel, scattered in memory
    assert mask[0, 1].sum() == 4


@pytest.mark.parametrize("magnitude", [True, False])
def test_large_tensors_go_through_the_sample_and_the_bracket(magnitude: bool) -> None:
    """300,000 weights of three scales over several chunks, drifting as in training: nearly all guesses hit."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(64, 300, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last),
        torch.randn(100_000, generator=generator) / 10,
        torch.randn(27_200, generator=generator) * 3,
    ]
    bracket = Bracket()
    for _ in range(12):
        for tensor in weights:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=1e-3)
        assert_same(weights, 270_001, magnitude, bracket)
    assert bracket.hits >= 10


def test_a_sample_that_misleads_costs_time_and_not_exactness() -> None:
    """Every sampled element is huge, so the bracket from the sample misses and everything is partitioned."""
    count = 200_000
    step = count // selection._sample_size(count) | 1
    scores = torch.rand(count)
    scores[::step] += 100
    assert_same([scores], 120_000)


@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("k", [0, 2])
def test_nan_is_refused_wherever_it_is(size: int, k: int) -> None:
    for position in (0, size // 2, size - 1):
        scores = torch.rand(size)
        scores[position] = float("nan")
        with pytest.raises(ValueError, match="NaN"):
            find_threshold([scores], k)


def test_nan_is_refused_in_a_series_too() -> None:
    bracket, scores = Bracket(), torch.rand(100_000)
    find_threshold([scores], 50_000, bracket=bracket)
    scores[7] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        find_threshold([scores], 50_000, bracket=bracket)


@pytest.mark.parametrize("k", [-1, 4])
def test_more_than_there_are_cannot_be_pruned(k: int) -> None:
    with pytest.raises(ValueError, match=f"cannot prune {k} of 3"):
        find_threshold([torch.ones(3)], k)


def test_scores_of_mixed_or_integer_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="one dtype"):
        find_threshold([torch.ones(3), torch.ones(3, dtype=torch.float64)], 1)
    with pytest.raises(ValueError, match="floating-point"):
        find_threshold([torch.ones(3, dtype=torch.int64)], 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_many_ties_and_stays_exact(dtype: torch.dtype) -> None:
    scores = torch.randn(70_000, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert_same([scores], 63_000, magnitude=True)


def test_no_elements_and_scalars() -> None:
    assert keep_all_but_smallest([], 0) == []
    assert keep_all_but_smallest([torch.empty(0)], 0)[0].shape == (0,)
    kept, gone = keep_all_but_smallest([torch.tensor(3.0), torch.tensor(-2.0)], 1)
    assert (kept, gone) == (1, 0)


@given(values, layouts, st.booleans(), st.floats(0, 1))
@settings(deadline=None)
def test_the_way_of_accelerators_gives_the_same_thresholds(
    values: list[float], layout: str, magnitude: bool, share: float
) -> None:
    """It runs on any device, so that it is tested here without one."""
    scores = memory_formats(values, torch.float32, layout)
    k = round(share * sum(tensor.numel() for tensor in scores))
    assert selection._threshold_by_topk(scores, k, magnitude) == find_threshold(scores, k, magnitude=magnitude)
    with pytest.raises(ValueError, match="NaN"):
        selection._threshold_by_topk([*scores, torch.tensor([float("nan")])], k, magnitude)


@given(values, layouts, st.booleans(), st.floats(0, 1))
@settings(deadline=None)
def test_the_way_of_accelerators_that_never_waits_gives_the_same_masks(
    values: list[float], layout: str, magnitude: bool, share: float
) -> None:
    scores = memory_formats(values, torch.float32, layout)
    k = round(share * sum(tensor.numel() for tensor in scores))
    out = [torch.full_like(tensor, 7.0) for tensor in scores]
    selection.mask_on_device(scores, k, magnitude, out)
    assert all(torch.equal(a, b) for a, b in zip(out, reference(scores, k, magnitude), strict=True))


@given(values, st.sampled_from(["one", "several", "channels_last", "permuted"]), st.booleans(), st.floats(0, 1))
@settings(deadline=None)
def test_selections_of_every_step_over_one_vector_give_the_same_masks(
    values: list[float], layout: str, magnitude: bool, share: float
) -> None:
    """Ties are divided by the index in each tensor, although a vector holds it in the order of memory."""
    scores = memory_formats(values, torch.float32, layout)
    k = round(share * sum(tensor.numel() for tensor in scores))
    flat = Flat(scores)
    taken, out = flat.vector(), flat.vector()
    taken.take(scores)
    out.values.fill_(7.0)
    mask_smallest(taken, k, magnitude=magnitude, bracket=Bracket(), out=out)
    assert all(torch.equal(a, b) for a, b in zip(out.parts, reference(scores, k, magnitude), strict=True))


@pytest.mark.parametrize("size", [5, DIRECT, DIRECT + 1])
@pytest.mark.parametrize("where", [0, -1])
def test_nan_is_refused_in_a_vector_too(size: int, where: int) -> None:
    flat = Flat([torch.empty(size)])
    scores, out = flat.vector(), flat.vector()
    scores.values.copy_(torch.arange(size))
    scores.values[where] = math.nan
    for k in (1, size // 2, size - 1, size):
        with pytest.raises(NotANumber):
            mask_smallest(scores, k, magnitude=True, out=out)


def test_masks_are_rewritten_in_place() -> None:
    scores = [torch.rand(3, 4, 5, 5).contiguous(memory_format=torch.channels_last), torch.rand(7)]
    masks = keep_all_but_smallest(scores, 200)
    addresses = [mask.data_ptr() for mask in masks]
    again = keep_masks(scores, find_threshold(scores, 100), out=masks)
    assert [mask.data_ptr() for mask in again] == addresses
    assert all(torch.equal(a, b) for a, b in zip(again, reference(scores, 100), strict=True))


def test_parameters_are_taken_as_they_are() -> None:
    """Scores that require gradients neither fail nor leave a trace in the graph."""
    weight = torch.nn.Parameter(torch.randn(40_000))
    (mask,) = keep_all_but_smallest([weight], 30_000, magnitude=True)
    assert not mask.requires_grad
    assert np.count_nonzero(mask.numpy()) == 10_000


def test_masks_of_another_layout_are_written_correctly() -> None:
    scores = torch.rand(3, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    threshold = find_threshold([scores], 100)
    plain, gaps = torch.empty(3, 4, 5, 5), torch.empty(3, 4, 5, 9)[..., :5]
    gaps_too = torch.empty(3, 4, 5, 9)[..., :5].copy_(scores)
    for tensor, out in [(scores, plain), (scores, gaps), (gaps_too, gaps), (gaps_too, plain)]:
        keep_masks([tensor], threshold, out=[out.zero_()])
        assert torch.equal(out, reference([scores], 100)[0])


def test_the_sample_leaves_few_candidates() -> None:
    """What makes a first selection quick: the bracket holds the threshold and little besides."""
    scores = [torch.randn(n, generator=torch.Generator().manual_seed(n)).numpy() for n in (5_000, 200_000, 95_000)]
    values = np.sort(np.abs(np.concatenate(scores)))
    low, high = selection._sampled_bracket(scores, 300_000, magnitude=True, share=0.9, margin=150)
    assert low <= values[270_000] <= high
    assert np.mean((values >= low) & (values <= high)) < 0.05
