"""Users' YAML files: read safely, and what is wrong with them in one line: file, key, value, what is accepted."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from benchmark.cells import cut, shown
from benchmark.errors import UserError
from benchmark.yaml_loader import NotYaml, load

SUFFIXES = (".yaml", ".yml")
STANDARD_INPUT = ("-", "/dev/stdin")
MOST_BYTES = 1 << 18
"""Of a file: seconds of reading."""
BOUNDS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}

Model = TypeVar("Model", bound=BaseModel)


def shipped(name: str) -> Path:
    """The folder of files that come with the suite: at the top of a checkout, else within the installed package."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


def names_file(name: str) -> bool:
    """Whether this is how a user names a file of their own, not one that comes with the suite."""
    return name.lower().endswith(SUFFIXES) or is_piped(name)


def is_piped(name: str) -> bool:
    """Whether what it names can be read only once: standard input, or /dev/fd/63 as shells write <(command)."""
    return name == "-" or (name.startswith("/dev/") and not name.startswith("/dev/shm/"))  # noqa: S108 - ordinary files


def stem_of(name: str) -> str:
    """What a file that a user named, or one of the suite, is called from then on."""
    return "stdin" if is_piped(name) else Path(name).stem if names_file(name) else name


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises UserError that names line and column."""
    try:
        if is_piped(str(path)):
            content = piped(str(path))
        else:
            with open(path, "rb") as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES >> 10} KiB, which no such file needs")
        return load(content)
    except NotYaml as error:
        raise UserError(f"{path}{error.where}: not valid YAML: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


@cache
def piped(name: str) -> bytes:
    """What is piped in, kept for the next who asks; no more than what is refused as too large. Raises OSError."""
    number = 0 if name in STANDARD_INPUT else None
    with open(name if number is None else number, "rb", closefd=number is None) as file:
        if file.isatty():
            raise UserError(f"{name}: nothing is piped in: write `cat mine.yaml | ...`")
        return file.read(MOST_BYTES + 1)


def validated(model: type[Model], values: Any, path: Path | None, within: str = "") -> Model:
    """`values` as a `model`. Raises UserError that names the file, the key, the value and what is accepted."""
    if values is None:
        raise UserError(f"{path}: the file is empty; expected keys and values")
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}")
    try:
        # As JSON, where strict means that no type stands for another, but that a list may become a tuple.
        return model.model_validate_json(json.dumps(_counts_whole(model, values)), strict=True)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        # a key that is missing is often one that is misspelt
        first = next((one for one in mistakes if one["type"] == "extra_forbidden"), mistakes[0])
        place = first["loc"] if first["type"] == "missing" else _given(values, first["loc"])
        key = ": ".join(filter(None, [within, ".".join(cut(str(part)) for part in place)]))
        reason = _reason(model, first)
        raise UserError(f"{f'{path}: ' if path else ''}{key}{reason if key else reason.removeprefix(': ')}") from None


def _given(values: Any, place: Sequence[str | int]) -> list[str | int]:
    """`place` as far as there is something: behind that, pydantic names the type that was tried."""
    prefix: list[str | int] = []
    for part in place:
        inside = part in values if isinstance(values, dict) else isinstance(values, list) and isinstance(part, int)
        if not inside:
            break
        prefix.append(part)
        values = values[part]
    return prefix


def _counts_whole(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """3e1 is 30 where a count is asked for."""

    def whole(key: str, value: Any) -> Any:
        kinds = _kinds(model.model_fields.get(key))
        if isinstance(value, float) and value.is_integer() and int in kinds:
            return int(value)
        inner = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
        return _counts_whole(inner, value) if inner and isinstance(value, dict) else value

    return {key: whole(key, value) for key, value in values.items()}


def _kinds(field: FieldInfo | None) -> tuple[Any, ...]:
    """The types that a field takes."""
    return () if field is None else (field.annotation, *get_args(field.annotation))


def _reason(model: type[BaseModel], error: ErrorDetails) -> str:
    """What follows the key: the value, where it is not named yet, and what is accepted."""
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(_model_at(model, error["loc"]), str(error["loc"][-1]))
    if kind == "missing":
        return ": it is missing"
    if kind == "value_error":
        return f": {error['msg'].removeprefix('Value error, ')}"
    if value is None:
        return " is empty: a value is expected"
    if kind == "tuple_type" and isinstance(value, str | int | float):
        return f" {shown(value)}: write a list such as [{cut(str(value))}]"
    if kind in ("tuple_type", "too_short"):
        return f" {shown(value)}: a list with at least 1 item is expected"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f" {shown(value)}: keys and values are expected"
    if kind == "string_type":
        return f" {shown(value)}: text is expected: put it in quotes"
    if kind == "bool_type":
        return f" {shown(value)}: true or false is expected"
    return f" {shown(value)}: {error['msg']}{_accepted(_model_at(model, error['loc']), error['loc'])}"


def _accepted(model: type[BaseModel], place: Sequence[str | int]) -> str:
    """The range of the number at `place`, as the end of a sentence; nothing for a field without one."""
    field = model.model_fields.get(str(place[-1])) if place else None
    bounds = [
        f"{word} {getattr(one, name)}"
        for one in (field.metadata if field else ())
        for name, word in BOUNDS.items()
        if hasattr(one, name)
    ]
    return f"; accepted: a number {' '.join(bounds)}" if bounds else ""


def _unknown_key(model: type[BaseModel], key: str) -> str:
    near = difflib.get_close_matches(key, model.model_fields, n=1)
    return f": unknown key{f', perhaps {near[0]}' if near else ''}; accepted: {', '.join(model.model_fields)}"


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """The model that the key at `place` was given to: `model` itself, or one within it, maybe in a list."""
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        model = next((one for one in _kinds(field) if isinstance(one, type) and issubclass(one, BaseModel)), model)
    return model
