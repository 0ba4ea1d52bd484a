"""Values that a hyperparameter accepts, so that planning refuses others before training starts. Imports no torch."""

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
    """The values that a hyperparameter accepts; its text completes the sentence "it takes ..."."""

    def takes(self, value: Scalar) -> bool: ...

    def __str__(self) -> str: ...


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
    """Finite numbers of float32 from `least` to `most`; open_below and open_above exclude these two themselves."""

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


class Shares:
    """One of some words, or a number from 0 up for each stage of a network, not all 0, such as "6/3/1"."""

    def __init__(self, *words: str):
        self.words = words

    def takes(self, value: Scalar) -> bool:
        if value in self.words:
            return True
        try:
            ratios = [float(part) for part in str(value).split("/")]
        except ValueError:
            return False
        return all(0 <= ratio < math.inf for ratio in ratios) and any(ratios)

    def __str__(self) -> str:
        return f"{', '.join(self.words)}, or a number from 0 up for each stage of the network, such as '6/3/1'"


class Schedules:
    """Names of retraining schedules: one of SCHEDULES, or "module:function"."""

    def takes(self, value: Scalar) -> bool:
        try:
            resolve(str(value))
        except UserError:
            return False
        return True

    def __str__(self) -> str:
        return f"one of {', '.join(SCHEDULES)}, or 'module:function' for one of your own"
