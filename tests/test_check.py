"""The conformance check: built-in methods pass it, and each way to break a promise is found and named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmark import cli
from benchmark.check import app
from benchmark.check_method import TINY, Promise, Trial, check, make_cell
from benchmark.errors import UserError
from benchmark.methods import METHODS, Declaration, declaration
from benchmark.methods.accepted import Numbers
from benchmark.planning.grid import load_problem
from tests.user_methods import Halfway

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {**TINY, "training_share": 0.5})
STOPS = (5, 9, 17)
"""In the middle of an epoch, between two epochs, and before the last iteration of a run of 18."""


@pytest.fixture(scope="module", autouse=True)
def _one_dense_run() -> Iterator[None]:
    """All cells that are checked here start from the same one."""
    prepared = Trial.prepare(make_cell("IMP", PROBLEM, 0.5))
    prepare = Trial.prepare
    ours = lambda cell: replace(prepared, cell=cell) if cell.problem == PROBLEM else prepare(cell)  # noqa: E731
    with mock.patch.object(Trial, "prepare", ours):
        yield


def findings(method: str, sparsity: float = 0.5, **hyperparameters) -> dict[str, Promise]:
    cell = make_cell(method, PROBLEM, sparsity, hyperparameters)
    return {promise.name: promise for promise in check(cell, STOPS)}


def broken(promises: dict[str, Promise]) -> list[str]:
    return [promise.name for promise in promises.values() if not promise.kept]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dense"])
def test_every_built_in_method_keeps_all_promises(method: str):
    found = findings(method)
    assert not broken(found), [promise for promise in found.values() if not promise.kept]
    assert {"trains", "reaches its sparsity", "keeps pruned weights at zero", "resumes exactly"} < set(found)


def test_iterative_pruning_and_returning_weights_keep_them_too():
    assert not broken(findings("IMP", sparsity=0.8, cycles=3, momentum="kept"))
    assert not broken(findings("BIMP", sparsity=0.8, cycles=2))
    assert not broken(findings("GMP", sparsity=0.8, returning=True))


def test_a_method_from_outside_the_package_passes():
    assert not broken(findings("tests.user_methods:Halfway"))


def test_the_readmes_recipe_for_a_method_is_short_and_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (recipe,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class HalfWay" in block)
    assert len(recipe.splitlines()) < 40
    (tmp_path / "halfway.py").write_text(recipe, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert not broken(findings("halfway:HalfWay"))


@pytest.mark.parametrize(
    ("name", "promise", "words"),
    [
        ("Revives", "keeps pruned weights at zero", "pruned weights of conv1.weight are not zero before iteration 21"),
        ("Forgets", "resumes exactly", "stopped before iterations 5, 9, 17: these differ: "),
        ("Drifts", "is deterministic", "these differ: "),
        ("StopsEarly", "keeps to its length", "18 iterations of 36 that it has"),
        ("FallsShort", "reaches its sparsity", "2666 of 10662 weights are zero, 25.00 %; 2665 too few"),
        ("Meddles", "leaves trained weights alone", "conv1.weight has changed in an evaluation before iteration 0"),
        ("Empties", "trains", "all weights of fc.weight are zero"),
    ],
)
def test_a_broken_promise_is_named_with_what_was_seen(name: str, promise: str, words: str):
    found = findings(f"tests.user_methods:{name}")
    assert promise in broken(found)
    assert words in found[promise].detail
    if name != "Meddles":  # which meddles with everything
        others = {"Revives": ["reaches"], "Drifts": ["resumes exactly"]}
        assert set(broken(found)) <= {promise, *others.get(name, [])}


def test_the_command_says_a_line_a_promise_and_ends_with_1_if_one_is_broken(command, capsys):
    good = command("benchmark.check", "tests.user_methods:Halfway", "--set", "at=20")
    assert good.returncode == 0, good.stdout + good.stderr
    lines = good.stdout.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok   ") for line in lines[:-1])
    assert "of dense training" in lines[-1]
    assert cli.main(app, ["tests.user_methods:FallsShort"]) == 1
    assert "FAIL reaches its sparsity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dense"], ["prunes nothing"]),
        (["BIM"], ["'BIM'", "BIMP", "module:Class"]),
        (["tests.user_methods:Undeclared"], ["Undeclared", "declaration"]),
        (["tests.user_methods:Missing"], ["Missing"]),
        (["broken_raises:Method"], ["'broken_raises:Method': cannot import 'broken_raises'", "RuntimeError: boom"]),
        (["broken_syntax:Method"], ["cannot import 'broken_syntax'", "SyntaxError", "broken_syntax.py, line 1"]),
        (["broken_exits:Method"], ["cannot import 'broken_exits'", "SystemExit: 0"]),
        (["nowhere:Method"], ["cannot import 'nowhere'", "Python finds no module 'nowhere'"]),
        (["./nowhere.py:Method"], ["cannot import './nowhere.py'", "here nowhere:..., and not by its file"]),
        ([".relative:Method"], ["cannot import '.relative'"]),
        (["tests.user_methods:Misnamed"], ["that of 'wrong:Name'", "Declaration('tests.user_methods:Misnamed', ...)"]),
        (["tests.user_methods:Inherits"], ["that of 'tests.user_methods:Halfway'"]),
        (["tests.user_methods:WithoutDecay"], ["WithoutDecay: it needs a hyperparameter 'decay'", "have: at"]),
        (["GMP", "--set", "interval=4"], ["interval", "1 to 2"]),
        (["GMP", "--set", "spacing=4"], ["spacing", "interval"]),
        (["GMP", "--sparsity", "1.5"], ["--sparsity 1.5", "below 1"]),
        (["GMP", "--data", "images"], ["--data images is for --problem"]),
        (["--problem", "digits", "--sparsity", "0.9"], ["--sparsity 0.9 is for a METHOD"]),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
):
    modules = {"raises": "raise RuntimeError('boom')", "syntax": "class Method(:", "exits": "raise SystemExit(0)"}
    for name, text in modules.items():
        (tmp_path / f"broken_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(app, arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_a_hook_whose_name_is_misspelled_is_named(capsys):
    assert cli.main(app, ["tests.user_methods:Misspelled"]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "FAIL its hooks are called: before_iteratoin is called by nothing: perhaps before_iteration"
    )
    assert not [line for line in others if line.startswith("FAIL")]


def test_an_error_of_the_methods_own_code_is_a_finding_that_says_where(capsys):
    assert cli.main(app, ["tests.user_methods:Raises"]) == 1
    out, error = capsys.readouterr()
    assert error == ""
    (line,) = out.splitlines()
    assert line.startswith("FAIL runs without an error: IndexError: list index out of range, at user_methods.py line ")
    assert line.endswith(": self.nothing[0]")


def test_a_class_may_be_declared_under_the_name_of_the_module_that_it_is_defined_in(monkeypatch):
    monkeypatch.setattr("tests.conftest.Halfway", Halfway, raising=False)
    assert declaration("tests.conftest:Halfway") is Halfway.declaration


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("NotesText", "note('half way'); a dict of numbers, texts and lists is expected"),
        ("ForgetsToReturn", "begin(0) gave None; a learning rate from 0 up for each iteration"),
        ("NegativeRates", "begin(0) gave array("),
        ("NoSubclass", "NoSubclass is no subclass of benchmark.training.method.Method"),
        ("no_class", "not a class"),
    ],
)
def test_what_a_method_gives_in_a_wrong_form_is_one_line(capsys, method: str, words: str):
    assert cli.main(app, [f"tests.user_methods:{method}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1, error


def test_a_hook_that_is_a_generator_is_named():
    assert findings("tests.user_methods:Yields")["its hooks are called"].detail.startswith(
        "before_iteration has a yield"
    )


def test_a_method_that_masks_nothing_while_it_trains_is_told_so():
    found = findings("tests.user_methods:AtTheEnd")
    assert found["keeps pruned weights at zero"].detail == "no weight was masked before the end of training"


def test_more_than_was_asked_for_is_said_to_miss_the_target():
    assert "one that missed its target" in findings("tests.user_methods:Overshoots")["reaches its sparsity"].detail


def test_a_learned_sparsity_may_be_a_tensor():
    assert not broken(findings("tests.user_methods:LearnsInATensor"))


def test_a_smaller_network_that_is_none_is_found():
    assert "smaller() gives a str" in findings("tests.user_methods:SmallerIsText")["runs without an error"].detail


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"defaults": None}, "defaults is None; a dict by the names of hyperparameters is expected"),
        ({"defaults": {"a": None}}, "default of a is None; a number, a text or true or false is expected"),
        ({"defaults": {"a": float("nan")}}, "default of a is nan"),
        ({"accepted": {"b": Numbers(0)}}, "accepted has 'b', which is none of its defaults"),
        ({"defaults": {"a": 1.0}, "accepted": {"a": (0, 1)}}, "accepted of a is (0, 1); Numbers(...) or Words(...)"),
        ({"defaults": {"a": -1.0}, "accepted": {"a": Numbers(0)}}, "default of a is -1.0; it takes a number from 0 up"),
        ({"check": None}, "check is None, which is no function"),
    ],
)
def test_a_declaration_in_a_wrong_form_is_refused(fields: dict, words: str):
    with pytest.raises(UserError) as caught:
        Declaration("mine:Method", **fields)
    assert words in str(caught.value)
