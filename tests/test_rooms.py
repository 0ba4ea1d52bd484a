"""Which room may import which, from the ground up: data falls one way, and so do imports."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = {
    "vocabulary": "",
    "results": "vocabulary",
    "tasks": "vocabulary",
    "pruning": "vocabulary",
    "problems": "vocabulary tasks pruning",
    "training": "vocabulary results tasks problems pruning",
    "methods": "vocabulary problems pruning training",
    "planning": "vocabulary results training methods",
    "tracking": "vocabulary results",
    "api": "vocabulary pruning training",
    "worker": "vocabulary results tasks problems pruning training methods",
    "launch": "vocabulary results problems training methods planning tracking worker",
    "commands": "vocabulary results tasks problems pruning training methods planning tracking worker launch",
    "analysis": "vocabulary results training methods planning tracking",
    "measure": "vocabulary results tasks problems pruning training methods planning api worker tracking launch "
    "analysis",
}
"""Every room with those that its files may import; each stands below it."""
OUTSIDE = {
    **dict.fromkeys(("cells", "metric", "errors", "imports", "cli", "environment", "streams"), "vocabulary"),
    **dict.fromkeys(("yaml_files", "yaml_loader"), "vocabulary"),
    **dict.fromkeys(("worker", "recording", "trained", "trial"), "worker"),
    **dict.fromkeys(
        ("sweep", "status", "publish", "export", "checkpoint", "check", "check_method", "check_problem"), "commands"
    ),
    **dict.fromkeys(("latency", "throughput"), "measure"),
    **dict.fromkeys(("api", "sparse"), "api"),
}
"""The room of each file of benchmark/ that lies in no folder."""
COMMANDS = {"analysis.make_tables", "analysis.make_findings", "analysis.make_figures", "analysis.make_report"}
"""Within analysis: what is generic, then analysis.paper, then these, which wire both."""


def room(module: str) -> str:
    top, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    return "analysis" if top == "analysis" else OUTSIDE.get(first, first)


def imports(path: Path) -> Iterator[str]:
    """Modules of the suite that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            package = node.module in ("benchmark", "analysis")
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if package else [node.module]


@functools.cache
def all_imports() -> dict[str, list[str]]:
    """By module of the suite."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): list(imports(path))
        for folder in ("benchmark", "analysis")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def of_analysis() -> dict[str, list[str]]:
    return {module: names for module, names in all_imports().items() if room(module) == "analysis"}


def edges() -> dict[tuple[str, str], list[str]]:
    """(room, room that it imports) -> the files that do."""
    found: dict[tuple[str, str], list[str]] = {}
    for module, names in all_imports().items():
        for name in names:
            if name.partition(".")[0] in ("benchmark", "analysis") and room(name) and room(name) != room(module):
                found.setdefault((room(module), room(name)), []).append(f"{module} -> {name}")
    return found


def of_paper(module: str) -> bool:
    return f"{module}.".startswith("analysis.paper.")


def test_every_room_stands_on_rooms_below_it_alone():
    below: list[str] = []
    for name, uses in ROOMS.items():
        assert set(uses.split()) <= set(below), name
        below.append(name)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_what_it_may_and_nothing_else(name: str):
    for (upper, lower), files in edges().items():
        if upper == name:
            assert lower in ROOMS[name].split(), f"{name} imports {lower}: {files}"


def test_every_folder_and_file_has_a_room():
    names = {path.stem for path in (ROOT / "benchmark").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert {OUTSIDE.get(name, name) for name in names - {"__init__", "__pycache__"}} <= set(ROOMS)


def test_the_list_allows_no_more_than_what_is_used():
    assert {(upper, lower) for upper, uses in ROOMS.items() for lower in uses.split()} == set(edges())


def test_the_readme_shows_the_list():
    (shown,) = re.findall(r"<!-- rooms -->\n\n(.*?)\n\n<!-- end of rooms -->", (ROOT / "README.md").read_text(), re.S)
    lines = [line.split() for line in shown.splitlines()]
    assert {line[0]: line[1:] for line in lines} == {name: uses.split() for name, uses in ROOMS.items()}


def test_in_analysis_nothing_generic_knows_the_paper_and_the_commands_wire_it():
    knowing = {
        module for module, names in all_imports().items() if room(module) == "analysis" and any(map(of_paper, names))
    }
    assert {module for module in knowing if not of_paper(module)} == COMMANDS


def test_no_file_of_analysis_needs_a_command():
    assert not [
        module
        for module, names in all_imports().items()
        if room(module) == "analysis" and not COMMANDS.isdisjoint(names)
    ]
