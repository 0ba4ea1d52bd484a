"""Which cells of a sweep run, and in which order: `--only` and `--order`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from benchmark.cells import Cell, plain
from benchmark.errors import UserError
from benchmark.methods import declaration, settings_of

AXES = ("method", "schedule", "sparsity", "budget", "seed", "hyperparameters")
RECIPE = "recipe"
"""What sweep files call the decay of the learning rate that the problem's recipe has."""
DEFAULT_ORDER = ("seed", "sparsity", "budget", "method", "hyperparameters", "schedule")
"""Outermost axis first: every schedule of one column runs before the next column, one seed after the other."""


def axis(cell: Cell, name: str) -> str:
    """A cell's value on an axis, or of a hyperparameter, as users write it; "" if it has none."""
    if name == "hyperparameters":
        return ",".join(f"{key}={value}" for key, value in cell.hyperparameters)
    value = getattr(cell, name) if name in AXES else settings_of(cell).get(name)
    return "" if value is None else plain(value) if isinstance(value, float) else str(value)


def _as_typed(cell: Cell, key: str) -> str:
    """The same as --only takes it: a decay that is the recipe's has a name in sweep files."""
    return axis(cell, key) or (RECIPE if key == "schedule" and not declaration(cell.method).retrains else "")


def filtered(cells: list[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that meet every part of any filter. Raises UserError if none does, or for what is no filter."""
    if not only:
        return cells
    filters = [_parse_filter(text, cells) for text in only]
    kept = [cell for cell in cells if any(all(_as_typed(cell, k) == v for k, v in one.items()) for one in filters)]
    if not kept:
        raise UserError(f"--only {' --only '.join(only)}: no cell of this sweep meets all parts of one filter")
    return kept


def _parse_filter(text: str, cells: list[Cell]) -> dict[str, str]:
    keys = list(dict.fromkeys([*AXES[:-1], *(name for cell in cells for name, _ in cell.hyperparameters)]))
    conditions = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in keys:
            raise UserError(f"--only {text}: write KEY=VALUE[,KEY=VALUE], where KEY is one of {', '.join(keys)}")
        accepted = [value for value in dict.fromkeys(_as_typed(cell, key) for cell in cells) if value]
        try:
            value = value if value in accepted else plain(float(value))  # 0.90 is 0.9
        except ValueError:
            if key == "sparsity":
                raise UserError(f"--only {text}: sparsity is a number such as 0.9") from None
        if value not in accepted:
            raise UserError(f"--only {text}: no {key} {value!r} in this sweep; it has {', '.join(accepted)}")
        conditions[key] = value
    return conditions


def ordered(cells: list[Cell], order: str | Sequence[str] | None) -> list[Cell]:
    """By axes, the outermost first; values of an axis in the order of the sweep. Raises UserError."""
    given = [part.strip() for part in order.split(",")] if isinstance(order, str) else list(order or DEFAULT_ORDER)
    unknown = [name for name in given if name not in AXES]
    if unknown or len(set(given)) != len(given):
        raise UserError(f"--order {','.join(given)}: axes, outermost first, each once, out of {', '.join(AXES)}")
    names = given + [name for name in DEFAULT_ORDER if name not in given]
    result = list(cells)
    for name in reversed(names):  # sorting is stable, so the outermost axis comes last
        of_axis = attrgetter(name)
        ranks = {value: place for place, value in enumerate(dict.fromkeys(map(of_axis, cells)))}
        if len(ranks) > 1:
            result.sort(key=lambda cell: ranks[of_axis(cell)])
    return result
