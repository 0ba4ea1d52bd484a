"""What a reader sees of a record when pointing at it, small enough for a thousand of them on a page."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

from analysis import settings
from analysis.report.gather import Report
from benchmark.metric import Metric, metric_of

POINTS = 40
"""Points of a history at most."""
RATE_POINTS = 100
"""Points of a learning-rate curve at most; those of iterative pruning have many peaks, and many cells share one."""


def page_data(report: Report, ids: Collection[str], plots: Mapping[str, Any]) -> str:
    """JSON for a script element: cells by id, learning-rate curves by fingerprint (many cells share one), and plots.

    ids: of the cells that it describes.
    """
    curves: dict[str, Any] = {}
    cells = {
        name: _cell(record, curves) for name in report.frame["id"] if name in ids and (record := report.record(name))
    }
    text = json.dumps({"cells": cells, "curves": curves, "plots": plots}, separators=(",", ":"), allow_nan=False)
    # Inside <script> a browser obeys "</script>" and "<!--", whatever the JSON around them says.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cell(record: Mapping[str, Any], curves: dict[str, Any]) -> dict[str, Any]:
    cell, metric = record["cell"], metric_of(record)
    values = record[metric.name]
    rates = record.get("learning_rate") or {}
    sampled, key = rates.get("sampled"), str(rates.get("sha256") or record["id"])
    history = record.get("history") or {}
    if not sampled and history.get("learning_rate"):  # of a W&B run: the last one of every epoch
        sampled = {"iteration": history.get("iteration") or history["epoch"], "value": history["learning_rate"]}
    if sampled and key not in curves:
        points = (_thinned(sampled[name], RATE_POINTS) for name in ("iteration", "value"))
        curves[key] = [[_rounded(value) for value in values] for values in points]
    provenance = record.get("provenance") or {}
    shown = {
        "seed": cell["seed"],
        "metric": metric.label_and_unit,
        "test": _score(metric, values, "final", "test"),
        "validation": _score(metric, values, "final", "validation"),
        "dense": _score(metric, values, "dense", "test"),
        "pruned": _score(metric, values, "pruned", "test"),
        "status": record.get("status", "ok"),
        "settings": settings.in_words(json.dumps(cell.get("hyperparameters") or {})),
        "start": str(provenance.get("start") or "")[:16],
        "remarks": "; ".join(map(str, record.get("remarks") or [])),
        "sparsity": _rounded((record.get("sparsity") or {}).get("prunable")),
        "speedup": _rounded((record.get("macs") or {}).get("speedup")),
        "seconds": _rounded((record.get("seconds") or {}).get("total")),
        "commit": str(provenance.get("commit") or "")[:7] + (" (changed)" if provenance.get("dirty") else ""),
        "device": str(provenance.get("device_name") or provenance.get("device") or ""),
        "rate": key if sampled else None,
        "history": {
            name: [_rounded(value) for value in _thinned(column)] for name, column in _shown(history, metric).items()
        },
    }
    return {name: value for name, value in shown.items() if value not in (None, "", {})}


def _score(metric: Metric, values: Mapping[str, Any], stage: str, split: str) -> float | None:
    value = (values.get(stage) or {}).get(split)
    return None if value is None else round(metric.shown(float(value)), 3)


def _rounded(value: Any) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{float(value):.4g}")


def _shown(history: Mapping[str, Sequence[Any]], metric: Metric) -> dict[str, list[Any]]:
    """The columns that are drawn, of the epochs that have a validation; of all if none has."""
    columns = {name: list(history[name]) for name in ("epoch", "train_loss") if history.get(name)}
    scores = history.get(f"validation_{metric.name}") or ()
    validated = [value is not None for value in scores]
    if validated:
        columns["validation"] = [None if value is None else metric.shown(value) for value in scores]
    return {name: list(compress(values, validated)) if any(validated) else values for name, values in columns.items()}


def _thinned(values: Sequence[Any], most: int = POINTS) -> list[Any]:
    """The first, the last and what lies evenly between, `most` of them."""
    if len(values) <= most:
        return list(values)
    return [values[round(n * (len(values) - 1) / (most - 1))] for n in range(most)]
