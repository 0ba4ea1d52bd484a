"""Records as a pandas DataFrame: one row per record, columns as in COLUMNS.

Values of the metric are as in the record (an accuracy is a fraction), NaN where it has none. What could not be used is
named in `problems`, a line each, and never left out silently.
"""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import pandas as pd
from pydantic import ValidationError

from analysis import settings
from benchmark.cells import Budget, Problem
from benchmark.errors import UserError
from benchmark.metric import Metric, metric_of

CELL = ("method", "schedule", "sparsity", "budget", "hyperparameters")
"""Columns that say which cell of a sweep a record is, seed and problem aside; "" or NaN where it has none."""

STAGES = tuple((stage, split) for stage in ("dense", "pruned", "final") for split in ("test", "validation"))
RESULTS = tuple(f"{stage}_{split}" for stage, split in STAGES)
COLUMNS = (
    *("id", "problem", "identity", *CELL, "seed", "status", *RESULTS, "epochs", "cycles"),
    *("learning_rates", "dense_weights", "speedup", "sparsity_reached", "smaller_parameters", "smaller_macs"),
    *("latency_masked", "latency_smaller", "images_per_second", "seconds", "iterations_per_epoch", "distance"),
    *("commit", "dirty", "code", "device_type", "device", "host", "start", "end", "versions", "source"),
)
Place = TypeVar("Place")
UNSHARED = 2
"""The version of marshal, by far the quickest key of a dictionary, in which equal texts are written alike."""


@dataclass(frozen=True)
class Records:
    """What was read.

    Args:
        frame: a row per record, columns as in COLUMNS.
        recipes: by Problem.identity.
        metrics: of the recipes, also by Problem.identity.
        problems: what could not be used, a line each.
        source: where they are from, as a caption says it.
        whole: the records themselves by id, with cycles and layers; with histories too, those of W&B if asked for.
        failures: of a live store, the latest failure of every cell that failed and has no record.
    """

    frame: pd.DataFrame
    recipes: dict[str, Problem]
    metrics: dict[str, Metric]
    problems: tuple[str, ...]
    source: str
    whole: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    failures: tuple[dict[str, Any], ...] = ()


def read(records: Iterable[dict[str, Any]], source: str = "", problems: Sequence[str] = ()) -> Records:
    """Records that are at hand already; `problems`: what was not usable where they are from."""
    faults = list(problems)
    whole: dict[str, dict[str, Any]] = {}

    pairs = ((record, record) for record in records)
    return replace(collect({source: noted(pairs, faults, whole)}, faults, source), whole=whole)


def noted(
    pairs: Iterable[tuple[Place, dict[str, Any]]], problems: list[str], places: dict[str, Place]
) -> Iterator[dict[str, Any]]:
    """The records of (place, record), for `collect`: each goes into `places` by its id once that has used it."""
    for place, record in pairs:
        before = len(problems)
        yield record
        if len(problems) == before:  # `collect` adds a line for one that it cannot use
            places.setdefault(str(record["id"]), place)


def collect(places: Mapping[str, Iterable[dict[str, Any]]], problems: list[str], source: str) -> Records:
    """The records of several places as one.

    Of two records of one cell the first counts. Sweeps share cells, so that several files may hold one: that is a
    problem only where their results differ.

    Args:
        places: records by what a caption calls the place.
        problems: a list that may grow while they are read.
        source: what a caption calls all places together.
    """
    reader = _Reader()
    rows = []
    try:
        for place, record in ((place, record) for place, records in places.items() for record in records):
            try:
                rows.append((*reader.row(record), place))
            except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                problems.append(f"{place}: record {record.get('id')!r} cannot be used: {_reason(error)}")
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from None
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    key = ["identity", *CELL, "seed"]
    repeated = frame.duplicated(key)
    differing = frame["id"][repeated & ~frame.duplicated([*key, *RESULTS])]
    problems += [f"{source}: cell {cell} has records that differ; the first one counts" for cell in differing]
    frame = frame[~repeated].reset_index(drop=True)
    return Records(frame, reader.recipes, reader.metrics, tuple(problems), source)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


class _Reader:
    """Flattens records; a recipe that many of them share is validated once, and has one metric."""

    def __init__(self) -> None:
        self.recipes: dict[str, Problem] = {}
        self.metrics: dict[str, Metric] = {}
        self._known: dict[bytes, tuple[Problem, str]] = {}
        self._versions: dict[bytes, str] = {}

    def row(self, record: dict[str, Any]) -> tuple[Any, ...]:
        """COLUMNS but for the last. Raises KeyError, TypeError, ValueError or AttributeError where it is no record."""
        cell, provenance = record["cell"], record.get("provenance", {})
        (recipe, identity), metric = self._recipe(cell["problem"]), metric_of(record)
        values = record[metric.name]
        scores = [_within(values.get(stage, {}).get(split), metric) for stage, split in STAGES]
        budget = cell["budget"]
        row = (
            str(record["id"]),
            recipe.name,
            identity,
            str(cell["method"]),
            _text(cell["schedule"]),
            _number(cell["sparsity"]),
            "" if budget is None else _budget_text(budget),
            settings.text_of(cell["hyperparameters"]),
            int(cell["seed"]),
            _text(record.get("status", "ok")),
            *scores,
            _epochs(record, budget, recipe),
            _cycles(record),
            _text((record.get("learning_rate") or {}).get("sha256")),
            _text((record.get("parent") or {}).get("weights_sha256")),
            _number((record.get("macs") or {}).get("speedup")),
            _number((record.get("sparsity") or {}).get("prunable")),
            *_smaller(record),
            _number(record.get("images_per_second")),
            _number((record.get("seconds") or {}).get("total")),
            _number((record.get("iterations") or {}).get("per_epoch")),
            _distance(record),
            str(provenance.get("commit") or ""),
            bool(provenance.get("dirty")),
            str(provenance.get("code") or ""),
            str(provenance.get("device") or ""),
            str(provenance.get("device_name") or provenance.get("device") or ""),
            str(provenance.get("host") or ""),
            str(provenance.get("start") or ""),
            str(provenance.get("end") or ""),
            self._versions_of(provenance.get("versions") or {}),
        )
        known = self.metrics.setdefault(identity, metric)  # by the first record that can be used
        if known is not metric and known != metric:
            raise ValueError(f"it has {metric}, and other records of its recipe {known}")
        return row

    def _recipe(self, values: dict[str, Any]) -> tuple[Problem, str]:
        """With its identity."""
        key = marshal.dumps(values, UNSHARED)
        if key not in self._known:
            recipe = Problem.model_validate(values)
            self._known[key] = recipe, recipe.identity
            self.recipes.setdefault(recipe.identity, recipe)
        return self._known[key]

    def _versions_of(self, versions: dict[str, str]) -> str:
        key = marshal.dumps(versions, UNSHARED)
        if key not in self._versions:
            self._versions[key] = json.dumps(versions, sort_keys=True)
        return self._versions[key]


@lru_cache(maxsize=1000)
def _budget_text(budget: str) -> str:
    return str(Budget.parse(budget))


def _smaller(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """Parameters and MACs of the network without its pruned filters; seconds of a batch, masked and smaller."""
    smaller = record.get("smaller") or {}
    latency = (record.get("seconds") or {}).get("latency") or {}
    masked, without = ((latency.get(name) or [None])[-1] for name in ("masked", "smaller"))
    return _number(smaller.get("parameters")), _number(smaller.get("macs")), _number(masked), _number(without)


def _cycles(record: dict[str, Any]) -> float:
    """Prune-retrain cycles, 0 for methods without; W&B keeps their number alone."""
    cycles = record.get("cycles")
    return float(len(cycles)) if isinstance(cycles, list) else _number(cycles)


def _distance(record: dict[str, Any]) -> float:
    """ALLR's d1 of the first cycle."""
    cycles = record.get("cycles")
    return _number(cycles[0].get("d1")) if isinstance(cycles, list) and cycles else math.nan


def _epochs(record: dict[str, Any], budget: Any, recipe: Problem) -> float:
    """Epochs trained (of a run that retrains: retraining, over all cycles), or what the budget says of them."""
    iterations = record.get("iterations") or {}
    if iterations.get("total") is not None and iterations.get("per_epoch"):
        return float(iterations["total"]) / float(iterations["per_epoch"])
    if budget is None:
        return float(recipe.epochs)
    parsed = Budget.parse(budget)
    if parsed.unit == "it":
        return math.nan
    cycles = _cycles(record) if parsed.per_cycle else 1.0
    return cycles * (parsed.amount if parsed.unit == "ep" else round(parsed.amount / 100 * recipe.epochs, 2))


def _text(value: Any) -> str:
    if not isinstance(value, str | None):
        raise ValueError(f"{value!r:.60} is no text")
    return value or ""


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _within(value: Any, metric: Metric) -> float:
    number, (low, high) = _number(value), metric.limits
    if number < low or number > high:
        raise ValueError(f"{metric.label} {value!r} is not between {low:g} and {high:g}")
    return number if math.isfinite(number) else math.nan
