"""A trained network as a file that loads without the suite. docs/checkpoints.md shows how.

"safetensors" has the weights by name, for a network that you build yourself; "torch" is a program of torch.export and
"onnx" one for onnxruntime and others, with layers and weights. Each holds texts by name as well, such as the record.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.cells import cut
from benchmark.errors import UserError, escaped
from benchmark.training.checkpoint import safe

FORMATS = ("safetensors", "torch", "onnx")
SUFFIXES = {".safetensors": "safetensors", ".pt2": "torch", ".onnx": "onnx"}
"""Of files, by which their readers know the format."""
ONNX_NEEDS = ("onnx", "onnxscript")
LONGEST = 200
"""Characters that are shown of why an exporter gave up."""

Example = Callable[[int], tuple[Tensor, ...]]
"""Gives so many inputs of a network, as `Batches.example` does."""


def check_format(name: str, out: Path) -> None:
    """Raises UserError for a format that there is not, that `out` is not named after, or that needs a package."""
    if name not in FORMATS:
        raise UserError(f"--format {name}: one of {', '.join(FORMATS)}")
    if SUFFIXES.get(out.suffix, name) != name:
        raise UserError(f"--out {escaped(out)}: a file of --format {SUFFIXES[out.suffix]}, not of {name}")
    missing = [package for package in ONNX_NEEDS if name == "onnx" and find_spec(package) is None]
    if missing:
        raise UserError(f"--format onnx: it needs the package {missing[0]}: pip install onnx onnxscript onnxruntime")


def encode(name: str, network: nn.Module, example: Example, about: Mapping[str, str]) -> bytes:
    """The bytes of a file in one of FORMATS. about: texts. UserError where an exporter cannot write this network."""
    if name == "safetensors":
        return safe(network.state_dict(), about)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' about their own future
        try:
            return (_torch if name == "torch" else _onnx)(_program(network, example), about)
        except Exception as error:  # whatever the exporters make of a network from outside
            reason = cut(" ".join(str(error).split()), LONGEST)
            raise UserError(
                f"--format {name}: torch {torch.__version__} cannot export this network ({type(error).__name__}: "
                f"{reason}); --format safetensors holds its weights"
            ) from None


def _program(network: nn.Module, example: Example) -> torch.export.ExportedProgram:
    """The network in evaluation, on the CPU, for any number of inputs."""
    alone = copy.deepcopy(network).cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = tuple(value.cpu() for value in example(2))
    with torch.no_grad():
        return torch.export.export(alone, inputs, dynamic_shapes=[{0: torch.export.Dim.DYNAMIC} for _ in inputs])


def _torch(program: torch.export.ExportedProgram, about: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    return buffer.getvalue()


def _onnx(program: torch.export.ExportedProgram, about: Mapping[str, str]) -> bytes:
    from onnx.helper import set_model_props

    exported = torch.onnx.export(program, dynamo=True, verbose=False)
    assert exported is not None
    model = exported.model_proto
    set_model_props(model, dict(about))
    return bytes(model.SerializeToString())
