"""What a plan refuses, with the range that is accepted, rather than leave it to the cells to fail one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.cells import Budget, Cell, Problem
from benchmark.errors import UserError
from benchmark.planning import plan
from benchmark.planning.grid import load_problem
from benchmark.problems.fits import REDUCED, check_read, refuse_unfit
from benchmark.problems.models import MODELS, TASK_OF
from benchmark.problems.sizes import prunable_weights
from benchmark.pruning.prunable import prunable
from tests.conftest import ROOT
from tests.faults.fuzz import run

DIGITS, _ = load_problem("digits")
WEIGHTS = 10662


def network(model: str, **fields) -> Problem:
    task = TASK_OF.get(model, "classification")
    given = {"name": "p", "task": task, "dataset": "tests.user_task:views", "model": model, "epochs": 8}
    return Problem(**{**given, "image_size": 64, **fields})


def cell(sparsity: float, method: str = "IMP", problem: Problem = DIGITS, **hyperparameters) -> Cell:
    chosen = tuple(hyperparameters.items())
    if method == "IMP":
        return Cell(problem, method, 0, "FT", sparsity, Budget.parse("1ep"), chosen)
    return Cell(problem, method, 0, sparsity=sparsity, hyperparameters=chosen)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("width", [0, 1, 6, 17])
def test_weights_are_counted_as_the_network_has_them(model: str, width: int):
    problem = network(model, width=width, classes=7)
    with torch.device("meta"):
        weights = [weight.numel() for weight in prunable(MODELS[model](problem)).values()]
    assert prunable_weights(problem) == sum(weights)
    for ends, left in (("first", weights[1:]), ("last", weights[:-1]), ("first_and_last", weights[1:-1])):
        assert prunable_weights(problem.model_copy(update={"dense_layers": ends})) == sum(left)


@pytest.mark.parametrize("sparsity", [0.9999999, 1 - 1e-16, 0.99996])
@pytest.mark.parametrize("method", ["IMP", "BIMP", "GMP", "STR"])
def test_a_sparsity_that_leaves_no_weight_is_refused_with_the_largest(sparsity: float, method: str):
    with pytest.raises(UserError) as caught:
        plan.refuse_unfit([cell(0.5), cell(sparsity, method)])
    text = f"leaves none of the {WEIGHTS} weights of model resnet8: a number from 0.0001 up to 0.9999 is accepted"
    assert text in str(caught.value)
    assert repr(sparsity) in str(caught.value)


def test_the_largest_sparsity_is_accepted_and_leaves_a_weight():
    assert prunable_weights(DIGITS) == WEIGHTS
    plan.refuse_unfit([cell(0.9999), cell(0.99995)])
    assert round(0.99995 * WEIGHTS) < WEIGHTS
    plan.refuse_unfit([cell(0.999999, problem=network("resnet56"))])


def test_whole_filters_leave_one_whatever_the_sparsity():
    plan.refuse_unfit([cell(0.9999999, criterion="filters"), cell(0.9999999, criterion="random_filters")])


@pytest.mark.parametrize("method", ["GMP", "DPF"])
def test_an_interval_that_leaves_no_step_is_refused(method: str):
    plan.refuse_unfit([cell(0.5, method, interval=45)])
    for interval in (46, 10**20):
        with pytest.raises(UserError, match=f"method {method}: .* is {interval} epochs; with 90 .* from 1 to 45"):
            plan.refuse_unfit([cell(0.5, method, interval=interval)])
    with pytest.raises(UserError, match=f"method {method}: hyperparameter interval is 1 epochs; with 1 epochs"):
        plan.refuse_unfit([cell(0.5, method, DIGITS.model_copy(update={"epochs": 1}))])


@pytest.mark.parametrize("sparsity", [1e-300, 1e-5])
def test_a_sparsity_that_prunes_no_weight_is_refused(sparsity: float):
    with pytest.raises(UserError, match=rf"prunes none of the {WEIGHTS} weights .* from 0.0001 up to 0.9999") as caught:
        plan.refuse_unfit([cell(sparsity)])
    assert len(str(caught.value)) < 250
    plan.refuse_unfit([cell(0.0001)])


@pytest.mark.parametrize("model", MODELS)
def test_a_network_that_no_memory_holds_is_refused_with_the_widest(model: str):
    with pytest.raises(
        UserError, match=rf"width 100000 gives model {model} \d+ weights, .* accepted: a width from 1 to"
    ) as caught:
        refuse_unfit(network(model, width=100_000))
    widest = int(str(caught.value).rpartition(" ")[2])
    refuse_unfit(network(model, width=widest))
    with pytest.raises(UserError, match=f"accepted: a width from 1 to {widest}"):
        refuse_unfit(network(model, width=widest + 1))


@pytest.mark.parametrize("model", [name for name in MODELS if name != "vgg16" and 0 < REDUCED.get(name, 4) < 100])
def test_one_value_a_channel_has_no_batch_statistics(model: str):
    """Refused is just what torch refuses. VGG-16 takes no image as small, and some networks have no batch norm or none
    that any size would satisfy."""
    side = REDUCED.get(model, 4)
    for size, one in ((side, 1), (2 * side, 1), (side, 2)):
        problem = network(model, width=2, image_size=size, batch_size=one)
        images = torch.zeros(one, 3, size, size)
        if (size, one) == (side, 1):
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                MODELS[model](problem)(images)
            with pytest.raises(UserError, match=rf"batch_size 1 is too small for image_size {size}: 2 or more"):
                refuse_unfit(problem)
        else:
            MODELS[model](problem)(images)
            refuse_unfit(problem)


def test_a_network_that_pools_the_whole_image_takes_no_batch_of_one_image():
    for size in (64, 1024):
        with pytest.raises(UserError, match=f"batch_size 1 is too small for image_size {size}: 2 or more"):
            refuse_unfit(network("deeplabv3_resnet50", image_size=size, batch_size=1))
    refuse_unfit(network("deeplabv3_resnet50", batch_size=2))


@pytest.mark.parametrize(
    ("problem", "key", "value"),
    [
        ("digits", "sequence_length", 5),
        ("digits", "tokenizer", "ab12"),
        ("digits", "unreadable_images", "skip"),
        ("cifar10", "sequence_length", 64),
        ("language_model", "flip", True),
        ("language_model", "image_size", 64),
        ("language_model", "tokenizer", "ab12"),
        ("translation", "sequence_length", 64),
        ("wmt16", "crop_padding", 4),
    ],
)
def test_a_field_that_the_data_set_never_reads_is_refused(problem: str, key: str, value: object):
    """It would make other cells of the same training."""
    recipe, _ = load_problem(problem)
    with pytest.raises(UserError, match=f"problem {problem}: {key} means nothing for dataset {recipe.dataset}"):
        refuse_unfit(recipe.model_copy(update={key: value}))


def test_what_is_read_or_may_be_is_not_refused():
    imagenet, _ = load_problem("imagenet")
    advice = "evaluation_size means nothing .* without resized_crop: leave it out, or --set evaluation_size=0"
    with pytest.raises(UserError, match=advice):
        refuse_unfit(imagenet.model_copy(update={"resized_crop": False}))
    refuse_unfit(imagenet.model_copy(update={"resized_crop": False, "evaluation_size": 0}))
    refuse_unfit(DIGITS.model_copy(update={"model": "tests.user_networks:mlp", "sequence_length": 8}))


@pytest.mark.parametrize("problem", sorted(path.stem for path in (ROOT / "sweeps" / "problems").glob("*.yaml")))
def test_every_recipe_of_ours_says_only_what_is_read(problem: str):
    check_read(load_problem(problem)[0])


def test_the_command_refuses_before_anything_is_planned(tmp_path: Path):
    text = (ROOT / "sweeps" / "table1.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("0.9]", "0.9, 0.9999999]"))
    code, out, error = run(str(tmp_path / "mine.yaml"), "--dry-run", "--results", str(tmp_path / "results"))
    assert (code, out) == (2, "")
    assert error.startswith("error: problem digits: sparsity 0.9999999 leaves none of the")
    code, _, _ = run(str(tmp_path / "mine.yaml"), "--dry-run", "--only", "sparsity=0.9", "--results", str(tmp_path))
    assert code == 0
