"""How long a user waits for the sweep command's first words."""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {"--help": ["--help"], "table1 --dry-run": ["table1", "--dry-run"]}


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds of whole commands, a value a turn."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            command = [sys.executable, "-m", "benchmark.sweep", *arguments]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
            found[name].append(time.perf_counter() - started)
    return found
