"""Weights that a user brings along (`--weights`): they stand for the dense run of a problem, which is not trained.

The file is copied into the results folder under its hash, so that every worker finds it; the hash is part of the recipe
and so of every cell's identity.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import HASH_LENGTH, Problem
from benchmark.errors import UserError, escaped
from benchmark.problems import models
from benchmark.results import atomic

TORCHVISION = "torchvision:"
SAFE = ".safetensors"
INSIDE = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts save the weights beside other things."""
PREFIX = "module."
"""Of every name, where DataParallel was saved."""


def find(text: str) -> Path:
    """The file of `--weights FILE`, or of "torchvision:ResNet50_Weights.IMAGENET1K_V2" in torch's cache on disk.

    Raises UserError.
    """
    if not text.startswith(TORCHVISION):
        return Path(text)
    from torchvision.models import get_weight

    try:
        url = get_weight(text.removeprefix(TORCHVISION)).url
    except (ValueError, AttributeError):
        raise UserError(
            f"--weights {text}: torchvision has no such weights; accepted: such as "
            f"{TORCHVISION}ResNet50_Weights.IMAGENET1K_V2"
        ) from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        raise UserError(f"--weights {text}: {file} is not there; fetch it from {url}")
    return file


def content(path: Path) -> tuple[bytes, str]:
    """(bytes, hash of them) of a file of weights. Raises UserError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"--weights {escaped(path)}: {error.strerror}") from None
    return raw, hashlib.sha256(raw).hexdigest()[:HASH_LENGTH]


def check(raw: bytes, path: Path, problem: Problem) -> None:
    """Whether the weights in a file fit the problem's network. Raises UserError."""
    where = f"--weights {escaped(path)}"
    fit(models.build(problem, 0), _decode(raw, path.suffix, where), where)


def keep(raw: bytes, path: Path, problem: Problem, folder: Path) -> None:
    """Copy a file that `content` read to `folder`, under the recipe's hash. Raises CannotWrite."""
    place = folder / f"{problem.weights}{SAFE if path.suffix == SAFE else '.pt'}"
    if not place.exists():
        atomic.create_file(place, raw)


def load(network: nn.Module, problem: Problem, folder: Path) -> None:
    """Load the weights that `keep` copied into the network. Raises UserError."""
    places = sorted(folder.glob(f"{problem.weights}.*"))
    if not places:
        raise UserError(
            f"problem {problem.name}: weights {problem.weights} are not in {folder}: --weights FILE puts them there"
        )
    raw, found = content(places[0])
    if found != problem.weights:
        raise UserError(f"{escaped(places[0])}: its content is not that of its name; --weights FILE puts it there anew")
    fit(network, _decode(raw, places[0].suffix, str(places[0])), str(places[0]))


def _decode(raw: bytes, suffix: str, where: str) -> dict[str, Tensor]:
    """Tensors by name. A file of torch.save is read without running code (weights_only)."""
    try:
        loaded: Any = _parse(raw, suffix)
    except Exception as error:  # whatever the bytes of a stranger's file make the readers raise
        raise UserError(
            f"{where}: cannot be read as weights ({type(error).__name__}); accepted: a state_dict that torch.save or "
            "safetensors wrote"
        ) from None
    for key in INSIDE:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, dict) else ()
    tensors = {name: value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{where}: it holds no tensors by name")
    if all(name.startswith(PREFIX) for name in tensors):
        return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    return tensors


def _parse(raw: bytes, suffix: str) -> Any:
    if suffix != SAFE:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    from safetensors.torch import load as load_safetensors

    return load_safetensors(raw)


def fit(network: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Load tensors of the same names and shapes. UserError that names the first that does not fit."""
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            raise UserError(f"{where}: tensor {name} of shape {tuple(tensor.shape)} is missing; the network needs it")
        if tensors[name].shape != tensor.shape:
            raise UserError(
                f"{where}: tensor {name} has shape {tuple(tensors[name].shape)}, in the network {tuple(tensor.shape)}"
            )
    extra = [name for name in tensors if name not in expected]
    if extra:
        raise UserError(f"{where}: tensor {extra[0]} is not in the network ({len(extra)} such tensors)")
    network.load_state_dict(tensors)
