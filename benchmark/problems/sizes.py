"""How many weights a network has that pruning chooses from, as a number. Imports no torch, so that a plan can ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

from benchmark.cells import Problem

STAGES = {"resnet8": (3, 1), "resnet20": (3, 3), "resnet56": (3, 9), "resnet10": (4, 1), "resnet18": (4, 2)}
"""(stages, blocks of each)."""
OWN_WIDTH = {
    **dict.fromkeys(("resnet8", "resnet20", "resnet56", "wideresnet28-10", "unet"), 16),
    **dict.fromkeys(("resnet10", "resnet18", "resnet50", "vgg16", "fcn_resnet50", "deeplabv3_resnet50", "vit"), 64),
    **dict.fromkeys(("transformer_lm", "transformer"), 128),
    "t5": 512,
}
"""Channels of the first stage, or of a transformer, where the recipe says nothing."""
OWN_DEPTH = {"vit": 6, "transformer_lm": 4, "transformer": 2, "t5": 6}
"""Blocks of a transformer where the recipe says nothing; of "transformer" and "t5", those of the encoder and as many of
the decoder."""


def width_of(problem: Problem) -> int:
    """Of one of the suite's networks: the recipe's, or the network's own."""
    return problem.width or OWN_WIDTH[problem.model]


def depth_of(problem: Problem) -> int:
    return problem.depth or OWN_DEPTH[problem.model]


def prunable_weights(problem: Problem) -> int | None:
    """Weights of convolutions and linear layers of the network that `models` builds; None for an unknown one."""
    layers = _layers(problem)
    return None if layers is None else sum(list(layers)[dense_ends(problem)])


def dense_ends(problem: Problem) -> slice:
    """Which of a network's prunable layers, in the order of the network, are pruned (the recipe's `dense_layers`)."""
    return slice("first" in problem.dense_layers or None, -1 if "last" in problem.dense_layers else None)


def _layers(problem: Problem) -> Iterator[int] | None:
    """Weights of each layer that can be pruned; the first and the last layer are where the network has them."""
    model, images, classes = problem.model, problem.channels, problem.classes
    if model not in OWN_WIDTH:
        return None
    width = width_of(problem)
    if model in STAGES:
        stages, blocks = STAGES[model]
        widths = [width << stage for stage in range(stages)]
        return _resnet(images, width, widths, blocks, classes, projected=stages == 4)
    if model == "wideresnet28-10":
        return _resnet(images, width, [10 * (width << stage) for stage in range(3)], 4, classes, projected=True)
    if model == "vgg16":
        return _vgg16(width, images, classes)
    if model == "resnet50":
        return _resnet50(width, images, classes)
    if model in ("fcn_resnet50", "deeplabv3_resnet50"):
        backbone = list(_resnet50(width, images, classes))[:-1]
        return chain(backbone, _fcn(classes) if model == "fcn_resnet50" else _deeplab(classes))
    if model == "vit":
        return chain([16 * images * width], _blocks(width, problem), [width * classes])
    if model == "unet":
        return _unet(width, images, classes)
    if model == "transformer_lm":
        return _blocks(width, problem)
    return chain(_blocks(width, problem), _blocks(width, problem, across=True))  # an encoder and a decoder


def _resnet(
    images: int, inputs: int, stages: Iterable[int], blocks: int, classes: int, projected: bool
) -> Iterator[int]:
    """A stem, stages of blocks of two 3x3 convolutions, and a linear layer.

    Args:
        images: channels of the images.
        inputs: channels of the stem.
        stages: channels by stage.
        blocks: of each stage.
        classes: outputs.
        projected: 1x1 shortcuts where the number of channels changes.
    """
    yield 9 * images * inputs
    for outputs in stages:
        yield projected * inputs * outputs * (inputs != outputs)
        for _ in range(blocks):
            yield 9 * outputs * (inputs + outputs)
            inputs = outputs
    yield inputs * classes


def _vgg16(width: int, inputs: int, classes: int) -> Iterator[int]:
    for convolutions, outputs in ((2, width), (2, 2 * width), (3, 4 * width), (3, 8 * width), (3, 8 * width)):
        for _ in range(convolutions):
            yield 9 * inputs * outputs
            inputs = outputs
    yield inputs * classes


def _resnet50(width: int, images: int, classes: int) -> Iterator[int]:
    """Stages of bottlenecks; `width` is that of the 3x3 convolutions of the first stage."""
    yield 49 * images * 64
    inputs = 64
    for blocks, planes in ((3, 64), (4, 128), (6, 256), (3, 512)):
        inner, outputs = planes * width // 64, 4 * planes
        yield inputs * outputs
        for _ in range(blocks):
            yield inputs * inner + 9 * inner * inner + inner * outputs
            inputs = outputs
    yield inputs * classes


def _fcn(classes: int) -> list[int]:
    return [9 * 2048 * 512, 512 * classes]


def _deeplab(classes: int) -> list[int]:
    """A 1x1 and three dilated convolutions side by side with a pooled one, what joins them, and a 3x3 convolution."""
    inputs, inner = 2048, 256
    return [*(inputs * inner * size for size in (1, 9, 9, 9, 1)), 5 * inner**2, 9 * inner**2, inner * classes]


def _blocks(width: int, problem: Problem, across: bool = False) -> Iterator[int]:
    """Transformer blocks: four projections of attention, four more of that to another sequence, two linear layers."""
    projections = [width**2] * (8 if across else 4)
    return chain.from_iterable(repeat([*projections, 4 * width**2, 4 * width**2], depth_of(problem)))


def _unet(width: int, inputs: int, classes: int) -> Iterator[int]:
    widths = [width << level for level in range(4)]
    for outputs in widths:
        yield 9 * inputs * outputs
        yield 9 * outputs**2
        inputs = outputs
    for outputs in reversed(widths[:-1]):
        yield 4 * 2 * outputs**2
        yield 9 * 2 * outputs**2
        yield 9 * outputs**2
    yield width * classes
