"""A GPU without a GPU: tensors that know their device and shape and hold no values, and a list of what is read."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.training.loop import Run


class Waits(TorchDispatchMode):
    """Notes the operations for which the host would wait for an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.seen.append(str(function))
        return function(*arguments, **(keywords or {}))


class _Pickler(pickle.Pickler):
    """Writes "cuda" for every device."""

    def reducer_override(self, value: object) -> Any:
        return (torch.device, ("cuda",)) if isinstance(value, torch.device) else NotImplemented


@contextmanager
def on_a_gpu(run: Run) -> Iterator[Run]:
    """The run as it would be on a GPU; whatever reads a value, or mixes devices, raises.

    There is no backward pass without a GPU: gradients are zeros; and torch's plain SGD takes the fused one's place.
    """
    data: Any = run.data
    data._windows = data._evaluation = None  # numpy's arrays, which stay where they are
    run.session = None  # type: ignore[assignment]
    content = io.BytesIO()
    tools = types.SimpleNamespace(Pickler=_Pickler, dump=pickle.dump, __name__="pickle")
    torch.save(run, content, pickle_module=tools)
    content.seek(0)
    with FakeTensorMode(allow_fallback_kernels=False):
        moved: Run = torch.load(content, map_location="cuda", weights_only=False)
        groups = moved.step.optimizer.param_groups
        for group in groups:
            group["fused"], group["foreach"] = False, True

        def backward(loss: Tensor) -> None:
            assert loss.device.type == "cuda"
            for weight in (weight for group in groups for weight in group["params"]):
                weight.grad = torch.zeros_like(weight)

        with mock.patch.object(torch.Tensor, "backward", backward):
            yield moved
