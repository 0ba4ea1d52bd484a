"""What is read from files can hold no code, and the scan of the code is as strict as it says."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.cells import Budget, Cell
from benchmark.planning.grid import load_sweep
from benchmark.results.store import Store
from tests.conftest import ROOT

PROBLEM = load_sweep("table1").problem
RUNS_CODE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
"""Modules whose readers run what a file tells them to."""


OWN_BYTES = Path("benchmark/measure/forms.py")
"""Loads networks from bytes that it has made itself, for a process that measures their memory; no file is read."""


def unsafe_reads(source: str) -> Iterator[str]:
    """Calls that read a file or text in a way that can run code, as "line: call"."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        settings = {word.arg: ast.unparse(word.value) for word in node.keywords}
        module, _, function = name.rpartition(".")
        unsafe = (
            (module in RUNS_CODE and function in ("load", "loads", "open", "Unpickler"))
            or (name == "torch.load" and settings.get("weights_only") != "True")
            or (module in ("np", "numpy") and function == "load" and settings.get("allow_pickle") != "False")
            or function == "read_pickle"
            or (module == "yaml" and function.removesuffix("_all") in ("load", "full_load", "unsafe_load"))
            or name in ("eval", "exec")
        )
        if unsafe:
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("package", ["benchmark", "analysis"])
def test_nothing_that_a_file_holds_can_run(package: str):
    found = {
        str(path.relative_to(ROOT)): calls
        for path in sorted((ROOT / package).rglob("*.py"))
        if (calls := list(unsafe_reads(path.read_text()))) and path.relative_to(ROOT) != OWN_BYTES
    }
    assert found == {}


@pytest.mark.parametrize(
    "call",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(file)",
        "joblib.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
    ],
)
def test_a_read_that_can_run_code_would_be_noticed(call: str):
    assert len(list(unsafe_reads(call))) == 1


def test_the_security_rules_of_the_linter_are_on():
    """For all but the tests, where subprocesses and asserts are the point."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert [rule for rule in lint["ignore"] if rule.startswith("S")] == ["S101"]
    assert [pattern for pattern, rules in lint["per-file-ignores"].items() if "S" in rules] == ["tests/*"]


@pytest.mark.parametrize(
    "name",
    ["../../out", "/etc/passwd", "..", "a/../../b", "x\\..\\y", "a\nb", "a\0b", "~root", "mine:../x", "٣", "%2e%2e"],
)
def test_no_method_schedule_or_setting_leaves_the_results_folder(tmp_path: Path, name: str):
    store = Store(tmp_path / "results")
    cells = [
        Cell(PROBLEM, name, 0, sparsity=0.5),
        Cell(PROBLEM, "IMP", 0, name, 0.5, Budget.parse("1%")),
        Cell(PROBLEM, "IMP", 0, "FT", 0.5, Budget.parse("1%"), ((name, name),)),
    ]
    for cell in cells:
        for kind in ("records", "failures", "checkpoints", "claims", "published"):
            path = store.file(kind, cell.id, ".json")
            assert path.resolve().parent.parent == (store.path / kind).resolve()
            assert "\0" not in str(path)
            assert path.name.isascii()
