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
from torch.utils.hooks import RemovableHandle

from benchmark.errors import UserError
from benchmark.pruning.flat import Vector
from benchmark.pruning.gradual import PERIOD, cubic, cycle_lengths, due, ladder
from benchmark.pruning.masks import Masks, norm, norm_of_difference, prunable
from benchmark.pruning.selection import Bracket
from benchmark.training.schedules import Retraining, learning_rates, relative_distance, resolve

FROM_PEAK = ("LLR", "ALLR")
"""Schedules that need no more of the dense training than its largest learning rate and its length."""
ADDED = {"ratios", "dense", "plan"}
"""What states of older versions lack."""


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
        dense_rates: the learning rate of every step of the dense training; LLR and ALLR do without.
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
    if not isinstance(schedule, str):
        raise UserError(f"schedule {schedule!r}: a name such as ALLR, or 'module:function'")
    resolve(schedule)
    if dense_rates is None and schedule not in FROM_PEAK:
        raise UserError(
            f"schedule {schedule} needs dense_rates, the learning rate of each step of the dense training; "
            f"{' and '.join(FROM_PEAK)} do without"
        )
    peak = max(map(_base_rate, optimizer.param_groups)) if peak_rate is None else peak_rate
    if dense_rates is None and not (isinstance(peak, Real) and 0 < peak < math.inf):
        raise UserError(f"peak_rate {peak!r}: the largest learning rate of the dense training, a number above 0")
    sparsities, lengths = ladder("even", sparsity, cycles), cycle_lengths(retrain, cycles)
    try:
        dense = np.full(dense_steps or 1, peak) if dense_rates is None else np.array(dense_rates, dtype=np.float64)
        rates = learning_rates(schedule, Retraining(dense, dense_warmup, lengths[0], 0.5))  # before anything is pruned
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        given = f"peak_rate {peak!r}" if dense_rates is None else "dense_rates"
        raise UserError(f"schedule {schedule}, {given}, dense_warmup {dense_warmup!r}: {error}") from None
    if not rates.any():
        raise UserError(f"schedule {schedule}: its rates would all be 0; dense_warmup: how many of dense_rates warm up")
    span = len(dense) if dense_rates is not None or dense_steps else None
    return Retrained(model, optimizer, sparsities, lengths, schedule, dense, dense_warmup, span)


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
    pruned_at = cubic(sparsity, steps, interval)
    kind = Feedback if feedback else Gradual
    return kind(model, optimizer, pruned_at)


class Sparse:
    """Masks over a model in training. `masks.sparsity` is the fraction pruned, `done` how many steps were made."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        while isinstance(wrapped := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = wrapped  # those of accelerate and Lightning take no hooks
        self.model, self.optimizer = model, optimizer
        weights = prunable(model)
        if not weights:
            raise UserError(f"{type(model).__name__} has no convolution and no linear layer, so nothing can be pruned")
        updated = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        if not any(id(weight) in updated for weight in weights.values()):
            raise UserError(f"the optimizer updates no weight of {type(model).__name__} that can be pruned")
        self.masks = Masks(weights)
        self.done = 0
        self._waiting = False
        """Whether the optimizer has updated since the last `step`."""
        self._handles: list[RemovableHandle] = [optimizer.register_step_pre_hook(lambda *_: self._notice())]

    def _notice(self) -> None:
        """Called before every update of the optimizer."""
        if self._waiting:
            warnings.warn("the optimizer made two steps without sparse.step() between them", stacklevel=4)
        self._waiting = True

    def step(self) -> None:
        """After `optimizer.step()`: pruned weights to zero, then what is due before the next step."""
        self._waiting = False
        self.masks.apply_()
        self.done += 1
        self._prepare()

    def _prepare(self) -> None:
        """What is due before step `done`."""

    def finish(self) -> nn.Module:
        """The model with the weights that it computes with; model and optimizer are left as they were without this."""
        for handle in self._handles:
            handle.remove()
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Beside those of model and optimizer, all that a checkpoint needs."""
        return {"done": self.done, "masks": self.masks.state_dict(), "plan": self._plan()}

    def _plan(self) -> list[Any]:
        """What a run that goes on must have in common with the one that was saved."""
        return [type(self).__name__]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; load the model's and the optimizer's before."""
        if not isinstance(state, dict) or not self.state_dict().keys() - ADDED <= state.keys():
            raise UserError(f"a state that {type(self).__name__}.state_dict() did not give")
        if state.get("plan", self._plan()) != self._plan():
            raise UserError(f"a state of other steps: it has {state['plan']}, this {self._plan()}")
        self.done = int(state["done"])
        self.masks.load_state_dict(state["masks"])


class Retrained(Sparse):
    """As `sparsify` makes it. rates: learning rates of the current cycle; distances: ALLR's d1 of each cycle so far."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        sparsities: list[float],
        lengths: list[int],
        schedule: str,
        dense: np.ndarray[Any, np.dtype[np.float64]],
        dense_warmup: int,
        span: int | None,
    ):
        super().__init__(model, optimizer)
        self.sparsities, self.schedule, self.dense, self.dense_warmup = sparsities, schedule, dense, dense_warmup
        self.span = span
        self.starts = [sum(lengths[:cycle]) for cycle in range(len(lengths))]
        self.lengths = lengths
        self.rates: list[float] = []
        self.distances: list[float] = []
        total = self.masks.total
        if not 0 < round(sparsities[0] * total) <= round(sparsities[-1] * total) < total:
            raise UserError(f"sparsity {sparsities[-1]!r}: of {total} weights that prunes none, or all")
        rates = [_base_rate(group) for group in self.optimizer.param_groups]
        self.ratios = [rate / max(rates) if max(rates) else 1.0 for rate in rates]
        self._prepare()
        # a scheduler that somebody else steps, such as a trainer's, has set other rates by then
        self._handles.append(self.optimizer.register_step_pre_hook(lambda *arguments: self._before_update()))

    def _prepare(self) -> None:
        if self.done in self.starts:
            self._prune(self.starts.index(self.done))
        self._set_rates()

    def _plan(self) -> list[Any]:
        return [*super()._plan(), self.schedule, self.sparsities, self.lengths]

    def _before_update(self) -> None:
        if not any(self.rates):
            raise UserError(
                "the smallest weights were zero before they were pruned, so that ALLR has no distance to go by: start "
                "from dense weights, or give dense_steps or schedule='LLR'"
            )
        self._set_rates()

    def _set_rates(self) -> None:
        start = max(start for start in self.starts if start <= self.done)
        if self.done - start < len(self.rates):
            for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
                group["lr"] = self.rates[self.done - start] * ratio

    def _prune(self, cycle: int) -> None:
        before, alive = norm(self.model), self.masks.alive
        if not math.isfinite(before):
            raise UserError(f"{type(self.model).__name__} has weights that are not numbers: it diverged")
        moved = norm_of_difference(self.masks.prune_to(self.sparsities[cycle]))
        iterations = self.lengths[cycle]
        retraining = Retraining(
            dense=self.dense,
            dense_warmup=self.dense_warmup,
            iterations=iterations,
            relative_distance=relative_distance(before, moved, 1 - self.masks.alive / alive),
            budget_share=min(iterations / self.span, 1.0) if self.span else 0.0,
        )
        self.rates = learning_rates(self.schedule, retraining).tolist()
        self.distances.append(retraining.relative_distance)

    def state_dict(self) -> dict[str, Any]:
        lists = {"rates": self.rates, "distances": self.distances, "ratios": self.ratios, "dense": self.dense.tolist()}
        return {**super().state_dict(), **{name: list(values) for name, values in lists.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rates, self.distances = list(state["rates"]), list(state["distances"])
        # the optimizer of a run that goes on has the rates of its last step, not those that it began with
        self.ratios = list(state.get("ratios", self.ratios))  # which older states lack
        self.dense = np.array(state.get("dense", self.dense), dtype=np.float64)


class Gradual(Sparse):
    """GMP: the smallest weights alive are pruned at the steps of `pruned_at`, {step: sparsity}."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, pruned_at: dict[int, float]):
        super().__init__(model, optimizer)
        self.pruned_at = pruned_at

    def _plan(self) -> list[Any]:
        return [*super()._plan(), [list(step) for step in self.pruned_at.items()]]

    def _prepare(self) -> None:
        if self.done in self.pruned_at:
            self.masks.prune_to(self.pruned_at[self.done])
            self.masks.clear(self.optimizer)


class Feedback(Gradual):
    """DPF: as GMP, but forward passes compute with masked weights, and the optimizer steps the dense ones."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, pruned_at: dict[int, float]):
        super().__init__(model, optimizer, pruned_at)
        self.bracket = Bracket()
        self.trained: Vector = self.masks.flat.vector()
        self.masked = self.called = False
        self._handles += [
            model.register_forward_pre_hook(lambda module, inputs: self._mask()),
            self.optimizer.register_step_pre_hook(self._before_update),
        ]

    def step(self) -> None:
        if not self.called:
            raise UserError(
                f"DPF masks weights where the forward of {type(self.model).__name__} begins, and none came before a "
                "step: hand over the network that your loop calls"
            )
        self.called = self._waiting = False
        self.done += 1
        self._prepare()

    def _prepare(self) -> None:
        sparsity = due(self.pruned_at, self.done)
        if self.done % PERIOD == 0 and sparsity > 0:
            self._unmask()
            self.masks.select(sparsity, bracket=self.bracket)

    @torch.no_grad()
    def _mask(self) -> None:
        self.called = True
        if not self.masked:
            self.trained.take(self.masks.weights)
            self.masks.apply_()
            self.masked = True

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Unmask before the update: with a closure, which computes forward and backward, that is after it."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._unmask()
            return None

        def computed() -> Any:
            loss = closure()
            self._unmask()
            return loss

        return args[:1], {**kwargs, "closure": computed}

    @torch.no_grad()
    def _unmask(self) -> None:
        if self.masked:
            self.trained.give(self.masks.weights)
            self.masked = False

    def finish(self) -> nn.Module:
        last, target = max(self.pruned_at.items(), default=(0, 0.0))
        if self.done >= last and self.masks.sparsity < target:  # no new masks were due since sparsity rose last
            self._unmask()
            self.masks.select(target)
        self._mask()
        return super().finish()

    def state_dict(self) -> dict[str, Any]:
        """Take the model's state after this, which puts its dense weights in place."""
        self._unmask()
        return super().state_dict()


def _check(model: Any, optimizer: Any, sparsity: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"model {type(model).__name__}: a torch.nn.Module")
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise UserError(f"optimizer {type(optimizer).__name__}: one of torch.optim's")
    if not (isinstance(sparsity, Real) and 0 < float(sparsity) < 1):
        raise UserError(f"sparsity {sparsity!r}: a number above 0 and below 1")


def _check_count(name: str, value: Any, what: str, least: int = 1, most: float = math.inf) -> None:
    if not (isinstance(value, Integral) and least <= int(value) <= most):
        upper = "up" if most == math.inf else f"to {most}"
        raise UserError(f"{name} {value!r}: a count {what}, from {least} {upper}")


def _base_rate(group: dict[str, Any]) -> float:
    """The learning rate before any scheduler changed it: at a warm-up's start and at a cosine's end it is 0."""
    rate = group.get("max_lr", group.get("initial_lr", group.get("lr")))  # OneCycleLR begins far below its max_lr
    if not isinstance(rate, Real | torch.Tensor):
        raise UserError(f"the optimizer's learning rate is {rate!r}: one that has a number as its lr")
    return float(rate)
