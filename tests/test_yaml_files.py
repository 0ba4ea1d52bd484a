"""YAML as users write it: which values it holds, and one line for what is none."""

from __future__ import annotations

import ast
import math
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import parse_settings
from benchmark.errors import UserError
from benchmark.yaml_files import MOST_BYTES, names_file, piped, read_yaml, stem_of
from tests.conftest import ROOT

NUMBERS = {
    "0": 0, "-3": -3, "+1": 1, "010": 10, "-010": -10, "0o17": 15, "0x1F": 31, "0xff": 255,
    "1e-3": 0.001, "9e-1": 0.9, ".5": 0.5, "-.5": -0.5, "+.5": 0.5, "5.": 5.0, "1E5": 100000.0, "12e+03": 12000.0,
    "-2.5": -2.5, ".inf": math.inf, "-.Inf": -math.inf, "1e-400": 0.0,
}  # fmt: skip
OTHERS = {"true": True, "False": False, "TRUE": True, "null": None, "~": None, "": None}
TEXTS = [
    "8:00:00", "1:30", "-1:30", "190:20:30.15", "1_000", "0b11", "0o8", "0xg", "-0x1F", "1e", "e1", ".", "+",
    "1.2.3", "yes", "No", "on", "OFF", "y", "n", "tRUE", "nUll", "inf", "nan", "NaN", "2024-13-45", "2024-05-01",
    "2024-05-01 10:00:00", "2024-05-01T10:00:00Z", "=", "<<", "٣", "1 2", "4h",
]  # fmt: skip


def read(tmp_path: Path, content: str | bytes) -> Any:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path)


def refusal(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/mine.yaml")
    assert "\n" not in message
    assert len(message) < 400 + len(str(tmp_path))
    return message


@pytest.mark.parametrize("text", [*NUMBERS, *OTHERS, *TEXTS])
def test_a_value_is_what_yaml_1_2_says_in_files_and_in_settings(tmp_path: Path, text: str):
    expected = {**NUMBERS, **OTHERS}.get(text, text)
    for found in (read(tmp_path, f"a: {text}\n")["a"], parse_settings([f"a={text}"])["a"]):
        assert (type(found), found) == (type(expected), expected)


def test_nan_is_a_number():
    assert math.isnan(parse_settings(["a=.nan"])["a"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1e400", "1e400 is beyond the largest number, 1.8e308"),
        ("-1e400", "beyond the largest number"),
        ("9" * 101, "more than 100 digits"),
        ("9" * 20_000, "more than 100 digits"),
        ("0x" + "f" * 20_000, "more than 100 digits"),
        ("!!int 1:30", "'1:30' is not a whole number"),
        ("!!bool yes", "'yes' is not true or false"),
        ("!!float x", "'x' is not a number"),
        ("!!int [1]", "is not a whole number"),
        ("!!timestamp 2024-13-45", "tag !!timestamp is not accepted"),
        ("!!binary abc", "tag !!binary is not accepted"),
        ("!!set {a}", "tag !!set is not accepted"),
        ("!mine x", "tag !mine is not accepted"),
        ("!!python/object/apply:os.getcwd []", "is not accepted"),
        ("[" * 2000, "more than 40 brackets"),
        ("{a: " * 2000, "more than 40 brackets"),
        ("[" * 50 + "]" * 50, "more than 40 brackets"),
        ("[1, 2", "expected"),
        ("&a [*a]", "an alias within what it stands for"),
        ("&a {b: *a}", "an alias within what it stands for"),
        ("&a {<<: *a}", "an alias within what it stands for"),
        ("*a", "undefined alias"),
        ("{b: 1, b: 2}", "key 'b' is there already"),
        ("{1: 2}", "'1' is no key"),
        ("{? [1] : 2}", "a list or mapping is no key"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("@x", "cannot start any token"),
    ],
)
def test_what_is_no_value_costs_one_line(tmp_path: Path, text: str, words: str):
    assert words in refusal(tmp_path, f"a: {text}\n")
    with pytest.raises(UserError) as caught:
        parse_settings([f"a={text}"])
    message = str(caught.value)
    assert words in message
    assert message.startswith("--set a=")
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\0\n", "character 5, #x0000"),
        (b"a: \xff\n", "byte 4 is not utf-8 text"),
        (b"\xc3(", "byte 1 is not utf-8 text"),
        (b"\tx: 1", " line 1, column 1: not valid YAML"),
        (b"a: 1\n\tb: 2\n", " line 2, column 1: not valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", " line 3, column 1: not valid YAML: key 'a' is there already, in line 1"),
        (b"--- 1\n--- 2\n", "another document"),
        (b"- " * 3000, "more than 40 brackets"),
        (b"#" * (MOST_BYTES + 1), "larger than 256 KiB"),
    ],
)
def test_a_file_that_is_no_yaml_costs_one_line(tmp_path: Path, content: bytes, words: str):
    assert words in refusal(tmp_path, content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_files_of_windows_are_read(tmp_path: Path, encoding: str, ends: str):
    content = ends.join(["title: Müller", "seeds: [1, 2]", ""])
    assert read(tmp_path, content.encode(encoding)) == {"title": "Müller", "seeds": [1, 2]}


def test_json_is_yaml(tmp_path: Path):
    assert read(tmp_path, r'{"title": "\ud83d\ude00", "a": [1e-3, true, null]}') == {
        "title": "😀",
        "a": [0.001, True, None],
    }


def levels(first: str, next_: str, count: int, times: int) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {next_.format(', '.join([f'*a{n - 1}'] * times))}" for n in range(1, count)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (levels("[x, x]", "[{}]", 12, 9), "unfolds to more than 2000000 characters"),
        (levels("{x: 1}", "{{<<: [{}]}}", 12, 9), "unfolds to more than 2000000 characters"),
        (levels("[x]", "[{}]", 3000, 1), "more than 40 brackets"),
        ("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 1000 + "]", "unfolds to more than 2000000 characters"),
        ("a: &a [" + "1," * 2000 + "]\nb: &b [" + "*a, " * 900 + "]\nc: [*b, *b]", "unfolds to more than"),
    ],
)
def test_a_bomb_of_aliases_costs_one_line_and_neither_time_nor_memory(tmp_path: Path, content: str, words: str):
    tracemalloc.start()
    started = time.process_time()
    try:
        assert words in refusal(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(UserError, match="/dev/zero: larger than 256 KiB"):
        read_yaml(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.YAML", "mine.YML", "a/b.Yaml", "-", "/dev/stdin"])
def test_a_file_of_ones_own_is_known_by_its_name(name: str):
    assert names_file(name)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/mine.YML", "mine"), ("table1", "table1"), ("-", "stdin"), ("/dev/stdin", "stdin"), ("/dev/shm/a.yaml", "a")],
)
def test_what_a_sweep_is_called(name: str, stem: str):
    assert stem_of(name) == stem


def test_a_terminal_as_standard_input_is_refused_rather_than_waited_for():
    main, terminal = os.openpty()
    try:
        with pytest.raises(UserError, match="nothing is piped in"):
            piped(os.ttyname(terminal))
    finally:
        os.close(main)
        os.close(terminal)


def test_a_sweep_that_is_piped_in_trains_and_prints_its_table(tmp_path: Path):
    text = """
        title: piped in
        seeds: 1
        recipe: {epochs: 6, milestones: [4], warmup_epochs: 1}
        grids: [{method: IMP, schedule: [FT], sparsity: [5e-1], budget: [1ep]}]
    """
    options = ["--results", str(tmp_path / "results"), "--tracking", "off", "--workers", "1"]
    command = [sys.executable, "-m", "benchmark.sweep", "/dev/stdin", *options]
    finished = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "stdin on digits: 1 cells" in finished.stdout
    assert "piped in, digits" in finished.stdout
    assert "sparsity 50 %" in finished.stdout


def test_nothing_but_the_one_reader_reads_yaml():
    """PyYAML's own loaders read version 1.1, and know no bounds."""
    found = {
        path.name
        for folder in ("benchmark", "analysis")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(name.name.partition(".")[0] == "yaml" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "yaml")
    }
    assert found == {"yaml_loader.py"}
