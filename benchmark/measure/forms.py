"""The forms in which a pruned network can predict: dense, masked, without its filters, and with sparse kernels."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import Problem, cut
from benchmark.errors import UserError
from benchmark.problems import models
from benchmark.trained import Trained
from benchmark.training.formats import ONNX_NEEDS, encode
from benchmark.training.latency import in_format
from benchmark.training.precision import autocast

Inputs = tuple[Tensor, ...]
PACKAGES = (*ONNX_NEEDS, "onnxruntime")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
LONGEST = 100
"""Characters that are shown of why a form does not run."""


@dataclass(frozen=True)
class Form:
    """A form of a network in one runtime, as it is on disk.

    Args:
        runtime: "torch" or "onnxruntime".
        name: "dense", "masked" (pruned weights are zeros), "compact" or "csr".
        content: what `call` takes; empty if there is no such form here.
        size: bytes of its file.
        remark: why there is none, or what it covers.
    """

    runtime: str
    name: str
    content: bytes = b""
    size: int = 0
    remark: str = ""


class NotHere(Exception):
    """There is no such form of this network on this machine. The message says why."""


def forms(trained: Trained, device: torch.device) -> Iterator[Form]:
    """All forms of a finished cell's network, by runtime."""
    makers: dict[str, Callable[[], tuple[nn.Module, str]]] = {
        "dense": lambda: (models.build(trained.cell.problem, trained.cell.seed).eval(), ""),
        "masked": lambda: (trained.network, ""),
        "compact": lambda: _compact(trained),
        "csr": lambda: sparse_rows(trained.network),
    }
    if trained.cell.is_dense:
        makers = {"dense": makers["masked"]}
    for name, make in makers.items():
        try:
            network, remark = make()
            yield _of_torch(name, network, remark, trained, device)
        except NotHere as reason:
            yield Form("torch", name, remark=str(reason))
    for name in [name for name in ("dense", "masked", "compact") if name in makers]:
        try:
            yield _of_onnxruntime(name, makers[name]()[0], trained, device)
        except NotHere as reason:
            yield Form("onnxruntime", name, remark=str(reason))


def _of_torch(name: str, network: nn.Module, remark: str, trained: Trained, device: torch.device) -> Form:
    content, weights = io.BytesIO(), io.BytesIO()
    try:
        torch.save(network, content)
        torch.save(network.state_dict(), weights)
        call(Form("torch", name, content.getvalue()), trained.example(2), trained.cell.problem, device, 1)()
    except Exception as error:  # sparse kernels cover what they cover, and say so in many ways
        raise NotHere(f"does not run: {cut(' '.join(str(error).split()), LONGEST)}") from None
    return Form("torch", name, content.getvalue(), weights.tell(), remark)


def _of_onnxruntime(name: str, network: nn.Module, trained: Trained, device: torch.device) -> Form:
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise NotHere(f"{missing[0]} is not installed")
    import onnxruntime

    if PROVIDERS.get(device.type) not in onnxruntime.get_available_providers():
        raise NotHere(f"this onnxruntime does not run on {device.type}")
    try:
        content = encode("onnx", network, trained.example, {})
    except UserError as error:
        raise NotHere(cut(str(error), LONGEST)) from None
    return Form("onnxruntime", name, content, len(content))


def call(form: Form, inputs: Inputs, problem: Problem, device: torch.device, threads: int) -> Callable[[], object]:
    """A prediction for these inputs, to be called again and again. inputs: on the CPU."""
    if form.runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(form.content, options, providers=[PROVIDERS[device.type]])
        names = [value.name for value in session.get_inputs()]
        return partial(session.run, None, {name: v.numpy() for name, v in zip(names, inputs, strict=True)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sparse tensors are in beta
        network = torch.load(io.BytesIO(form.content), map_location=device, weights_only=False).eval()
    there = tuple(in_format(value.to(device), problem) for value in inputs)
    return partial(_predict, network, there, problem.precision, device)


def _predict(network: nn.Module, inputs: Inputs, precision: str, device: torch.device) -> Any:
    with torch.no_grad(), autocast(precision, device):
        return network(*inputs)


def _compact(trained: Trained) -> tuple[nn.Module, str]:
    if "smaller" not in trained.record:
        raise NotHere("no whole filters were pruned")
    return trained.compact().to(memory_format=models.memory_format(trained.cell.problem)), ""  # type: ignore[call-overload]


def sparse_rows(network: nn.Module) -> tuple[nn.Module, str]:
    """A copy whose linear layers with zeros have weights in compressed sparse rows, and how many layers these are."""
    converted = copy.deepcopy(network)
    linear = [layer for layer in converted.modules() if isinstance(layer, nn.Linear)]
    fitting = [layer for layer in linear if layer.weight.eq(0).any()]
    if not fitting:
        raise NotHere("no linear layer has zeros")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sparse tensors are in beta
            for layer in fitting:
                layer.weight = nn.Parameter(layer.weight.detach().to_sparse_csr(), requires_grad=False)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise NotHere(f"does not run: {cut(' '.join(str(error).split()), LONGEST)}") from None
    others = sum(isinstance(layer, nn.modules.conv._ConvNd) for layer in converted.modules())
    return converted, f"{len(fitting)} of {len(linear) + others} layers"
