"""Energy by the counters of Intel's and AMD's processors (RAPL), where this process may read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
TURNS = 5
SECONDS = 0.2
"""Of each call in each turn: the counters move about once a millisecond."""


def joules(calls: Mapping[str, Callable[[], object]], folder: Path = POWERCAP) -> dict[str, float] | None:
    """Energy of one call by its name, by turns; None where no counter can be read.

    It is that of the whole processor, so that it means something only where nothing else runs.
    """
    zones = [zone for zone in sorted(folder.glob("intel-rapl:?")) if _is_processor(zone)]
    counters = [zone for zone in zones if _reading(zone) is not None]
    if not counters:
        return None
    spent, made = dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0)
    for _ in range(TURNS):
        for name, call in calls.items():
            before, started = [_reading(counter) for counter in counters], time.perf_counter()
            while time.perf_counter() - started < SECONDS:
                call()
                made[name] += 1
            spent[name] += sum(_between(counter, first) for counter, first in zip(counters, before, strict=True))
    return {name: spent[name] / made[name] for name in calls}


def _is_processor(zone: Path) -> bool:
    """And not the whole machine (psys), whose counter has the processor's energy in it once more."""
    try:
        return (zone / "name").read_text().startswith("package")
    except OSError:
        return False


def _reading(counter: Path) -> int | None:
    """Microjoules so far."""
    try:
        return int((counter / "energy_uj").read_text())
    except (OSError, ValueError):  # only root may read it on most machines
        return None


def _between(counter: Path, before: int | None) -> float:
    """Joules since a reading. The counter begins again at 0 after its range."""
    after = _reading(counter)
    if before is None or after is None:
        return 0.0
    if after < before:
        after += int((counter / "max_energy_range_uj").read_text())
    return (after - before) / 1e6
