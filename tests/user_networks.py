"""Networks as a user would bring them along, and what is none."""

from __future__ import annotations

import torch
from torch import nn


def mlp(problem):
    inputs, width = problem.channels * problem.image_size**2, problem.width or 8
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, problem.classes))


def convolutional(problem):
    return nn.Sequential(
        nn.Conv2d(problem.channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, problem.classes),
    )


def volumes(problem):
    return nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(2, problem.classes))


def lazy(problem):
    return nn.LazyLinear(problem.classes)


def no_network(problem):
    return [torch.zeros(3)]


def broken(problem):
    return nn.Linear(problem.no_such_field, 3)


class OnlyLogits(nn.Module):
    """Takes source and target, and cannot translate."""

    def __init__(self, classes):
        super().__init__()
        self.embed, self.scores = nn.Embedding(classes, 4), nn.Linear(4, classes)

    def forward(self, source, target):
        return self.scores(self.embed(target) + self.embed(source).mean(1, keepdim=True))


def only_logits(problem):
    return OnlyLogits(problem.classes)


def compiled(problem):
    import torch

    return torch.compile(mlp(problem))


class WithExtraState(nn.Sequential):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state): ...


def with_extra_state(problem):
    return WithExtraState(mlp(problem))
