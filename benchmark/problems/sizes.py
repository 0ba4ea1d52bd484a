"""How many weights a network has that pruning chooses from, as a number. Imports no torch, so that a plan can ask."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.cells import Problem

BLOCKS = {"resnet8": 1, "resnet20": 3, "resnet56": 9}
"""Of each stage."""


def prunable_weights(problem: Problem) -> int | None:
    """Weights of convolutions and linear layers of the network that `models` builds; None for an unknown one."""
    model, images, classes = problem.model, problem.channels, problem.classes
    if model in BLOCKS:
        width = problem.width or 16
        return 9 * images * width + _basic(width, (width << stage for stage in range(3)), BLOCKS[model], classes, False)
    if model == "resnet18":
        width = problem.width or 64
        return 9 * images * width + _basic(width, (width << stage for stage in range(4)), 2, classes, True)
    if model == "wideresnet28-10":
        width = problem.width or 16
        return 9 * images * width + _basic(width, (10 * (width << stage) for stage in range(3)), 4, classes, True)
    if model == "vgg16":
        return _vgg16(problem.width or 64, images, classes)
    if model == "resnet50":
        return _resnet50(problem.width or 64, images, classes)
    return None


def _basic(inputs: int, stages: Iterable[int], blocks: int, classes: int, projected: bool) -> int:
    """Stages of blocks of two 3x3 convolutions, and a linear layer; projected: 1x1 shortcuts where channels change."""
    total = 0
    for outputs in stages:
        total += projected * inputs * outputs * (inputs != outputs)
        for _ in range(blocks):
            total += 9 * outputs * (inputs + outputs)
            inputs = outputs
    return total + inputs * classes


def _vgg16(width: int, inputs: int, classes: int) -> int:
    total = 0
    for convolutions, outputs in ((2, width), (2, 2 * width), (3, 4 * width), (3, 8 * width), (3, 8 * width)):
        for _ in range(convolutions):
            total += 9 * inputs * outputs
            inputs = outputs
    return total + inputs * classes


def _resnet50(width: int, images: int, classes: int) -> int:
    """Stages of bottlenecks; `width` is that of the 3x3 convolutions of the first stage."""
    inputs, total = 64, 49 * images * 64
    for blocks, planes in ((3, 64), (4, 128), (6, 256), (3, 512)):
        inner, outputs = planes * width // 64, 4 * planes
        total += inputs * outputs
        for _ in range(blocks):
            total += inputs * inner + 9 * inner * inner + inner * outputs
            inputs = outputs
    return total + inputs * classes
