"""Which weights go: exactly the k smallest scores over a list of tensors, with one tie rule for all methods.

**The tie rule.** Of equal scores the earlier position is pruned first. Positions run over the tensors in the order
given and, inside one, over its elements in row-major order of its indices, whatever its memory format.

**How.** The k-th smallest score lies in a bracket [lo, hi], guessed from a strided sample or from the last threshold.
One pass over the scores in chunks that stay in the cache counts what is below and gathers what is neither below nor
above. If the rank falls among the gathered, a partition of those few gives the threshold, and the counts prove it; if
not, everything is partitioned. A guess decides the time and never the result. A NaN is neither below nor above, so it
is always gathered, and refused.
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
"""Elements a pass looks at together: with their scratch space they stay in a second-level cache of 1 MB."""
DIRECT = 1 << 15
"""Up to so many elements a partition of all is quicker than a guess."""
DEVIATIONS = 6.0
"""Half-width of the sampled bracket, in standard deviations of the rank in an independent sample."""


class NotANumber(ValueError):
    """A score is NaN. The training loop ends a run at this: its weights or gradients have diverged."""


@dataclass(frozen=True)
class Threshold:
    """The k-th smallest score and what becomes of its equals.

    Pruned is every score below `value` and, of the `tied` scores equal to it, the first `ties` by position.
    """

    value: float
    ties: int
    tied: int

    @property
    def divides_ties(self) -> bool:
        """Whether only some of the scores equal to `value` go, which the tie rule chooses."""
        return self.ties != self.tied


class Bracket:
    """Where the threshold of one series of selections was last, and how far it tends to move.

    Pass the same one at every step of a series (|w| over the steps of a training run). It changes how long a selection
    takes and never its result, so it need not be saved in a checkpoint. Scores that jump (|w * gradient|) do no harm:
    where the remembered bracket would hold more than a fresh sample leaves, the sample is taken.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self._value: float | None = None
        self._width = 0.0
        self._density = 0.0

    def guess(self, allowed: float) -> tuple[float, float] | None:
        """(lo, hi) around the last threshold, or None where that would hold more than `allowed` scores."""
        if self._value is None or 2 * self._width * self._density > allowed:
            return None
        return self._value - self._width, self._value + self._width

    def learn(self, value: float, gathered: int, width: float) -> None:
        """Takes in a threshold that was found among `gathered` scores from a bracket of that full width."""
        if not math.isfinite(value):
            self._value = None
            return
        if self._value is None:
            self._width = abs(value) / 64
        else:
            # Four times the latest move is rarely exceeded by the next; the memory of a larger one fades slowly.
            self._width = max(4 * abs(value - self._value), 0.8 * self._width)
        if 0 < width < math.inf:
            self._density = gathered / width
        self._value = value


def find_threshold(
    scores: Sequence[Tensor], k: int, *, magnitude: bool = False, bracket: Bracket | None = None
) -> Threshold:
    """Threshold that prunes exactly k of the elements of `scores`.

    `scores`: floating-point tensors of any shapes, one dtype, one device. With `magnitude` the scores are their
    absolute values, without a copy being made. k = 0 prunes nothing, k = all elements everything. ValueError for a NaN,
    for k out of range and for mixed dtypes.
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
    """Masks with 1 for what stays and 0 for what the threshold prunes.

    Each has the shape, strides, dtype and device of its scores tensor, so that a product with it is one plain pass.
    `out`: masks of an earlier call to write into. The scores must be those that the threshold was found for.
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


def keep_all_but_smallest(
    scores: Sequence[Tensor], k: int, *, magnitude: bool = False, bracket: Bracket | None = None
) -> list[Tensor]:
    """Masks that prune exactly the k smallest: `keep_masks` at `find_threshold`."""
    return keep_masks(scores, find_threshold(scores, k, magnitude=magnitude, bracket=bracket), magnitude=magnitude)


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
                found = _within(parts, rank, k, magnitude, remembered, bracket)
                bracket.hits += found is not None
                bracket.misses += found is None
                if found:
                    return found
            sampled = _sampled_bracket(parts, count, magnitude, share, margin)
            if found := _within(parts, rank, k, magnitude, sampled, bracket):
                return found
        found = _among(_everything(parts, magnitude), 0, rank, k)
    assert found is not None, "every rank lies among all of them"
    return found


def _within(
    parts: list[Scores], rank: int, k: int, magnitude: bool, limits: tuple[float, float], bracket: Bracket | None
) -> Threshold | None:
    """The threshold if the score of that rank (from 0) lies within the limits, else None."""
    kind = parts[0].dtype.type
    low, high = kind(limits[0]), kind(limits[1])
    small, large = np.empty(CHUNK, np.bool_), np.empty(CHUNK, np.bool_)
    below = 0
    inside: list[Scores] = []
    for chunk in _chunks(parts, magnitude):
        is_small = np.less(chunk, low, out=small[: chunk.size])
        is_large = np.greater(chunk, high, out=large[: chunk.size])
        below += int(np.count_nonzero(is_small))
        inside.append(chunk[np.equal(is_small, is_large, out=is_large)])  # neither: within, or a NaN
    gathered: Any = np.concatenate(inside)
    found = _among(gathered, below, rank, k)
    if bracket and found:
        bracket.learn(found.value, gathered.size, float(high) - float(low))
    return found


def _among(candidates: Scores, below: int, rank: int, k: int) -> Threshold | None:
    """The threshold if the score of that rank is one of the candidates, which are reordered, else None.

    below: how many scores are smaller than all of them. The larger ones do not matter.
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
    """Balances sorting the sample against the count / sqrt(sample) scores that its bracket leaves."""
    return 2 * int(math.pow(count, 2 / 3))


def _sampled_bracket(
    parts: list[Scores], count: int, magnitude: bool, share: float, margin: float
) -> tuple[float, float]:
    """Bracket around the `share` quantile, `margin` ranks to each side in a sample of every so-manieth element."""
    step = count // _sample_size(count) | 1  # odd: the usual row lengths are even, so the sample walks over all columns
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
    """All scores in some order, at most CHUNK at a time; a chunk may be overwritten by the next.

    Small parts share a chunk: a network has many, and a pass over each would cost more in calls than in work.
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
    """The elements as a vector in the order of memory: a view if they lie densely there, channels_last included."""
    tensor = tensor.detach()
    if tensor.dtype not in NUMPY_DTYPES:
        tensor = tensor.float()  # exact for the 16-bit dtypes
    values: Scores = tensor.numpy().ravel(order="K")
    return values


def _write_masks(tensors: Sequence[Tensor], value: float, magnitude: bool, masks: Sequence[Tensor]) -> None:
    """1 where the score exceeds `value`, else 0. numpy compares an order of magnitude faster than torch does here."""
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
    """The same by torch alone. Apple's GPUs have no float64, so the counts come over apart from the value."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in scores])
    if magnitude:
        flat = flat.abs_()
    value = _kth(flat, max(k, 1))
    counted = [torch.count_nonzero(flat < value), torch.count_nonzero(flat == value), torch.isnan(flat).any().long()]
    below, tied, undefined = torch.stack(counted).tolist()
    if undefined:
        raise NotANumber("a score is NaN: there is no smallest")
    return Threshold(value.item(), k - below, tied)


def mask_on_device(scores: Sequence[Tensor], k: int, magnitude: bool, out: Sequence[Tensor]) -> None:
    """Write `keep_all_but_smallest` into `out`, in a few operations for all tensors together.

    The host waits for none of them: a NaN counts as the largest score instead of being refused.
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
    """The k-th smallest, k from 1 up.

    By topk because torch.kthvalue runs in a single thread block on CUDA (pytorch#75599); of the shorter side, unsorted.
    """
    count = flat.numel()
    if k <= count // 2:
        return flat.topk(k, largest=False, sorted=False).values.max()
    return flat.topk(count - k + 1, sorted=False).values.min()
