"""What a user reads after a mistake in a sweep file or a problem file, and what may be written in one."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.claims import per_cent
from benchmark.cells import Budget, Cell
from benchmark.errors import UserError
from benchmark.planning.grid import SWEEPS, load_sweep
from benchmark.planning.subset import axis
from benchmark.yaml_files import read_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SWEEPS, tmp_path / "sweeps")
    return tmp_path / "sweeps"


def refusal(folder: Path = SWEEPS, name: str = "table1", **changes) -> str:
    with pytest.raises(UserError) as caught:
        load_sweep(name, folder=folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sparsity", [0], ["0 is not a fraction"]),
        ("sparsity", [1], ["1 is not a fraction"]),
        ("sparsity", [0.9, 1.5], ["1.5 is not a fraction"]),
        ("sparsity", ["abc"], ["'abc' is not a fraction"]),
        ("sparsity", [], ["grids.0.sparsity", "at least 1"]),
        ("budget", ["5 parsecs"], ["5 parsecs", "2.22%"]),
        ("schedule", ["FT", "XYZ"], ["XYZ", "ALLR"]),
        ("schedule", [], ["list of schedules"]),
        ("method", "XYZ", ["XYZ", "IMP"]),
        ("method", "dense", ["method dense prunes nothing: leave it out"]),
        ("hyperparameters", {"cycels": [1]}, ["cycels", "cycles"]),
        ("hyperparameters", {"cycles": ["many"]}, ["cycles", "'many'"]),
        ("hyperparameters", {"cycles": []}, ["cycles", "at least 1 item"]),
        ("colour", "red", ["grids.0.colour", "unknown key; accepted: method, sparsity, schedule, budget"]),
        ("schedules", ["FT"], ["grids.0.schedules", "perhaps schedule", "accepted: method, sparsity"]),
        ("budget", [2.22], ["2.22 has no unit: write '2.22%'"]),
        ("budget", ["9" * 400 + "%"], ["'999", "9…", "2.22%"]),
        ("sparsity", 0.7, ["grids.0.sparsity 0.7: write a list such as [0.7]"]),
        ("schedule", "FT", ["grids.0.schedule 'FT': write a list such as [FT]"]),
        ("sparsity", ["x" * 200], ["xxx… is not a fraction"]),
        ("sparsity", [True], ["True is not a fraction"]),
        ("budget", ["99999999999999999999ep"], ["is too long: up to 100000ep"]),
        ("budget", ["1000000%"], ["1000000% is too long: up to 111111%"]),
        ("budget", ["99999999999999999999it"], ["is too long: up to 10000000000it"]),
        ("hyperparameters", {"cycles": [10**20]}, ["cycles is 100000000000000000000", "up to 10000"]),
        ("hyperparameters", {"cycles": [True]}, ["cycles is True"]),
        ("hyperparameters", {"cycles": [None]}, ["cycles: None is no finite number, text, true or false"]),
        ("hyperparameters", {"cycles": [float("inf")]}, ["cycles: inf is no finite number"]),
        ("hyperparameters", {key: list(range(10)) for key in "abcdefghijkl"}, ["cells, more than 2000000"]),
    ],
)
def test_a_wrong_sweep_file_names_file_key_and_value(folder: Path, key: str, value, words: list[str]):
    path = folder / "table1.yaml"
    content = yaml.safe_load(path.read_text())
    content["grids"][0][key] = value
    path.write_text(yaml.safe_dump(content))
    message = refusal(folder)
    for word in ["table1.yaml", *words]:
        assert word in message


def test_a_title_that_a_terminal_would_obey_is_refused(folder: Path):
    path = folder / "table1.yaml"
    path.write_text(path.read_text().replace("title: ", 'title: "\\e[31mRed" #', 1))
    assert "one line of text, without control characters" in refusal(folder)


def written(folder: Path, **grid: str) -> list[Cell]:
    """The cells of a sweep file whose grid is written like that."""
    values = {"method": "IMP", "schedule": "[FT]", "sparsity": "[0.9]", "budget": "[2ep]", **grid}
    text = ", ".join(f"{key}: {value}" for key, value in values.items() if value)
    (folder / "mine.yaml").write_text(f"title: mine\nseeds: 1\ngrids: [{{{text}}}]")
    return list(load_sweep("mine", folder=folder).cells)


@pytest.mark.parametrize(
    ("method", "key", "text", "number"),
    [("BIMP", "decay", "1e-4", 0.0001), ("BIMP", "cycles", "3e0", 3), ("BIMP", "cycles", "3.0", 3)],
)
def test_a_number_with_an_exponent_is_that_number(folder: Path, method: str, key: str, text: str, number: float):
    def cells(value: str) -> list[str]:
        own = written(folder, method=method, schedule="", budget="", hyperparameters=f"{{{key}: [{value}]}}")
        return [cell.id for cell in own]

    assert cells(text) == cells(str(number))


@pytest.mark.parametrize("text", ["9e-1", ".9", "+.9", "0.90", "90.e-2"])
def test_a_sparsity_may_be_written_as_any_number(folder: Path, text: str):
    assert written(folder, sparsity=f"[{text}]") == written(folder, sparsity="[0.9]")


def test_a_sparsity_in_quotes_is_text(folder: Path):
    with pytest.raises(
        UserError, match=r"mine.yaml: grids.0.sparsity: '9e-1' is not a fraction pruned: a number above 0"
    ):
        written(folder, sparsity="['9e-1']")


@pytest.mark.parametrize("settings", [{"epochs": 9e1}, {"batch_size": 64.0}])
def test_a_count_may_be_written_as_any_number(settings: dict):
    assert load_sweep("table1", settings=settings).cells == load_sweep("table1").cells


@pytest.mark.parametrize(("first", "second"), [("0.7", "0.70000001"), ("0.3333333", "0.33333334"), ("1e-9", "2e-9")])
def test_sparsities_that_differ_have_names_that_differ(folder: Path, first: str, second: str):
    one, other = written(folder, sparsity=f"[{first}, {second}]")
    assert one.id.rpartition("-")[0] != other.id.rpartition("-")[0]
    assert axis(one, "sparsity") != axis(other, "sparsity")
    assert per_cent(one.sparsity or 0) != per_cent(other.sparsity or 0)
    for text, cell in ((first, one), (second, other)):
        assert load_sweep("mine", folder=folder, only=[f"sparsity={text}"]).cells == (cell,)


@pytest.mark.parametrize(
    ("sparsity", "name", "words"),
    [
        (0.9, "s0.9", "90 %"),
        (0.07, "s0.07", "7 %"),
        (0.672, "s0.672", "67.2 %"),
        (0.70000001, "s0.70000001", "70.000001 %"),
    ],
)
def test_a_sparsity_is_shown_with_as_many_digits_as_it_has(sparsity: float, name: str, words: str):
    cell = Cell(load_sweep("table1").problem, "IMP", 0, "FT", sparsity, Budget.parse("2ep"))
    assert f"-{name}-" in cell.id
    assert per_cent(sparsity) == words


@pytest.mark.parametrize("name", ["mine.yml", "mine.YAML", "mine.YML"])
def test_a_sweep_file_may_end_in_capitals(folder: Path, name: str):
    path = folder / name
    shutil.copy(folder / "table1.yaml", path)
    sweep = load_sweep(str(path))
    assert (sweep.name, sweep.cells) == ("mine", load_sweep("table1").cells)
    problem = folder / name.replace("mine", "digits")
    (folder / "problems" / "digits.yaml").rename(problem)
    assert load_sweep(str(path), problem=str(problem)).cells == sweep.cells


@pytest.mark.parametrize("seeds", [True, [0, True], [], -1, "nan", 1.5, [0.5], None, {"count": 3}])
def test_wrong_seeds_of_a_sweep_file_are_refused_in_its_name(folder: Path, seeds):
    content = yaml.safe_load((folder / "table1.yaml").read_text())
    (folder / "table1.yaml").write_text(yaml.safe_dump({**content, "seeds": seeds}))
    message = refusal(folder)
    assert f"table1.yaml: seeds: {seeds!r}: a count above 0" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["the file is empty"]),
        ("# nothing yet", ["the file is empty"]),
        ("title: x\ngrid: []", ["grid: unknown key, perhaps grids"]),
        ("title: x\ngrids: []", ["grids []: a list with at least 1 item"]),
        ("title: x", ["grids: it is missing"]),
        ("about: x\nrecipe: {}", ["this is a problem, not a sweep: --problem takes it"]),
    ],
)
def test_a_sweep_file_that_lacks_something_says_what(folder: Path, text: str, words: list[str]):
    (folder / "table1.yaml").write_text(text)
    for word in ["table1.yaml", *words]:
        assert word in refusal(folder)


def test_a_wrong_problem_of_a_sweep_file_is_refused_in_its_name(folder: Path):
    content = yaml.safe_load((folder / "table1.yaml").read_text())
    (folder / "table1.yaml").write_text(yaml.safe_dump({**content, "problem": "mnist"}))
    assert re.search(r"table1\.yaml: problem 'mnist' is unknown: there is .*digits", refusal(folder))


@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("table1.yaml", "title: another", "'title'"),
        ("table1.yaml", "    schedule: [FT]", "'schedule'"),
        ("problems/digits.yaml", "  epochs: 3", "'epochs'"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(folder: Path, name: str, line: str, key: str):
    lines = (folder / name).read_text().splitlines()
    first = next(n for n, known in enumerate(lines) if known.startswith(line.partition(":")[0]))
    (folder / name).write_text("\n".join([*lines[: first + 1], line, *lines[first + 1 :]]))
    message = refusal(folder)
    assert f"{name} line {first + 2}, column" in message
    assert f"key {key} is there already, in line {first + 1}" in message


def test_a_merged_mapping_may_be_changed_key_by_key(tmp_path: Path):
    text = "a: {deep: &one {<<: &two {x: 1, y: 1}, x: 2}}\nb: {<<: *one, x: 3}\nc: {<<: [*one, *two], y: 4}"
    (tmp_path / "mine.yaml").write_text(text)
    content = read_yaml(tmp_path / "mine.yaml")
    assert content == {"a": {"deep": {"x": 2, "y": 1}}, "b": {"x": 3, "y": 1}, "c": {"x": 2, "y": 4}}


@pytest.mark.parametrize(
    "text", ["a: [1", "\tx: 1", "- 1\n- 2", "", "&a [*a]", "!!python/object/apply:os.getcwd []", "\x00"]
)
def test_malformed_yaml_names_the_file(folder: Path, text: str):
    (folder / "table1.yaml").write_text(text)
    assert "table1.yaml" in refusal(folder)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  seconds_per_epoch: .inf", ["execution.seconds_per_epoch", "inf", "finite number"]),
        ("  seconds_per_epoch: .nan", ["execution.seconds_per_epoch", "nan", "finite number"]),
        ("  seconds_per_epoch: 1.0e+300", ["execution.seconds_per_epoch", "1e+300", "less than or equal to"]),
    ],
)
def test_a_wrong_problem_file_names_file_key_and_value(folder: Path, line: str, words: list[str]):
    path = folder / "problems" / "digits.yaml"
    path.write_text(re.sub(rf"^{line.partition(':')[0]}:.*$", line, path.read_text(), flags=re.M))
    message = refusal(folder)
    for word in ["digits.yaml", *words]:
        assert word in message


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@example(key="title", inner="hyperparameters", value={"": []})
@given(
    key=st.sampled_from(["title", "problem", "seeds", "recipe", "grids"]),
    inner=st.sampled_from([None, "method", "schedule", "sparsity", "budget", "hyperparameters"]),
    value=YAML_VALUES,
)
def test_any_value_anywhere_is_read_or_refused_in_one_line(tmp_path_factory, key: str, inner: str | None, value):
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(SWEEPS, folder, dirs_exist_ok=True)
    content = yaml.safe_load((SWEEPS / "table1.yaml").read_text())
    if inner is None:
        content[key] = value
    else:
        content["grids"][0][inner] = value
    (folder / "table1.yaml").write_text(yaml.safe_dump(content))
    with contextlib.suppress(UserError):
        assert load_sweep("table1", folder=folder).cells
