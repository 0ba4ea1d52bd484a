"""A task, a data set and a network as a user would write them: how far an arm turns, from a noisy view of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmark.metric import Metric
from benchmark.tasks.task import Task


class Turning(Task):
    """Regression, measured by the mean error in degrees: lower is better."""

    metric = Metric("error", "mean error", "degrees", higher_is_better=False, bounds=(0.0, None))
    counts_correct = False

    def loss(self, outputs, targets):
        return functional.mse_loss(outputs[:, 0], targets)

    def zeros(self, device):
        return torch.zeros(3, device=device).unbind()  # squared errors, examples, errors

    def sums(self, network, inputs, outputs, targets):
        error = outputs[:, 0] - targets
        return error.square().sum(), torch.tensor(float(len(targets))), 90 * error.abs().sum()

    def value(self, sums):
        return (sums[2] / sums[1]).item()

    def chance(self, targets):
        return 45.0  # of always answering 0: angles are uniform from -90 to 90 degrees


def views(problem):
    """(training, test), each (inputs, targets): 16 noisy pixels of a line, and its angle over 90 degrees."""
    stream = np.random.default_rng(0)
    angles = stream.uniform(-1, 1, 1200).astype(np.float32)
    pixels = np.sin(np.outer(angles, np.arange(1, 17) / 4)) + stream.normal(0, 0.05, (1200, 16))
    return (pixels[:1000], angles[:1000]), (pixels[1000:], angles[1000:])


def network(problem):
    width = problem.width or 32
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
