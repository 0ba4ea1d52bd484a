"""Whatever a sweep file or a command line says: a sweep, or one line and exit code 2, and nothing left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.launch.profile import Profile
from benchmark.planning.grid import load_sweep
from tests.faults.fuzz import FUZZ, ODD_TEXT, PROPERTIES, dry_run_of, judge, row, run


@pytest.mark.parametrize("name", PROPERTIES)
@FUZZ
@given(data=st.data())
def test_whatever_is_typed_gives_a_sweep_or_one_line(name: str, data: st.DataObject):
    made, check = PROPERTIES[name]
    check(data.draw(made))


PIECES = st.sampled_from(
    [
        *("title", "problem", "seeds", "recipe", "grids", "method", "sparsity", "epochs", "x", "IMP", "FT", "digits"),
        *(
            "0.9",
            "9e-1",
            "010",
            "0o17",
            "0x1F",
            "1:30",
            "8:00:00",
            "2024-13-45",
            "1e400",
            ".inf",
            ".nan",
            "yes",
            "null",
        ),
        *(
            "9" * 30,
            "9" * 5000,
            "-1",
            "1_000",
            "[" * 50,
            "]" * 50,
            "[" * 2000,
            "{",
            "}",
            "[",
            "]",
            ",",
            ": ",
            "- ",
            "? ",
        ),
        *("\n", "\n  ", "\r\n", "\t", "\0", "\ufeff", "\x85", "\ud800", "#", "|", ">", "'", '"', "\\", "\\ud800", "%"),
        *(
            "&a ",
            "*a",
            "<<: ",
            "!!int ",
            "!!set ",
            "!!python/name:os ",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "@",
            "`",
            "=",
            "~",
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
SETTINGS = [
    *Problem.model_fields,
    *(f"slurm.{key}" for key in (*Profile.model_fields, "retries.lost")),
    "slurm.",
    "",
    "x",
]


@settings(FUZZ, max_examples=60)
@given(content=st.one_of(TEXTS, TEXTS.map("title: x\ngrids: ".__add__), st.text(), st.binary()))
def test_whatever_a_file_holds_gives_a_sweep_or_one_line(content: str | bytes):
    dry_run_of(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


@settings(FUZZ, max_examples=60)
@given(key=st.sampled_from(SETTINGS), value=st.one_of(TEXTS, ODD_TEXT, st.floats().map(str), st.integers().map(str)))
def test_whatever_a_setting_says_gives_a_plan_or_one_line(key: str, value: str):
    here = [] if not key.startswith("slurm") else ["--executor", "slurm", "--cluster", "one-gpu"]
    with tempfile.TemporaryDirectory() as folder:
        given_ = ("--set", f"{key}={value}", "--seeds", "1", "--results", f"{folder}/results")
        code, _, error = run("table1", "--dry-run", *here, *given_)
        judge(Path(folder), set(), code, error)


def test_a_fuzzer_that_finds_something_says_what(monkeypatch):
    def check(value: int) -> None:
        assert value < 1000, "a large one"

    monkeypatch.setitem(PROPERTIES, "numbers", (st.integers(), check))
    line = row("numbers", 200, seed=0)
    assert (line.tries > 1, line.wrong) == (True, 1)
    assert "a large one" in line.notes[0]


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


@pytest.mark.parametrize("text", ["[" * 5000, "title: 2024-13-41", "title: &a [*a]", "? {a: b}\n: c", "\0", "a: 1e400"])
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
