"""Base classes of the methods of Table 2, which train from the initial weights and end at the target sparsity."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmark.pruning.flat import Flat, Vector
from benchmark.training.method import Context, Method
from benchmark.training.schedules import LearningRates


class FromScratch(Method):
    """Trains for the dense run's epochs with its learning rates, then prunes by magnitude what is missing.

    `learned_sparsity` is the fraction of zeros that training left. If it is below the target, the smallest weights are
    pruned too; if it is above, no weight returns. The same batch-norm pass follows for every method
    (`recalibration_batches` of the recipe; 0 turns it off). The hyperparameter `decay`, which every method has,
    multiplies the recipe's weight decay for the prunable weights.
    """

    def __init__(self, context: Context):
        super().__init__(context)
        assert context.cell.sparsity is not None
        self.target = context.cell.sparsity

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates

    @property
    def flat(self) -> Flat:
        """All prunable weights as one vector."""
        return self.masks.flat

    def settle(self) -> None:
        """After the last iteration: replace the trained weights by those that the network computes with."""

    def finish(self) -> None:
        self.settle()
        self.masks.adopt_zeros()
        self.learned_sparsity = self.masks.sparsity
        self.masks.prune_to(self.target)
        self.context.recalibrate()

    @property
    def weight_decay(self) -> float:
        """Of the prunable weights: that of the recipe times the hyperparameter `decay`."""
        return self.context.problem.weight_decay * self.context.number("decay")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """[prunable weights with their weight decay, batch norm and biases as in the dense run]."""
        prunable = set(self.weights)
        rest = [tensor for name, tensor in self.context.network.named_parameters() if name not in prunable]
        return [{"params": list(self.weights.values()), "weight_decay": self.weight_decay}, {"params": rest}]

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of the prunable weights, to change in place after the backward pass."""
        gradients = []
        for weight in self.weights.values():
            if weight.grad is None:  # this forward pass did not use the weight
                weight.grad = torch.zeros_like(weight)
            gradients.append(weight.grad)
        return gradients


class Transformed(FromScratch):
    """Base of methods whose network computes with other weights than those that are trained, such as masked ones.

    Before every forward pass `transform` writes the weights to compute with; after it the trained ones return, bit for
    bit. The loss gradients are those of the transformed weights; a method's `after_backward` turns them into those of
    its trained weights.
    """

    settled = False

    @cached_property
    def trained(self) -> Vector:
        """The trained weights while others are in place."""
        return self.flat.vector()

    def transform(self) -> None:
        """Write the weights to compute with into `masks.weights`; `trained` keeps the trained ones."""
        raise NotImplementedError

    @torch.no_grad()
    def enter_forward(self) -> None:
        if not self.settled:
            self.trained.take(self.masks.weights)
            self.transform()

    @torch.no_grad()
    def exit_forward(self) -> None:
        if not self.settled:
            self.trained.give(self.masks.weights)

    def settle(self) -> None:
        self.enter_forward()
        self.settled = True
