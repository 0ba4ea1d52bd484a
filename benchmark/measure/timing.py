"""Seconds of calls, turns of what is compared, and medians in words. Imports torch only to wait for a device."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class Seconds(NamedTuple):
    """wall: by the clock; processor: of this process and of those that ended in it, whatever else the machine does."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.processor:.2f} s of the processor)"

    def per(self, units: float) -> Seconds:
        return Seconds(self.wall / units, self.processor / units)


def timed(call: Callable[[], Result], device: torch.device | None = None) -> tuple[Seconds, Result]:
    """(seconds of a call, what it returned); with a device, until that has done its work."""
    _wait_for(device)
    wall, processor = time.perf_counter(), _processor()
    result = call()
    _wait_for(device)
    return Seconds(time.perf_counter() - wall, _processor() - processor), result


def _wait_for(device: torch.device | None) -> None:
    if device is not None:
        from benchmark.training.latency import synchronise

        synchronise(device)


def _processor() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


@dataclass(frozen=True)
class Turns:
    """Seconds of a unit (an image, an iteration), one value a turn; the baseline's is the mean of before and after."""

    baseline: list[Seconds]
    others: dict[str, list[Seconds]]

    def ratios(self, name: str, clock: str = "wall") -> list[float]:
        """How many times as fast as the baseline `name` was, by "wall" or "processor" time, a value a turn."""
        pairs = zip(self.baseline, self.others[name], strict=True)
        return [getattr(base, clock) / getattr(other, clock) for base, other in pairs]


Timed = Callable[[], Seconds]


def clocked(call: Callable[[], object], units: float, device: torch.device) -> Timed:
    """`call`, which goes through so many units, as one that takes turns."""
    return lambda: timed(call, device)[0].per(units)


def take_turns(baseline: Timed, others: Mapping[str, Timed], repeats: int) -> Turns:
    """Every turn times the others one by one, in an order that rotates, and the baseline before and after them.

    A turn before the first warms up and does not count. On a machine that does other work as well, ratios within a
    turn stand where absolute numbers do not.
    """
    turns = Turns([], {name: [] for name in others})
    names = list(others)
    for number in range(repeats + 1):
        start = number % len(names)
        before = baseline()
        seconds = {name: others[name]() for name in [*names[start:], *names[:start]]}
        after = baseline()
        if number:
            turns.baseline.append(Seconds((before.wall + after.wall) / 2, (before.processor + after.processor) / 2))
            for name, value in seconds.items():
                turns.others[name].append(value)
    return turns


def rates(seconds: Iterable[Seconds]) -> list[float]:
    """Units a second."""
    return [1 / value.wall for value in seconds]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return in_words((min(values), statistics.median(values), max(values)), digits)


def quartiles(values: Sequence[float], digits: int = 3) -> str:
    """Median and quartiles."""
    return in_words(cut_points(values), digits)


def cut_points(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def in_words(points: tuple[float, float, float], digits: int) -> str:
    low, middle, high = points
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
