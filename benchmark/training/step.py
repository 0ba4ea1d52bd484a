"""One training iteration: forward, loss, backward, optimizer step, and the hooks of the method in between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.problems.batches import Batches
from benchmark.tasks.task import Inputs, Task, predict
from benchmark.training.compiled import Forward, compiled
from benchmark.training.group import ALONE, Group
from benchmark.training.method import Method
from benchmark.training.optimizer import clip
from benchmark.training.precision import LossScale, autocast


class Step:
    """One training iteration. Loss and correct predictions add up on the device and are read once an epoch."""

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
        self.loss = torch.zeros((), device=data.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=data.device)
        self.count: int | Tensor = 0
        """Units of the task, such as images."""

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
        with autocast(self.precision, self.device):
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
            self.loss += (loss if scale is None else loss.nan_to_num(0, 0, 0)) * units
            self.correct += task.correct(outputs.detach(), targets)
            self.count += units

    def totals(self) -> tuple[Tensor, ...]:
        """(sum of losses, correct predictions, units) of the epoch so far, over all ranks; shape () each."""
        return self.group.total(self.loss, self.correct, torch.as_tensor(self.count))

    def state(self) -> dict[str, Tensor]:
        """The same for each rank, shape (ranks,) each. Not added up: a run that is never stopped adds in another order,
        and the last digits of its record would differ."""
        parts = self.group.of_each(self.loss, self.correct, torch.as_tensor(self.count))
        return dict(zip(("loss", "correct", "count"), parts, strict=True))

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`. If it is of another number of ranks, rank 0 takes the sums of all."""
        if len(state["loss"]) == self.group.ranks:
            sums = {name: parts[self.group.rank] for name, parts in state.items()}
        else:
            sums = {name: parts.sum() * int(self.group.leads) for name, parts in state.items()}
        self.loss.copy_(sums["loss"])
        self.correct.copy_(sums["correct"])
        self.count = int(sums["count"])

    def reset(self) -> None:
        """A new epoch begins."""
        self.loss.zero_()
        self.correct.zero_()
        self.count = 0
