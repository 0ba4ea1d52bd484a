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

    "sparsity" has the zeros among the prunable weights, as a fraction of these ("prunable") and of all parameters
    ("all"), and by prunable tensor its weights, zeros and dense MACs ("layers"). "macs" has "dense", "sparse" (the sum
    of density * MACs over the layers) and "speedup" = dense / sparse, None where nothing is left.

    dense: the result of `macs` for such a network, where it is known.
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
    """The record's "smaller", of the network without the removed filters.

    It has its "parameters" and "macs", and by layer that lost filters how many there were ("outputs") and are "left".
    """
    outputs, left = (
        {name: module.weight.shape[0] for name, module in version.named_modules() if isinstance(module, COUNTED)}
        for version in (network, smaller)
    )
    return {
        "parameters": sum(parameter.numel() for parameter in smaller.parameters()),
        "macs": sum(macs(smaller, image).values()),
        "layers": {
            name: {"outputs": count, "left": left[name]} for name, count in outputs.items() if left[name] != count
        },
    }


def macs(network: nn.Module, image: Sequence[int]) -> dict[str, int]:
    """Dense MACs by prunable weight for one input of shape `image`: half of what torch's flop formulas count.

    0 for a weight of other layers than convolutions and linear ones, such as the projections of torch's
    MultiheadAttention. The network runs once on zeros with weights of zeros, since only shapes matter; its weights and
    batch statistics do not change.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    # Not on the meta device, whose batch norm imports torch's compiler (as torch's FlopCounterMode does): that would
    # cost every worker over a second.
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


def _flops(layer: Any, inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """Of shapes of inputs and outputs."""
    weight = list(layer.weight.shape)
    if isinstance(layer, nn.Linear):
        return mm_flop((math.prod(inputs[:-1]), inputs[-1]), (weight[1], weight[0]))
    return conv_flop_count(list(inputs), weight, list(outputs), layer.transposed)
