"""Loads matplotlib as it comes: figures are the same whatever MPLBACKEND, a matplotlibrc or a style of the user's say.

It reads all three while it is imported, and one that it cannot use, such as a notebook's MPLBACKEND, ends the import.
Its cache of fonts is in the suite's own cache folder, or in a temporary one where that cannot be written.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from importlib.resources import as_file, files

from benchmark.environment import cache_folder, settle


@contextlib.contextmanager
def _nothing_inherited() -> Iterator[None]:
    """An environment in which matplotlib finds no settings but its own, also not in the current folder."""
    settle()
    before = dict(os.environ)
    logger = logging.getLogger("matplotlib")
    level = logger.level
    for name in ("MPLBACKEND", "MATPLOTLIBRC"):
        os.environ.pop(name, None)
    os.environ |= {"MPLBACKEND": "agg", "MPLCONFIGDIR": str(cache_folder().absolute() / "matplotlib")}
    logger.setLevel(logging.ERROR)  # that a cache is temporary is no news
    try:
        with as_file(files("analysis")) as folder, contextlib.chdir(folder):
            yield
    finally:
        logger.setLevel(level)
        os.environ.clear()
        os.environ |= before


with _nothing_inherited():
    import matplotlib.figure
    import matplotlib.style  # noqa: F401
