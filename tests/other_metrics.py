"""Made-up records of tasks that accuracy does not measure, made of records of classification.

A mirrored metric falls where accuracy rises, point by point, so that whoever is ahead by accuracy is ahead by it, by as
much. No network was trained for any record.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from analysis.figures import Selection
from benchmark.metric import MEAN_IOU, PERPLEXITY, Metric
from tests.figure_records import selection

ERROR = Metric("error", "error rate", "%", scale=100.0, higher_is_better=False, bounds=(0.0, 1.0))
"""A metric of somebody's own: accuracy from the other side, in the same unit."""

MIRRORS = {
    "perplexity": (PERPLEXITY, lambda accuracy: 101 - 100 * accuracy),
    "error": (ERROR, lambda accuracy: 1 - accuracy),
    "mean_iou": (MEAN_IOU, lambda accuracy: accuracy),
}
"""By name: the metric, and its value where the accuracy is so much."""


def mirrored(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The record as one of a task with that metric; its recipe, and with it its id, stays."""
    metric, value_of = MIRRORS[name]
    made = copy.deepcopy(record)
    stages = made.pop("accuracy")
    made["metric"] = metric.to_json()
    made[metric.name] = {
        stage: {split: None if value is None else value_of(value) for split, value in values.items()}
        for stage, values in stages.items()
    }
    history = made["history"]
    history[f"validation_{metric.name}"] = [
        None if value is None else value_of(value) for value in history.pop("validation_accuracy")
    ]
    return made


def all_mirrored(records: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [mirrored(record, name) for record in records]


def mirrored_selection(given: Selection, sweep: str, name: str) -> Selection:
    """The same records for figures of `sweep`, by another metric."""
    return selection(sweep, all_mirrored(given.whole.values(), name))
