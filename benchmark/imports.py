"""Code from outside the suite, named "module:attribute": methods, schedules, tasks, networks, data sets, launchers."""

from __future__ import annotations

import importlib
from typing import Any

from benchmark.errors import UserError


def load(where: str, what: str) -> Any:
    """The attribute that `where` names. Raises UserError, which begins with `what`, if it cannot be imported."""
    module_name, _, name = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever somebody else's module does while it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{what}: cannot import {module_name!r} ({reason})") from error
    if not hasattr(module, name):
        raise UserError(f"{what}: module {module_name!r} has no {name!r}")
    return getattr(module, name)
