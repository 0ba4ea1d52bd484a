"""Training loss and correct predictions of an epoch, added up on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.tasks.task import Task
from benchmark.training.group import Group

TOGETHER = 1 << 14
"""Numbers that outputs may hold until their predictions are counted. A small operation takes longer to start than to
compute, so several small batches are counted by one; a large batch is counted by itself."""


class EpochSums:
    """Sums over the batches of an epoch, which are read once, at its end.

    Args:
        task: says which predictions are correct.
        device: of the network.
        group: the ranks that train together.
        keeps: whether outputs stay as they are after the next step, which those of CUDA graphs do not.
    """

    def __init__(self, task: Task, device: torch.device, group: Group, keeps: bool):
        self.task, self.group, self.keeps = task, group, keeps
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.count: int | Tensor = 0
        """Units of the task, such as images."""
        self._waiting: list[tuple[Tensor, int | Tensor, Tensor, Tensor]] = []
        self._numbers = 0

    def add(self, loss: Tensor, units: int | Tensor, outputs: Tensor, targets: Tensor) -> None:
        """One batch: its mean loss over so many units, its outputs and its targets."""
        alike = [(old.shape[1:], known.shape[1:]) for *_, old, known in self._waiting[:1]]
        if alike and alike[0] != (outputs.shape[1:], targets.shape[1:]):
            self._count()
        self._waiting.append((loss, units, outputs, targets))
        self._numbers += outputs.numel()
        if not self.keeps or self._numbers >= TOGETHER:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        losses, units, outputs, targets = zip(*self._waiting, strict=True)
        for loss, count in zip(losses, units, strict=True):  # one by one: the sum is rounded in their order
            self.loss += loss * count
            self.count += count
        if self.task.counts_correct:
            self.correct += self.task.correct(torch.cat(outputs), torch.cat(targets))
        self._waiting.clear()
        self._numbers = 0

    def totals(self) -> tuple[Tensor, ...]:
        """(sum of losses, correct predictions, units) of the epoch so far, over all ranks; shape () each."""
        self._count()
        return self.group.total(self.loss, self.correct, torch.as_tensor(self.count))

    def mean_loss(self) -> float:
        """Of the epoch so far. Waits for the device."""
        loss, _, count = self.totals()
        return loss.item() / max(1, int(count))

    def state(self) -> dict[str, Tensor]:
        """The same for each rank, shape (ranks,) each. Not added up: a run that is never stopped adds in another order,
        and the last digits of its record would differ."""
        self._count()
        parts = self.group.of_each(self.loss, self.correct, torch.as_tensor(self.count))
        return dict(zip(("loss", "correct", "count"), parts, strict=True))

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`. If it is of another number of ranks, rank 0 takes the sums of all."""
        self.reset()
        if len(state["loss"]) == self.group.ranks:
            sums = {name: parts[self.group.rank] for name, parts in state.items()}
        else:
            sums = {name: parts.sum() * int(self.group.leads) for name, parts in state.items()}
        self.loss.copy_(sums["loss"])
        self.correct.copy_(sums["correct"])
        self.count = int(sums["count"])

    def reset(self) -> None:
        """A new epoch begins."""
        self._waiting.clear()
        self._numbers = 0
        self.loss.zero_()
        self.correct.zero_()
        self.count = 0
