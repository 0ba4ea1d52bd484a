"""From a sweep file and a command line to cells, and what a user reads after a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.methods import declaration, settings_of
from benchmark.planning.grid import SWEEPS, load_problem, load_sweep, parse_seeds
from tests.test_sweep_files import refusal


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
    [("s_init=-8.0,sparsity=0.9", 0, 16), ("method=CS,penalty=1e-4", 1, 48), ("momentum=0.98", 0, 72)],
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
        ({"name": "table2", "only": ["s_init=7"]}, ["no s_init '7'", "-8, -20, -40"]),
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


def test_a_large_seed_can_be_chosen():
    assert {cell.seed for cell in load_sweep("table1", seeds="3,10000000", only=["seed=10000000"]).cells} == {10**7}


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
