"""Networks, by the names that problem files use. Imports torch only when one is built: planning needs the names alone.

A new network is a function of the problem and a line in MODELS. Of the problem it should heed `classes`, `channels`
and, if its size can be chosen, `width`: the channels of the first stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems.sizes import dense_ends

if TYPE_CHECKING:
    import torch
    from torch import nn

CHANNELS_LAST_FROM = 16
"""Image size, in pixels a side, from which convolutions are faster with the channels last."""


def _small_resnet(blocks: int) -> Callable[[Problem], nn.Module]:
    """Three stages of so many blocks, 6 * blocks + 2 layers, shortcuts without parameters (He et al. 2016, 4.2)."""

    def build_resnet(problem: Problem) -> nn.Module:
        from benchmark.problems.networks import BasicBlock, SmallImageResNet

        return SmallImageResNet(BasicBlock, 3, blocks, problem.width or 16, problem.channels, problem.classes)

    return build_resnet


def _resnet18(problem: Problem) -> nn.Module:
    """Four stages of two blocks (He et al. 2016, table 1), with a stem for small images."""
    from benchmark.problems.networks import ProjectionBlock, SmallImageResNet

    return SmallImageResNet(ProjectionBlock, 4, 2, problem.width or 64, problem.channels, problem.classes)


def _vgg16(problem: Problem) -> nn.Module:
    from benchmark.problems.networks import VGG

    width = problem.width or 64
    stages = [(2, width), (2, 2 * width), (3, 4 * width), (3, 8 * width), (3, 8 * width)]
    return VGG(stages, problem.channels, problem.classes)


def _wideresnet28_10(problem: Problem) -> nn.Module:
    from benchmark.problems.networks import WideResNet

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


def check_model(problem: Problem) -> None:
    """Raises UserError for an unknown name, and for images that the network cannot take."""
    if problem.model not in MODELS:
        reason = f"model {problem.model!r} is unknown: one of {', '.join(MODELS)}"
    elif problem.model == "vgg16" and problem.image_size < 32:
        reason = "model vgg16 halves images five times: image_size must be 32 or more"
    elif problem.model == "resnet50" and problem.channels != 3:
        reason = f"model resnet50 takes 3 channels, not {problem.channels}"
    else:
        return
    raise UserError(f"problem {problem.name}: {reason}")


def build(problem: Problem, seed: int) -> nn.Module:
    """The problem's network with the initial weights of `seed`, which depend on nothing else. Raises UserError.

    Its attribute `not_prunable` has the parameters that are never pruned although they are weights (see `prunable`).
    """
    import torch

    from benchmark.problems.seeds import generator

    check_model(problem)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, problem.dataset, problem.model, "initial weights").get_state())
        network = MODELS[problem.model](problem)
    _keep_dense(network, problem)
    return network.to(memory_format=memory_format(problem))  # type: ignore[call-overload]


def _keep_dense(network: nn.Module, problem: Problem) -> None:
    """Set `not_prunable`, to which a network itself may have named some. UserError where nothing is left to prune."""
    from benchmark.pruning.masks import prunable

    where = f"problem {problem.name}: model {problem.model}"
    named = frozenset(getattr(network, "not_prunable", ()))
    if unknown := sorted(named - {name for name, _ in network.named_parameters(remove_duplicate=False)}):
        raise UserError(f"{where}: its not_prunable names {unknown[0]!r}, which is no parameter of it")
    candidates = list(prunable(network))
    network.not_prunable = named | (set(candidates) - set(candidates[dense_ends(problem)]))  # type: ignore[assignment]
    if not prunable(network):
        but = "" if problem.dense_layers == "none" else f" beside those that dense_layers {problem.dense_layers} keeps"
        raise UserError(f"{where}: it has no weight of a convolution or linear layer to prune{but}")


def memory_format(problem: Problem) -> torch.memory_format:
    """How images and convolutions lie in memory: channels last is 1.4 times faster for all but the smallest images."""
    import torch

    return torch.channels_last if problem.image_size >= CHANNELS_LAST_FROM else torch.contiguous_format
