"""Networks, by the names that problem files use.

resnet8/20/56 follow He et al. 2016, section 4.2: three stages of n blocks, 6n + 2 layers, shortcuts without parameters
(strided identity, new channels filled with zeros: their option A). `width` of a problem is the first stage's channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmark.cells import Problem
from benchmark.problems.fits import check_model
from benchmark.problems.networks import VGG, SmallImageResNet, SmallImageResNet18, WideResNet
from benchmark.problems.seeds import generator

CHANNELS_LAST_FROM = 16
"""Image size, in pixels a side, from which convolutions are faster with the channels last."""


def _small_resnet(blocks: int) -> Callable[[Problem], nn.Module]:
    return lambda problem: SmallImageResNet(blocks, problem.width or 16, problem.channels, problem.classes)


def _resnet18(problem: Problem) -> nn.Module:
    return SmallImageResNet18(problem.width or 64, problem.channels, problem.classes)


def _vgg16(problem: Problem) -> nn.Module:
    width = problem.width or 64
    stages = [(2, width), (2, 2 * width), (3, 4 * width), (3, 8 * width), (3, 8 * width)]
    return VGG(stages, problem.channels, problem.classes)


def _wideresnet28_10(problem: Problem) -> nn.Module:
    return WideResNet(4, 10, problem.width or 16, problem.channels, problem.classes)


def _resnet50(problem: Problem) -> nn.Module:
    """torchvision's ResNet-50 (stride in the 3x3 convolutions), for images of about 224 pixels."""
    from torchvision.models import resnet50

    return resnet50(num_classes=problem.classes, width_per_group=problem.width or 64)


MODELS: dict[str, Callable[[Problem], nn.Module]] = {
    "resnet8": _small_resnet(1),
    "resnet20": _small_resnet(3),
    "resnet56": _small_resnet(9),
    "resnet18": _resnet18,
    "vgg16": _vgg16,
    "wideresnet28-10": _wideresnet28_10,
    "resnet50": _resnet50,
}


def memory_format(problem: Problem) -> torch.memory_format:
    """How images and convolutions lie in memory: channels last is 1.4 times faster for all but the smallest images."""
    return torch.channels_last if problem.image_size >= CHANNELS_LAST_FROM else torch.contiguous_format


def build(problem: Problem, seed: int) -> nn.Module:
    """The problem's network with the initial weights of `seed`, which depend on nothing else. Raises UserError."""
    check_model(problem)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, problem.dataset, problem.model, "initial weights").get_state())
        network = MODELS[problem.model](problem)
    return network.to(memory_format=memory_format(problem))  # type: ignore[call-overload]
