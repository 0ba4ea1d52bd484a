"""Users' YAML files: read safely, and what is wrong with them in one line: file, key, value, what is accepted."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from benchmark.cells import cut, shown
from benchmark.errors import UserError

MOST_VALUES = 1_000_000

Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing; YAML does not allow them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, since later on the keys that `<<` merges stand beside those that they give way to.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in lines:
                problem = f"key {shown(key.value)} is there already, in line {lines[key.tag, key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.tag, key.value] = key.start_mark.line + 1
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises UserError that names line and column."""
    try:
        with open(path, encoding="utf-8") as file:
            content = _UniqueKeys(file).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {error.problem}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: too many brackets within brackets") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as a date with a 13th month
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    _refuse_unfolding(content, path)
    return content


def _refuse_unfolding(content: Any, path: Path) -> None:
    """A few aliases of aliases stand for billions of values, and everything that prints them would never end."""
    seen, inside = 0, [content]
    while inside:
        value = inside.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise UserError(f"{path}: unfolds to more than {MOST_VALUES} values; use fewer aliases")
        if isinstance(value, dict | list):
            inside += value if isinstance(value, list) else [*value, *value.values()]


def validated(model: type[Model], values: Any, path: Path | None, within: str = "") -> Model:
    """`values` as a `model`. Raises UserError that names the file, the key, the value and what is accepted."""
    if values is None:
        raise UserError(f"{path}: the file is empty; expected keys and values")
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # a key that is missing is often one that is misspelt
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        key = ": ".join(filter(None, [within, ".".join(cut(str(part)) for part in first["loc"])]))
        raise UserError(f"{f'{path}: ' if path else ''}{key}{_reason(model, first)}") from None


def _reason(model: type[BaseModel], error: ErrorDetails) -> str:
    """What follows the key: the value, where it is not named yet, and what is accepted."""
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(_model_at(model, error["loc"]), str(error["loc"][-1]))
    if kind == "missing":
        return ": it is missing"
    if kind == "value_error":
        return f": {error['msg'].removeprefix('Value error, ')}"
    if kind == "tuple_type" and isinstance(value, str | int | float):
        return f" {shown(value)}: write a list such as [{cut(str(value))}]"
    if kind in ("tuple_type", "too_short"):
        return f" {shown(value)}: a list with at least 1 item is expected"
    return f" {shown(value)}: {error['msg']}"


def _unknown_key(model: type[BaseModel], key: str) -> str:
    near = difflib.get_close_matches(key, model.model_fields, n=1)
    return f": unknown key{f', perhaps {near[0]}' if near else ''}; accepted: {', '.join(model.model_fields)}"


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """The model that the key at `place` was given to: `model` itself, or one within it, maybe in a list."""
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            candidates = (field.annotation, *get_args(field.annotation))
            model = next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), model)
    return model
