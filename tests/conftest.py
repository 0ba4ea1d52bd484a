"""What many tests need: a results folder with a dense run, and records made by really training."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.commands import ROOT, as_command

__all__ = ["ROOT"]
PATIENCE = 300.0
"""Seconds until something counts as hung: no test ends in time only where nothing else runs."""
PAUSE = 0.05
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # rich would keep it for good, and some tests set it
# a shell that starts the tests in the background has them, and what they start, ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # nothing depends on how fast the machine is


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in another order")


def pytest_itemcollected(item: pytest.Item) -> None:
    if "browser" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.browser)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Modules in another order, and their tests; what a module shares is made once all the same."""
    if (seed := config.getoption("--shuffle")) is not None:
        places = {item: [random.Random(f"{seed} {at}").random() for at in (item.path, item.nodeid)] for item in items}
        items.sort(key=places.__getitem__)


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m MODULE ARGUMENTS` as a user would; returns the finished process."""
    return as_command


@pytest.fixture
def table1() -> Any:
    """Made-up records of Table 1, as figures take them."""
    from tests.figure_records import table1_selection  # with matplotlib, which few tests need

    return table1_selection()


@pytest.fixture
def cycles(tmp_path: Path) -> Any:
    """Made-up records of a sweep of iterative pruning, as figures take them."""
    from tests.figure_records import cycles_selection

    return cycles_selection(tmp_path / "cycles.yaml")


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


def wait_for(ready: Callable[[], Any], seconds: float = PATIENCE, explain: Callable[[], str] = str) -> Any:
    """The first true value of ready()."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain\n{explain()}"
        time.sleep(PAUSE)
    return found
