"""Weights that a user brings along (`--weights`): they stand for the dense run of a problem, which is not trained.

The file is copied into the results folder under its hash, so that every worker finds it; the hash is part of the recipe
and so of every cell's identity.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import HASH_LENGTH, Problem
from benchmark.errors import UserError, escaped
from benchmark.problems import hugging_face, models
from benchmark.results import atomic

TORCHVISION = "torchvision:"
SAFE = ".safetensors"
IN_FOLDER = (f"model{SAFE}", "pytorch_model.bin")
"""Where Hugging Face's model folders have the weights."""
INSIDE = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts save the weights beside other things."""
PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
"""Of every name, where a compiled network or DataParallel was saved, or one within the other."""


def find(text: str) -> Path:
    """The file of `--weights FILE`, that in a Hugging Face model folder `--weights DIR`, or that of
    "torchvision:ResNet50_Weights.IMAGENET1K_V2" in torch's cache on disk.

    Raises UserError.
    """
    if Path(text).is_dir():
        return _in_folder(Path(text))
    if not text.startswith(TORCHVISION):
        return Path(text)
    from torchvision.models import get_weight

    try:
        url = get_weight(text.removeprefix(TORCHVISION)).url
    except (ValueError, AttributeError, KeyError):
        raise UserError(
            f"--weights {text}: torchvision has no such weights; accepted: such as "
            f"{TORCHVISION}ResNet50_Weights.IMAGENET1K_V2"
        ) from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        raise UserError(f"--weights {text}: {file} is not there; fetch it from {url}")
    return file


def _in_folder(folder: Path) -> Path:
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"--weights {escaped(folder)}: there is no {' or '.join(IN_FOLDER)} in this folder")


def beside(folder: Path) -> dict[str, Any]:
    """Recipe fields from what lies beside the weights in a Hugging Face model folder. Raises UserError."""
    tokenizer = hugging_face.tokenizer_in(folder)
    hashed = {} if tokenizer is None else {"tokenizer": hugging_face.hash_of(tokenizer)}
    return {**hugging_face.recipe_fields(folder), **hashed}


def content(path: Path) -> tuple[bytes, str]:
    """(bytes, hash of them) of a file of weights. Raises UserError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"--weights {escaped(path)}: {error.strerror}") from None
    return raw, hashlib.sha256(raw).hexdigest()[:HASH_LENGTH]


def check(raw: bytes, path: Path, problem: Problem) -> str | None:
    """Whether the weights in a file fit the problem's network, and what of them is left out. Raises UserError."""
    where = f"--weights {escaped(path)}"
    return fit(models.build(problem, 0), _decode(raw, where), where)


def keep(raw: bytes, path: Path, problem: Problem, folder: Path) -> None:
    """Copy a file that `content` read to `folder`, under the recipe's hash, and the tokenizer beside it, if the recipe
    has that, under its own. Raises CannotWrite."""
    place = folder / f"{problem.weights}{SAFE if _is_safetensors(raw) else '.pt'}"
    if not place.exists():
        atomic.create_file(place, raw)
    tokenizer = hugging_face.tokenizer_in(path.parent) if problem.tokenizer else None
    if tokenizer is not None and hugging_face.hash_of(tokenizer) == problem.tokenizer:
        place = folder / f"{problem.tokenizer}.{tokenizer.name}"
        if not place.exists():
            atomic.create_file(place, tokenizer.read_bytes())


def load(network: nn.Module, problem: Problem, folder: Path) -> None:
    """Load the weights that `keep` copied into the network. Raises UserError."""
    places = sorted(folder.glob(f"{problem.weights}.*"))
    if not places:
        raise UserError(
            f"problem {problem.name}: weights {problem.weights} are not in {folder}: --weights FILE puts them there"
        )
    raw, digest = content(places[0])
    if digest != problem.weights:
        raise UserError(f"{escaped(places[0])}: its content is not that of its name; --weights FILE puts it there anew")
    fit(network, _decode(raw, str(places[0])), str(places[0]))


def _decode(raw: bytes, where: str) -> dict[str, Tensor]:
    """Tensors by name. A file of torch.save is read without running code (weights_only)."""
    try:
        loaded: Any = _parse(raw)
    except Exception as error:  # whatever the bytes of a stranger's file make the readers raise
        raise UserError(
            f"{where}: cannot be read as weights ({type(error).__name__}); accepted: a state_dict that torch.save or "
            "safetensors wrote, and no whole network or other objects of Python"
        ) from None
    for key in INSIDE:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, dict) else ()
    tensors = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{where}: it holds no tensors by name, not even under {', '.join(INSIDE)}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_safetensors(raw: bytes) -> bool:
    """By content, whatever the file is called: the length of a header of JSON, and its first brace."""
    return raw[8:9] == b"{"


def _parse(raw: bytes) -> Any:
    if not _is_safetensors(raw):
        with torch.serialization.safe_globals([argparse.Namespace]):  # the options that training scripts save beside
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    from safetensors.torch import load as load_safetensors

    return load_safetensors(raw)


def fit(network: nn.Module, tensors: dict[str, Tensor], where: str) -> str | None:
    """Load tensors of the same names and shapes. UserError that names the first that does not fit.

    A parameter that the network has under several names may be in the file under one of them. Tensors whose names begin
    as one of the network's `left_out` are no part of it: they are not loaded, and the result is a sentence about them.
    """
    expected = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.rpartition(".")[2] == "num_batches_tracked"}
    tensors = {**counters, **_with_shared(network, tensors, where)}  # which files from before torch 0.4.1 lack
    for name, tensor in expected.items():
        if name not in tensors:
            others = [other for other in tensors if other not in expected]
            instead = f", and has no {others[0]}" if others else ""
            raise UserError(
                f"{where}: tensor {name} of shape {tuple(tensor.shape)} is missing; the network needs it{instead}"
            )
        if tensors[name].shape != tensor.shape:
            raise UserError(
                f"{where}: tensor {name} has shape {tuple(tensors[name].shape)}, in the network {tuple(tensor.shape)}"
            )
        if reason := _unusable(tensors[name], tensor):
            raise UserError(f"{where}: tensor {name} {reason}")
    surplus = [name for name in tensors if name not in expected]
    left_out = tuple(getattr(network, "left_out", ()))
    extra = [name for name in surplus if not name.startswith(left_out)]
    if extra:
        raise UserError(f"{where}: tensor {extra[0]} is not in the network ({len(extra)} such tensors)")
    network.load_state_dict({name: tensors[name] for name in expected})
    if not surplus:
        return None
    return f"{where}: {len(surplus)} tensors that this network does not have are left out, the first: {surplus[0]}"


def _unusable(tensor: Tensor, expected: Tensor) -> str:
    """Why a tensor cannot take the place of the network's `expected`; "" if it can."""
    if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
        return "is sparse, quantized or without values; save it as a plain tensor"
    if tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
        return f"is of {tensor.dtype}, in the network of {expected.dtype}"
    if tensor.is_floating_point() and not tensor.to(expected.dtype).isfinite().all():
        return f"has values that are not finite in {expected.dtype}"
    return ""


def _with_shared(network: nn.Module, tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors, each under all names that the network has for it. Raises UserError where two of them differ."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    complete = dict(tensors)
    for shared in names.values():
        first, *others = [name for name in shared if name in tensors] or shared[:1]
        for other in others:
            if not torch.equal(tensors[first], tensors[other]):
                raise UserError(f"{where}: tensors {first} and {other} differ; in the network they are one")
        if first in tensors:
            complete |= dict.fromkeys(shared, tensors[first])
    return complete
