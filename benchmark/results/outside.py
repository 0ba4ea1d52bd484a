"""Code from outside the suite, named "module:function" in a cell: its source decides results as the suite's does.

Imports no torch, and runs nothing of that code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from benchmark.cells import Cell

SUITE = ("analysis", "benchmark")
NAME = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")


def modules(cell: Cell) -> list[str]:
    """Modules from outside that the cell names as its method, its schedule or a hyperparameter."""
    values = (cell.method, cell.schedule, *(value for _, value in cell.hyperparameters))
    named = {match[1] for value in values if isinstance(value, str) and (match := NAME.fullmatch(value))}
    return sorted(name for name in named if name.partition(".")[0] not in SUITE)


def sources(cell: Cell) -> dict[str, str]:
    """Hash of the source of each of `modules`, without those that have none here."""
    hashes = {name: source_hash(name) for name in modules(cell)}
    return {name: value for name, value in hashes.items() if value is not None}


@lru_cache(maxsize=256)
def source_hash(module: str) -> str | None:
    """Of its file and of all that it imports from the folder it lies in, None where there is no such file.

    Remembered, so that a process goes by the code that it loaded, whatever is edited afterwards.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    origin = Path(spec.origin)
    is_package = spec.submodule_search_locations is not None
    root = origin.parents[module.count(".") + is_package]
    content = hashlib.sha256()
    for path in sorted(_closure(origin, root, module.partition(".")[0])):
        content.update(str(path.relative_to(root)).encode(errors="surrogateescape"))
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _closure(origin: Path, root: Path, top: str) -> set[Path]:
    """Files below `root` that `origin` is or imports. Of an installed package (`top`) only its own files."""
    installed = root.name in ("site-packages", "dist-packages")
    files, waiting = set[Path](), [origin]
    while waiting:
        path = waiting.pop()
        if path in files:
            continue
        files.add(path)
        for name in _imports(path, root):
            first = name.partition(".")[0]
            if first in SUITE or (installed and first != top):
                continue
            base = root.joinpath(*name.split("."))
            waiting += [found for found in (base.with_suffix(".py"), base / "__init__.py") if found.is_file()]
    return files


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Names of modules, and of what may be one, that a file imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            near = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*near, *([node.module] if node.module else [])])
            yield from [base] * bool(base)
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
