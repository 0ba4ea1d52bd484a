"""Pruning methods, one file an idea, and the table of their names.

Each class declares what planning must know: what the method starts from, its hyperparameters, their defaults. The table
reads these declarations without importing torch, so that planning a sweep stays fast. A method of your own needs no
line here: name it "module:Class" in a sweep.
"""

from __future__ import annotations

from typing import Any

from benchmark import imports
from benchmark.cells import Cell, Hyperparameters, Scalar, shown
from benchmark.errors import UserError
from benchmark.methods.declarations import Declaration, read

METHODS: dict[str, Declaration] = {
    "dense": read("benchmark.methods.dense:Dense"),
    "IMP": read("benchmark.methods.imp:IMP"),
    "BIMP": read("benchmark.methods.bimp:BIMP"),
    "GMP": read("benchmark.methods.gmp:GMP"),
    "GSM": read("benchmark.methods.gsm:GSM"),
    "DPF": read("benchmark.methods.dpf:DPF"),
    "DNW": read("benchmark.methods.dnw:DNW"),
    "LC": read("benchmark.methods.lc:LC"),
    "STR": read("benchmark.methods.str_:STR"),
    "DST": read("benchmark.methods.dst:DST"),
    "CS": read("benchmark.methods.cs:CS"),
}
"""By the names that sweeps and tables use. To add a method for good: a file in this folder and a line here."""


def declaration(name: str) -> Declaration:
    """The declaration of a method by its name in the table or as "module:Class". Raises UserError."""
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise UserError(f"method {name!r} is unknown: one of {', '.join(METHODS)}, or your own as 'module:Class'")
    method = load(name)
    if not isinstance(method, type):
        raise UserError(
            f"method {name!r} is {shown(method)}, not a class: derive one from benchmark.training.method.Method"
        )
    declared = getattr(method, "declaration", None)
    if not isinstance(declared, Declaration):
        raise UserError(f"method {name!r} has no class attribute `declaration` (a benchmark.methods.Declaration)")
    if declared.where != name and not _is_at(declared.where, method):
        raise UserError(
            f"method {name!r}: its declaration is that of {declared.where!r}; write Declaration({name!r}, ...)"
        )
    return declared


def _is_at(where: str, method: Any) -> bool:
    """Whether `where` names the same class: another module may have imported it."""
    try:
        return load(where) is method
    except UserError:
        return False


def load(name: str) -> Any:
    """The class of a method. Raises UserError if it cannot be imported."""
    return imports.load(METHODS[name].where if name in METHODS else name, f"method {name!r}")


def settings_of(cell: Cell) -> dict[str, Scalar]:
    """All hyperparameters of a cell's method: the cell holds those that are not at their default."""
    return {**declaration(cell.method).defaults, **dict(cell.hyperparameters)}


def check_hyperparameters(method: str, hyperparameters: dict[str, Scalar]) -> Hyperparameters:
    """As a cell holds them: sorted, without those that equal their default. Raises UserError."""
    declared = declaration(method)
    defaults = declared.defaults
    for key, value in hyperparameters.items():
        if key not in defaults:
            accepted = ", ".join(defaults) or "none"
            raise UserError(f"method {method} has no hyperparameter {key!r} (it has: {accepted})")
        default = defaults[key]
        number = isinstance(default, int | float) and not isinstance(default, bool)
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool) if number else type(value) is type(default)
        )
        if not fits or (isinstance(default, int) and isinstance(value, float) and not value.is_integer()):
            raise UserError(f"method {method}: hyperparameter {key} is {value!r}; it takes a value like {default!r}")
        if key in declared.accepted and not declared.accepted[key].takes(value):
            raise UserError(f"method {method}: hyperparameter {key} is {value!r}; it takes {declared.accepted[key]}")
    return tuple(sorted((key, value) for key, value in hyperparameters.items() if value != defaults[key]))
