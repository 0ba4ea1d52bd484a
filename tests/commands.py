"""The suite's command lines, run in the process of the tests, which has torch loaded already."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

from tests.forked import publishing_processes

ROOT = Path(__file__).resolve().parent.parent
REAL_RUN = subprocess.run


def as_command(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS` with these environment variables, but in this process, which has torch loaded.

    Workers of all sweeps that run so are forked from one server, started with the first of them: directories of
    PYTHONPATH reach them, other variables do not. tests/test_commands.py starts real processes.
    """
    folders = [folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep) if folder]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        mock.patch.dict(os.environ, {"WANDB_MODE": "offline", "COLUMNS": "200", **variables}),
        mock.patch.object(sys, "argv", [module, *arguments]),
        mock.patch.object(sys, "path", [*folders, *sys.path]),
        mock.patch.object(subprocess, "run", _run_inside),
        contextlib.chdir(ROOT),
        warnings.catch_warnings(),
        publishing_processes(),
        Printed() as printed,
    ):
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # as Python does where nobody tests
        warnings.filterwarnings("ignore", ".*found in sys.modules")
        warnings.showwarning = lambda *told, **_: print(warnings.formatwarning(*told[:4]), file=sys.stderr)
        code = _run_module(module)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess([module, *arguments], code, printed.output, printed.error)


def _run_module(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run_inside(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """subprocess.run, but for what a command hands on to another as a sweep does to that of the tables."""
    if (
        command[:3] != [sys.executable, "-P", "-m"]
        or options.keys() - {"check", "input", "env"}
        or options.get("input")
    ):
        return REAL_RUN(command, **options)
    sys.stdout.flush()
    with mock.patch.object(sys, "argv", command[3:]):
        return subprocess.CompletedProcess(command, _run_module(command[3]))


class Printed:
    """output, error: what this process and those that it started printed while this was entered."""

    def __enter__(self) -> Printed:
        self._files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
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
