"""torch's optimizers by the names of recipes, without importing torch's compiler.

torch wraps the methods of optimizers so that torch.compile leaves them alone. The first call of a wrapped method
imports the whole compiler, which costs every worker over a second and tens of megabytes, even if nothing is compiled.
The classes here have the same methods unwrapped, and are not to be used inside of code that torch.compile compiles.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from benchmark.cells import Problem
from benchmark.training.method import Method


def _unwrapped(optimizer: type[torch.optim.Optimizer]) -> Any:
    step = inspect.unwrap(optimizer.step)
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return type(optimizer.__name__, (optimizer,), {**methods, "step": torch.no_grad()(lambda self: step(self))})


SGD, Adam, AdamW = (_unwrapped(optimizer) for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW))


def make_optimizer(method: Method, problem: Problem) -> torch.optim.Optimizer:
    """The recipe's optimizer. Fused: 3 to 4 times faster than the default, on CPUs too."""
    groups = method.parameter_groups()
    if not problem.decay_all:
        groups = [part for group in groups for part in _by_decay(group)]
    shared = {"lr": problem.learning_rate, "weight_decay": problem.weight_decay, "fused": True}
    made: torch.optim.Optimizer
    if problem.optimizer == "sgd":
        made = SGD(groups, momentum=problem.momentum, nesterov=problem.nesterov, **shared)
    else:
        kind = {"adam": Adam, "adamw": AdamW}[problem.optimizer]
        made = kind(groups, betas=(problem.momentum, problem.beta2), **shared)
    return made


def _by_decay(group: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """A group as two: matrices and filters, and tensors of rank 0 and 1 (norms, biases), which do not decay."""
    weights = [parameter for parameter in group["params"] if parameter.dim() > 1]
    others = [parameter for parameter in group["params"] if parameter.dim() <= 1]
    parts = ({**group, "params": weights}, {"weight_decay": 0.0, **group, "params": others})
    return [part for part in parts if part["params"]]


_gradient_norm = inspect.unwrap(nn.utils.clip_grad_norm_)


def clip(network: nn.Module, largest: float) -> None:
    """Scale the network's gradients down to a 2-norm of `largest` where theirs is larger (Pascanu et al. 2013)."""
    _gradient_norm(network.parameters(), largest)
