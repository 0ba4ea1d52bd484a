"""What pruning saved: sparsity, and multiply-accumulates over convolutions and linear layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import conv_flop_count, mm_flop

from benchmark.pruning.masks import prunable

COUNTED = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers whose operations count: the paper's speedup is over convolutions and linear layers."""


def measure(network: nn.Module, image: Sequence[int], dense: dict[str, int] | None = None) -> dict[str, Any]:
    """The record's "sparsity" and "macs", for one input of shape `image` (channels, height, width).

    sparsity: the zeros among prunable weights, as a fraction of those ("prunable") and of all weights and biases, batch
    norm's included ("all"); "layers": by prunable tensor its weights, zeros and dense MACs. macs: "dense"; "sparse",
    the sum of density * MACs over the layers; "speedup" = dense / sparse, None where nothing is left. dense: what
    `macs` gave for such a network, where that is known.
    """
    dense = macs(network, image) if dense is None else dense
    layers = {
        name: {
            "weights": weight.numel(),
            "zeros": weight.numel() - int(torch.count_nonzero(weight.detach())),
            "macs": dense[name],
        }
        for name, weight in prunable(network).items()
    }
    zeros, weights = (sum(layer[key] for layer in layers.values()) for key in ("zeros", "weights"))
    everything = sum(parameter.numel() for parameter in network.parameters())
    total = sum(dense.values())
    sparse = sum(layer["macs"] * (1 - layer["zeros"] / max(layer["weights"], 1)) for layer in layers.values())
    return {
        "sparsity": {
            "prunable": zeros / max(weights, 1),
            "all": zeros / max(everything, 1),
            "layers": layers,
        },
        "macs": {"dense": total, "sparse": sparse, "speedup": total / sparse if sparse else None},
    }


def describe_smaller(network: nn.Module, smaller: nn.Module, image: Sequence[int]) -> dict[str, Any]:
    """The record's "smaller": of the network from which filters were really taken out.

    "parameters" and "macs": those that it has; "layers": by layer of `network` whose outputs became fewer, how many
    there were ("outputs") and how many are "left".
    """
    outputs, left = (
        {name: module.weight.shape[0] for name, module in one.named_modules() if isinstance(module, COUNTED)}
        for one in (network, smaller)
    )
    return {
        "parameters": sum(parameter.numel() for parameter in smaller.parameters()),
        "macs": sum(macs(smaller, image).values()),
        "layers": {
            name: {"outputs": count, "left": left[name]} for name, count in outputs.items() if left[name] != count
        },
    }


def macs(network: nn.Module, image: Sequence[int]) -> dict[str, int]:
    """Dense MACs by prunable weight for one input of shape `image`, half of what torch's own flop formulas count.

    0 for a weight that is not one of a convolution or linear layer; nor do the projections inside torch's
    MultiheadAttention count, which is no such layer. The network runs once with zeros in the place of an image and of
    all weights, for the shapes alone: no data is touched and batch statistics stay as they are.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    # Not on the meta device: its batch norm imports torch's compiler, as does torch's FlopCounterMode, and that takes
    # every worker over a second.
    zeros = {name: torch.zeros_like(tensor, device="cpu") for name, tensor in tensors.items()}
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    training = {module: module.training for module in network.modules()}
    counted: Counter[nn.Module] = Counter()

    def count(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        counted[module] += _flops(module, (*inputs, *named.values())[0].shape, output.shape) // 2

    layers = {name: module for name, module in network.named_modules() if isinstance(module, COUNTED)}
    hooks = [layer.register_forward_hook(count, with_kwargs=True) for layer in layers.values()]
    network.eval()
    try:
        with torch.no_grad():
            functional_call(network, zeros, (torch.zeros(1, *image, dtype=dtype),))
    finally:
        for hook in hooks:
            hook.remove()
        for module, was_training in training.items():
            module.training = was_training
    owners = {name: layers.get(name.rpartition(".")[0]) for name in prunable(network)}
    return {name: 0 if layer is None else counted[layer] for name, layer in owners.items()}


def _flops(layer: Any, given: Sequence[int], made: Sequence[int]) -> int:
    weight = list(layer.weight.shape)
    if isinstance(layer, nn.Linear):
        return mm_flop((math.prod(given[:-1]), given[-1]), (weight[1], weight[0]))
    return conv_flop_count(list(given), weight, list(made), layer.transposed)
