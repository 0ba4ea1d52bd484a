"""From a sweep file and a command line to cells, and what a user reads after a mistake."""

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
from benchmark.methods import declaration, settings_of
from benchmark.planning.grid import SWEEPS, load_problem, load_sweep, parse_seeds
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


def test_table1_is_the_papers_grid():
    cells = load_sweep("table1").cells
    assert len(cells) == 6 * 3 * 3 * 3
    assert {cell.schedule for cell in cells} == {"FT", "LRW", "SLR", "CLR", "LLR", "ALLR"}
    assert {cell.sparsity for cell in cells} == {0.7, 0.8, 0.9}
    assert {str(cell.budget) for cell in cells} == {"2.22%", "5.55%", "11.11%"}
    assert {cell.seed for cell in cells} == {0, 1, 2}


def test_by_default_whole_columns_come_early():
    """After the first six cells one column of the table compares all six schedules."""
    first = load_sweep("table1").cells[:6]
    assert len({(cell.seed, cell.sparsity, cell.budget) for cell in first}) == 1
    assert len({cell.schedule for cell in first}) == 6


def test_order_puts_the_named_axes_outermost():
    cells = load_sweep("table1", order="sparsity,seed").cells
    assert [cell.sparsity for cell in cells] == sorted(cell.sparsity for cell in cells)
    assert {cell.seed for cell in cells[:18]} == {0}
    assert set(cells) == set(load_sweep("table1").cells)


def test_only_keeps_what_meets_all_parts_of_one_filter():
    cells = load_sweep("table1", only=["schedule=ALLR,sparsity=0.90", "schedule=FT,budget=2.22%,seed=1"]).cells
    assert len(cells) == 9 + 3
    assert all(cell.schedule == "ALLR" or cell.seed == 1 for cell in cells)


def test_only_takes_a_decay_that_is_the_recipes_by_its_name_in_the_file():
    both, recipe, linear = (
        load_sweep("table2", seeds="1", only=[f"method=GMP{more}"]).cells
        for more in ("", ",schedule=recipe", ",schedule=linear")
    )
    assert len(recipe) == len(linear) == len(both) / 2
    assert {cell.schedule for cell in recipe} == {None}


@pytest.mark.parametrize(
    ("only", "name_at", "count"),
    [("s_init=-2.50,sparsity=0.9", 0, 16), ("method=CS,s_init=0", 1, 72), ("momentum=0.98", 0, 72)],
)
def test_only_also_chooses_by_hyperparameter_be_it_the_default(only: str, name_at: int, count: int):
    """With each decay of the learning rate, one seed and three that tune."""
    key, value = only.split(",")[name_at].split("=")
    cells = load_sweep("table2", seeds="1", only=[only]).cells
    assert [settings_of(cell)[key] for cell in cells] == [float(value)] * count


def test_seeds_are_a_count_or_a_list():
    assert parse_seeds("5") == (0, 1, 2, 3, 4)
    assert parse_seeds("0,3,7") == (0, 3, 7)
    assert parse_seeds("7,") == (7,)


@pytest.mark.parametrize(
    "text", ["-1", "0", "a", "1,-2", "", "1.5", "1,,2", "99999999999", "1_0", "0x3", "1:30", "٣", ",", "9" * 5000]
)
def test_wrong_seeds_are_refused(text: str):
    assert "a list of seeds from 0 up" in refusal(seeds=text)


def test_a_mistake_in_the_recipe_of_a_sweep_names_the_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: t\ngrids: [{method: GMP, sparsity: [0.9]}]\nrecipe: {epochs: 1:30}\n")
    with pytest.raises(UserError, match=rf"{path}: recipe of digits .* epochs '1:30'"):
        load_sweep(str(path))


def test_a_problem_has_a_name_that_fits_into_file_names(tmp_path: Path):
    path = tmp_path / f"{'x' * 190}.yaml"
    path.write_text((SWEEPS / "problems" / "digits.yaml").read_text())
    with pytest.raises(UserError, match="a name of 190 letters, where 100 fit"):
        load_sweep("table1", problem=str(path))


def test_a_file_of_this_folder_is_thought_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "turning.yaml").write_text("about: mine\nrecipe: {}\n")
    monkeypatch.chdir(tmp_path)
    assert refusal(problem="turning").endswith("; perhaps turning.yaml of this folder")


def test_settings_change_the_recipe():
    assert load_sweep("table1", settings={"epochs": 100}).problem.epochs == 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "table9"}, ["'table9'", "table1"]),
        ({"name": "../table1"}, ["unknown"]),
        ({"problem": "mnist"}, ["'mnist'", "digits"]),
        ({"problem": "x" * 5000}, ["problem 'xxx", "xxx… is unknown"]),
        ({"settings": {"x" * 5000: 1}}, ["xxx… is not a setting"]),
        ({"problem": ""}, ["problem ''", "digits"]),
        ({"name": "table2", "only": ["schedule=XYZ"]}, ["'XYZ'", "it has recipe, linear"]),
        ({"only": ["schedule=XYZ"]}, ["'XYZ'", "FT, LRW, SLR, CLR, LLR, ALLR"]),
        ({"only": ["colour=red"]}, ["KEY=VALUE", "schedule"]),
        ({"name": "table2", "only": ["s_init=7"]}, ["no s_init '7'", "-2.5, -3.2, -1.7"]),
        ({"only": ["sparsity=abc"]}, ["a number such as 0.9"]),
        ({"order": "size"}, ["--order", "sparsity"]),
        ({"settings": {"epochs": 45}}, ["milestones 80", "epochs 45", "--set 'milestones=[15,30,40]'"]),
        ({"settings": {"epoch": 3}}, ["'epoch'", "epochs"]),
        ({"settings": {"epochs": "many"}}, ["epochs", "'many'", "integer"]),
        ({"settings": {"momentum": 1.5}}, ["momentum", "1.5", "less than 1"]),
        ({"settings": {"model": "../x"}}, ["model", "letters, digits"]),
        ({"settings": {"milestones": 30}}, ["milestones 30: write a list such as [30]"]),
        ({"settings": {"epochs": "9" * 4000 + "x"}}, ["epochs '999", "999…: ", "integer"]),
        ({"settings": {"learning_rate": "1e400"}}, ["learning_rate", "'1e400'", "valid number"]),
        ({"settings": {"weight_decay": float("inf")}}, ["weight_decay", "inf", "finite number"]),
        ({"settings": {"milestones": [float("nan")]}}, ["milestones.0", "nan", "finite number"]),
        ({"settings": {"milestones": [float("inf")]}}, ["milestones.0", "inf", "finite number"]),
        ({"settings": {"milestones": [-1, 30]}}, ["milestones -1 is before the start"]),
        ({"settings": {"epochs": "1:30"}}, ["epochs '1:30'", "integer; accepted: a number above 0 up to 100000"]),
        ({"settings": {"epochs": 90.5}}, ["epochs 90.5", "integer"]),
        ({"settings": {"epochs": True}}, ["epochs True", "integer"]),
        ({"settings": {"epochs": "90"}}, ["epochs '90'", "integer"]),
        ({"settings": {"epochs": 10**20}}, ["epochs 100000000000000000000", "above 0 up to 100000"]),
        ({"settings": {"nesterov": "yes"}}, ["nesterov 'yes'", "true or false"]),
        ({"settings": {"nesterov": 1}}, ["nesterov 1", "true or false"]),
        ({"settings": {"learning_rate": True}}, ["learning_rate True", "number"]),
        ({"settings": {"width": 10**20}}, ["width 100000000000000000000", "from 0 up to 100000"]),
        ({"settings": {"width": -1}}, ["width -1", "from 0 up to 100000"]),
        ({"settings": {"batch_size": 10**20}}, ["batch_size", "above 0 up to 10000000"]),
        ({"settings": {"image_size": 10**20}}, ["image_size", "from 1 up to 10000"]),
        ({"settings": {"classes": 10**20}}, ["classes", "from 2 up to 1000000"]),
        ({"settings": {"channels": 10**20}}, ["channels", "from 1 up to 1000"]),
        ({"settings": {"crop_padding": 10**20}}, ["crop_padding", "from 0 up to 10000"]),
        ({"settings": {"evaluation_size": 10**20}}, ["evaluation_size", "from 0 up to 20000"]),
        ({"settings": {"recalibration_batches": 10**20}}, ["recalibration_batches", "from 0 up to 10000000"]),
        ({"settings": {"learning_rate": 1e300}}, ["learning_rate 1e+300", "above 0 up to 1e+38"]),
        ({"settings": {"weight_decay": 1e300}}, ["weight_decay 1e+300", "from 0 up to 1e+38"]),
        ({"settings": {"mean": [125.3], "std": [63.0]}}, ["mean from 0 to 1", "std from 1e-06 to 1"]),
        ({"settings": {"mean": [0.5], "std": [1e-300]}}, ["std from 1e-06 to 1"]),
        ({"seeds": f"{2**63},"}, ["at most 100000 of them, the largest 9223372036854775807"]),
        ({"seeds": "100000"}, ["table1.yaml", "5400000 cells, more than 2000000"]),
    ],
)
def test_a_wrong_command_line_names_key_value_and_what_is_accepted(changes: dict, words: list[str]):
    message = refusal(**changes)
    assert len(message) < 800
    for word in words:
        assert word in message


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


def test_a_large_seed_can_be_chosen():
    assert {cell.seed for cell in load_sweep("table1", seeds="3,10000000", only=["seed=10000000"]).cells} == {10**7}


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


def test_a_method_from_scratch_takes_a_decay_of_its_learning_rate_as_its_schedule(tmp_path):
    """ "recipe" is no other cell than before, and nor is the recipe's own decay by its name."""
    path = tmp_path / "decays.yaml"
    path.write_text("title: t\ngrids: [{method: GMP, sparsity: [0.9], schedule: [recipe, linear, cosine]}]\nseeds: 1\n")
    assert [cell.schedule for cell in load_sweep(str(path)).cells] == [None, "linear", "cosine"]
    assert load_sweep(str(path)).cells[0] == Cell(load_problem("digits")[0], "GMP", 0, None, 0.9)
    by_recipe = load_sweep(str(path), settings={"decay": "linear"})
    assert [cell.schedule for cell in by_recipe.cells] == [None, "cosine"]
    path.write_text("title: t\ngrids: [{method: GMP, sparsity: [0.9], schedule: [ALLR]}]\n")
    with pytest.raises(UserError, match="GMP does not retrain: schedule ALLR is not one of recipe, linear, cosine"):
        load_sweep(str(path))
    path.write_text("title: t\ngrids: [{method: BIMP, sparsity: [0.9], schedule: [linear]}]\n")
    (bimp, *_) = load_sweep(str(path)).cells
    with pytest.raises(UserError, match="method BIMP always decays linearly: leave schedule linear out"):
        declaration("BIMP").check(bimp, settings_of(bimp))
