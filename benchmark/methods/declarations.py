"""Declarations: what planning must know of a method, read from the method's class without importing torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.cells import Cell, Scalar, shown
from benchmark.errors import UserError
from benchmark.methods.accepted import Accepted, Numbers, Schedules, Shares, Words
from benchmark.methods.ladders import cycles, trunk
from benchmark.methods.limits import (
    LAYOUTS,
    decays_linearly,
    leaves_a_weight,
    leaves_a_weight_or_filters,
    leaves_two_intervals,
    momentum_of_sgd,
)

Settings = Mapping[str, Scalar]
"""All hyperparameters of a cell, defaults included."""


@dataclass(frozen=True)
class Declaration:
    """What planning knows of a method.

    Args:
        where: "module:Class".
        from_dense: whether it starts from the dense network of its seed, else from the initial weights.
        retrains: whether it takes a retraining schedule and a budget; if not, a schedule is a decay of the rate.
        defaults: every hyperparameter with its default.
        accepted: the values of a hyperparameter, where not every value of its default's type will do.
        cycles: how often a cell is pruned and retrained; once if None.
        trunk: the name of a cell's state after so many cycles, if runs of other cells pass through the same state.
        check: raises UserError for settings that leave a cell nothing to train, and for a recipe that does not fit.
    """

    where: str
    from_dense: bool = False
    retrains: bool = False
    defaults: dict[str, Scalar] = field(default_factory=dict)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    cycles: Callable[[Cell, Settings], int] | None = None
    trunk: Callable[[Cell, Settings, int], str | None] | None = None
    check: Callable[[Cell, Settings], None] = leaves_a_weight

    def __post_init__(self) -> None:
        """Raises UserError, as methods from outside are declared by their authors."""
        start = f"method {self.where}: its declaration's"
        for name in ("defaults", "accepted"):
            given = getattr(self, name)
            if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
                raise UserError(f"{start} {name} is {shown(given)}; a dict by the names of hyperparameters is expected")
        for key, value in self.defaults.items():
            if not isinstance(value, bool | int | float | str) or value != value:
                raise UserError(
                    f"{start} default of {key} is {shown(value)}; a number, a text or true or false is expected"
                )
        for key, values in self.accepted.items():
            if key not in self.defaults:
                raise UserError(f"{start} accepted has {shown(key)}, which is none of its defaults")
            if not callable(getattr(values, "takes", None)):
                raise UserError(f"{start} accepted of {key} is {shown(values)}; Numbers(...) or Words(...) is expected")
            if not values.takes(self.defaults[key]):
                raise UserError(f"{start} default of {key} is {shown(self.defaults[key])}; it takes {values}")
        for name in ("cycles", "trunk", "check"):
            given = getattr(self, name)
            if not (callable(given) or (given is None and name != "check")):
                raise UserError(f"{start} {name} is {shown(given)}, which is no function")


COUNT = Numbers(1, 10_000)
DECAY: dict[str, Accepted] = {"decay": Numbers(0)}
NORM = Words("all", "prunable")
SHARES = Shares("even", *LAYOUTS)

NAMES: dict[str, Any] = {
    **{"Declaration": Declaration, "Numbers": Numbers, "Words": Words, "Schedules": Schedules, "SHARES": SHARES},
    **{"COUNT": COUNT, "DECAY": DECAY, "NORM": NORM, "cycles": cycles, "trunk": trunk},
    **{"leaves_two_intervals": leaves_two_intervals, "leaves_a_weight_or_filters": leaves_a_weight_or_filters},
    **{"momentum_of_sgd": momentum_of_sgd, "decays_linearly": decays_linearly},
}
"""The names that a declaration in this package may use."""


def read(where: str) -> Declaration:
    """The class attribute `declaration` of "benchmark.methods.file:Class".

    Its expression is evaluated alone: importing the file would import torch, and planning must not wait for that.
    """
    module, _, class_name = where.partition(":")
    source = Path(__file__).with_name(f"{module.rpartition('.')[2]}.py")
    (method,) = (
        node
        for node in ast.parse(source.read_bytes()).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    (value,) = (
        statement.value
        for statement in method.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "declaration"
    )
    declared = _evaluate(value)
    assert isinstance(declared, Declaration)
    return declared


def _evaluate(node: ast.expr) -> Any:
    """Literals, dictionaries, and calls of NAMES: all that a declaration may be made of."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {keyword.arg: _evaluate(keyword.value) for keyword in node.keywords if keyword.arg}
        return NAMES[node.func.id](*map(_evaluate, node.args), **named)
    if isinstance(node, ast.Name):
        return NAMES[node.id]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        parts = [_evaluate(value) if key is None else {_evaluate(key): _evaluate(value)} for key, value in pairs]
        return {key: value for part in parts for key, value in part.items()}
    return ast.literal_eval(node)
