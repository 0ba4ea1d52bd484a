"""Sweep files, problem files and command lines that mean nothing, or nearly something: hypothesis makes them up."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import typer
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import make_tables
from benchmark import cli, status
from benchmark.planning.grid import load_sweep
from benchmark.results.store import Store
from benchmark.sweep import app
from tests.faults.harness import ROOT, Row

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


def run(*arguments: str, command: typer.Typer = app) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        code = cli.main(command, arguments)
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


def _sweep_file(value: Any) -> None:
    dry_run_of(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))


def _problem_file(value: Any) -> None:
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


def _command_line(typed: tuple[list[tuple[str, str]], str]) -> None:
    arguments, name = typed
    flat = [part.replace("\0", "") for pair in arguments for part in pair]
    with tempfile.TemporaryDirectory() as folder:
        for first in ("table1", name.replace("\0", "")):
            code, _, error = run("--dry-run", "--results", str(Path(folder) / "results"), first, *flat)
            judge(Path(folder), set(), code, error)


READING = ["--problem", "--seeds", "--format", "--details", "--watch=x", "--every", "--colour", "-x", "--"]
READ = (ROOT / "results/reference/table1-digits.jsonl").read_bytes().splitlines(keepends=True)[:12]


def _reading_command_line(typed: tuple[typer.Typer, list[tuple[str, str]], str]) -> None:
    """Of the commands that read results: whatever is typed, they write nothing."""
    command, arguments, name = typed
    flat = [part.replace("\0", "") for pair in arguments for part in pair]
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        records.write_bytes(b"".join(READ))
        for first in ([], ["table1"], [name.replace("\0", "")]):
            code, _, error = run("--results", str(folder), *first, *flat, command=command)
            judge(Path(folder), {records}, code, error)


Property = tuple[st.SearchStrategy[Any], Callable[[Any], None]]
PROPERTIES: dict[str, Property] = {
    "sweep files": (bent(TABLE1), _sweep_file),
    "files of noise": (
        st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))),
        dry_run_of,
    ),
    "problem files": (bent(yaml.safe_load((ROOT / "sweeps/problems/digits.yaml").read_text())), _problem_file),
    "command lines": (
        st.tuples(
            st.lists(st.tuples(st.sampled_from(OPTIONS), st.one_of(NEAR, ODD_TEXT)), max_size=3),
            ODD_TEXT,
        ),
        _command_line,
    ),
    "command lines of tables and status": (
        st.tuples(
            st.sampled_from([make_tables.app, status.app]),
            st.lists(st.tuples(st.sampled_from(READING), st.one_of(NEAR, ODD_TEXT)), max_size=2),
            ODD_TEXT,
        ),
        _reading_command_line,
    ),
}
"""What is made up, and the check of each: a sweep, or one line and exit code 2, and nothing left behind."""


def row(name: str, examples: int, seed: int) -> Row:
    """The table's row of one property, with so many examples made from the seed."""
    made, check = PROPERTIES[name]
    line = Row(f"fuzz: {name}")

    @hypothesis.seed(seed)
    @settings(FUZZ, max_examples=examples, database=None)
    @given(made)
    def property_(value: Any) -> None:
        line.tries += 1
        check(value)

    try:
        property_()
    except Exception as error:
        line.add_wrong(" ".join(f"{type(error).__name__}: {error}".split())[:1000])
    return line
