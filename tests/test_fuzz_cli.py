"""Whatever a sweep file or a command line says: a sweep, or one line and exit code 2, and nothing left behind."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark import cli
from benchmark.errors import UserError
from benchmark.grid import load_sweep
from benchmark.store import Store
from benchmark.sweep import app
from tests.conftest import ROOT

FUZZ = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
TABLE1 = yaml.safe_load((ROOT / "sweeps/table1.yaml").read_text())

ODD_TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "../../etc/passwd",
            "/etc/passwd",
            "..",
            ".",
            "~",
            "a/b",
            "a\\b",
            "-",
            "--",
            "\x1b[31mred",
            "{x}",
            "%s",
            "IMP",
            "GMP",
            "ALLR",
            "dense",
            "os:system",
            "builtins:eval",
            ":",
            "x:",
            ":x",
            ".x:y",
            "50%",
            "0ep",
            "1e9it",
            "nan",
            "inf",
            "-1",
            "0x10",
            "1_000",
            "٣",
            "0.9",
            "1.0",
            "",
            "9" * 400,
            "x" * 5000,
        ]
    ),
)
ODD_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), ODD_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD_TEXT, inner, max_size=3)),
    max_leaves=6,
)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield so_far
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*so_far, key))


@st.composite
def bent(draw: st.DrawFn, whole: Any) -> Any:
    """`whole` with one to three values replaced, removed or added."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths(value))))
        if not path:
            if draw(st.booleans()) and isinstance(value, dict):
                value[draw(ODD_TEXT)] = draw(ODD_VALUE)
            continue
        *folders, last = path
        inner = value
        for key in folders:
            inner = inner[key]
        if draw(st.integers(0, 3)):
            inner[last] = draw(ODD_VALUE)
        else:
            del inner[last]
    return value


def run(*arguments: str) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        code = cli.main(app, arguments)
    return code, out.getvalue(), error.getvalue()


def judge(folder: Path, before: set[Path], code: int, error: str) -> None:
    assert set(folder.rglob("*")) == before, "something was written"
    assert code in (0, 2)
    lines = error.strip().split("\n") if error.strip() else []
    assert len(lines) == (code == 2), error
    for line in lines:
        assert line.startswith("error: ")
        assert len(line) < 20_000


def dry_run_of(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "mine.yaml"
        file.write_bytes(content)
        code, _, error = run(str(file), "--dry-run", "--results", str(folder / "results"))
        judge(folder, {file}, code, error)
        if code == 0:
            store = Store(folder / "results")
            for cell in load_sweep(str(file)).cells:
                for kind in ("records", "checkpoints"):
                    path = Path(os.path.normpath(store.file(kind, cell.id)))
                    assert path.parent.parent == store.path / kind, "a name leaves the results folder"


@FUZZ
@given(value=bent(TABLE1))
def test_a_bent_sweep_file_gives_a_sweep_or_one_line(value: Any):
    dry_run_of(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))


@FUZZ
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_a_file_of_noise_gives_one_line(content: bytes):
    dry_run_of(content)


@FUZZ
@given(value=bent(yaml.safe_load((ROOT / "sweeps/problems/digits.yaml").read_text())))
def test_a_bent_problem_file_gives_a_sweep_or_one_line(value: Any):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "mine.yaml"
        file.write_bytes(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))
        code, _, error = run("table1", "--problem", str(file), "--dry-run", "--results", str(folder / "results"))
        judge(folder, {file}, code, error)


OPTIONS = ["--problem", "--seeds", "--only", "--set", "--order", "--workers", "--device", "--tracking"]
OPTIONS += ["--checkpoint-seconds", "--hang-seconds", "--cells", "--repair", "--colour", "-x", "--"]
NEAR = st.sampled_from(
    [
        "schedule=ALLR",
        "sparsity=0.9",
        "sparsity=.9,seed=0",
        "seed=7",
        "epochs=3",
        "epochs=-3",
        "milestones=[1,2]",
        "milestones=[[",
        "learning_rate=.nan",
        "name=../x",
        "dataset=../x",
        "model=a/b",
        "seed,schedule",
        "3",
        "0,2",
        "cpu",
    ]
)


@FUZZ
@given(arguments=st.lists(st.tuples(st.sampled_from(OPTIONS), st.one_of(NEAR, ODD_TEXT)), max_size=3), name=ODD_TEXT)
def test_any_command_line_gives_a_sweep_or_one_line(arguments: list[tuple[str, str]], name: str):
    flat = [part.replace("\0", "") for pair in arguments for part in pair]
    with tempfile.TemporaryDirectory() as folder:
        for first in ("table1", name.replace("\0", "")):
            code, _, error = run("--dry-run", "--results", str(Path(folder) / "results"), first, *flat)
            judge(Path(folder), set(), code, error)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch sprung']",
        "title: !!python/object/apply:os.system ['touch sprung']\nproblem: digits\ngrids: []",
        "title: !!python/name:os.system x",
    ],
)
def test_yaml_that_asks_for_code_is_refused(text: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="not valid YAML"):
        load_sweep("mine.yaml")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("text", ["[" * 5000, "title: 2024-13-41", "title: &a [*a]", "? {a: b}\n: c"])
def test_odd_but_lawful_yaml_costs_one_line(text: str):
    dry_run_of(text.encode())


def test_a_file_that_unfolds_to_billions_of_values_costs_one_short_line(tmp_path: Path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    for place in ("title: *a11\nproblem: digits\ngrids: []", "title: x\nrecipe: {epochs: *a11}\ngrids: *a11"):
        (tmp_path / "mine.yaml").write_text("\n".join([*levels, place]))
        code, _, error = run(str(tmp_path / "mine.yaml"), "--dry-run")
        assert code == 2
        assert len(error) < 20_000
