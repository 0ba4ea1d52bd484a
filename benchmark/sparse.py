"""What `benchmark.api` gives: masks over a model in training, with what is due at every step.

`Retrained` is what `sparsify` makes, `Gradual` (GMP) and `Feedback` (DPF) what `prune_gradually` does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmark.errors import UserError
from benchmark.pruning.flat import Vector
from benchmark.pruning.gradual import PERIOD, due
from benchmark.pruning.masks import Masks, norm, norm_of_difference
from benchmark.pruning.prunable import prunable, refuse_unfit
from benchmark.pruning.selection import Bracket, NotANumber
from benchmark.training.schedules import Retraining, learning_rates, relative_distance

STEPS_TO_TELL = 10
"""Steps after which a loop whose optimizer made fewer than half of them is told; a GradScaler skips its first few."""
BEGAN_WITH = "lr_before_pruning"
"""Key of an optimizer's group, with its learning rate before pruning set others and the last of these: a rate that
differs from that is somebody else's. It travels in the optimizer's state."""


class Sparse:
    """Masks over a model in training. `masks.sparsity` is the fraction pruned, `done` how many steps were made."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        while isinstance(wrapped := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            optimizer = wrapped  # those of accelerate and Lightning take no hooks
        self.model, self.optimizer = model, optimizer
        name = type(model).__name__
        refuse_unfit(model, name)
        weights = prunable(model)
        if not weights:
            raise UserError(f"{name} has no convolution and no linear layer, so nothing can be pruned")
        updated = {id(weight) for group in optimizer.param_groups for weight in group["params"] if weight.requires_grad}
        self.fixed = [name for name, weight in weights.items() if id(weight) not in updated]
        """Names of weights that are pruned and that the optimizer does not update."""
        if len(self.fixed) == len(weights):
            raise UserError(f"the optimizer updates no weight of {name} that can be pruned")
        self.masks = Masks(weights)
        self.done = 0
        self._waiting = False
        """Whether the optimizer has updated since the last `step`."""
        self._steps = self._updates = 0
        """Of this object: a checkpoint that was loaded is not counted."""
        self._handles: list[RemovableHandle] = []

    def _listen(self) -> None:
        """Be told of the optimizer's updates: the last thing that is done, so that what is refused leaves no trace."""
        self._handles.append(self.optimizer.register_step_pre_hook(lambda *_: self._notice()))

    def _notice(self) -> None:
        """Called before every update of the optimizer."""
        if self._waiting:
            warnings.warn("the optimizer made two steps without sparse.step() between them", stacklevel=4)
        self._waiting = True
        self._updates += 1

    def step(self) -> None:
        """After `optimizer.step()`: pruned weights to zero, then what is due before the next step."""
        self._count()
        self.masks.apply_()
        self.done += 1
        self._prepare()

    def _count(self) -> None:
        self._waiting = False
        self._steps += 1
        if self._steps == STEPS_TO_TELL and 2 * self._updates < STEPS_TO_TELL:
            warnings.warn(
                f"{self._steps} times sparse.step(), and {self._updates} steps of the optimizer that it was made with: "
                "call it once after each step of that optimizer",
                stacklevel=3,
            )

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

    def _check_numbers(self, sparsities: list[float]) -> None:
        counts, total = [round(sparsity * self.masks.total) for sparsity in sparsities], self.masks.total
        if counts and not 0 < counts[0] <= counts[-1] < total:
            raise UserError(f"sparsity {sparsities[-1]!r}: of {total} weights that prunes none, or all")

    def _diverged(self) -> UserError:
        return UserError(f"{type(self.model).__name__} has weights that are not numbers: it diverged")

    def _plan(self) -> list[Any]:
        """What a run that goes on must have in common with the one that was saved."""
        return [type(self).__name__]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; load the model's and the optimizer's before."""
        if not isinstance(state, dict) or not self.state_dict().keys() <= state.keys():
            raise UserError(f"a state that {type(self).__name__}.state_dict() did not give")
        if state["plan"] != self._plan():
            raise UserError(f"a state of other steps: it has {state['plan']}, this {self._plan()}")
        if not (isinstance(state["done"], int) and state["done"] >= 0):
            raise UserError(f"a state whose done is {state['done']!r}: a count of steps")
        self.masks.load_state_dict(state["masks"])
        self.done = state["done"]


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
        if isinstance(rate := optimizer.defaults.get("lr"), Tensor):
            optimizer.defaults["lr"] = rate.clone()  # else a group that is added later begins with retraining's rate
        self.sparsities, self.schedule, self.dense, self.dense_warmup = sparsities, schedule, dense, dense_warmup
        self.span = span
        self.starts = [sum(lengths[:cycle]) for cycle in range(len(lengths))]
        self.lengths = lengths
        self.rates: list[float] = []
        self.distances: list[float] = []
        self._check_numbers(sparsities)
        rates = [base_rate(group) for group in self.optimizer.param_groups]
        self.largest = max(rates)
        self.ratios = [self._ratio(rate) for rate in rates]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group[BEGAN_WITH] = [rate, rate]
        self._prepare()
        self._listen()
        # a scheduler that somebody else steps, such as a trainer's, has set other rates by then
        self._handles.append(self.optimizer.register_step_pre_hook(lambda *arguments: self._before_update()))

    def _ratio(self, rate: float) -> float:
        return rate / self.largest if self.largest else 1.0

    def _prepare(self) -> None:
        if self.done in self.starts:
            self._prune(self.starts.index(self.done))
        self._set_rates()

    def _plan(self) -> list[Any]:
        groups = len(self.optimizer.param_groups)
        return [*super()._plan(), self.schedule, self.sparsities, self.lengths, f"{groups} groups of parameters"]

    def _before_update(self) -> None:
        if not any(self.rates):
            raise UserError(
                "the smallest weights were zero before they were pruned, so that ALLR has no distance to go by: start "
                "from dense weights, or give dense_steps or schedule='LLR'"
            )
        self._set_rates()

    def _set_rates(self) -> None:
        groups = self.optimizer.param_groups
        for group in groups[len(self.ratios) :]:  # added since, as where layers are set free one after another
            rate = base_rate(group)
            group[BEGAN_WITH] = [rate, rate]
            self.ratios.append(self._ratio(rate))
        start = max(start for start in self.starts if start <= self.done)
        if self.done - start < len(self.rates):
            for group, ratio in zip(groups, self.ratios, strict=True):
                rate = self.rates[self.done - start] * ratio
                began, _ = _began_with(group)
                # a new list, as states of the optimizer that were taken hold the old one
                group[BEGAN_WITH] = [base_rate(group) if began is None else began, rate]
                _set_rate(group, rate)

    def _prune(self, cycle: int) -> None:
        before, alive = norm(self.model), self.masks.alive
        if not math.isfinite(before):
            raise self._diverged()
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
        self.ratios = list(state["ratios"])
        self.dense = np.array(state["dense"], dtype=np.float64)

    def finish(self) -> nn.Module:
        for group in self.optimizer.param_groups:
            began, last = _began_with(group)
            group.pop(BEGAN_WITH, None)
            if began is not None and _has_rate(group, last) and "initial_lr" not in group:  # nobody else sets the next
                _set_rate(group, began)
        return super().finish()


class Gradual(Sparse):
    """GMP: the smallest weights alive are pruned at the steps of `pruned_at`, {step: sparsity}."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, pruned_at: dict[int, float]):
        super().__init__(model, optimizer)
        self._check_numbers(list(pruned_at.values())[-1:])
        self.pruned_at = pruned_at
        self._listen()

    def _plan(self) -> list[Any]:
        return [*super()._plan(), [list(step) for step in self.pruned_at.items()]]

    def _prepare(self) -> None:
        if self.done in self.pruned_at:
            try:
                self.masks.prune_to(self.pruned_at[self.done])
            except NotANumber:
                raise self._diverged() from None
            self.masks.clear(self.optimizer)


class Feedback(Gradual):
    """DPF: as GMP, but forward passes compute with masked weights, and the optimizer steps the dense ones."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, pruned_at: dict[int, float]):
        super().__init__(model, optimizer, pruned_at)
        self.bracket = Bracket()
        self.trained: Vector = self.masks.flat.vector()
        self.masks.vector  # noqa: B018  made here: a first forward under torch.inference_mode would make it read-only
        self.masked = self.called = False
        plain = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
        self._handles += [
            model.register_forward_pre_hook(_Hook(self._mask)),
            *(module.register_state_dict_pre_hook(_Hook(self._unmask)) for module in plain),
            *(module.register_load_state_dict_pre_hook(_Hook(self._unmask)) for module in plain),
            self.optimizer.register_step_pre_hook(self._before_update),
        ]

    def step(self) -> None:
        if not self.called:
            raise UserError(
                f"DPF masks weights where the forward of {type(self.model).__name__} begins, and none came before a "
                "step: hand over the network that your loop calls"
            )
        self.called = False
        self._count()
        self.done += 1
        self._prepare()

    def _prepare(self) -> None:
        sparsity = due(self.pruned_at, self.done)
        if self.done % PERIOD == 0 and sparsity > 0:
            self._unmask()
            try:
                self.masks.select(sparsity, bracket=self.bracket)
            except NotANumber:
                raise self._diverged() from None

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
        if self.done >= last and self.masks.missing(target):  # no new masks were due since sparsity rose last
            self._unmask()
            self.masks.select(target)
        self._mask()
        self.masked = False  # these are the network's weights from here on
        return super().finish()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masked = False  # the weights are those that were loaded
        super().load_state_dict(state)


class _Hook:
    """What a network calls. Its copies, such as an average of weights, call nothing."""

    def __init__(self, call: Callable[[], None] | None = None):
        self.call = call

    def __call__(self, *arguments: Any) -> None:
        if self.call is not None:
            self.call()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def _began_with(group: dict[str, Any]) -> tuple[Any, Any]:
    """What BEGAN_WITH says; (None, None) where it is missing, as in a state of before."""
    value = group.get(BEGAN_WITH)
    return (value[0], value[1]) if isinstance(value, list | tuple) and len(value) == 2 else (None, None)


def _set_rate(group: dict[str, Any], rate: float) -> None:
    """In place where it is a tensor: compiled and captured optimizer steps read that one."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _has_rate(group: dict[str, Any], rate: float | None) -> bool:
    """Whether it is the learning rate, as far as its type can hold it."""
    there = group.get("lr")
    if isinstance(there, Tensor) and rate is not None:
        return bool(there == torch.full_like(there, rate))
    return bool(there == rate)


def base_rate(group: dict[str, Any]) -> float:
    """The learning rate before any scheduler changed it: at a warm-up's start and at a cosine's end it is 0."""
    began, last = _began_with(group)
    unchanged = began if began is not None and _has_rate(group, last) else group.get("lr")
    rate = group.get("max_lr", group.get("initial_lr", unchanged))  # OneCycleLR begins far below its max_lr
    if not isinstance(rate, Real | torch.Tensor):
        raise UserError(f"the optimizer's learning rate is {rate!r}: one that has a number as its lr")
    return float(rate)
