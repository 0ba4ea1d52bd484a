"""Publishing processes that are forked from the server of a sweep's workers.

Each would take over a second to load wandb, and the tests start dozens. The server loads it once.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import IO
from unittest import mock

from benchmark.launch import pool
from benchmark.tracking import process, publisher

# what wandb imports on the way to its first run, too
pool.PRELOADED = (*pool.PRELOADED, process.__name__, "wandb", "wandb.sdk.launch", "pandas")


class Forked:
    """In the place of subprocess.Popen, where a publisher starts its process."""

    def __init__(
        self,
        command: list[str],
        *,
        stdin: int,
        stdout: IO[bytes],
        stderr: IO[bytes],
        env: Mapping[str, str],
        pass_fds: list[int],
    ):
        assert command[:3] == [sys.executable, "-m", process.__name__]
        forkserver.set_forkserver_preload(list(pool.PRELOADED))
        connection = Connection(os.dup(pass_fds[0]))
        arguments = (command[3], connection, str(stdout.name), dict(env))
        self._process = multiprocessing.get_context("forkserver").Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        connection.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired(process.__name__, timeout or 0.0)
        return self.returncode

    def kill(self) -> None:
        self._process.kill()


def _serve(settings: str, connection: Connection, log: str, environment: dict[str, str]) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [process.__name__, settings, str(connection.fileno())]
    process.main()


@contextmanager
def publishing_processes() -> Iterator[None]:
    """A block in which the publishers of this process have theirs forked."""
    stand_in = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    with mock.patch.object(publisher, "subprocess", stand_in):
        yield
