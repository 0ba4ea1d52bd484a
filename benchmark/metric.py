"""What a task is measured by: a name, a unit and a direction. Classification is measured by accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Words = Annotated[str, Field(pattern=r"^[^\p{C}$<>]*$")]
"""Text without what terminals, figures and pages would obey: records come from elsewhere."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Metric:
    """A number that says how good a network is. Raises ValueError for values of the wrong kind.

    Args:
        name: its key in records, such as "mean_iou": letters, digits and underscores.
        label: the name in sentences and tables.
        unit: behind a value that is shown, "" for a pure number.
        scale: a value in a record times this is the value that is shown: 100 for a fraction that is shown in per cent.
        higher_is_better: False for a perplexity.
        bounds: of a value in a record; None where there is no bound.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    label: Annotated[Words, Field(min_length=1)]
    unit: Words = ""
    _: KW_ONLY
    scale: Annotated[float, Field(gt=0)] = 1.0
    higher_is_better: bool = True
    bounds: tuple[float | None, float | None] = (None, None)

    def shown(self, values: Any) -> Any:
        """A value of a record as tables show it, or an array of them: in `unit`."""
        return self.scale * values

    def text(self, value: float | None, digits: int = 1) -> str:
        """A value of a record as it is shown, such as "93.2 %"."""
        return "not finite" if value is None else f"{self.shown(value):.{digits}f} {self.unit}".rstrip()

    def oriented(self, values: Any) -> Any:
        """Values, or one, of which a higher one is always better; oriented again, what they were."""
        return values if self.higher_is_better else -values

    def is_better(self, value: float, other: float) -> bool:
        return bool(self.oriented(value) > self.oriented(other))

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds, infinite where there is none."""
        low, high = self.bounds
        return -math.inf if low is None else low, math.inf if high is None else high

    # In words

    @property
    def in_unit(self) -> str:
        """What follows the label where numbers stand without their unit."""
        unit = "per cent" if self.unit == "%" else self.unit
        return f" in {unit}" if unit else ""

    @property
    def label_and_unit(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def direction(self) -> str:
        """What follows the label and the unit where a reader would take higher for better."""
        return "" if self.higher_is_better else ", lower is better"

    @property
    def has_points(self) -> bool:
        """Whether it is shown on a scale from 0 to 100, of which a hundredth is called a point."""
        return tuple(map(self.shown, self.limits)) == (0, 100)

    @property
    def of_differences(self) -> str:
        """The unit of a difference of two values, such as "accuracy points"."""
        return f"{self.label} points" if self.has_points else self.unit or self.label

    @property
    def behind_differences(self) -> str:
        """What follows a difference in a sentence that need not name the metric."""
        return "points" if self.has_points else f"in {self.of_differences}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bounds": list(self.bounds)}


ACCURACY = Metric("accuracy", "accuracy", "%", scale=100.0, bounds=(0.0, 1.0))
MEAN_IOU = Metric("mean_iou", "mean IoU", "%", scale=100.0, bounds=(0.0, 1.0))
"""Intersection over union, averaged over the classes (Everingham et al. 2015, Pascal VOC)."""
BLEU = Metric("bleu", "BLEU", bounds=(0.0, 100.0))
"""Papineni et al. 2002, as sacrebleu computes it (Post 2018)."""
PERPLEXITY = Metric("perplexity", "perplexity", higher_is_better=False, bounds=(1.0, None))
"""exp of the mean cross-entropy of a symbol, in nats."""
KNOWN = {metric.name: metric for metric in (ACCURACY, MEAN_IOU, BLEU, PERPLEXITY)}


def metric_of(record: Mapping[str, Any]) -> Metric:
    """The metric of a record: accuracy where it names none. Raises ValueError for what is no metric."""
    values = record.get("metric")
    if values is None:
        return ACCURACY
    if not isinstance(values, dict):
        raise ValueError(f"metric {values!r} is not a metric")
    metric = Metric(**values)
    if metric.name == ACCURACY.name and metric != ACCURACY:
        raise ValueError("its metric is called accuracy, and is not that")
    return metric


def metric_named(name: str) -> Metric:
    """The suite's own metric of that name; for another name a number without unit."""
    return KNOWN.get(name) or Metric(name, name)
