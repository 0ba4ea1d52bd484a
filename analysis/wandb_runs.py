"""Records out of Weights & Biases, for whoever kept only that: a folder of offline runs, or a project on a server.

A run that the suite published holds the cell and its circumstances as config, the final numbers as summary and the
history. Runs that older versions published lack the zeros of each layer and all cycles but the last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.axes import Axes, with_dense
from analysis.frames import Records, read
from analysis.sources import Results, Source
from benchmark.errors import UserError
from benchmark.metric import ACCURACY
from benchmark.tracking.reader import BadRunFile, LoggedRun, read_run, run_files

PROJECT = re.compile(r"[\w.-]+/[\w.-]+")


Runs = Callable[[list[str]], Iterator[tuple[str, LoggedRun]]]
"""Gives (name, run), the latest last, and appends what cannot be read to its argument."""


def open_source(results: Path, from_wandb: str | None, whole: bool = False) -> Source:
    """The source that a command's --results and --from-wandb name; whole: with the history of W&B's runs too.

    Raises UserError.
    """
    if from_wandb is None:
        return Results(results)
    if Path(from_wandb).is_dir():
        return WandbResults(
            f"W&B runs in {from_wandb}", lambda problems: offline_runs(Path(from_wandb), problems), whole
        )
    if PROJECT.fullmatch(from_wandb):
        return WandbResults(f"W&B project {from_wandb}", lambda problems: server_runs(from_wandb, whole), whole)
    raise UserError(f"--from-wandb {from_wandb}: a folder of offline runs, or ENTITY/PROJECT")


def offline_runs(folder: Path, problems: list[str]) -> Iterator[tuple[str, LoggedRun]]:
    """Every run below `folder`."""
    for path in run_files(folder):
        try:
            yield str(path), read_run(path)
        except (BadRunFile, OSError) as error:
            problems.append(f"{path} {error}")


def of_server(run: Any, whole: bool = False) -> LoggedRun:
    """A run of wandb's public API; with its history, which takes requests of its own, if `whole`."""
    history = list(run.scan_history()) if whole else []
    done = 0 if run.state == "finished" else None
    return LoggedRun(Path(run.id), config=dict(run.config), summary=dict(run.summary), history=history, exit_code=done)


def server_runs(project: str, whole: bool) -> Iterator[tuple[str, LoggedRun]]:
    """Every run of ENTITY/PROJECT, oldest first. Raises UserError where the server cannot be asked."""
    import wandb

    try:
        for run in wandb.Api().runs(project, order="+created_at"):
            yield f"{project}/{run.id}", of_server(run, whole)
    except (wandb.Error, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--from-wandb {project}: cannot be read ({reason})") from None


class WandbResults:
    """A Source: what W&B knows of a sweep."""

    def __init__(self, label: str, runs: Runs, whole: bool = False):
        self.label = label
        self._runs = runs
        self._whole = whole

    def of_sweep(self, axes: Axes, problem: str | None = None) -> Records | None:
        return with_dense(self._records, axes, problem)

    def problems(self, axes: Axes) -> tuple[str, ...]:
        return self._records.problems

    def everything(self) -> Records:
        return self._records

    @cached_property
    def _records(self) -> Records:
        problems: list[str] = []
        latest: dict[str, dict[str, Any]] = {}
        for name, run in self._runs(problems):
            if not run.complete:
                problems.append(f"{name}: the run was not finished")
            elif "cell" not in run.config or "schema" not in run.config:
                problems.append(f"{name}: is not a record of this suite")
            else:
                record = record_of(run, self._whole)
                latest[record["id"]] = record  # a cell that was published twice has equal results
        records = sorted(latest.values(), key=lambda record: str(record["id"]))  # as a store lists them
        return read(records, self.label, problems)


NUMBERS = ("loss", "sparsity", "macs", "smaller", "learning_rate", "seconds")
"""Parts of a record beside its metric that W&B's summary has, one key a number."""


def record_of(run: LoggedRun, whole: bool = False) -> dict[str, Any]:
    """The record that the run was made from, as far as W&B has it; with its history if `whole`."""
    config = dict(run.config)
    metric = config.get("metric")
    name = str(metric.get("name")) if isinstance(metric, dict) else ACCURACY.name
    numbers = _nested(run.summary)
    cell = {key: config.get(key) for key in ("method", "seed", "schedule", "sparsity", "budget")}
    record = {
        "schema": config["schema"],
        "id": config["cell"],
        "cell": {
            **cell,
            "problem": {"name": config.get("problem"), **(config.get("recipe") or {})},
            "hyperparameters": config.get("hyperparameters") or {},
        },
        "parent": config.get("parent"),
        "provenance": config.get("provenance") or {},
        "status": numbers.get("status", "ok"),
        "remarks": [remark for remark in str(numbers.get("remarks") or "").split("; ") if remark],
        **({} if metric is None else {"metric": metric}),
        **{key: numbers.get(key) or {} for key in (name, *NUMBERS)},
        "iterations": numbers.get("iterations") or {},
        "images_per_second": numbers.get("images_per_second"),
        "cycles": [dict(cycle) for cycle in numbers.get("per_cycle") or []] or numbers.get("cycles", 0),
        "history": {},
    }
    layers = [dict(layer) for layer in numbers.get("per_layer") or []]
    if layers:
        record["sparsity"] = {**record["sparsity"], "layers": {layer.pop("layer"): layer for layer in layers}}
    if whole:
        rows = run.rows()
        names = dict.fromkeys(key for row in rows for key in row)
        record["history"] = {name: [row.get(name) for row in rows] for name in names}
    return record


def _nested(summary: Mapping[str, Any]) -> dict[str, Any]:
    """accuracy/final/test -> {"accuracy": {"final": {"test": ...}}}; W&B's own keys left out.

    W&B adds the last value of the history under its plain name: learning_rate gives way to learning_rate/peak.
    """
    nested: dict[str, Any] = {}
    for key in sorted(summary, key=lambda key: key.count("/")):
        if key.startswith("_"):
            continue
        *folders, last = key.split("/")
        inner = nested
        for folder in folders:
            if not isinstance(inner.get(folder), dict):
                inner[folder] = {}
            inner = inner[folder]
        inner[last] = summary[key]
    return nested
