"""Networks, by the names that problem files use. Imports torch only when one is built: planning needs the names alone.

A new network is a function of the problem and a line in MODELS, or one of your own named "module:function". Of the
problem it should heed `classes`, `channels` and, if its size can be chosen, `width` and `depth`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmark.cells import FUNCTION, Problem
from benchmark.errors import UserError
from benchmark.imports import check_named, code_of_others, load
from benchmark.problems.sizes import OWN_DEPTH, STAGES, dense_ends, depth_of, width_of

if TYPE_CHECKING:
    import torch
    from torch import nn

CHANNELS_LAST_FROM = 16
"""Image size, in pixels a side, from which convolutions are faster with the channels last."""


def _resnet(problem: Problem) -> nn.Module:
    """Three stages with shortcuts without parameters (He et al. 2016, 4.2), or four (table 1), of so many blocks, with
    a stem for small images: 6 * blocks + 2 or 8 * blocks + 2 layers."""
    from benchmark.problems.networks.convolutional import BasicBlock, ProjectionBlock, SmallImageResNet

    stages, blocks = STAGES[problem.model]
    block = BasicBlock if stages == 3 else ProjectionBlock
    return SmallImageResNet(block, stages, blocks, width_of(problem), problem.channels, problem.classes)


def _vgg16(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.convolutional import VGG

    width = width_of(problem)
    stages = [(2, width), (2, 2 * width), (3, 4 * width), (3, 8 * width), (3, 8 * width)]
    return VGG(stages, problem.channels, problem.classes)


def _wideresnet28_10(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.convolutional import WideResNet

    return WideResNet(4, 10, width_of(problem), problem.channels, problem.classes)


def _resnet50(problem: Problem) -> nn.Module:
    """torchvision's ResNet-50 (stride in the 3x3 convolutions), for images of about 224 pixels.

    Its width is that of the bottlenecks' inner convolutions, as in Wide ResNet-50-2, which has 128.
    """
    from torchvision.models import resnet50

    return resnet50(num_classes=problem.classes, width_per_group=width_of(problem))


def _vit(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.vit import VisionTransformer

    return VisionTransformer(
        width_of(problem), depth_of(problem), problem.image_size, problem.channels, problem.classes
    )


def _unet(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.unet import UNet

    return UNet(width_of(problem), problem.channels, problem.classes)


def _pixelwise(problem: Problem) -> nn.Module:
    """FCN (Long, Shelhamer and Darrell 2015) or DeepLabv3 (Chen et al. 2017) in torchvision's form.

    DeepLabv3's dilations are 12, 24 and 36, as at an output stride of 8. On features no wider than that the outer taps
    of the last would only ever see padding: there, but for weights that are given, they are 6, 12 and 18.
    """
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead
    from torchvision.models.segmentation.fcn import FCNHead

    from benchmark.problems.networks.pixelwise import CHANNELS, Dilated

    if problem.model == "fcn_resnet50":
        return Dilated(width_of(problem), FCNHead(CHANNELS, problem.classes))
    narrow = problem.image_size // 8 <= WIDEST_DILATION and not problem.weights
    dilations = (6, 12, 18) if narrow else (12, 24, WIDEST_DILATION)
    return Dilated(width_of(problem), DeepLabHead(CHANNELS, problem.classes, dilations))


def _transformer_lm(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.text import LanguageModel

    return LanguageModel(width_of(problem), depth_of(problem), problem.classes)


def _transformer(problem: Problem) -> nn.Module:
    from benchmark.problems.networks.text import Translator

    return Translator(width_of(problem), depth_of(problem), problem.classes)


def _t5(problem: Problem) -> nn.Module:
    """T5 (Raffel et al. 2020) by the library transformers; of T5-small's size if the recipe says nothing."""
    from benchmark.problems.networks.t5 import T5

    return T5(problem)


WIDEST_DILATION = 36
MODELS: dict[str, Callable[[Problem], nn.Module]] = {
    **dict.fromkeys(STAGES, _resnet),
    "vgg16": _vgg16,
    "wideresnet28-10": _wideresnet28_10,
    "resnet50": _resnet50,
    "vit": _vit,
    "unet": _unet,
    "fcn_resnet50": _pixelwise,
    "deeplabv3_resnet50": _pixelwise,
    "transformer_lm": _transformer_lm,
    "transformer": _transformer,
    "t5": _t5,
}
TASK_OF = {
    **dict.fromkeys(("unet", "fcn_resnet50", "deeplabv3_resnet50"), "segmentation"),
    **{"transformer_lm": "language_modelling", "transformer": "translation", "t5": "translation"},
}
"""What a network is for: "classification" for all others."""
SIDES = {"vit": 4, "unet": 8}
"""What the sides of an image must be multiples of."""


def check_model(problem: Problem) -> None:
    """Raises UserError for an unknown name, and for a task, images or a depth that the network cannot take."""
    if FUNCTION.fullmatch(problem.model):
        check_named(problem.model, f"problem {problem.name}: model {problem.model!r}")
    elif reason := _reason(problem):
        raise UserError(f"problem {problem.name}: model {reason}")


def _reason(problem: Problem) -> str | None:
    """Why a network of the suite does not fit, None if it does."""
    model, size, task = problem.model, problem.image_size, TASK_OF.get(problem.model, "classification")
    if model not in MODELS:
        return f"{model!r} is unknown: one of {', '.join(MODELS)}, or your own as 'module:function'"
    if problem.task != task and not FUNCTION.fullmatch(problem.task):
        return f"{model} is for task {task}, not for task {problem.task}"
    if problem.depth and model not in OWN_DEPTH:
        return f"{model} has a depth of its own, so that depth {problem.depth} means nothing"
    if model == "vgg16" and size < 32:
        return "vgg16 halves images five times: image_size must be 32 or more"
    if model.endswith("resnet50") and problem.channels != 3:
        return f"{model} takes 3 channels, not {problem.channels}"
    if size % SIDES.get(model, 1):
        return f"{model} takes images whose image_size is a multiple of {SIDES[model]}, not {size}"
    return None


def build(problem: Problem, seed: int) -> nn.Module:
    """The problem's network with the initial weights of `seed`, which depend on nothing else. Raises UserError.

    Its attribute `not_prunable` has the parameters that are never pruned although they are weights (see `prunable`).
    """
    import torch

    from benchmark.problems.seeds import generator

    check_model(problem)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, problem.dataset, problem.model, "initial weights").get_state())
        network = MODELS[problem.model](problem) if problem.model in MODELS else _from_outside(problem)
    _keep_dense(network, problem)
    if any(parameter.dim() == 5 for parameter in network.parameters()):  # volumes, which have no such format
        return network
    return network.to(memory_format=memory_format(problem))  # type: ignore[call-overload]


def _from_outside(problem: Problem) -> nn.Module:
    """What "module:function" gives for the problem. UserError if that is no network."""
    from torch import nn

    where = f"problem {problem.name}: model {problem.model!r}"
    function = load(problem.model, where)
    with code_of_others(where):
        network = function(problem)
    if not isinstance(network, nn.Module):
        raise UserError(f"{where}: it gives a {type(network).__name__}, not a torch.nn.Module")
    return getattr(network, "_orig_mod", network)  # of torch.compile: the recipe has `compile` for that


def _keep_dense(network: nn.Module, problem: Problem) -> None:
    """Set `not_prunable`, to which a network itself may have named some. UserError where nothing is left to prune."""
    from benchmark.pruning.prunable import prunable, refuse_unfit

    where = f"problem {problem.name}: model {problem.model if problem.model in MODELS else repr(problem.model)}"
    refuse_unfit(network, where)
    if odd := [name for name, value in network.state_dict().items() if not hasattr(value, "shape")]:
        raise UserError(f"{where}: {odd[0]} of its state is no tensor, as get_extra_state must give one here")
    named = frozenset(getattr(network, "not_prunable", ()))
    candidates = list(prunable(network))
    network.not_prunable = named | (set(candidates) - set(candidates[dense_ends(problem)]))  # type: ignore[assignment]
    if not prunable(network):
        but = "" if problem.dense_layers == "none" else f" beside those that dense_layers {problem.dense_layers} keeps"
        raise UserError(f"{where}: it has no weight of a convolution or linear layer to prune{but}")


def memory_format(problem: Problem) -> torch.memory_format:
    """How images and convolutions lie in memory: channels last is 1.4 times faster for all but the smallest images."""
    import torch

    return torch.channels_last if problem.image_size >= CHANNELS_LAST_FROM else torch.contiguous_format
