"""Names that say what a thing is: no variable is called found or own, and no two public classes share a name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
VAGUE = {"found", "own", "wanted", "told", "ours"}
"""They say how something came about, or whose it is, and not what it is."""
SHARED: dict[str, str] = {}
"""Names that two public classes may have, each with the reason."""


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """What the files of both packages are made of, each with its file."""
    files = sorted(file for package in ("benchmark", "analysis") for file in (ROOT / package).rglob("*.py"))
    return [(str(file.relative_to(ROOT)), node) for file in files for node in ast.walk(ast.parse(file.read_text()))]


def bound(node: ast.AST) -> Iterator[str | None]:
    """Names that a node gives to a value."""
    match node:
        case ast.arg(arg=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()) | ast.ExceptHandler(name=name) | ast.MatchAs(name=name):
            yield name


def test_every_variable_is_named_for_what_it_is():
    vague = [f"{file}:{node.lineno} {name}" for file, node in nodes() for name in bound(node) if name in VAGUE]
    assert not vague


def test_no_two_public_classes_share_a_name():
    places = defaultdict(list)
    for file, node in nodes():
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            places[node.name].append(file)
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert {name: files for name, files in shared.items() if name not in SHARED} == {}
    assert set(SHARED) <= set(shared), "a reason for what is shared no more"
