"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HISTORY = (
    "epoch",
    "iteration",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)


@dataclass
class Progress:
    """Everything of a checkpoint that is not tensors of network, optimizer or method.

    Args:
        position: iterations since the start of the data order, which decides the next batch.
        phase, iteration: the position in the method's phases.
        cut_short: training stopped because loss or weights were no longer finite.
        history: a list for each name of HISTORY, a value an epoch.
        measures: "accuracy" and "loss", each by the name of the measurement and the split.
        cycles: what the method noted, such as one line a pruning.
        rates: learning rates of the phases so far, one an iteration.
        seconds: "inherited" is the part of "training" that a run of another cell did (Method.trunk).
        images: seen in training.
    """

    position: int
    phase: int = 0
    iteration: int = 0
    cut_short: bool = False
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY})
    measures: dict[str, dict[str, dict[str, float]]] = field(default_factory=lambda: {"accuracy": {}, "loss": {}})
    cycles: list[dict[str, Any]] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "inherited": 0.0})
    images: int = 0
