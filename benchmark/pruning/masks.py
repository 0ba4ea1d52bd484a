"""Masks: pruning the weights of the smallest scores, and keeping them at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.pruning.flat import Flat, Vector, mask_smallest
from benchmark.pruning.prunable import prunable
from benchmark.pruning.selection import Bracket, find_threshold, keep_masks

Score = Callable[[Sequence[Tensor], torch.Generator], list[Tensor]]
"""Gives scores for weights, tensors of the same shapes; the smallest scores are pruned first."""


def random_scores(weights: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Uniform scores (Le & Hua 2021). The generator is on the CPU, so that a seed gives the same on every device."""
    return [torch.rand(weight.shape, dtype=weight.dtype, generator=generator).to(weight.device) for weight in weights]


class Masks:
    """A mask for each prunable weight tensor: 1 for alive, 0 for pruned; all alive at first.

    Masks take dtype, device and strides from the weights, so move the network to its device before. Pruning writes the
    zeros; `apply_` after every optimizer step keeps them against momentum and weight decay. The kept weights are bit
    for bit those of torch.nn.utils.prune's reparametrisation, for the cost of one product.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]):
        self.names = list(weights)
        self.weights: list[Tensor] = list(weights.values())
        self.flat = Flat(self.weights)
        self.total = sum(weight.numel() for weight in self.weights)
        self.alive = self.total

    @cached_property
    def vector(self) -> Vector:
        """All masks end to end."""
        vector = self.flat.vector()
        vector.values.fill_(1)
        return vector

    @property
    def tensors(self) -> list[Tensor]:
        """The masks, shaped as the weights."""
        return self.vector.parts

    @property
    def sparsity(self) -> float:
        """Fraction pruned of all prunable weights."""
        return 1 - self.alive / self.total if self.total else 0.0

    def missing(self, sparsity: float) -> int:
        """How many weights alive are too many for this sparsity, rounded to whole weights."""
        return max(self.alive - (self.total - round(sparsity * self.total)), 0)

    @torch.no_grad()
    def prune_to(self, sparsity: float, scores: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Prune the weights alive with the smallest scores (None: |w|) until round(sparsity * total) are pruned.

        Nothing is pruned if as many already are. Returns theta - theta_p by weight tensor: the weights that were pruned
        now, and 0 elsewhere.
        """
        _check_fraction(sparsity)
        count = self.missing(sparsity)
        candidates = self._candidates(scores)
        # Pruned weights are no candidates: they are 0 and would be chosen again.
        living = None if self.alive == self.total else [mask != 0 for mask in self.tensors]
        if living is not None:
            candidates = [score[alive] for score, alive in zip(candidates, living, strict=True)]
        threshold = find_threshold(candidates, count, magnitude=scores is None)
        if living is None:
            if "vector" not in vars(self):  # ones would be overwritten, and take a tenth of a one-shot pruning
                self.vector = self.flat.vector()
            keep_masks(candidates, threshold, magnitude=scores is None, out=self.tensors)
        else:
            kept = keep_masks(candidates, threshold, magnitude=scores is None)
            for mask, alive, values in zip(self.tensors, living, kept, strict=True):
                mask.masked_scatter_(alive, values.to(mask.dtype))
        self.alive -= count
        return self._set_to_zero()

    @torch.no_grad()
    def remove(self, gone: Sequence[Tensor]) -> list[Tensor]:
        """Prune the weights where `gone` is true (bool, of the weights' shapes); returns what `prune_to` returns."""
        for mask, where in zip(self.tensors, gone, strict=True):
            mask.masked_fill_(where, 0)
        self.alive = sum(int(torch.count_nonzero(mask)) for mask in self.tensors)
        return self._set_to_zero()

    @torch.no_grad()
    def select(self, sparsity: float, weights: Vector | None = None, bracket: Bracket | None = None) -> None:
        """New masks at `sparsity` over all weights, so that pruned ones may return (DPF, DNW, GMP's `returning`).

        Masked are the round(sparsity * total) smallest |w|; no weight is changed. weights: the weights as a vector of
        `flat`, where the caller has it already. bracket: the warm start of a series of selections.
        """
        _check_fraction(sparsity)
        if weights is None:
            weights = self.flat.vector()
            weights.take(self.weights)
        count = round(sparsity * self.total)
        mask_smallest(weights, count, magnitude=True, bracket=bracket, out=self.vector)
        self.alive = self.total - count

    @torch.no_grad()
    def adopt_zeros(self) -> None:
        """Mask exactly the weights that are zero now, however they became so."""
        for weight, mask in zip(self.weights, self.tensors, strict=True):
            torch.ne(weight, 0, out=mask)
        self.alive = sum(int(torch.count_nonzero(mask)) for mask in self.tensors)

    def _candidates(self, scores: Sequence[Tensor] | None) -> list[Tensor]:
        if scores is None:
            return self.weights
        for weight, score in zip(self.weights, scores, strict=True):
            if weight.shape != score.shape:
                raise ValueError(f"scores of shape {tuple(score.shape)} for weights of shape {tuple(weight.shape)}")
        return list(scores)

    def _set_to_zero(self) -> list[Tensor]:
        """Apply the masks; returns what that takes from each weight tensor."""
        taken = torch._foreach_addcmul(self.weights, self.weights, self.tensors, value=-1) if self.weights else []
        self.apply_()
        return list(taken)

    @torch.no_grad()
    def apply_(self) -> None:
        """Set pruned weights to zero: call it after every step of the optimizer."""
        if self.weights:
            torch._foreach_mul_(self.weights, self.tensors)

    @torch.no_grad()
    def clear(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the optimizer's memory of pruned weights to zero: momentum, and the second moments of Adam."""
        for weight, mask in zip(self.weights, self.tensors, strict=True):
            for memory in optimizer.state.get(weight, {}).values():
                if isinstance(memory, Tensor) and memory.shape == weight.shape:
                    memory.mul_(mask)

    def state_dict(self) -> dict[str, Tensor]:
        """Masks by name, as bool: a quarter of the size of float32."""
        return {name: mask != 0 for name, mask in zip(self.names, self.tensors, strict=True)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load saved masks; the weights stay. UserError if they are of another network."""
        if set(state) != set(self.names):
            name = min(set(state) ^ set(self.names))
            raise UserError(f"saved masks belong to another network: {name} is in only one of the two")
        for name, mask in zip(self.names, self.tensors, strict=True):
            if state[name].shape != mask.shape:
                raise UserError(
                    f"saved masks belong to another network: {name} has shape {tuple(state[name].shape)}, "
                    f"not {tuple(mask.shape)}"
                )
        for name, mask in zip(self.names, self.tensors, strict=True):
            mask.copy_(state[name] != 0)
        self.alive = sum(int(torch.count_nonzero(mask)) for mask in self.tensors)


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise UserError(f"sparsity {fraction!r} of a pruning step: a number from 0 up to, but not including, 1")


def norm(network: nn.Module, everything: bool = True) -> float:
    """||theta||_2 over all weights, biases and batch norms (as in the authors' code), or over the prunable weights."""
    parameters = network.parameters() if everything else prunable(network).values()
    real = [torch.view_as_real(one) if one.is_complex() else one for one in parameters]
    return norm_of_difference([one for one in real if one.is_floating_point()])  # not tables of indices


def norm_of_difference(difference: Sequence[Tensor]) -> float:
    """2-norm over all tensors together, in float64; in float32 on Apple's GPUs, which have no float64."""
    if not difference:
        return 0.0
    precision = torch.float32 if difference[0].device.type == "mps" else torch.float64
    norms = [torch.linalg.vector_norm(tensor.detach(), dtype=precision) for tensor in difference]
    return float(torch.stack(norms).norm())
