"""Progress: how far a run has come, and what was measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What a checkpoint holds besides the states of network, optimizer and method.

    Args:
        position: iterations since the start of the data order; decides the next batch.
        phase: of the method, from 0.
        iteration: within the phase.
        cut_short: whether training ended because loss or weights were not finite.
        history: by column a list with a value an epoch; "train_accuracy" is the share of units predicted right.
        measures: the metric and "loss", each by name of the measurement and split.
        cycles: lines that the method added, such as one a pruning.
        rates: for each phase so far the learning rates of its iterations.
        seconds: spent so far; "inherited" is the part of "training" that came with a trunk.
        images: seen in training; symbols or other units of the task.
    """

    position: int
    history: dict[str, list[float]]
    measures: dict[str, dict[str, dict[str, float]]]
    phase: int = 0
    iteration: int = 0
    cut_short: bool = False
    cycles: list[dict[str, Any]] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0, "inherited": 0.0})
    images: int = 0

    @classmethod
    def begin(cls, position: int, metric: str) -> Progress:
        """That of a run of a task with this metric, before its first iteration."""
        columns = ("epoch", "iteration", "learning_rate", "train_loss", "train_accuracy", "validation_loss")
        return cls(position, {name: [] for name in (*columns, f"validation_{metric}")}, {metric: {}, "loss": {}})
