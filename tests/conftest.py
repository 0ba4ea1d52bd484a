"""What many tests need: a results folder with a dense run, and records made by really training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
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
