"""Networks, by name.

ResNets for small images follow He et al. 2016, section 4.2: three stages of n blocks, 6n + 2 layers, shortcuts without
parameters (strided identity, new channels filled with zeros: their option A).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.seeds import generator


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.new_channels:
            half = self.new_channels // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new_channels - half))
        return functional.relu(x + y)


class SmallImageResNet(nn.Module):
    """ResNet of 6n + 2 layers for small images: stages of `width`, 2 and 4 times `width` channels."""

    def __init__(self, blocks: int, width: int, channels: int, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            outputs = width << stage
            for block in range(blocks):
                layers.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.blocks(x)
        return self.fc(x.mean((2, 3)))


def _small_resnet(blocks: int) -> Callable[[Problem], nn.Module]:
    return lambda problem: SmallImageResNet(blocks, problem.width or 16, problem.channels, problem.classes)


MODELS: dict[str, Callable[[Problem], nn.Module]] = {
    "resnet8": _small_resnet(1),
    "resnet20": _small_resnet(3),
    "resnet56": _small_resnet(9),
}


def build(problem: Problem, seed: int) -> nn.Module:
    """The problem's network with the initial weights of `seed`, which depend on nothing else. Raises UserError."""
    if problem.model not in MODELS:
        raise UserError(f"problem {problem.name}: model {problem.model!r} is unknown: one of {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, problem.dataset, problem.model, "initial weights").get_state())
        return MODELS[problem.model](problem)
