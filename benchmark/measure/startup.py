"""How long a user waits for the sweep command's first words."""

from __future__ import annotations

import subprocess
import sys

from benchmark.errors import UserError
from benchmark.measure.timing import Seconds, timed

COMMANDS = {"--help": ["--help"], "table1 --dry-run": ["table1", "--dry-run"]}


def whole_commands(repeats: int) -> dict[str, list[Seconds]]:
    """Of whole commands, each once a turn."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            command = [sys.executable, "-m", "benchmark.sweep", *arguments]
            turn, ended = timed(lambda: subprocess.run(command, check=False, capture_output=True, text=True))  # noqa: B023, S603
            if ended.returncode:
                last = "".join(ended.stderr.splitlines()[-1:])
                raise UserError(f"`benchmark.sweep {name}` ended with exit code {ended.returncode} ({last})")
            seconds[name].append(turn)
    return seconds
