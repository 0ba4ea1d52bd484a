"""One training iteration: forward, loss, backward, the optimizer's step, and what a method does in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.problems.batches import Batches
from benchmark.training.compiled import Forward, compiled
from benchmark.training.group import ALONE, Group
from benchmark.training.method import Method
from benchmark.training.precision import LossScale, autocast


class Step:
    """One training iteration. Loss and correct predictions accumulate on the device, read once an epoch."""

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        optimizer: torch.optim.Optimizer,
        data: Batches,
        group: Group = ALONE,
    ):
        problem = data.problem
        self.forward: Forward = group.wrap(network)
        self.group = group
        if problem.compile != "none":
            self.forward = compiled(network, problem)
        self.method = method
        self.precision, self.device = problem.precision, data.device
        self.scale = LossScale(data.device) if problem.precision == "fp16" else None
        self.use(optimizer)
        self.loss = torch.zeros((), device=data.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=data.device)
        self.count = 0

    def use(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = self.method.optimizer = optimizer
        if self.scale is not None:
            self.scale.prepare(optimizer)

    def __call__(self, k: int, rate: float, images: Tensor, labels: Tensor) -> None:
        method, optimizer, scale = self.method, self.optimizer, self.scale
        method.before_iteration(k)
        for group in optimizer.param_groups:
            group["lr"] = rate
        method.enter_forward()
        with autocast(self.precision, self.device):
            logits = self.forward(images)
            loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        weighed = self.group.weigh(loss, len(labels))
        (weighed if scale is None else scale.scale(weighed)).backward()
        method.exit_forward()
        if scale is None:
            method.after_backward()
            optimizer.step()
        else:
            scale.unscale(optimizer, method)
            method.after_backward()
            scale.step(optimizer)
        method.after_step()
        if len(labels):
            loss = loss.detach()
            # a loss that overflowed float16 belongs to a step that was skipped, which ends nothing
            self.loss += (loss if scale is None else loss.nan_to_num(0, 0, 0)) * len(labels)
            self.correct += (logits.detach().argmax(1) == labels).sum()
            self.count += len(labels)

    def totals(self) -> tuple[Tensor, ...]:
        """Loss, correct predictions and images of the epoch so far, over all ranks; shape () each."""
        return self.group.total(self.loss, self.correct, torch.tensor(self.count))

    def state(self) -> dict[str, Tensor]:
        """The same of each rank, shape (ranks,) each: added up here, they would be added in another order than by a run
        that was not stopped, which the last digits of the record would tell."""
        parts = self.group.of_each(self.loss, self.correct, torch.tensor(self.count))
        return dict(zip(("loss", "correct", "count"), parts, strict=True))

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`; where that is of another number of ranks, the first carries on what all had counted."""
        if len(state["loss"]) == self.group.ranks:
            own = {name: parts[self.group.rank] for name, parts in state.items()}
        else:
            own = {name: parts.sum() * int(self.group.leads) for name, parts in state.items()}
        self.loss.copy_(own["loss"])
        self.correct.copy_(own["correct"])
        self.count = int(own["count"])

    def reset(self) -> None:
        """A new epoch begins."""
        self.loss.zero_()
        self.correct.zero_()
        self.count = 0
