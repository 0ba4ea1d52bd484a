"""Code from outside the suite, which cells name "module:function": hashes of its source, since that decides results.

Imports no torch and does not run the code.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from benchmark.cells import FUNCTION, Cell

SUITE = ("analysis", "benchmark")


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
        _drop_bytecode(path)
        content.update(str(path.relative_to(root)).encode(errors="surrogateescape"))
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _closure(origin: Path, root: Path, top: str) -> set[Path]:
    """`origin` and all files below `root` that it imports; of an installed package (`top`) only its own files."""
    installed = root.name in ("site-packages", "dist-packages")
    files, waiting = set[Path](), [origin, *_run_by(".".join(origin.relative_to(root).parent.parts), root)]
    while waiting:
        path = waiting.pop()
        if path in files:
            continue
        files.add(path)
        for name in _imports(path, root):
            first = name.partition(".")[0]
            if first in SUITE or (installed and first != top):
                continue
            waiting += _run_by(name, root)
    return files


def _run_by(name: str, root: Path) -> list[Path]:
    """The files below `root` that importing a module runs: its own, and those of the packages that it lies in."""
    base = root.joinpath(*name.split("."))
    packages = [folder for folder in (base, *base.parents) if folder.is_relative_to(root) and folder != root]
    return [file for file in (base.with_suffix(".py"), *(p / "__init__.py" for p in packages)) if file.is_file()]


def _drop_bytecode(path: Path) -> None:
    """Have Python compile the source anew: it would take compiled code of another source of this size and time."""
    with contextlib.suppress(OSError, NotImplementedError):  # there is none, or it may not be removed
        Path(importlib.util.cache_from_source(path)).unlink()


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Names that a file imports: modules, and names from modules that may be modules too."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from [base] * bool(base)
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
