"""A plain implementation of dynamic sparse training (Liu, Xu, Shi, Cheung & So, ICLR 2020), the suite's yardstick.

As one writes it down from the paper: layers that mask their own weights in every forward pass, a step function with its
own backward, autograd for the rest, and the penalty on the thresholds as a term of the loss. The suite's DST
(benchmark.methods.dst) trains by the same gradients; `python -m benchmark.throughput --against plain-dst` compares.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.methods.dst import LEAST_DENSITY
from benchmark.training.precision import autocast


class BinaryStep(torch.autograd.Function):
    """1 above 0, else 0; backward: 2 - 4|x| up to |x| = 0.4, 0.4 up to |x| = 1, then 0 (equation 5 of the paper)."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        distance = x.abs()
        slope = torch.where(distance <= 0.4, 2 - 4 * distance, torch.where(distance <= 1, 0.4, 0.0))
        return gradient * slope


class Thresholds(nn.Module):
    """The mask of one layer: one trained threshold for each output unit of its weights (units, ...)."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(weight.shape[0], device=weight.device))

    def masked(self, weight: Tensor) -> Tensor:
        mask = self._mask(weight)
        if mask.mean().item() <= LEAST_DENSITY:
            self.values.data.zero_()
            mask = self._mask(weight)
        return weight * mask

    def _mask(self, weight: Tensor) -> Tensor:
        thresholds = self.values.view(-1, *[1] * (weight.dim() - 1))
        return BinaryStep.apply(weight.abs() - thresholds)  # type: ignore[no-untyped-call,no-any-return]


class Masked(nn.Module):
    def __init__(self, layer: nn.Conv2d | nn.Linear):
        super().__init__()
        self.layer, self.thresholds = layer, Thresholds(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.thresholds.masked(self.layer.weight), self.layer.bias
        if isinstance(self.layer, nn.Conv2d):
            return self.layer._conv_forward(x, weight, bias)
        return functional.linear(x, weight, bias)


class PlainDST:
    """Training steps of `network`, whose convolutions and linear layers are replaced by masked ones."""

    def __init__(self, problem: Problem, network: nn.Module, alpha: float):
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv2d | nn.Linear):
                    setattr(parent, name, Masked(child))
        self.problem, self.network, self.alpha = problem, network, alpha
        self.layers = [module for module in network.modules() if isinstance(module, Masked)]
        thresholds = [layer.thresholds.values for layer in self.layers]
        others = {id(parameter) for parameter in thresholds}
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in network.parameters() if id(parameter) not in others]},
            {"params": thresholds, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(
            groups,
            lr=problem.learning_rate,
            momentum=problem.momentum,
            nesterov=problem.nesterov,
            weight_decay=problem.weight_decay,
            fused=True,  # as the suite's, so that what differs is the method
        )

    def penalty(self) -> Tensor:
        total = torch.zeros(())
        for layer in self.layers:
            total = total.to(layer.thresholds.values.device) + torch.exp(-layer.thresholds.values).sum()
        return self.alpha * total

    def step(self, rate: float, images: Tensor, labels: Tensor) -> None:
        """One training iteration."""
        self._set(rate)
        with autocast(self.problem.precision, images.device):
            loss = functional.cross_entropy(self.network(images), labels)
        self.optimizer.zero_grad()
        (loss + self.penalty()).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def step_without_network(self, rate: float, gradients: list[Tensor]) -> None:
        """The same but for the network's own forward and backward: `gradients` are those at the masked weights."""
        self._set(rate)
        masked = [layer.thresholds.masked(layer.layer.weight) for layer in self.layers]
        self.optimizer.zero_grad()
        torch.autograd.backward([*masked, self.penalty()], [*gradients, None])  # type: ignore[list-item]
        self.optimizer.step()

    def _set(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
