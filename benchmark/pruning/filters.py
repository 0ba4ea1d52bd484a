"""Filter pruning: which output channels can be removed, what depends on each, and the smaller network that is left.

With an output channel go its filter, its bias, its batch norm, and the weights of every later layer that read it;
channels that a shortcut adds up go together. torch-pruning (Fang et al. 2023) finds these dependencies. During training
all of it is held at zero, so that the network computes exactly what the smaller one would. `smaller` builds that one.

Every convolution is pruned whose channels can be removed, alone or together with those that shortcuts tie to them.
Shortcuts that pad with zero channels (option A of He et al. 2016: ResNet-8/20/56) tie channel c of one stage to
channel c + offset of the next, which does not survive a removal. In these networks only the first convolution of each
block is pruned, as Le and Hua (2021) and Li et al. (2017) do. Never pruned are the network's outputs, grouped
convolutions and layers of other kinds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.errors import UserError
from benchmark.pruning.criteria import Criterion, Difference
from benchmark.pruning.masks import Masks
from benchmark.pruning.prunable import prunable

if TYPE_CHECKING:
    import torch_pruning


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
TOLERANCE = 1e-9
"""How much the outputs of masked and smaller network may differ in float64, relative to the largest output."""


@dataclass(frozen=True, eq=False)
class Part:
    """A dimension of a parameter. channel: int64 (its size,), the channel that each index belongs to, -1 for none."""

    parameter: str
    dimension: int
    channel: Tensor


@dataclass(frozen=True, eq=False)
class FilterGroup:
    """Output channels that can be removed one by one, with all that depends on them.

    Args:
        layers: that compute them, several where shortcuts add their outputs up; the first one names the group.
        channels: how many there are.
        parts: of parameters that depend on these channels, the filters of `layers` included.
    """

    layers: tuple[str, ...]
    channels: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return self.layers[0]


def find_groups(network: nn.Module, image: Sequence[int]) -> list[FilterGroup]:
    """The groups of a network for inputs of shape `image` (channels, height, width). The network is not changed.

    UserError if there are none, or if taking channels out gives other outputs than setting them to zero.
    """
    copied = copy.deepcopy(network).cpu().double().eval()
    names = {module: name for name, module in copied.named_modules()}
    candidates = _graph(copied, image).get_all_groups(root_module_types=list(CONVOLUTIONS))
    may_lose = prunable(copied)
    groups = [
        group
        for candidate in candidates
        if (group := _removable(candidate, names)) is not None
        and all(f"{layer}.weight" in may_lose for layer in group.layers)
    ]
    if not groups:
        raise UserError("criterion filters: this network has no layer of which whole filters can be removed")
    _check(copied, image, groups)
    return groups


def _graph(network: nn.Module, image: Sequence[int]) -> torch_pruning.DependencyGraph:
    weight = next(network.parameters())
    # In a tuple: torch-pruning would unpack a bare tensor into inputs without a batch dimension.
    example = (torch.zeros(1, *image, dtype=weight.dtype, device=weight.device),)
    import torch_pruning  # half a second, which cells that prune single weights need not pay

    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(network, example_inputs=example, verbose=False)


def _removable(group: torch_pruning.Group, names: Mapping[nn.Module, str]) -> FilterGroup | None:
    """torch-pruning's group as ours, None if its channels cannot be removed one by one. names: of the modules."""
    channels = len(group[0].idxs)
    if channels < 2 or not all(_can_lose(item) for item in group.items):
        return None
    layers: list[str] = []
    parts: list[Part] = []
    for item in group.items:
        module = item.dep.target.module
        if module not in names:
            continue  # a node of torch-pruning's graph that is no layer, such as a sum
        dimension = 1 if _reads(item) else 0
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > dimension:
                channel = torch.full((parameter.shape[dimension],), -1)
                channel[item.idxs] = torch.tensor(item.root_idxs)
                parts.append(Part(f"{names[module]}.{key}", dimension, channel))
        if isinstance(module, LAYERS) and not _reads(item):
            layers.append(names[module])
    return FilterGroup(tuple(layers), channels, tuple(parts))


def _reads(item: Any) -> bool:
    """Whether this member of a torch-pruning group is a layer that loses input channels; all others lose outputs."""
    return isinstance(item.dep.target.module, LAYERS) and item.dep.handler.__name__ == "prune_in_channels"


def _can_lose(item: Any) -> bool:
    """Whether this member of a torch-pruning group may lose any of its channels."""
    node, module = item.dep.target, item.dep.target.module
    if not _reads(item) and not node.outputs:
        return False  # the outputs of the network itself
    if isinstance(module, LAYERS):
        # Some of a layer's outputs, or more than it has: a shortcut that pads with zero channels.
        whole = _reads(item) or sorted(item.idxs) == list(range(module.weight.shape[0]))
        return whole and getattr(module, "groups", 1) == 1
    if isinstance(module, _BatchNorm):
        return max(item.idxs) < module.num_features
    return not isinstance(module, nn.Parameter) and not any(True for _ in module.parameters())


def _check(network: nn.Module, image: Sequence[int], groups: Sequence[FilterGroup]) -> None:
    """Take every third channel out of a copy. UserError unless that computes the same as setting them to zero."""
    removed = {group.name: torch.arange(group.channels) % 3 == 0 for group in groups}
    masked = copy.deepcopy(network)
    parameters = dict(masked.named_parameters())
    images = torch.arange(2 * torch.Size(image).numel(), dtype=torch.float64).sin().view(2, *image)
    with torch.no_grad():
        for name, gone in where(groups, removed, parameters).items():
            parameters[name].masked_fill_(gone, 0)
        expected = masked(images)
        try:
            outputs = build_smaller(network, image, removed)(images)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"criterion filters: the network does not run without some channels: {reason}") from None
    if outputs.shape != expected.shape or (outputs - expected).abs().max() > TOLERANCE * expected.abs().max():
        raise UserError("criterion filters: without some channels the network computes other things than with zeros")


def where(
    groups: Sequence[FilterGroup], removed: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """By parameter that the groups touch, a mask of its shape: true where it is removed.

    removed: by group, bool (channels,).
    """
    masks: dict[str, Tensor] = {}
    for group in groups:
        for part in group.parts:
            parameter = parameters[part.parameter]
            gone = masks.setdefault(part.parameter, torch.zeros_like(parameter, dtype=torch.bool))
            lost = (removed[group.name][part.channel] & (part.channel >= 0)).nonzero().flatten()
            gone.index_fill_(part.dimension, lost.to(gone.device), True)
    return masks


def build_smaller(network: nn.Module, image: Sequence[int], removed: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `network`, in evaluation mode, without the removed channels. removed: by group, bool (channels,)."""
    smaller = copy.deepcopy(network).eval()
    graph = _graph(smaller, image)
    for name, gone in removed.items():
        layer = smaller.get_submodule(name)
        indices = gone.nonzero().flatten().tolist()
        if indices:
            graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, indices).prune()
    return smaller


def without_zeros(network: nn.Module, image: Sequence[int]) -> nn.Module:
    """`build_smaller` for a trained network: without the channels that are zero with all that computes them."""
    parameters = dict(network.named_parameters())
    removed = {}
    for group in find_groups(network, image):
        alive = torch.zeros(group.channels, dtype=torch.bool)
        for part in group.parts:
            if part.dimension == 0:
                rows = parameters[part.parameter].detach().cpu().reshape(len(part.channel), -1)
                alive[part.channel[rows.ne(0).any(1) & (part.channel >= 0)]] = True
        alive[0] |= not alive.any()  # a layer without filters would be none
        removed[group.name] = ~alive
    return build_smaller(network, image, removed)


LAYOUTS = {
    "A": ("1/1/1", (16, 20, 38, 54)),
    "B": ("6/3/1", (16, 18, 20, 34, 38, 54)),
    "C": ("6/5/4", (16, 18, 20, 34, 38, 54)),
    "D": ("1/1/1", (16, 18, 20, 34, 38, 54)),
}
"""Le and Hua's (2021) for ResNet-56, as their script has them: what each stage loses, and layers that lose nothing.
Layers count from 1, the stem; the first convolution of block b is layer 2b. Theirs are A at a sparsity of 0.1, the
others at 0.6. Of c filters int(c (1 - p)) stay."""
BLOCKS = 27
"""Of ResNet-56."""


def shares(stages: str, groups: Sequence[FilterGroup]) -> dict[str, float]:
    """By group, what the fraction asked for is multiplied by, up to 1.

    stages: "even" is 1 for all. "6/3/1" gives the first stage 1, the second 1/2 and the third 1/6; a stage is all
    groups with equally many channels, the narrowest first. "A" to "D" are LAYOUTS.
    """
    if stages == "even":
        return {group.name: 1.0 for group in groups}
    if stages in LAYOUTS:
        if len(groups) != BLOCKS:
            raise UserError(
                f"method IMP: hyperparameter stages is {stages!r}, a layout of Le and Hua for the {BLOCKS} blocks of "
                f"resnet56; this network has {len(groups)} groups of filters"
            )
        ratios_of_stages, spared = LAYOUTS[stages]
        of_all = shares(ratios_of_stages, groups)
        return {
            group.name: 0.0 if 2 * block in spared else of_all[group.name]
            for block, group in enumerate(groups, start=1)
        }
    widths = sorted({group.channels for group in groups})
    ratios = [float(part) for part in stages.split("/")]  # from 0 up and not all 0: planning has seen to it
    if len(ratios) != len(widths):
        raise UserError(
            f"method IMP: hyperparameter stages is {stages!r}; it takes 'even', A to D or a number from 0 up for each "
            f"of this network's {len(widths)} widths ({', '.join(map(str, widths))} filters), such as "
            f"{'/'.join(map(str, range(len(widths), 0, -1)))!r}"
        )
    return {group.name: ratios[widths.index(group.channels)] / max(ratios) for group in groups}


class Filters(Criterion):
    """The criteria "filters" (smallest L1 norm; Li et al. 2017) and "random_filters" (Le & Hua 2021).

    The sparsity asked for is the fraction of filters removed in every group: round(sparsity * channels), but never all.
    `stages` lowers it for some groups (`shares`), and LAYOUTS have a rounding of their own. The norm of a channel that
    shortcuts tie together is the sum over the tied layers.

    Args:
        network: whose filters are pruned.
        image: shape of its inputs, (channels, height, width).
        masks: of its prunable weights.
        random: remove random filters instead of the smallest.
        stages: as `shares` takes it.
    """

    def __init__(self, network: nn.Module, image: Sequence[int], masks: Masks, random: bool, stages: str = "even"):
        self.network, self.image, self.masks, self.random = network, tuple(image), masks, random
        self.groups = find_groups(network, image)
        self.stages, self.shares = stages, shares(stages, self.groups)
        self.removed = {group.name: torch.zeros(group.channels, dtype=torch.bool) for group in self.groups}
        self.parameters = dict(network.named_parameters())
        touched = dict.fromkeys(part.parameter for group in self.groups for part in group.parts)
        self.vectors = Masks({name: self.parameters[name] for name in touched if name not in masks.names})
        """Masks of biases and batch norms that belong to removable channels."""

    @property
    def target(self) -> float | None:
        return self.masks.sparsity

    def prune_to(self, sparsity: float, generator: torch.Generator) -> Difference:
        for group in self.groups:
            gone = self.removed[group.name]
            share = sparsity * self.shares[group.name]
            target = round(share * group.channels)
            if self.stages in LAYOUTS:
                target = group.channels - int(group.channels * (1 - share))
            count = min(target, group.channels - 1) - int(gone.sum())
            scores = torch.rand(group.channels, generator=generator) if self.random else self._norms(group)
            scores[gone] = torch.inf
            gone[scores.argsort(stable=True)[: max(count, 0)]] = True
        return self._remove()

    def _norms(self, group: FilterGroup) -> Tensor:
        """L1 norm of each channel's filters, shape (channels,), on the CPU."""
        weights = [self.parameters[f"{layer}.weight"].detach() for layer in group.layers]
        # Tied layers may have their channels in another order than the first layer.
        channel = {part.parameter: part.channel for part in group.parts if part.dimension == 0}
        total = torch.zeros(group.channels)
        for layer, weight in zip(group.layers, weights, strict=True):
            total.index_add_(0, channel[f"{layer}.weight"], weight.abs().flatten(1).sum(1).float().cpu())
        return total

    def _remove(self) -> Difference:
        gone = where(self.groups, self.removed, self.parameters)
        untouched = {name: torch.zeros_like(self.parameters[name], dtype=torch.bool) for name in self.masks.names}
        gone = {**untouched, **gone}
        return (
            self.masks.remove([gone[name] for name in self.masks.names]),
            self.vectors.remove([gone[name] for name in self.vectors.names]),
        )

    def apply_(self) -> None:
        self.masks.apply_()
        self.vectors.apply_()

    def smaller(self) -> nn.Module | None:
        return build_smaller(self.network, self.image, self.removed)

    def state_dict(self) -> dict[str, Any]:
        return {"removed": self.removed, "vectors": self.vectors.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.removed = {name: state["removed"][name].cpu() for name in self.removed}
        self.vectors.load_state_dict(state["vectors"])
