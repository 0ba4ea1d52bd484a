"""Tasks, data and networks of a user's that fit together, although not every way to try them would find so."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmark.metric import Metric
from tests import user_task


class LargeBatches(nn.Module):
    """Takes no fewer than 8 examples in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        if self.training and len(x) < 8:
            raise ValueError("at least 8 examples")
        return self.layers(x)


def large_batches(problem):
    return LargeBatches()


class AreaUnderCurve(user_task.Turning):
    """Of "is the angle above 60 degrees"; undefined where all examples are of one class, as few are."""

    metric = Metric("auc", "AUC", bounds=(0.0, 1.0))

    def loss(self, outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], (targets > 0.9).float())

    def zeros(self, device):
        return torch.zeros((), device=device), torch.zeros((), device=device), torch.zeros(2, 100, device=device)

    def sums(self, network, inputs, outputs, targets):
        bins, positive = (99 * outputs[:, 0].sigmoid()).long(), targets > 0.9
        counts = [torch.bincount(bins[positive == kind], minlength=100) for kind in (False, True)]
        return (
            len(targets) * self.loss(outputs, targets),
            torch.tensor(float(len(targets))),
            torch.stack(counts).float(),
        )

    def value(self, sums):
        negative, positive = sums[2].sum(1).tolist()
        if not negative or not positive:
            raise ValueError("only one class present")
        below = sums[2][0].cumsum(0) - sums[2][0] / 2
        return float((sums[2][1] * below).sum() / (negative * positive))

    def chance(self, targets):
        return 0.5


class HardestFive(user_task.Turning):
    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).square().topk(5).values.mean()


class Density(user_task.Turning):
    """A loss below 0."""

    metric = Metric("nll", "negative log-likelihood", "nats", higher_is_better=False)

    def loss(self, outputs, targets):
        return ((outputs[:, 0] - targets) / 2).square().mean() - 3

    def sums(self, network, inputs, outputs, targets):
        total = len(targets) * self.loss(outputs, targets)
        return total, torch.tensor(float(len(targets))), total

    def value(self, sums):
        return (sums[2] / sums[1]).item()

    def chance(self, targets):
        return -2.9


class Vectored(user_task.Turning):
    """Of three outputs, which the inherited `correct` could not compare with an angle each."""

    def correct(self, outputs, targets):
        raise NotImplementedError


class Heads(nn.Module):
    """The number of heads is a buffer, which says the shape of a view."""

    def __init__(self):
        super().__init__()
        self.register_buffer("heads", torch.tensor(4))
        self.first, self.last = nn.Linear(16, 32), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.first(x).relu().view(len(x), int(self.heads), -1).mean(1))


def heads(problem):
    return Heads()


class Inverse(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.last = nn.Linear(16, 16, bias=False), nn.Linear(16, 1)

    def forward(self, x):
        return self.last((x @ torch.linalg.inv(self.mix.weight)).relu())


def inverse(problem):
    return Inverse()


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 1)

    def forward(self, x):
        return self.last(torch.func.vmap(lambda row: (row @ self.first.weight.t()).relu())(x))


def mapped(problem):
    return Mapped()


def with_gaps(problem):
    """Inputs with missing values."""
    (inputs, targets), test = user_task.views(problem)
    stream = np.random.default_rng(1)
    return (np.where(stream.random(inputs.shape) < 0.02, np.nan, inputs), targets), test


class FillsGaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.layers(x.nan_to_num())


def fills_gaps(problem):
    return FillsGaps()


class ChangesInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.layers(x.sub_(0.1).div_(0.7))


def changes_inputs(problem):
    return ChangesInputs()


class HardestForty(user_task.Turning):
    """More than a trial begins with."""

    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).square().topk(40).values.mean()


def sets(problem):
    """Of each part (elements, whether an element is padding) and the angle."""
    lengths = 4 + np.arange(1000) % 12
    return tuple(
        ((pixels[:, :, None].repeat(8, 2).astype(np.float32), np.arange(16) >= lengths[: len(pixels), None]), angles)
        for pixels, angles in user_task.views(problem)
    )


class OfSets(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 1)

    def forward(self, x, padding):
        return self.last((self.layer(x, src_key_padding_mask=padding) * ~padding[:, :, None]).mean(1))


def of_sets(problem):
    return OfSets()


class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1).expand(16))
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.layers(x * self.scale)


def expanded(problem):
    return Expanded()
