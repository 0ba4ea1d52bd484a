"""What many tests need: a results folder with a dense run, and records made by really training."""

from __future__ import annotations

import contextlib
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # rich would keep it for good, and some tests set it
# a shell that starts the tests in the background has them, and what they start, ignore Ctrl-C, which some of them send
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).resolve().parent.parent
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # nothing depends on how fast the machine is


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in another order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (seed := config.getoption("--shuffle")) is not None:
        random.Random(seed).shuffle(items)


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m MODULE ARGUMENTS` as a user would; returns the finished process."""
    return as_command


def as_command(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS` with these environment variables, but in this process, which has torch loaded already.

    Workers of all sweeps that run so are forked from one server, started with the first of them: directories of
    PYTHONPATH reach them, other variables do not. tests/test_commands.py starts real processes.
    """
    folders = [folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep) if folder]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code: object = None
    with (
        mock.patch.dict(os.environ, {"WANDB_MODE": "offline", "COLUMNS": "200", **variables}),
        mock.patch.object(sys, "argv", [module, *arguments]),
        mock.patch.object(sys, "path", [*folders, *sys.path]),
        contextlib.chdir(ROOT),
        warnings.catch_warnings(),
        Printed() as printed,
    ):
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # as Python does where nobody tests
        warnings.filterwarnings("ignore", ".*found in sys.modules")
        warnings.showwarning = lambda *told, **_: print(warnings.formatwarning(*told[:4]), file=sys.stderr)
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess([module, *arguments], int(code or 0), printed.output, printed.error)


class Printed:
    """output, error: what this process and those that it started printed while this was entered."""

    def __enter__(self) -> Printed:
        self._files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]
        self._streams, self._saved = (sys.stdout, sys.stderr), [os.dup(number) for number in (1, 2)]
        for number, file in enumerate(self._files, 1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = self._files
        return self

    def __exit__(self, *error: object) -> None:
        sys.stdout, sys.stderr = self._streams
        texts = []
        for number, (file, saved) in enumerate(zip(self._files, self._saved, strict=True), 1):
            file.flush()
            os.dup2(saved, number)
            os.close(saved)
            file.seek(0)
            texts.append(file.read())
            file.close()
        self.output, self.error = texts


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
