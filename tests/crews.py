"""What processes do that a test measures. Apart from the tests: what they import, each process would import, too."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any


def dies(connection: Connection, number: Any) -> None:
    """The second that comes here; the first is at work for long."""
    with number.get_lock():
        first, number.value = number.value, 0
    if first:
        time.sleep(600)
    os._exit(3)


def fails(connection: Connection, number: Any) -> None:
    raise ValueError("of no use")
