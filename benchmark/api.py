"""Pruning and retraining for a training loop of your own::

    sparse = sparsify(model, optimizer, sparsity=0.9, retrain=10_000, peak_rate=0.1)
    for inputs, targets in batches:       # 10,000 of them
        ...                               # forward, loss, backward, optimizer.step() as ever
        sparse.step()

It prunes globally and exactly, keeps pruned weights at zero through any torch optimizer, and sets the learning rate of
every step, over any scheduler. The masks, distances and schedules are those that the cells of a sweep use. Importing it
imports torch and numpy and nothing else that is large.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.errors import UserError, told
from benchmark.pruning.gradual import cubic, cycle_lengths, ladder
from benchmark.sparse import Feedback, Gradual, Retrained, Sparse, base_rate
from benchmark.training.schedules import Retraining, learning_rates, resolve

__all__ = ["Sparse", "prune_gradually", "sparsify"]

FROM_PEAK = ("LLR", "ALLR")
"""Schedules that need no more of the dense training than its largest learning rate and its length."""


def sparsify(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsity: float = 0.9,
    *,
    retrain: int,
    schedule: str = "ALLR",
    peak_rate: float | None = None,
    dense_rates: Sequence[float] | None = None,
    dense_steps: int | None = None,
    dense_warmup: int = 0,
    cycles: int = 1,
) -> Sparse:
    """Prune the smallest weights of a trained model and retrain it for `retrain` steps, once or in cycles.

    The weights of convolutions and linear layers are pruned, all together by magnitude, to exactly
    round(sparsity * count) of them. After the optimizer's step call `step()` of what this returns.

    Args:
        model: on its device, with the weights to start from.
        optimizer: any of torch's, made for the model's parameters, or accelerate's or Lightning's wrapper of one.
            Groups keep the ratios of their learning rates, with a scheduler those that it began with.
        sparsity: fraction of the prunable weights to remove, above 0 and below 1.
        retrain: optimizer steps of retraining, over all cycles.
        schedule: FT, LRW, SLR, CLR, LLR or ALLR (Zimmer et al. 2023, Table 1), or "module:function".
        peak_rate: largest learning rate of the dense training. None: the optimizer's, with a scheduler the one that it
            began with.
        dense_rates: the learning rate of every step of the dense training, in place of peak_rate and dense_steps; LLR
            and ALLR do without.
        dense_steps: steps of the dense training. ALLR takes the share that retraining has of them; without it, it goes
            by the measured distance alone.
        dense_warmup: steps of the dense training's warm-up.
        cycles: how often it is pruned and retrained; each prunes the same fraction of the weights alive.

    Raises UserError for values that cannot be used.
    """
    _check(model, optimizer, sparsity)
    _check_count("retrain", retrain, "of optimizer steps")
    _check_count("cycles", cycles, "of cycles of a step or more", most=retrain)
    if dense_steps is not None:
        _check_count("dense_steps", dense_steps, "of the dense training's steps")
    _check_schedule(schedule, dense_rates is None)
    if dense_rates is not None and not (peak_rate is None and dense_steps is None):
        raise UserError("dense_rates says how long the dense training was and its peak: no dense_steps, no peak_rate")
    peak = max(map(base_rate, optimizer.param_groups)) if peak_rate is None else peak_rate
    if dense_rates is None and not (isinstance(peak, Real) and not isinstance(peak, bool) and 0 < peak < math.inf):
        raise UserError(f"peak_rate {peak!r}: the largest learning rate of the dense training, a number above 0")
    # of Python's own types: a checkpoint with numpy's is one that torch.load refuses
    sparsities, lengths = ladder("even", float(sparsity), int(cycles)), cycle_lengths(int(retrain), int(cycles))
    try:
        dense = np.full(dense_steps or 1, peak) if dense_rates is None else np.array(dense_rates, dtype=np.float64)
        # before anything is pruned, of the longest cycle
        rates = learning_rates(schedule, Retraining(dense, dense_warmup, lengths[-1], 0.5))
    except UserError:
        raise
    except Exception as error:  # of numbers that are none, and whatever somebody else's schedule does
        given = f"peak_rate {peak!r}" if dense_rates is None else "dense_rates"
        why = told(error) if ":" in schedule else error
        raise UserError(f"schedule {schedule}, {given}, dense_warmup {dense_warmup!r}: {why}") from error
    if not rates.any():
        raise UserError(f"schedule {schedule}: its rates would all be 0; dense_warmup: how many of dense_rates warm up")
    span = len(dense) if dense_rates is not None or dense_steps else None
    return _told(Retrained(model, optimizer, sparsities, lengths, schedule, dense, dense_warmup, span))


def prune_gradually(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsity: float = 0.9,
    *,
    steps: int,
    interval: int,
    feedback: bool = False,
) -> Sparse:
    """Prune while training: GMP (Zhu & Gupta 2017), or with `feedback` DPF (Lin et al. 2020).

    Sparsity rises by `gradual.cubic` every `interval` of the `steps` steps. GMP keeps pruned weights at zero. DPF
    computes with masked weights and trains the dense ones, so that a pruned weight can return; `finish()` leaves the
    masked ones. Learning rates stay as your loop sets them. Raises UserError for values that cannot be used.
    """
    _check(model, optimizer, sparsity)
    _check_count("steps", steps, "of optimizer steps", least=2)
    _check_count("interval", interval, "of steps, up to half of all", most=steps // 2)
    if feedback and isinstance(model, torch.jit.ScriptModule):
        raise UserError(f"DPF masks weights by a hook, which {type(model).__name__} of torch.jit does not take")
    pruned_at = cubic(float(sparsity), int(steps), int(interval))
    kind = Feedback if feedback else Gradual
    return _told(kind(model, optimizer, pruned_at))


def _told(sparse: Sparse) -> Sparse:
    """Warn the caller of `sparsify` or `prune_gradually` of weights that nothing brings back."""
    if sparse.fixed:
        more = f" and {len(sparse.fixed) - 1} more" if sparse.fixed[1:] else ""
        warnings.warn(
            f"{sparse.fixed[0]}{more} will be pruned and cannot recover, as this optimizer does not update them; what "
            "the model's attribute not_prunable names stays dense",
            stacklevel=3,
        )
    return sparse


def _check(model: Any, optimizer: Any, sparsity: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"model {type(model).__name__}: a torch.nn.Module")
    if not isinstance(getattr(optimizer, "param_groups", None), list) or not hasattr(
        optimizer, "register_step_pre_hook"
    ):
        raise UserError(f"optimizer {type(optimizer).__name__}: one of torch.optim's")
    if not (isinstance(sparsity, Real) and 0 < float(sparsity) < 1):
        raise UserError(f"sparsity {sparsity!r}: a number above 0 and below 1")


def _check_schedule(schedule: Any, without_rates: bool) -> None:
    if not isinstance(schedule, str):
        raise UserError(f"schedule {schedule!r}: a name such as ALLR, or 'module:function'")
    resolve(schedule)
    if without_rates and schedule not in FROM_PEAK:
        raise UserError(
            f"schedule {schedule} needs dense_rates, the learning rate of each step of the dense training; "
            f"{' and '.join(FROM_PEAK)} do without"
        )


def _check_count(name: str, value: Any, what: str, least: int = 1, most: float = math.inf) -> None:
    if isinstance(value, bool) or not (isinstance(value, Integral) and least <= int(value) <= most):
        upper = "up" if most == math.inf else f"to {most}"
        raise UserError(f"{name} {value!r}: a count {what}, from {least} {upper}")
