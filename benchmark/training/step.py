"""One training iteration: forward, loss, backward, optimizer step, and the hooks of the method in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.problems.batches import Batches
from benchmark.problems.models import MODELS
from benchmark.tasks.task import Inputs, Task, predict
from benchmark.training.compiled import Forward, compiled
from benchmark.training.counters import BatchCounters
from benchmark.training.group import ALONE, Group
from benchmark.training.method import Method
from benchmark.training.optimizer import clip
from benchmark.training.precision import LossScale, autocast
from benchmark.training.sums import EpochSums


class Step:
    """One training iteration. sums: loss and correct predictions of the epoch so far."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
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
        self.network, self.task, self.method = network, task, method
        self.largest_norm = problem.gradient_norm
        self.precision, self.device = problem.precision, data.device
        self.scale = LossScale(data.device) if problem.precision == "fp16" else None
        self.use(optimizer)
        # others may leave a norm out, or go through it twice; ranks and compiled networks count in their own way
        counted = problem.model in MODELS and problem.compile == "none" and group.ranks == 1
        self.counters = BatchCounters(network if counted else nn.Identity())
        self.sums = EpochSums(task, data.device, group, keeps=problem.compile == "none")

    def use(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = self.method.optimizer = optimizer
        if self.scale is not None:
            self.scale.prepare(optimizer)

    def __call__(self, k: int, rate: float, inputs: Inputs, targets: Tensor) -> None:
        task, method, optimizer, scale = self.task, self.method, self.optimizer, self.scale
        method.before_iteration(k)
        for group in optimizer.param_groups:
            group["lr"] = rate
        method.enter_forward()
        with autocast(self.precision, self.device), self.counters.counting():
            outputs = predict(self.forward, inputs)
            loss = task.loss(outputs, targets)
        optimizer.zero_grad()
        units = task.units(targets)
        weighed = self.group.weigh(loss, units)
        (weighed if scale is None else scale.scale(weighed)).backward()
        method.exit_forward()
        if scale is not None:
            scale.unscale(optimizer, method)
        if self.largest_norm:
            clip(self.network, self.largest_norm)
        method.after_backward()
        if scale is None:
            optimizer.step()
        else:
            scale.step(optimizer)
        method.after_step()
        if len(targets):
            loss = loss.detach()
            # With float16, an infinite loss means a skipped step; the run continues and its sum must stay finite.
            self.sums.add(loss if scale is None else loss.nan_to_num(0, 0, 0), units, outputs.detach(), targets)
