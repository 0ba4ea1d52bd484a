"""Values that a hyperparameter does not take are refused while a sweep is planned, in a line that says what is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark import cli
from benchmark.errors import UserError
from benchmark.methods import METHODS, Declaration, check_hyperparameters, load
from benchmark.methods.accepted import Numbers, Words
from benchmark.methods.imp import CRITERIA
from benchmark.planning.grid import load_sweep
from benchmark.sweep import app

WRONG = [
    ("IMP", "ladder", "steep", "even or renda"),
    ("IMP", "criterion", "gradient", "magnitude, random, filters or random_filters"),
    ("IMP", "momentum", "reset", "fresh or kept"),
    ("IMP", "norm", "some", "all or prunable"),
    ("IMP", "cycles", 0, "a number from 1 up"),
    ("IMP", "stages", "E", "even, A, B, C, D, or a number from 0 up for each stage"),
    *(
        ("IMP", "stages", stages, "even, A, B, C, D, or a number from 0 up for each stage")
        for stages in ("6/x/1", "-1/1/1", "0/0/0", "inf/1/1", "1/nan/1", "")
    ),
    ("BIMP", "span", "T1", "T0 or T"),
    ("BIMP", "dense_share", 1, "a number above 0 and below 1"),
    ("BIMP", "dense_share", 0, "a number above 0 and below 1"),
    ("BIMP", "schedule", "ALR", "FT, LRW, SLR, CLR, LLR, ALLR, or 'module:function'"),
    ("GMP", "interval", 0, "a number from 1 up"),
    ("GSM", "momentum", 1, "a number from 0 up and below 1"),
    ("DNW", "decay", -1, "a number from 0 up"),
    ("STR", "s_init", float("nan"), "a finite number"),
    ("CS", "beta_final", 0.5, "a number from 1 up"),
    ("CS", "penalty", float("inf"), "a number from 0 up"),
]


@pytest.mark.parametrize(("method", "key", "value", "words"), WRONG)
def test_a_value_that_is_not_taken_is_refused_with_what_is(method: str, key: str, value, words: str):
    with pytest.raises(UserError) as refusal:
        check_hyperparameters(method, {key: value})
    assert str(refusal.value).startswith(f"method {method}: hyperparameter {key} is {value!r}; it takes ")
    assert words in str(refusal.value)


def test_a_sweep_with_such_a_value_ends_at_planning_with_one_line_and_code_2(tmp_path: Path, capsys):
    grid = {"method": "IMP", "schedule": ["LLR"], "sparsity": [0.9], "budget": ["10%"]}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"title": "t", "grids": [{**grid, "hyperparameters": {"ladder": ["steep"]}}]}))
    assert cli.main(app, [str(file), "--results", str(tmp_path / "results")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "mine.yaml: grids.0: method IMP: hyperparameter ladder is 'steep'; it takes even or renda" in lines[0]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("criterion", "stages", "refusal"),
    [
        ("random", "6/3/1", "stages is for the criteria filters and random_filters alone"),
        ("filters", "A", "stages is 'A', a layout of Le and Hua for resnet56; the model is resnet8"),
        ("filters", "6/3", "stages is '6/3'; model resnet8 has 3 stages"),
        ("random_filters", "6/3/1/1", "it takes 'even' or 3 numbers"),
        ("filters", "6/3/1", ""),
    ],
)
def test_stages_that_do_not_fit_the_network_or_the_criterion_end_at_planning(
    criterion: str, stages: str, refusal: str, tmp_path: Path, capsys
):
    settings = {"criterion": [criterion], "stages": [stages]}
    grid = {"method": "IMP", "schedule": ["LLR"], "sparsity": [0.6], "budget": ["10%"], "hyperparameters": settings}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"title": "t", "grids": [grid]}))
    code = cli.main(app, [str(file), "--results", str(tmp_path / "results"), "--dry-run"])
    lines = capsys.readouterr().err.splitlines()
    assert code == (2 if refusal else 0)
    assert len(lines) == (1 if refusal else 0)
    assert refusal in "".join(lines)


@pytest.mark.parametrize("sweep", ["table1", "table2", "figure1", "retraining_variants"])
def test_all_settings_of_the_sweeps_are_taken(sweep: str):
    assert load_sweep(sweep).cells


@pytest.mark.parametrize("method", METHODS)
def test_what_planning_reads_without_torch_is_what_the_class_declares(method: str):
    read, declared = METHODS[method], load(method).declaration
    assert {key: str(value) for key, value in vars(read).items() if key != "accepted"} == {
        key: str(value) for key, value in vars(declared).items() if key != "accepted"
    }
    assert {key: str(value) for key, value in read.accepted.items()} == {
        key: str(value) for key, value in declared.accepted.items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_default_is_taken_and_everything_accepted_is_a_hyperparameter(method: str):
    declared = METHODS[method]
    check_hyperparameters(method, dict(declared.defaults))
    assert set(declared.accepted) <= set(declared.defaults)


def test_the_criteria_that_a_plan_knows_are_those_that_there_are():
    declared = METHODS["IMP"].accepted["criterion"]
    assert isinstance(declared, Words)
    assert set(declared.words) == set(CRITERIA)


def test_a_method_of_ones_own_may_say_what_it_takes():
    declared = Declaration("m:C", False, False, {"share": 0.5}, {"share": Numbers(0, 1, open_above=True)})
    assert [declared.accepted["share"].takes(value) for value in (0, 0.5, 1, "half")] == [True, True, False, False]


def test_a_schedule_from_outside_is_taken_by_bimp():
    assert check_hyperparameters("BIMP", {"schedule": "benchmark.training.schedules:linear"})
