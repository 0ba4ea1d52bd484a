"""Records as a pandas DataFrame, and where they were read: a live store or committed reference runs.

One row per record, columns as in COLUMNS; accuracies are fractions, NaN where a record has none. What could not be
read is named in `problems`, a line each, and never left out silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from pydantic import ValidationError

from benchmark.cells import Budget, Problem
from benchmark.errors import UserError
from benchmark.planning.grid import Sweep, load_sweep
from benchmark.results.store import Store, read_compact

CELL = ("method", "schedule", "sparsity", "budget", "hyperparameters")
"""Columns that say which cell of a sweep a record is, seed and problem aside; "" or NaN where it has none."""

ACCURACIES = ("dense", "pruned", "final")
RESULTS = tuple(f"{stage}_{split}" for stage in ACCURACIES for split in ("test", "validation"))
COLUMNS = (
    "id",
    "problem",
    "identity",
    *CELL,
    "seed",
    "status",
    *RESULTS,
    "epochs",
    "cycles",
    "learning_rates",
    "dense_weights",
    "speedup",
    "sparsity_reached",
    "smaller_parameters",
    "smaller_macs",
    "latency_masked",
    "latency_smaller",
    "images_per_second",
    "seconds",
    "commit",
    "dirty",
    "code",
    "device",
    "versions",
    "source",
)


@dataclass(frozen=True)
class Records:
    frame: pd.DataFrame
    recipes: dict[str, Problem]
    """By Problem.identity."""
    problems: tuple[str, ...]
    source: str
    """Where they are from, as a caption says it."""
    whole: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The records themselves by id, where they were asked for: with histories, cycles and layers."""
    failures: tuple[dict[str, Any], ...] = ()
    """Of a live store: the latest failure of every cell that failed and has no record."""


@dataclass(frozen=True)
class Axes:
    """A sweep's name and title, what it varies, in its own order, and the seeds that it asks for."""

    name: str
    title: str
    methods: tuple[str, ...]
    schedules: tuple[str, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    """Where settings compete: seeds that they do so with; none where the sweep does not say it."""
    other_seeds: bool
    """Whether records with other seeds count too."""
    cells: frozenset[tuple[str, str, float, str, str]]
    """Values of CELL, as in the DataFrame; sparsity -1 where a cell has none."""
    problem: str
    """What it trains on where nobody says otherwise."""


def sweep_axes(name: str, seeds: str | None = None, only: Sequence[str] = ()) -> Axes:
    """The grid of sweeps/NAME.yaml or of a file of your own; `seeds` and `only` as the sweep takes them.

    Raises UserError.
    """
    sweep = load_sweep(name, seeds=seeds, only=only)
    rows = [
        (
            cell.method,
            cell.schedule or "",
            -1.0 if cell.sparsity is None else cell.sparsity,
            "" if cell.budget is None else str(cell.budget),
            _settings(dict(cell.hyperparameters)),
        )
        for cell in sweep.cells
    ]
    methods, schedules, sparsities, budgets, settings = (
        tuple(dict.fromkeys(column)) for column in zip(*rows, strict=True)
    )
    return Axes(
        sweep.name,
        sweep.title,
        methods,
        schedules,
        tuple(sorted(sparsities)),
        tuple(sorted(budgets, key=_budget_order)),
        settings,
        _asked(sweep),
        sweep.tuning_seeds,
        seeds is None and not any("seed=" in text for text in only),
        frozenset(rows),
        sweep.problem.name,
    )


def _asked(sweep: Sweep) -> tuple[int, ...]:
    """The sweep's seeds, those that a filter left out aside."""
    own = {cell.seed for cell in sweep.cells}
    return tuple(seed for seed in sweep.seeds if seed in own)


def of_sweep(frame: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    """The records that are cells of the sweep, on any problem."""
    frame = of_seeds(frame, axes)
    if frame.empty:
        return frame
    keys = frame[list(CELL)].fillna({"sparsity": -1.0}).itertuples(index=False, name=None)
    return frame[[key in axes.cells for key in keys]]


def of_seeds(frame: pd.DataFrame, axes: Axes) -> pd.DataFrame:
    return frame if axes.other_seeds else frame[frame["seed"].isin({*axes.seeds, *axes.tuning_seeds})]


def with_dense(records: Records, axes: Axes, problem: str | None = None) -> Records | None:
    """The sweep's records with the dense runs of their problems; None if there are none (on `problem`)."""
    cells = of_sweep(records.frame, axes)
    if problem is not None:
        cells = cells[cells["problem"] == problem]
    if cells.empty:
        return None
    frame = records.frame[records.frame["identity"].isin(cells["identity"].unique())]
    return replace(records, frame=frame[(frame["method"] == "dense") | frame.index.isin(cells.index)])


def of_their_own(found: Sequence[tuple[Axes, Records]]) -> list[tuple[Axes, Records]]:
    """Without sweeps whose records are all cells of another one that has more: what two sweeps share is shown once."""
    own = [set(of_sweep(records.frame, axes)["id"]) for axes, records in found]
    return [pair for pair, ids in zip(found, own, strict=True) if not any(ids < other for other in own)]


class Source(Protocol):
    """Where records come from: a results folder, or Weights & Biases."""

    @property
    def label(self) -> str:
        """What a message calls it."""

    def of_sweep(self, axes: Axes, problem: str | None = None) -> Records | None: ...

    def problems(self, axes: Axes) -> tuple[str, ...]: ...

    def everything(self) -> Records:
        """All records, whatever sweep they are of."""


class Results:
    """A place with records: a results folder (runs/ and reference/ in it), a live store, or reference files."""

    def __init__(self, path: Path, whole: bool = False):
        """`whole`: keep the records themselves too, which takes some 10 kB each."""
        if not path.exists():
            raise UserError(
                f"--results {path}: there is no such file or folder; `python -m benchmark.sweep table1` makes records "
                "in results/, and a clone of the repository has reference runs there"
            )
        self.path = path
        self.whole = whole
        self.live: Path | None = path if (path / "records").is_dir() else path / "runs"
        self.files: list[Path] = []
        if path.is_file():
            self.live, self.files = None, [path]
        elif path.is_dir():
            self.files = sorted(path.glob("*.jsonl")) or sorted((path / "reference").glob("*.jsonl"))
            if not self.files and not self.live.is_dir() and any(path.iterdir()):
                raise UserError(
                    f"--results {path}: nothing to read there: give a results folder (with runs/ or reference/ in it), "
                    "a store (with records/ in it), a folder of .jsonl files or one such file"
                )

    @property
    def label(self) -> str:
        return str(self.path)

    def of_sweep(self, axes: Axes, problem: str | None = None) -> Records | None:
        """The sweep's records with the dense runs of their problems: live ones if there are any, else reference runs.

        None if there are no records of the sweep, or none on `problem`.
        """
        passed: tuple[str, ...] = ()
        for records in self._candidates(axes.name):
            found = with_dense(records, axes, problem)
            if found is not None:
                return replace(found, problems=passed + records.problems)
            passed += records.problems
        return None

    def problems(self, axes: Axes) -> tuple[str, ...]:
        """What could not be used of all that `of_sweep` looks at."""
        return tuple(line for records in self._candidates(axes.name) for line in records.problems)

    def everything(self) -> Records:
        """All live records, or all reference runs where there are none."""
        live = self._live_records
        if not live.frame.empty or live.failures or not self.files:
            return live
        found = self._of_files(self.files)
        return replace(found, problems=live.problems + found.problems)

    def _candidates(self, name: str) -> Iterator[Records]:
        yield self._live_records
        yield self._reference(name)

    @cached_property
    def _live_records(self) -> Records:
        if self.live is None:
            return read([])
        store = Store(self.live)
        label = f"live store {self.live}"
        found = _collect({label: store.records()}, store.problems, label, self.whole)
        return replace(found, failures=tuple(store.failures())) if self.whole else found

    def _reference(self, name: str) -> Records:
        if self.path.is_file():  # asked for by its own name, which need not be that of the sweep
            return self._of_files(self.files)
        return self._of_files(
            [file for file in self.files if file.parent.name != "reference" or file.name.startswith(f"{name}-")]
        )

    def _of_files(self, files: Sequence[Path]) -> Records:
        problems: list[str] = []
        records = {f"reference runs {file}": read_compact(file, problems) for file in files}
        label = str(files[0]) if len(files) == 1 else f"{len(files)} files in {self.path}"
        return _collect(records, problems, f"reference runs {label}", self.whole)


def read(
    records: Iterable[dict[str, Any]], source: str = "", whole: bool = False, problems: Sequence[str] = ()
) -> Records:
    """Records that are already at hand, such as those of a test, and what was not usable of where they are from."""
    return _collect({source: records}, list(problems), source, whole)


def _collect(places: Mapping[str, Iterable[dict[str, Any]]], problems: list[str], source: str, whole: bool) -> Records:
    """places: records by what a caption calls the place; source: all of them. `problems` may grow while they are read.

    Of two records of one cell the first counts. Sweeps share cells, so that several files may hold one: that is a
    problem only where their accuracies differ.
    """
    reader = _Reader()
    rows = []
    kept: dict[str, dict[str, Any]] = {}
    try:
        for place, record in ((place, record) for place, records in places.items() for record in records):
            try:
                rows.append((*reader.row(record), place))
                if whole:
                    kept.setdefault(str(record["id"]), record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problems.append(f"{place}: record {record.get('id')!r} cannot be used: {_reason(error)}")
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from None
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    key = ["identity", *CELL, "seed"]
    again = frame.duplicated(key)
    other = again & ~frame.duplicated([*key, *RESULTS])
    problems += [f"{source}: cell {cell} has records that differ; the first one counts" for cell in frame["id"][other]]
    return Records(frame[~again].reset_index(drop=True), reader.recipes, tuple(problems), source, kept)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


class _Reader:
    """Flattens records; a recipe that many of them share is validated once."""

    def __init__(self) -> None:
        self.recipes: dict[str, Problem] = {}
        self._known: dict[str, Problem] = {}

    def row(self, record: dict[str, Any]) -> tuple[Any, ...]:
        """COLUMNS but for the last. Raises KeyError, TypeError, ValueError or AttributeError where it is no record."""
        cell, provenance = record["cell"], record.get("provenance", {})
        recipe = self._recipe(cell["problem"])
        accuracies = record["accuracy"]
        budget = cell["budget"]
        return (
            str(record["id"]),
            recipe.name,
            recipe.identity,
            str(cell["method"]),
            cell["schedule"] or "",
            _number(cell["sparsity"]),
            "" if budget is None else str(Budget.parse(budget)),
            _settings(cell["hyperparameters"]),
            int(cell["seed"]),
            record.get("status", "ok"),
            *(
                _fraction(accuracies.get(stage, {}).get(split))
                for stage in ACCURACIES
                for split in ("test", "validation")
            ),
            _epochs(record, budget, recipe),
            _cycles(record),
            (record.get("learning_rate") or {}).get("sha256", ""),
            (record.get("parent") or {}).get("weights_sha256", ""),
            _number((record.get("macs") or {}).get("speedup")),
            _number((record.get("sparsity") or {}).get("prunable")),
            *_smaller(record),
            _number(record.get("images_per_second")),
            _number((record.get("seconds") or {}).get("total")),
            str(provenance.get("commit") or ""),
            bool(provenance.get("dirty")),
            str(provenance.get("code") or ""),
            str(provenance.get("device_name") or provenance.get("device") or ""),
            json.dumps(provenance.get("versions") or {}, sort_keys=True),
        )

    def _recipe(self, values: dict[str, Any]) -> Problem:
        key = json.dumps(values, sort_keys=True)
        if key not in self._known:
            recipe = Problem.model_validate(values)
            self._known[key] = recipe
            self.recipes.setdefault(recipe.identity, recipe)
        return self._known[key]


def _smaller(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """Parameters and MACs of the network without its pruned filters; seconds of a batch, masked and smaller."""
    smaller = record.get("smaller") or {}
    latency = (record.get("seconds") or {}).get("latency") or {}
    masked, less = ((latency.get(name) or [None])[-1] for name in ("masked", "smaller"))
    return _number(smaller.get("parameters")), _number(smaller.get("macs")), _number(masked), _number(less)


def _cycles(record: dict[str, Any]) -> float:
    """Prune-retrain cycles, 0 for methods without; W&B keeps their number alone."""
    cycles = record.get("cycles")
    return float(len(cycles)) if isinstance(cycles, list) else _number(cycles)


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


def _settings(hyperparameters: dict[str, Any]) -> str:
    """ "" if there are none, so that an empty set reads as such in the DataFrame and in its exports."""
    return json.dumps(hyperparameters, sort_keys=True) if hyperparameters else ""


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _fraction(value: Any) -> float:
    number = _number(value)
    if number < 0 or number > 1:
        raise ValueError(f"accuracy {value!r} is not a fraction")
    return number


def _budget_order(text: str) -> tuple[str, float]:
    if not text:
        return "", 0.0
    budget = Budget.parse(text)
    return budget.unit, budget.amount
