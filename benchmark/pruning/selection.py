"""Exact selection: masks for exactly the k smallest scores over a list of tensors, with one tie rule for all methods.

**Tie rule.** Of equal scores the one at the earlier position is pruned first. Positions run through the tensors in the
order of the list and, inside a tensor, in row-major order of its indices, whatever its memory format.

**Algorithm on the CPU.** Guess a bracket [low, high] around the k-th smallest score, from a strided sample or from the
threshold of the last step. One pass over the scores, in chunks that fit the cache, counts those below the bracket and
gathers those inside. If the counts show that the k-th smallest is among the gathered, partitioning these few gives the
threshold; if not, all scores are partitioned. So a guess decides how long it takes, never the result. A NaN is neither
below nor above a bracket: it is always gathered, and refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scores = NDArray[np.float32] | NDArray[np.float64]
NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}

CHUNK = 1 << 17
"""Elements of a chunk: with scratch space they fit a second-level cache of 1 MB."""
DIRECT = 1 << 15
"""Up to so many elements it is quicker to partition all of them than to guess a bracket."""
DEVIATIONS = 6.0
"""Half-width of the sampled bracket, in standard deviations of the rank in an independent sample."""


class NotANumber(ValueError):
    """A score is NaN: weights or gradients have diverged. The training loop ends a run at this."""


@dataclass(frozen=True)
class Threshold:
    """The k-th smallest score, and how many scores equal to it are pruned.

    Pruned are all scores below `value` and, of the `tied` scores equal to it, the first `ties` by position.
    """

    value: float
    ties: int
    tied: int

    @property
    def divides_ties(self) -> bool:
        """Whether the tie rule has to choose among the scores equal to `value`."""
        return self.ties != self.tied


class Bracket:
    """The last threshold in a series of selections, and how far it tends to move from one to the next.

    Pass the same one at every step of a series, such as |w| over the steps of a training run. It changes how long a
    selection takes and never its result, so that checkpoints need not keep it. Where scores jump (|w * gradient|) and
    this bracket would hold more scores than a sampled one, the sampled one is used.
    """

    def __init__(self) -> None:
        self.hits = 0
        self._value: float | None = None
        self._width = 0.0
        self._density = 0.0

    def guess(self, allowed: float) -> tuple[float, float] | None:
        """(low, high) around the last threshold, None if more than `allowed` scores are expected inside."""
        if self._value is None or 2 * self._width * self._density > allowed:
            return None
        return self._value - self._width, self._value + self._width

    def learn(self, value: float, gathered: int, width: float) -> None:
        """Learn from a threshold `value` that was among `gathered` scores in a bracket `width` wide."""
        if not math.isfinite(value):
            self._value = None
            return
        if self._value is None:
            self._width = abs(value) / 64
        else:
            # The next move is rarely larger than four times the last one; after a large move the width shrinks slowly.
            self._width = max(4 * abs(value - self._value), 0.8 * self._width)
        if 0 < width < math.inf:
            self._density = gathered / width
        self._value = value


def find_threshold(
    scores: Sequence[Tensor], k: int, *, magnitude: bool = False, bracket: Bracket | None = None
) -> Threshold:
    """The threshold that prunes exactly k of all elements of `scores`.

    Args:
        scores: floating-point tensors of any shapes, of one dtype and one device.
        k: from 0 to the number of elements.
        magnitude: the scores are the absolute values of `scores`; no copy is made.
        bracket: the warm start of a series.

    ValueError for a NaN (NotANumber), for k out of range and for mixed dtypes.
    """
    count = sum(tensor.numel() for tensor in scores)
    if not 0 <= k <= count:
        raise ValueError(f"cannot prune {k} of {count} elements")
    if len({(tensor.dtype, tensor.device) for tensor in scores}) > 1:
        raise ValueError("scores of one selection must have one dtype and one device")
    if not count:
        return Threshold(-math.inf, 0, 0)
    if not scores[0].is_floating_point():
        raise ValueError(f"scores of {scores[0].dtype}: a floating-point dtype is needed")
    if scores[0].device.type != "cpu":
        return _threshold_by_topk(scores, k, magnitude)
    return _threshold_by_bracket([_memory_order(tensor) for tensor in scores], count, k, magnitude, bracket)


def keep_masks(
    scores: Sequence[Tensor], threshold: Threshold, *, magnitude: bool = False, out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Masks with 0 where the threshold prunes and 1 elsewhere, for the scores that it was found for.

    A mask has the shape, strides, dtype and device of its scores. out: masks of an earlier call to write into.
    """
    masks = [torch.empty_like(tensor) for tensor in scores] if out is None else list(out)
    scores = [tensor.detach() for tensor in scores]
    if scores and scores[0].device.type == "cpu" and scores[0].dtype in NUMPY_DTYPES:
        _write_masks(scores, threshold.value, magnitude, masks)
    else:
        for tensor, mask in zip(scores, masks, strict=True):
            _write_mask(tensor, threshold.value, magnitude, mask)
    if not threshold.divides_ties:
        return masks
    remaining = threshold.ties
    for tensor, mask in zip(scores, masks, strict=True):
        values = tensor.abs() if magnitude else tensor
        tied = (values == threshold.value).reshape(-1).nonzero().squeeze(1)  # row-major, whatever the memory format
        kept = torch.zeros(tensor.numel(), dtype=torch.bool, device=tensor.device)
        kept[tied[remaining:]] = True
        mask.masked_fill_(kept.view(mask.shape), 1)
        remaining -= min(remaining, tied.numel())
    return masks


def mask_at_once(scores: Tensor, k: int, magnitude: bool, out: Tensor) -> bool:
    """Write the mask of `keep_masks` into `out` in half the time, for a few scores on a CPU; return True.

    scores, out: vectors (n,). Returns False, having written nothing of use, where the tie rule or a NaN asks for more.
    """
    if not 0 < k < scores.numel() or scores.dtype not in NUMPY_DTYPES:
        return False
    values: Scores = scores.detach().numpy()
    if magnitude:
        values = np.abs(values)
    kept = values > np.partition(values, k - 1)[k - 1]
    np.copyto(out.numpy(), kept)
    return int(np.count_nonzero(kept)) == values.size - k  # a NaN is not counted, nor are ties with the threshold


# --- on the CPU ----------------------------------------------------------------------------------------------------


def _threshold_by_bracket(
    parts: list[Scores], count: int, k: int, magnitude: bool, bracket: Bracket | None
) -> Threshold:
    rank = max(k, 1) - 1  # k = 0: the smallest score is the threshold, and none of its equals goes
    with np.errstate(invalid="ignore", over="ignore"):
        if count > DIRECT:
            sample_size = _sample_size(count)
            share = (rank + 0.5) / count
            margin = DEVIATIONS * math.sqrt(sample_size * share * (1 - share)) + 1
            remembered = bracket.guess(2 * margin * count / sample_size) if bracket else None
            if bracket and remembered:
                threshold = _within(parts, rank, k, magnitude, remembered, bracket)
                bracket.hits += threshold is not None
                if threshold:
                    return threshold
            sampled = _sampled_bracket(parts, count, magnitude, share, margin)
            if threshold := _within(parts, rank, k, magnitude, sampled, bracket):
                return threshold
        threshold = _among(_everything(parts, magnitude), 0, rank, k)
    assert threshold is not None, "every rank lies among all of them"
    return threshold


def _within(
    parts: list[Scores], rank: int, k: int, magnitude: bool, limits: tuple[float, float], bracket: Bracket | None
) -> Threshold | None:
    """The threshold, None if the score of that rank (from 0) lies outside the limits."""
    kind = parts[0].dtype.type
    low, high = kind(limits[0]), kind(limits[1])
    small, large = np.empty(CHUNK, np.bool_), np.empty(CHUNK, np.bool_)
    below = 0
    inside: list[Scores] = []
    for chunk in _chunks(parts, magnitude):
        is_small = np.less(chunk, low, out=small[: chunk.size])
        is_large = np.greater(chunk, high, out=large[: chunk.size])
        below += int(np.count_nonzero(is_small))
        inside.append(chunk[np.equal(is_small, is_large, out=is_large)])  # equal, so both false: inside, or a NaN
    gathered: Any = np.concatenate(inside)
    threshold = _among(gathered, below, rank, k)
    if bracket and threshold:
        bracket.learn(threshold.value, gathered.size, float(high) - float(low))
    return threshold


def _among(candidates: Scores, below: int, rank: int, k: int) -> Threshold | None:
    """The threshold, None if the score of that rank is not among `candidates`, which this reorders.

    below: how many scores are smaller than all candidates.
    """
    if candidates.size and math.isnan(candidates.max()):
        raise NotANumber("a score is NaN: there is no smallest")
    if not below <= rank < below + candidates.size:
        return None
    candidates.partition(rank - below)
    value = candidates[rank - below]
    below += int(np.count_nonzero(candidates < value))
    return Threshold(float(value), k - below, int(np.count_nonzero(candidates == value)))


def _everything(parts: list[Scores], magnitude: bool) -> Scores:
    """A copy of all scores."""
    scores: Any = np.concatenate(parts)
    if magnitude:
        np.abs(scores, out=scores)
    return scores


def _sample_size(count: int) -> int:
    """A larger sample takes longer to partition, a smaller one leaves more scores inside its bracket."""
    return 2 * int(math.pow(count, 2 / 3))


def _sampled_bracket(
    parts: list[Scores], count: int, magnitude: bool, share: float, margin: float
) -> tuple[float, float]:
    """Bracket around the `share` quantile of a strided sample, `margin` of its ranks to each side."""
    step = count // _sample_size(count) | 1  # odd, while rows are of even length: so the sample visits all columns
    picked: list[Scores] = []
    position = 0
    for part in parts:
        picked.append(part[-position % step :: step])
        position += part.size
    sample = np.concatenate(picked)
    if magnitude:
        np.abs(sample, out=sample)
    low, high = math.floor(share * sample.size - margin), math.ceil(share * sample.size + margin)
    if ranks := [rank for rank in (low, high) if 0 <= rank < sample.size]:
        sample.partition(ranks)
    return (
        float(sample[low]) if low >= 0 else -math.inf,
        float(sample[high]) if high < sample.size else math.inf,
    )


def _chunks(parts: list[Scores], magnitude: bool) -> Iterator[Scores]:
    """All scores in some order, at most CHUNK at a time; the next chunk may overwrite the one before.

    Small parts share a chunk: a network has many, and a call for each would cost more than the work in it.
    """
    scratch = np.empty(CHUNK, parts[0].dtype)
    filled = 0
    for part in parts:
        for start in range(0, part.size, CHUNK):
            piece = part[start : start + CHUNK]
            if piece.size == CHUNK and not magnitude:
                yield piece
                continue
            if filled + piece.size > CHUNK:
                yield scratch[:filled]
                filled = 0
            target = scratch[filled : filled + piece.size]
            filled += piece.size
            if magnitude:
                np.abs(piece, out=target)
            else:
                np.copyto(target, piece)
    if filled:
        yield scratch[:filled]


def _memory_order(tensor: Tensor) -> Scores:
    """The elements as a vector in the order of memory: a view where they lie without gaps, channels_last included."""
    tensor = tensor.detach()
    if tensor.dtype not in NUMPY_DTYPES:
        tensor = tensor.float()  # exact for the 16-bit dtypes
    values: Scores = tensor.numpy().ravel(order="K")
    return values


def _write_masks(tensors: Sequence[Tensor], value: float, magnitude: bool, masks: Sequence[Tensor]) -> None:
    """1 where the score exceeds `value`, else 0. By numpy, which compares an order of magnitude faster than torch."""
    size = min(CHUNK, max((tensor.numel() for tensor in tensors), default=0))
    scratch, larger = np.empty(size, NUMPY_DTYPES[tensors[0].dtype]), np.empty(size, np.bool_)
    limit = scratch.dtype.type(value)
    for tensor, mask in zip(tensors, masks, strict=True):
        scores, target = _memory_order(tensor), _memory_order(mask)
        in_place = tensor.dtype == mask.dtype and np.may_share_memory(target, mask.numpy())
        if not (in_place and tensor.stride() == mask.stride()):
            _write_mask(tensor, value, magnitude, mask)
            continue
        for start in range(0, scores.size, CHUNK):
            piece = scores[start : start + CHUNK]
            if magnitude:
                piece = np.abs(piece, out=scratch[: piece.size])
            np.copyto(target[start : start + CHUNK], np.greater(piece, limit, out=larger[: piece.size]))


def _write_mask(tensor: Tensor, value: float, magnitude: bool, mask: Tensor) -> None:
    """The same on any device and for any pair of layouts."""
    torch.gt(tensor.abs() if magnitude else tensor, value, out=mask)


# --- on an accelerator ---------------------------------------------------------------------------------------------


def _threshold_by_topk(scores: Sequence[Tensor], k: int, magnitude: bool) -> Threshold:
    """By torch alone. The counts are fetched apart from the value: no dtype of Apple's GPUs holds both exactly."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in scores])
    if magnitude:
        flat = flat.abs_()
    value = _kth(flat, max(k, 1))
    counts = [torch.count_nonzero(flat < value), torch.count_nonzero(flat == value), torch.isnan(flat).any().long()]
    below, tied, has_nan = torch.stack(counts).tolist()
    if has_nan:
        raise NotANumber("a score is NaN: there is no smallest")
    return Threshold(value.item(), k - below, tied)


def mask_on_device(scores: Sequence[Tensor], k: int, magnitude: bool, out: Sequence[Tensor]) -> None:
    """Write the masks of `keep_masks` into `out`, in a few operations for all tensors together.

    The host does not wait for the device, so a NaN is not refused: it counts as the largest score.
    """
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in scores])
    if magnitude:
        flat = flat.abs_()
    if k == 0:
        kept = torch.ones_like(flat, dtype=torch.bool)
    else:
        value = _kth(flat, k)
        below, tied = flat < value, flat == value
        remaining = k - torch.count_nonzero(below)
        kept = ~(below | (tied & (tied.cumsum(0) <= remaining)))
    parts = kept.to(out[0].dtype).split([tensor.numel() for tensor in scores])
    torch._foreach_copy_(list(out), [part.view(tensor.shape) for part, tensor in zip(parts, scores, strict=True)])


def _kth(flat: Tensor, k: int) -> Tensor:
    """The k-th smallest, k from 1 up: by topk over the shorter side, unsorted.

    torch.kthvalue runs in a single thread block on CUDA (pytorch#75599).
    """
    count = flat.numel()
    if k <= count // 2:
        return flat.topk(k, largest=False, sorted=False).values.max()
    return flat.topk(count - k + 1, sorted=False).values.min()
