"""Code from outside the suite, which cells name "module:function": hashes of its source, since that decides results.

Imports no torch and does not run the code.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from benchmark.cells import FUNCTION, Cell
from benchmark.imports import SUITE, files


def modules(cell: Cell) -> list[str]:
    """Modules from outside that the cell names as task, data set, model, method, schedule or hyperparameter."""
    problem = cell.problem
    settings = (value for _, value in cell.hyperparameters)
    values = (problem.task, problem.dataset, problem.model, cell.method, cell.schedule, *settings)
    named = {match[1] for value in values if isinstance(value, str) and (match := FUNCTION.fullmatch(value))}
    return sorted(name for name in named if name.partition(".")[0] not in SUITE)


def sources(cell: Cell) -> dict[str, str]:
    """{module: hash of its source} for the cell's `modules`, without those that are not installed here."""
    hashes = {name: source_hash(name) for name in modules(cell)}
    return {name: value for name, value in hashes.items() if value is not None}


@lru_cache(maxsize=256)
def source_hash(module: str) -> str | None:
    """Hash of its file and of all files that it imports from its own folder; None if it has no file.

    Cached, so that a process reports the code that it loaded even if a file is edited afterwards.
    """
    if (root_and_paths := files(module)) is None:
        return None
    root, paths = root_and_paths
    content = hashlib.sha256()
    for path in paths:
        content.update(str(path.relative_to(root)).encode(errors="surrogateescape"))
        content.update(path.read_bytes())
    return content.hexdigest()[:16]
