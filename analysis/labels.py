"""The rows of a sweep, each a method, a setting and a schedule, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable

from analysis import settings
from analysis.axes import Axes
from benchmark.methods import declaration

Kind = tuple[str, str, str]
"""(method, schedule, hyperparameters), as in the DataFrame."""


def trained_with(decay: str, kinds: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of (method, schedule) of methods that prune while they train: those with that decay of the learning rate ("" is
    the recipe's), and those of methods that have no other than the recipe's, as BIMP."""
    kinds = set(kinds)
    several = {method for method, schedule in kinds if schedule}
    return {(method, schedule) for method, schedule in kinds if schedule == decay or method not in several}


def row_label(method: str, schedule: str) -> str:
    """Of a method that prunes while it trains; `schedule`: a decay that is not the recipe's."""
    return f"{method}, {schedule}" if schedule else method


def row_labels(axes: Axes) -> dict[Kind, str]:
    """Rows in the sweep's order, in words: what varies, a default where it alone tells the row from another one."""
    names = _varied(axes)
    grid = [settings.values_of(text) for text in axes.hyperparameters]
    kinds = [
        (method, schedule, text)
        for method in axes.methods
        for text in axes.hyperparameters
        for schedule in axes.schedules
        if any(cell[:2] == (method, schedule) and cell[4] == text for cell in axes.cells)
    ]
    labels = {}
    for method, schedule, text in kinds:
        values, defaults = settings.values_of(text), declaration(method).defaults
        telling = [name for name in names if any({**values, name: row.get(name)} == row for row in grid)]
        values = {**{name: defaults[name] for name in telling if name in defaults}, **values}
        words = [f"{name} {values[name]}" for name in names if name in values]
        parts = [*([method] if len(axes.methods) > 1 else []), *words, schedule]
        labels[(method, schedule, text)] = ", ".join(filter(None, parts))
    return labels


def of_setting(label: str, schedule: str) -> str:
    """A row's label without its schedule, in which rows of one setting differ."""
    return label.removesuffix(f", {schedule}")


def factors(axes: Axes, kind: Kind) -> tuple[str, ...]:
    """Method, schedule and the value of each hyperparameter that the sweep varies, "" where the method has none."""
    method, schedule, text = kind
    values = {**declaration(method).defaults, **settings.values_of(text)}
    return method, schedule, *(json.dumps(values[name]) if name in values else "" for name in _varied(axes))


def _varied(axes: Axes) -> list[str]:
    """The hyperparameters that the sweep names, in its order."""
    return list(dict.fromkeys(name for text in axes.hyperparameters for name in settings.values_of(text)))
