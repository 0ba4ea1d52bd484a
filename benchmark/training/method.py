"""The interface of a pruning method: a few named hooks, most with a default that does nothing.

A run is a sequence of phases. `begin` opens a phase (it may prune) and returns its learning rates, one per iteration.
Every iteration then calls, in this order::

    before_iteration(k)     k counts from 0 within the phase: the place to prune during training
    enter_forward()         write the weights that the network should compute with
    (forward, loss, backward)
    exit_forward()          put the trained weights back
    after_backward()        change the gradients
    (step of the optimizer)
    after_step()            keep pruned weights at zero

and `finish` closes the run. Evaluation, too, happens between enter_forward and exit_forward. The loop knows no method
by name; a method knows nothing of data, checkpoints or devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import Cell, Problem, Scalar
from benchmark.errors import UserError
from benchmark.metric import ACCURACY, Metric
from benchmark.pruning.masks import Masks
from benchmark.pruning.prunable import prunable
from benchmark.training.schedules import LearningRates


@dataclass(frozen=True)
class Context:
    """What a method may use.

    Args:
        cell: what is trained.
        network: with the weights that training starts from.
        hyperparameters: all of the method's, defaults included.
        iterations_per_epoch: of the problem.
        dense_rates: learning rates of the dense run, one per iteration, shape (n,).
        dense_warmup: iterations of the dense run's warm-up.
        measure: measure(name) evaluates now, as `name` ("pruned") in the record; returns the metric by split.
        recalibrate: re-estimates the batch-norm statistics on training data, if the recipe says so.
        note: note(values) adds a line to the record's `cycles`.
        example: example(n) gives n inputs of the data's shapes, as a tuple of tensors.
        metric: what the task is measured by.
    """

    cell: Cell
    network: nn.Module
    hyperparameters: Mapping[str, Scalar]
    iterations_per_epoch: int
    dense_rates: LearningRates
    dense_warmup: int
    measure: Callable[[str], dict[str, float]]
    recalibrate: Callable[[], None]
    note: Callable[[dict[str, Any]], None]
    example: Callable[[int], tuple[Tensor, ...]]
    metric: Metric = ACCURACY

    @property
    def problem(self) -> Problem:
        return self.cell.problem

    def number(self, hyperparameter: str) -> float:
        """The value of a hyperparameter. Raises UserError if the method's declaration has none of that name."""
        if hyperparameter not in self.hyperparameters:
            declared = ", ".join(self.hyperparameters) or "none"
            raise UserError(
                f"method {self.cell.method}: it needs a hyperparameter {hyperparameter!r}, which is missing in the "
                f"`defaults` of its declaration (they have: {declared})"
            )
        return float(self.hyperparameters[hyperparameter])


class Method:
    """Base of all methods. `masks` (all ones at first) say what is pruned; checkpoints hold them.

    optimizer: the current one, for methods that change its momentum. The loop sets it whenever it makes a new one.
    """

    optimizer: torch.optim.Optimizer
    phases: int = 1
    keeps_optimizer: bool = False
    """Whether momentum is kept from one phase to the next; else every phase starts with a new optimizer."""

    def __init__(self, context: Context):
        self.context = context
        self.weights: dict[str, nn.Parameter] = prunable(context.network)
        self.masks = Masks(self.weights)
        self.learned_sparsity: float | None = None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer. A method adds its own trained parameters here, such as thresholds."""
        return [{"params": list(self.context.network.parameters())}]

    def begin(self, phase: int) -> LearningRates:
        """Open phase 0 .. phases-1 and return its learning rates, shape (iterations,)."""
        raise NotImplementedError

    def before_iteration(self, k: int) -> None: ...

    def enter_forward(self) -> None: ...

    def exit_forward(self) -> None: ...

    def after_backward(self) -> None: ...

    def after_step(self) -> None: ...

    def finish(self) -> None:
        """After the last iteration, before the final evaluation: a final prune belongs here."""

    @property
    def target_sparsity(self) -> float | None:
        """Fraction of the prunable weights to be zero in the end: the cell's sparsity, if not overridden."""
        return self.context.cell.sparsity

    def smaller(self) -> nn.Module | None:
        """The network without its removed filters, None if single weights were pruned."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides network and optimizer: tensors, numbers, strings."""
        return {"masks": self.masks.state_dict(), "own": [tensor.detach() for tensor in self.own_parameters()]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks.load_state_dict(state["masks"])
        for tensor, saved in zip(self.own_parameters(), state["own"], strict=True):
            tensor.copy_(saved)

    def trunk(self, phase: int) -> str | None:
        """Name of the state before `phase`, if runs of other cells pass through the same state and can share it."""
        return None

    def own_parameters(self) -> list[Tensor]:
        """Trained tensors beside the network's, such as thresholds or scores; checkpoints hold them."""
        return []
