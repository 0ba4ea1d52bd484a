"""Which weights of a network may be pruned, and what is said of a network where that cannot be known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from benchmark.errors import UserError

NEVER = (
    *(nn.Embedding, nn.EmbeddingBag),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase),
)
"""Modules whose parameters are never pruned, whatever their rank."""

WEIGHT = re.compile(r"(.*_)?weight(_.*)?")


def prunable(network: nn.Module) -> dict[str, nn.Parameter]:
    """By name, the weights that may be pruned: those of convolutions and linear layers, first and last included.

    They are the parameters of rank 2 or more that are called "weight", "in_proj_weight" (attention) or "weight_ih_l0"
    (recurrent layers). Embeddings (also where an output layer shares them), norms, biases and other parameters, such as
    tables of positions, are never pruned, and neither is what a module names in an attribute `not_prunable`.
    """
    never = [module for module in network.modules() if isinstance(module, NEVER)]
    kept = {id(weight) for module in never for weight in module.parameters(recurse=False)}
    for module in network.modules():  # the network itself, or what a wrapper such as DataParallel holds
        if named := getattr(module, "not_prunable", ()):
            kept |= {id(weight) for name, weight in module.named_parameters(remove_duplicate=False) if name in named}
    every = dict(network.named_parameters())
    return {
        name: weight
        for name, weight in every.items()
        if weight.dim() >= 2
        and WEIGHT.fullmatch(name.rpartition(".")[2])
        and id(weight) not in kept
        and not (_is_vector(weight) and name.endswith("_g") and f"{name[:-1]}v" in every)
    }


def _is_vector(weight: Tensor) -> bool:
    """As the norms of torch.nn.utils.weight_norm are, which lie beside a weight of the same name with a "v"."""
    return weight.numel() == max(weight.shape)


def refuse_unfit(network: nn.Module, where: str) -> None:
    """UserError, beginning with `where`, for a network of which `prunable` would give the wrong weights."""
    if any(is_lazy(parameter) for parameter in network.parameters()):
        raise UserError(f"{where}: its lazy layers have no weights before their first batch; give them their sizes")
    dense = set()
    for module in network.modules():
        names = getattr(module, "not_prunable", ())
        if isinstance(names, str) or not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
            raise UserError(f"{where}: its not_prunable is {names!r:.60}, not names of parameters")
        if not names:
            continue
        computed = {name: (layer, weight) for name, layer, weight in _computed(module)}
        known = computed.keys() | {name for name, _ in module.named_parameters(remove_duplicate=False)}
        if unknown := sorted(set(names) - known):
            raise UserError(f"{where}: its not_prunable names {unknown[0]!r}, which is no parameter of it")
        dense |= {(id(computed[name][0]), computed[name][1]) for name in set(names) & computed.keys()}
    for name, layer, weight in _computed(network):
        if (id(layer), weight) not in dense:
            raise UserError(
                f"{where}: {name} is computed from other parameters, so that pruning them is not pruning it; make it a "
                "plain one before, by torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove"
            )
    for name, parameter in prunable(network).items():
        if not parameter.is_floating_point():
            raise UserError(f"{where}: {name} has {parameter.dtype} for numbers; floating point is what can be pruned")


def _computed(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(name, layer, its name in the layer) of weights that torch computes anew for every forward pass."""
    for prefix, layer in network.named_modules():
        if isinstance(layer, NEVER):
            continue
        # looked at without computing them, which may change a layer, as spectral_norm's does
        sources = {
            name: [*of.parameters(recurse=False), *of.buffers(recurse=False)]
            for name, of in (layer.parametrizations.items() if parametrize.is_parametrized(layer) else ())  # type: ignore[union-attr, operator]
        }
        for name, _ in layer.named_buffers(recurse=False):
            if (weight := layer._parameters.get(f"{name.removesuffix('_mask')}_orig")) is not None:
                sources[name.removesuffix("_mask")] = [weight]
        for name, parameters in sources.items():
            if WEIGHT.fullmatch(name) and max((parameter.dim() for parameter in parameters), default=0) >= 2:
                yield f"{prefix}.{name}".lstrip("."), layer, name
