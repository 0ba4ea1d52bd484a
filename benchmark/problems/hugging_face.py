"""What lies beside the weights in a Hugging Face model folder: config.json and the tokenizer. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from benchmark.cells import HASH_LENGTH, Problem, shown
from benchmark.errors import UserError, escaped
from benchmark.problems.sizes import OWN_DEPTH, OWN_WIDTH
from benchmark.tasks.symbols import PADDING

CONFIG = "config.json"
TOKENIZERS = {"tokenizer.json": "tokenizers", "spiece.model": "sentencepiece"}
"""Files that a tokenizer may be in, by preference, with the library that reads each."""
STOP = 1
"""Of T5; its decoder starts with the padding."""
HEADS, HEAD_WIDTH = 4, 64
"""At least so many heads, and in wide networks one for so many channels."""
FIXED = {"model_type": "t5", "feed_forward_proj": "relu", "tie_word_embeddings": True}
"""What T5-small, -base and -large have in common, and T5 1.1, mT5 and Flan-T5 do not."""
DEFAULTS = {"feed_forward_proj": "relu", "tie_word_embeddings": True}
"""What a config.json may leave out."""


def architecture(width: int, depth: int, classes: int) -> dict[str, int]:
    """The sizes of T5-small (512, 6), -base (768, 12) and -large (1024, 24) by their names in config.json, and those of
    others in the same proportions. width or depth 0: T5-small's."""
    width, depth = width or OWN_WIDTH["t5"], depth or OWN_DEPTH["t5"]
    heads = math.gcd(width, max(HEADS, width // HEAD_WIDTH))
    return {
        "vocab_size": classes,
        "d_model": width,
        "d_kv": width // heads,
        "d_ff": 4 * width,
        "num_layers": depth,
        "num_decoder_layers": depth,
        "num_heads": heads,
    }


def recipe_fields(folder: Path) -> dict[str, Any]:
    """width, depth and classes from a model folder's config.json. UserError if it is of no such T5."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"--weights {escaped(path)}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"--weights {escaped(path)}: it is no JSON") from None
    if not isinstance(config, dict):
        raise UserError(f"--weights {escaped(path)}: it is no JSON object")
    sizes = [config.get(key) for key in ("d_model", "num_layers", "vocab_size")]
    whole = all(isinstance(size, int) and size > 0 for size in sizes)
    expected = {**FIXED, **(architecture(*sizes) if whole else {"d_model": "a number"})}  # type: ignore[arg-type]
    for key, value in expected.items():
        default = config.get("num_layers") if key == "num_decoder_layers" else DEFAULTS.get(key)
        present = default if config.get(key) is None else config[key]
        if present != value:
            raise UserError(
                f"--weights {escaped(path)}: {key} {shown(present)}; accepted: {value}, as T5-small, -base and -large "
                "have it"
            )
    return {"width": config["d_model"], "depth": config["num_layers"], "classes": config["vocab_size"]}


class Tokenizer(Protocol):
    """Texts to symbols and back, without the symbol that ends a sentence. size: symbols that it has."""

    size: int

    def encode(self, texts: list[str]) -> list[list[int]]: ...

    def decode(self, symbols: Sequence[int]) -> str: ...


class _Json:
    """tokenizer.json, by the library tokenizers."""

    def __init__(self, path: Path):
        from tokenizers import Tokenizer

        self.inner = Tokenizer.from_file(str(path))
        self.inner.no_padding()
        self.inner.no_truncation()
        self.size = self.inner.get_vocab_size()
        self.ends = self.inner.token_to_id("<pad>"), self.inner.token_to_id("</s>")

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [encoded.ids for encoded in self.inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, symbols: Sequence[int]) -> str:
        return str(self.inner.decode([*symbols]))


class _Pieces:
    """spiece.model, by the library sentencepiece. Symbols above its own are those of T5's pre-training: no text."""

    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor

        self.inner = SentencePieceProcessor(model_file=str(path))
        self.size = self.inner.get_piece_size()
        self.ends = self.inner.pad_id(), self.inner.eos_id()

    def encode(self, texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = self.inner.encode(texts)
        return rows

    def decode(self, symbols: Sequence[int]) -> str:
        return str(self.inner.decode([symbol for symbol in symbols if symbol < self.size]))


def tokenizer_in(folder: Path) -> Path | None:
    """The file of the tokenizer in a folder."""
    return next((path for name in TOKENIZERS if (path := folder / name).is_file()), None)


def hash_of(path: Path) -> str:
    """Of a tokenizer's file. Raises UserError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_LENGTH]
    except OSError as error:
        raise UserError(f"{escaped(path)}: {error.strerror}") from None


def open_tokenizer(problem: Problem, folder: Path, given: Path | None) -> tuple[Tokenizer, str]:
    """(tokenizer, hash of its file): the one that came with --weights DIR, else that of --data. Raises UserError.

    given: the results folder's copies of what came with --weights.
    """
    path = tokenizer_in(folder)
    if problem.tokenizer:
        path = next(iter(sorted(given.glob(f"{problem.tokenizer}.*"))) if given else iter(()), None)
        if path is None:
            raise UserError(
                f"problem {problem.name}: tokenizer {problem.tokenizer} is not in {given}: --weights DIR puts it there"
            )
    if path is None:
        raise UserError(
            f"--data {escaped(folder)}: there is no {' or '.join(TOKENIZERS)}; put that of the network there, or name "
            "the network's folder, which has one: --weights DIR"
        )
    content = hash_of(path)
    if problem.tokenizer not in ("", content):
        raise UserError(f"{escaped(path)}: its content is not that of its name; --weights DIR puts it there anew")
    tokenizer = _read(path)
    if tokenizer.size > problem.classes:
        raise UserError(
            f"{escaped(path)}: its {tokenizer.size} symbols are more than the {problem.classes} (classes) that problem "
            f"{problem.name} has embeddings for"
        )
    return tokenizer, content


def _read(path: Path) -> Tokenizer:
    kind = next(name for name in TOKENIZERS if path.name.endswith(name))
    library = TOKENIZERS[kind]
    if find_spec(library) is None:
        raise UserError(f"{escaped(path)}: {library} reads it, which is not installed: pip install -e '.[hf]'")
    try:
        tokenizer = _Json(path) if kind == "tokenizer.json" else _Pieces(path)
    except Exception as error:  # whatever the bytes of a stranger's file make the libraries raise
        reason = " ".join(str(error).split())
        raise UserError(f"{escaped(path)}: {library} cannot read it ({reason})") from None
    if tokenizer.ends != (PADDING, STOP):
        raise UserError(
            f"{escaped(path)}: its <pad> and </s> are {tokenizer.ends[0]} and {tokenizer.ends[1]}; T5's are "
            f"{PADDING} and {STOP}"
        )
    return tokenizer
