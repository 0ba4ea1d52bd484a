"""The rooms of analysis: what is generic, then the paper's own, then the commands, which wire both."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

COMMANDS = {"analysis.make_tables", "analysis.make_figures", "analysis.make_report"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


IMPORTS = {
    module_of(path): set(imports(path))
    for folder in ("analysis", "benchmark")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def is_of(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def edges(room: str, *but: str) -> list[tuple[str, str]]:
    """(module of the room, module that it imports)."""
    modules = [module for module in IMPORTS if is_of(module, room) and not any(is_of(module, name) for name in but)]
    assert modules
    return [(module, name) for module in modules for name in IMPORTS[module]]


def test_nothing_generic_knows_the_paper():
    assert not [edge for edge in edges("analysis", "analysis.paper", *COMMANDS) if is_of(edge[1], "analysis.paper")]


def test_no_room_needs_a_command():
    assert not [edge for edge in edges("analysis", *COMMANDS) if edge[1] in COMMANDS]


def test_the_commands_wire_the_paper():
    wired = {module for module, name in edges("analysis") if module in COMMANDS and is_of(name, "analysis.paper")}
    assert wired == COMMANDS


def test_what_trains_needs_no_analysis():
    assert not [edge for edge in edges("benchmark", "benchmark.measure") if is_of(edge[1], "analysis")]
