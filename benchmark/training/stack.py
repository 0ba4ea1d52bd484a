"""Several networks of one architecture in one batched model: their training forward and backward as one.

Small networks are bound by the number of operations, not by their size. Here the channels of all networks lie side by
side: convolutions have a group for each network, batch norm works channel by channel as it is, and the classifier is a
batched product. The networks' own parameters, gradients and buffers become views of the batched model's, so that
optimizers, masks, methods, evaluation and checkpoints work on each network as if it were alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Problem
from benchmark.problems.networks import BasicBlock
from benchmark.training.precision import autocast


class NotStackable(Exception):
    """These networks cannot be trained as one."""


class Stack:
    """networks: of one architecture, on one device; their tensors keep shapes and strides.

    Raises NotStackable for a layer that has no batched form.
    """

    def __init__(self, networks: Sequence[nn.Module], problem: Problem):
        self.networks = list(networks)
        self.problem = problem
        self.model = _batched(self.networks)
        self.device = next(self.model.parameters()).device
        self._parameters = list(self.model.parameters())
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._counters: list[Tensor] = []
        self._owners: list[tuple[Tensor, Tensor, Tensor]] = []
        self._lend()

    @property
    def size(self) -> int:
        return len(self.networks)

    def forward_backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(losses (networks,), logits (networks, b, classes)) of a batch; gradients of each network's own mean loss are
        left in its parameters. Raises NotStackable where a method put other tensors in the place of the weights."""
        for own, lent, gradient in self._owners:
            if own.data_ptr() != lent.data_ptr() or own.grad is not gradient:
                raise NotStackable("a method put other tensors in the place of its network's weights or gradients")
        torch._foreach_zero_(self._gradients)
        with autocast(self.problem.precision, self.device):
            logits = self.model(_channels_last(images))
            losses = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(self.size), reduction="none").view(
                self.size, -1
            )
        means = losses.mean(1)
        means.sum().backward()
        if self._counters:
            torch._foreach_add_(self._counters, 1)
        return means.detach(), logits.detach()

    def _lend(self) -> None:
        """Let the networks' parameters, gradients and buffers be parts of the batched model's."""
        batched = dict(self.model.named_modules())
        for name, module in self.networks[0].named_modules():
            whole = batched[name]
            for key, _ in module.named_parameters(recurse=False):
                parameter = whole.get_parameter(key)
                assert parameter.grad is not None
                values, gradients = (tensor.detach().chunk(self.size) for tensor in (parameter, parameter.grad))
                for network, value, gradient in zip(self.networks, values, gradients, strict=True):
                    own = network.get_submodule(name).get_parameter(key)
                    own.data, own.grad = value.view(own.shape), gradient.view(own.shape)
                    self._owners.append((own, own.data, own.grad))
            for key, buffer in module.named_buffers(recurse=False):
                for index, network in enumerate(self.networks):
                    own_buffer = network.get_submodule(name).get_buffer(key)
                    if buffer.dim() == 0:
                        self._counters.append(own_buffer)
                    else:
                        own_buffer.data = whole.get_buffer(key).chunk(self.size)[index]


def _batched(networks: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first network whose layers hold the weights of all. Raises NotStackable."""
    model = copy.deepcopy(networks[0]).train()
    groups = 1  # the images are the same for all: the first convolution needs no groups
    for name, layer in list(model.named_modules()):
        layers = [network.get_submodule(name) for network in networks]
        if isinstance(layer, BasicBlock):
            layer.stacked = len(networks)
        elif isinstance(layer, nn.Linear):
            model.set_submodule(name, _Classifiers(layers))
        elif isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            _widen(layer, layers)
            if isinstance(layer, nn.Conv2d):
                layer.groups *= groups
                groups = len(networks)
        elif any(True for _ in layer.named_parameters(recurse=False)):
            raise NotStackable(f"{type(layer).__name__} has no batched form")
    return model


def _channels_last(images: Tensor) -> Tensor:
    """Groups of few channels are several times faster with the channels last. torch goes by the strides, which of
    images with one channel it would leave as they are."""
    last = images.permute(0, 2, 3, 1).contiguous()
    b, height, width, channels = last.shape
    strides = (height * width * channels, 1, width * channels, channels)
    return last.as_strided((b, channels, height, width), strides)


def _widen(layer: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Let `layer` hold the tensors of all `layers` one after the other; a count, shape (), stays its own."""
    for key, _ in list(layer.named_parameters(recurse=False)):
        setattr(layer, key, nn.Parameter(torch.cat([each.get_parameter(key).detach() for each in layers])))
    for key, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.dim():
            setattr(layer, key, torch.cat([each.get_buffer(key) for each in layers]))


class _Classifiers(nn.Module):
    """Linear layers side by side: (b, networks * inputs) -> (networks, b, outputs)."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.get_parameter("weight").detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.get_parameter("bias").detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        each = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), each, self.weight.transpose(1, 2))
