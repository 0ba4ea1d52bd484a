"""What pruning saved: sparsity, and multiply-accumulates (MACs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.pruning.operations import CountMacs
from benchmark.pruning.prunable import prunable

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers that can lose filters."""


class Macs(NamedTuple):
    """Dense MACs. layers: by prunable weight. others: of all other products, such as those of attention."""

    layers: dict[str, int]
    others: int

    @property
    def total(self) -> int:
        return sum(self.layers.values()) + self.others


def measure(network: nn.Module, inputs: Sequence[Tensor], dense: Macs | None = None) -> dict[str, Any]:
    """The record's "sparsity" and "macs", for `inputs`: the arguments of the network for one example.

    "sparsity" has the zeros among the prunable weights, as a fraction of these ("prunable") and of all parameters
    ("all"), and by prunable tensor its weights, zeros and dense MACs ("layers"). "macs" has "dense", "sparse" (the sum
    of density * MACs over the layers, and all MACs that belong to no prunable weight) and "speedup" = dense / sparse,
    None where nothing is left.

    dense: the result of `macs` for such a network, where it is known.
    """
    dense = macs(network, inputs) if dense is None else dense
    layers = {
        name: {
            "weights": weight.numel(),
            "zeros": weight.numel() - int(torch.count_nonzero(weight.detach())),
            "macs": dense.layers[name],
        }
        for name, weight in prunable(network).items()
    }
    zeros, weights = (sum(layer[key] for layer in layers.values()) for key in ("zeros", "weights"))
    everything = sum(parameter.numel() for parameter in network.parameters())
    sparse = sum(layer["macs"] * (1 - layer["zeros"] / max(layer["weights"], 1)) for layer in layers.values())
    sparse += dense.others
    return {
        "sparsity": {
            "prunable": zeros / max(weights, 1),
            "all": zeros / max(everything, 1),
            "layers": layers,
        },
        "macs": {"dense": dense.total, "sparse": sparse, "speedup": dense.total / sparse if sparse else None},
    }


def describe_smaller(network: nn.Module, smaller: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """The record's "smaller", of the network without the removed filters.

    It has its "parameters" and "macs", and by layer that lost filters how many there were ("outputs") and are "left".
    """
    outputs, left = (
        {name: module.weight.shape[0] for name, module in version.named_modules() if isinstance(module, LAYERS)}
        for version in (network, smaller)
    )
    return {
        "parameters": sum(parameter.numel() for parameter in smaller.parameters()),
        "macs": macs(smaller, inputs).total,
        "layers": {
            name: {"outputs": count, "left": left[name]} for name, count in outputs.items() if left[name] != count
        },
    }


def macs(network: nn.Module, inputs: Sequence[Tensor]) -> Macs:
    """Dense MACs for `inputs`, the arguments of the network for one example.

    The network runs once on a CPU, with its buffers and with weights from a stream of its own: each has a storage to be
    known by, and what a network does with them is the same for every seed and sparsity. Neither its weights nor its
    buffers change.
    """
    parameters = dict(network.named_parameters())
    # Not on the meta device, whose batch norm imports torch's compiler, which would cost every worker over a second.
    stream = torch.Generator().manual_seed(0)
    copies = {
        name: torch.zeros_like(buffer, device="cpu") if buffer.is_meta else buffer.detach().to("cpu", copy=True)
        for name, buffer in network.named_buffers()
    }
    for name, parameter in parameters.items():
        copies[name] = torch.empty_like(parameter, device="cpu").normal_(0, 0.02, generator=stream)
    dtype = next((parameter.dtype for parameter in parameters.values()), torch.float32)
    example = tuple(value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype) for value in inputs)
    training = {module: module.training for module in network.modules()}
    weights = {name: copies[name] for name in prunable(network)}
    network.eval()
    try:
        with torch.no_grad(), CountMacs(weights, [copies[name] for name in parameters]) as counted:
            functional_call(network, copies, example)
    finally:
        for module, was_training in training.items():
            module.training = was_training
    return Macs({name: counted.counts[name] for name in weights}, counted.counts[None])
