"""Continuous sparsification, CS (Savarese, Silva & Maire, NeurIPS 2020)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods.declarations import DECAY, Declaration, Numbers
from benchmark.methods.scratch import Transformed
from benchmark.training.method import Context


class CS(Transformed):
    """The network computes with w * sigmoid(beta s) / sigmoid(s_init); one score s per weight is learned with w.

    beta grows from 1 to `beta_final` as beta_final^(k/N) over the N iterations, so that the soft mask becomes the step
    of s; the penalty lambda sum sigmoid(beta s) drives scores down. With G = dL/dw', m = sigmoid(beta s), c =
    1 / sigmoid(s_init):
        dL/dw = G c m,   dL/ds = beta m (1 - m) (G c w + lambda).
    After training the mask is hardened: w' = c w where s > 0, else 0. Weight decay acts on w alone, once.
    """

    declaration = Declaration(
        "benchmark.methods.cs:CS",
        from_dense=False,
        retrains=False,
        defaults={"s_init": 0.0, "beta_final": 200.0, "penalty": 1e-5, "decay": 1.0},
        accepted={"s_init": Numbers(-80, 80), "beta_final": Numbers(1), "penalty": Numbers(0), **DECAY},
    )

    def __init__(self, context: Context):
        super().__init__(context)
        start, final = context.number("s_init"), context.number("beta_final")
        self.scale = 1 + math.exp(-start)
        self.final, self.penalty = final, context.number("penalty")
        self.beta = 1.0
        self.scores = nn.Parameter(self.flat.vector().values.fill_(start))
        self.soft = self.flat.vector().values
        self.work = self.flat.vector()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.scores], "weight_decay": 0.0}]

    def own_parameters(self) -> list[Tensor]:
        return [self.scores]

    def before_iteration(self, k: int) -> None:
        self.beta = self.final ** (k / len(self.context.dense_rates))

    def transform(self) -> None:
        scores = self.scores.detach()
        for chunk in self.flat.chunks:
            soft = torch.mul(scores[chunk], self.beta, out=self.soft[chunk]).sigmoid_()
            torch.mul(self.trained.values[chunk], soft, out=self.work.values[chunk]).mul_(self.scale)
        self.work.give(self.masks.weights)

    @torch.no_grad()
    def after_backward(self) -> None:
        gradients = self.gradients
        self.work.take(gradients)
        slope = torch.empty_like(self.scores)
        for chunk in self.flat.chunks:
            soft, gradient = self.soft[chunk], self.work.values[chunk].mul_(self.scale)
            steepness = (1 - soft).mul_(soft).mul_(self.beta)
            torch.mul(gradient, self.trained.values[chunk], out=slope[chunk]).add_(self.penalty).mul_(steepness)
            gradient.mul_(soft)
        self.work.give(gradients)
        self.scores.grad = slope

    @torch.no_grad()
    def settle(self) -> None:
        weights = self.masks.weights
        for weight, score in zip(weights, self.flat.view(self.scores.detach()).parts, strict=True):
            weight.mul_(score > 0)
        torch._foreach_mul_(weights, self.scale)
        self.settled = True
