"""What a task is measured by: a name, a unit and a direction. Classification is measured by accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A number that says how good a network is.

    Args:
        name: its key in records, such as "mean_iou".
        label: the name in sentences and tables.
        unit: behind a value that is shown, "" for a pure number.
        scale: a value in a record times this is the value that is shown: 100 for a fraction that is shown in per cent.
        higher_is_better: False for a perplexity.
        bounds: of a value in a record; None where there is no bound.
    """

    name: str
    label: str
    unit: str = ""
    scale: float = 1.0
    higher_is_better: bool = True
    bounds: tuple[float | None, float | None] = (None, None)

    def text(self, value: float, digits: int = 1) -> str:
        """A value of a record as it is shown, such as "93.2 %"."""
        return f"{self.scale * value:.{digits}f} {self.unit}".rstrip()

    def is_better(self, value: float, other: float) -> bool:
        return value > other if self.higher_is_better else value < other

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bounds": list(self.bounds)}


ACCURACY = Metric("accuracy", "accuracy", "%", 100.0, bounds=(0.0, 1.0))
MEAN_IOU = Metric("mean_iou", "mean IoU", "%", 100.0, bounds=(0.0, 1.0))
"""Intersection over union, averaged over the classes (Everingham et al. 2015, Pascal VOC)."""
BLEU = Metric("bleu", "BLEU", bounds=(0.0, 100.0))
"""Papineni et al. 2002, as sacrebleu computes it (Post 2018)."""
PERPLEXITY = Metric("perplexity", "perplexity", higher_is_better=False, bounds=(1.0, None))
"""exp of the mean cross-entropy of a symbol, in nats."""


def metric_of(record: dict[str, Any]) -> Metric:
    """The metric of a record: accuracy where it names none. Raises ValueError for what is no metric."""
    values = record.get("metric")
    if values is None:
        return ACCURACY
    known = {field.name for field in fields(Metric)}
    if not isinstance(values, dict) or not {"name", "label"} <= set(values) <= known:
        raise ValueError(f"metric {values!r} is not a metric")
    return Metric(**{**values, "bounds": tuple(values.get("bounds", (None, None)))})
