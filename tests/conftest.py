"""What many tests need: a results folder with a dense run, and records made by really training."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell that starts the tests in the background has them, and what they start, ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def command(tmp_path: Path):
    """Run `python -m MODULE ARGUMENTS` as a user would; returns the finished process."""

    def run(*arguments: str, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "200", **variables}
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def assert_one_line_refusal(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, one line on stderr that has all `words`, no traceback."""
    assert finished.returncode == 2, finished.stderr or finished.stdout
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    for word in ("error:", *words):
        assert word in lines[0]


def below(pid: int) -> list[tuple[int, str]]:
    """(pid, command) of all processes that `pid` and its children started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # gone in the meantime
            for child in map(int, path.read_text().split()):
                command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                found += [(child, command), *below(child)]
    return found


def wait_for(ready: Callable[[], object], seconds: float, explain: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain\n{explain()}"
        time.sleep(0.3)
