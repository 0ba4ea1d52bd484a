"""What a hyperparameter takes, so that a plan refuses the rest before anything is trained. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from benchmark.cells import Scalar
from benchmark.errors import UserError
from benchmark.training.schedules import SCHEDULES, resolve

LARGEST = 3.4e38
"""Of float32, which hyperparameters become."""


class Accepted(Protocol):
    def takes(self, value: Scalar) -> bool: ...

    def __str__(self) -> str:
        """Ends the sentence "it takes"."""


class Words:
    """One of some words."""

    def __init__(self, *words: str):
        self.words = words

    def takes(self, value: Scalar) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return " or ".join([", ".join(self.words[:-1]), self.words[-1]])


@dataclass(frozen=True)
class Numbers:
    """Finite numbers of float32 from `least` up to `most`; open_below, open_above: but not that number itself."""

    least: float = -math.inf
    most: float = math.inf
    open_below: bool = False
    open_above: bool = False

    def takes(self, value: Scalar) -> bool:
        if isinstance(value, str) or not abs(value) <= LARGEST:  # nor nan
            return False
        return (self.least < value or (value == self.least and not self.open_below)) and (
            value < self.most or (value == self.most and not self.open_above)
        )

    def __str__(self) -> str:
        parts = []
        if self.least > -math.inf:
            parts.append(f"above {self.least:g}" if self.open_below else f"from {self.least:g} up")
        if self.most < math.inf:
            parts.append(f"below {self.most:g}" if self.open_above else f"up to {self.most:g}")
        words = " ".join(["a number", " and ".join(parts)]) if parts else "a finite number"
        return f"{words} ({LARGEST:g} at most)" if self.most == math.inf else words


class Schedules:
    """A retraining schedule: one of the table's, or "module:function"."""

    def takes(self, value: Scalar) -> bool:
        try:
            resolve(str(value))
        except UserError:
            return False
        return True

    def __str__(self) -> str:
        return f"one of {', '.join(SCHEDULES)}, or 'module:function' for one of your own"
