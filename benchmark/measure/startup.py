"""How long a user waits for the sweep command's first words."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from benchmark.errors import UserError

COMMANDS = {"--help": ["--help"], "table1 --dry-run": ["table1", "--dry-run"]}


def measure(repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds, seconds of processor time) of whole commands, a pair a turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            started, worked = time.perf_counter(), _processor_time()
            command = [sys.executable, "-m", "benchmark.sweep", *arguments]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
            if ended.returncode:
                last = "".join(ended.stderr.splitlines()[-1:])
                raise UserError(f"`benchmark.sweep {name}` ended with exit code {ended.returncode} ({last})")
            found[name].append((time.perf_counter() - started, _processor_time() - worked))
    return found


def _processor_time() -> float:
    """Of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
