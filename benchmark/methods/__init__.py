"""Pruning methods, one file an idea, and the table of their names.

The table imports no torch, so that planning a sweep stays fast: it declares what a plan must know (what a method
starts from, its hyperparameters and their defaults) and where its class is. A method of your own needs no line here:
name it "module:Class" in a sweep; its class declares the same.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from benchmark.cells import Hyperparameters, Scalar
from benchmark.errors import UserError
from benchmark.methods.accepted import Accepted, Numbers, Schedules, Words


@dataclass(frozen=True)
class Declaration:
    """What a plan knows of a method.

    where: "module:Class". from_dense: it starts from the dense network of its seed, else from the initial weights.
    retrains: it takes a retraining schedule and a budget. defaults: every hyperparameter with its default.
    accepted: what one takes, where that is not everything of its default's type.
    """

    where: str
    from_dense: bool
    retrains: bool
    defaults: dict[str, Scalar] = field(default_factory=dict)
    accepted: dict[str, Accepted] = field(default_factory=dict)


COUNT = Numbers(1, 10_000)
DECAY: dict[str, Accepted] = {"decay": Numbers(0)}
NORM = Words("all", "prunable")

METHODS: dict[str, Declaration] = {
    "dense": Declaration("benchmark.methods.dense:Dense", from_dense=False, retrains=False),
    "IMP": Declaration(
        "benchmark.methods.imp:IMP",
        from_dense=True,
        retrains=True,
        defaults={
            **{"cycles": 1, "ladder": "even", "momentum": "fresh", "norm": "all"},
            **{"criterion": "magnitude", "stages": "even"},
        },
        accepted={
            "cycles": COUNT,
            "ladder": Words("even", "renda"),
            "momentum": Words("fresh", "kept"),
            "norm": NORM,
            "criterion": Words("magnitude", "random", "filters", "random_filters"),
        },
    ),
    "BIMP": Declaration(
        "benchmark.methods.bimp:BIMP",
        from_dense=False,
        retrains=False,
        defaults={"dense_share": 0.75, "cycles": 1, "schedule": "ALLR", "span": "T0", "norm": "all", "decay": 1.0},
        accepted={
            "dense_share": Numbers(0, 1, open_below=True, open_above=True),
            "cycles": COUNT,
            "schedule": Schedules(),
            "span": Words("T0", "T"),
            "norm": NORM,
            **DECAY,
        },
    ),
    "GMP": Declaration(
        "benchmark.methods.gmp:GMP",
        from_dense=False,
        retrains=False,
        defaults={"interval": 1, "returning": False, "decay": 1.0},
        accepted={"interval": COUNT, **DECAY},
    ),
    "GSM": Declaration(
        "benchmark.methods.gsm:GSM",
        from_dense=False,
        retrains=False,
        defaults={"momentum": 0.98, "decay": 1.0},
        accepted={"momentum": Numbers(0, 1, open_above=True), **DECAY},
    ),
    "DPF": Declaration(
        "benchmark.methods.dpf:DPF",
        from_dense=False,
        retrains=False,
        defaults={"interval": 1, "decay": 1.0},
        accepted={"interval": COUNT, **DECAY},
    ),
    "DNW": Declaration(
        "benchmark.methods.dnw:DNW", from_dense=False, retrains=False, defaults={"decay": 1.0}, accepted=DECAY
    ),
    "LC": Declaration(
        "benchmark.methods.lc:LC", from_dense=False, retrains=False, defaults={"decay": 1.0}, accepted=DECAY
    ),
    "STR": Declaration(
        "benchmark.methods.str_:STR",
        from_dense=False,
        retrains=False,
        defaults={"s_init": -4.0, "decay": 1.0},
        accepted={"s_init": Numbers(), **DECAY},
    ),
    "DST": Declaration(
        "benchmark.methods.dst:DST",
        from_dense=False,
        retrains=False,
        defaults={"alpha": 1e-4, "decay": 1.0},
        accepted={"alpha": Numbers(0), **DECAY},
    ),
    "CS": Declaration(
        "benchmark.methods.cs:CS",
        from_dense=False,
        retrains=False,
        defaults={"s_init": 0.0, "beta_final": 200.0, "penalty": 1e-5, "decay": 1.0},
        accepted={"s_init": Numbers(-80, 80), "beta_final": Numbers(1), "penalty": Numbers(0), **DECAY},
    ),
}


def declaration(name: str) -> Declaration:
    """The declaration of a method by its name in the table or as "module:Class". Raises UserError."""
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise UserError(f"method {name!r} is unknown: one of {', '.join(METHODS)}, or your own as 'module:Class'")
    method = load(name)
    found = getattr(method, "declaration", None)
    if not isinstance(found, Declaration):
        raise UserError(f"method {name!r} has no class attribute `declaration` (a benchmark.methods.Declaration)")
    if found.where != name and not _is_at(found.where, method):
        raise UserError(
            f"method {name!r}: its declaration is that of {found.where!r}; write Declaration({name!r}, ...)"
        )
    return found


def _is_at(where: str, method: Any) -> bool:
    """Whether `method` is known by that name as well, as a class is that another module imports."""
    try:
        return load(where) is method
    except UserError:
        return False


def load(name: str) -> Any:
    """The class of a method. Raises UserError if it cannot be imported."""
    where = METHODS[name].where if name in METHODS else name
    module, _, attribute = where.partition(":")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever somebody else's module does while it is imported
        raise UserError(f"method {name!r}: cannot import {module!r} ({type(error).__name__}: {error})") from error
    if not hasattr(found, attribute):
        raise UserError(f"method {name!r}: module {module!r} has no class {attribute!r}")
    return getattr(found, attribute)


def check_hyperparameters(method: str, given: dict[str, Scalar]) -> Hyperparameters:
    """`given` without what equals its default, sorted: the form that a cell holds. Raises UserError."""
    declared = declaration(method)
    defaults = declared.defaults
    for key, value in given.items():
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
    return tuple(sorted((key, value) for key, value in given.items() if value != defaults[key]))
