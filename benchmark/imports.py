"""Code from outside the suite, named "module:attribute": methods, schedules, tasks, networks, data sets, launchers."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import re
import symtable
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, named, told

SUITE = ("analysis", "benchmark")
ELSEWHERE = re.compile(
    rb"import\s*\(?\s*\*|__getattr__|globals|locals|vars|setattr|__dict__|sys\.modules|:=|\bglobal\b|\bexec\b"
)
"""What may give a module names that no line of its own binds."""


def load(where: str, what: str) -> Any:
    """The attribute that `where` names. Raises UserError, which begins with `what`, if it cannot be imported."""
    module_name, _, name = where.partition(":")
    try:
        _drop_bytecode(module_name)
        with contextlib.redirect_stdout(sys.stderr):  # a command's own output may be a table for another program
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever somebody else's module does while it is imported
        raise UserError(f"{what}: cannot import {module_name!r} ({_why(error, module_name)})") from error
    if not hasattr(module, name):
        raise UserError(f"{what}: module {module_name!r} has no {name!r}")
    return getattr(module, name)


@contextlib.contextmanager
def code_of_others(what: str) -> Iterator[None]:
    """Raises UserError, which begins with `what`, for whatever code from outside does in its block."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {named(error)}") from error


def check_named(where: str, what: str) -> None:
    """Raises UserError, which begins with `what`, if it is clear without an import that `load` would fail.

    Planning imports no torch, and modules with networks and tasks do.
    """
    module, _, name = where.partition(":")
    try:
        spec = importlib.util.find_spec(module)  # imports the packages that the module lies in
        if spec is None:
            raise ModuleNotFoundError(name=module)
        if module in sys.modules and hasattr(sys.modules[module], name):
            return
        if spec.origin is None or not spec.origin.endswith(".py") or not Path(spec.origin).is_file():
            return
        source = Path(spec.origin).read_bytes()
        top = symtable.symtable(source, spec.origin, "exec")  # type: ignore[arg-type]
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: cannot import {module!r} ({_why(error, module)})") from error
    bound = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    if name not in bound and not ELSEWHERE.search(source):
        raise UserError(f"{what}: module {module!r} has no {name!r}")


def _why(error: BaseException, module: str) -> str:
    """In a few words, why a module cannot be imported."""
    if "/" in module or module.endswith(".py"):
        return f"a module is named by its name, here {Path(module).stem}:..., and not by its file"
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"Python finds no module {error.name!r}"
    if isinstance(error, UserError):
        return str(error)
    return named(error) if isinstance(error, ImportError | SyntaxError) else told(error)


def files(module: str) -> tuple[Path, list[Path]] | None:
    """The folder that a module is imported from, and in it the module's file and all that it imports, by name. None if
    it has no file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    origin = Path(spec.origin)
    is_package = spec.submodule_search_locations is not None
    root = origin.parents[module.count(".") + is_package]
    return root, sorted(_closure(origin, root, module.partition(".")[0]))


def _drop_bytecode(module: str) -> None:
    """Have Python compile a module from outside anew, with what it imports beside it and the packages that it lies in:
    Python would take compiled code of another source of the same size and time."""
    if module.partition(".")[0] in SUITE:
        return
    for name in accumulate(module.split("."), "{}.{}".format):
        if name in sys.modules or (root_and_paths := files(name)) is None:
            continue
        for path in root_and_paths[1]:
            with contextlib.suppress(OSError, NotImplementedError):  # there is none, or it may not be removed
                Path(importlib.util.cache_from_source(path)).unlink()


def _closure(origin: Path, root: Path, top: str) -> set[Path]:
    """`origin` and all files below `root` that it imports; of an installed package (`top`) only its own files."""
    installed = root.name in ("site-packages", "dist-packages")
    paths, waiting = set[Path](), [origin, *_run_by(".".join(origin.relative_to(root).parent.parts), root)]
    while waiting:
        path = waiting.pop()
        if path in paths:
            continue
        paths.add(path)
        for name in _imports(path, root):
            first = name.partition(".")[0]
            if first in SUITE or (installed and first != top):
                continue
            waiting += _run_by(name, root)
    return paths


def _run_by(name: str, root: Path) -> list[Path]:
    """The files below `root` that importing a module runs: its own, and those of the packages that it lies in."""
    base = root.joinpath(*name.split("."))
    packages = [folder for folder in (base, *base.parents) if folder.is_relative_to(root) and folder != root]
    return [file for file in (base.with_suffix(".py"), *(p / "__init__.py" for p in packages)) if file.is_file()]


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
