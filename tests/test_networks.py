"""Transformers, a U-Net and networks from outside: shapes, what may depend on what, and how they are pruned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark.cells import Budget, Cell, Problem
from benchmark.errors import UserError
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.fits import refuse_unfit
from benchmark.problems.networks.attention import sinusoids
from benchmark.problems.networks.text import Translator
from benchmark.pruning.metrics import macs
from benchmark.pruning.prunable import prunable
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from benchmark.worker import Worker
from tests.faults.fuzz import run

torch.set_num_threads(1)
START, STOP, CLASSES = 1, 2, 9
DIGITS, _ = load_problem("digits")


def problem(model: str, **fields) -> Problem:
    task = models.TASK_OF.get(model, "classification")
    given = {"name": "p", "task": task, "dataset": "tests.user_task:views", "model": model, "epochs": 1}
    return Problem(**{**given, "classes": CLASSES, **fields})


def network(model: str, seed: int = 0, **fields) -> nn.Module:
    sizes = {} if model == "unet" else {"depth": 2}
    return models.build(problem(model, **{"width": 8, **sizes, **fields}), seed).eval()


def symbols(*shape: int, seed: int = 0) -> Tensor:
    """Without padding."""
    return torch.randint(3, CLASSES, shape, generator=torch.Generator().manual_seed(seed))


# Shapes and weights


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (8, 1), (4, 1)])
def test_a_vision_transformer_gives_a_logit_a_class(size: int, channels: int):
    made = network("vit", image_size=size, channels=channels)
    assert made(torch.randn(2, channels, size, size)).shape == (2, CLASSES)
    assert made.positions.shape == ((size // 4) ** 2, 8)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3)])
def test_a_unet_gives_a_logit_a_class_and_pixel(size: int, channels: int):
    made = network("unet", image_size=size, channels=channels)
    assert made(torch.randn(2, channels, size, size)).shape == (2, CLASSES, size, size)
    assert made(torch.randn(1, channels, size, 2 * size)).shape == (1, CLASSES, size, 2 * size)


def test_a_unet_sees_far_around_a_pixel_and_has_shortcuts_for_what_is_near():
    made = network("unet", image_size=32, channels=1)
    images = torch.randn(1, 1, 32, 32, requires_grad=True)
    made(images)[0, :, 16, 16].sum().backward()
    reach = images.grad[0, 0].nonzero()
    assert (reach.amin(0) <= 2).all()
    assert (reach.amax(0) >= 29).all()
    made.down[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    assert not torch.equal(made(images), made(torch.roll(images, 1, 3))), "nothing but the bottom reaches the outputs"


def test_transformers_give_a_logit_a_symbol_for_every_length():
    for length in (1, 5, 40):
        assert network("transformer_lm")(symbols(2, length)).shape == (2, length, CLASSES)
        assert network("transformer")(symbols(2, 7), symbols(2, length)).shape == (2, length, CLASSES)


def test_depth_and_width_are_the_recipe_s_or_the_network_s_own():
    for model, own in (("vit", 6), ("transformer_lm", 4)):
        assert len(network(model, depth=0, width=0).blocks) == own
        assert len(network(model, depth=3).blocks) == 3
    made = network("transformer", depth=3, width=10)
    assert (len(made.encoder), len(made.decoder), made.symbols.weight.shape) == (3, 3, (CLASSES, 10))


@pytest.mark.parametrize(("width", "heads"), [(1, 1), (6, 2), (8, 4), (64, 4), (128, 4), (384, 6), (512, 8)])
def test_heads_divide_the_width(width: int, heads: int):
    made = network("transformer_lm", width=width, depth=1)
    assert made.blocks[0].attention.heads == heads
    assert made(symbols(1, 3)).isfinite().all()


@pytest.mark.parametrize("model", ["vit", "unet", "transformer_lm", "transformer"])
def test_initial_weights_are_the_seed_s(model: str):
    one, same, other = network(model), network(model, batch_size=7), network(model, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    name = next(iter(prunable(one)))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_what_is_prunable_of_a_transformer():
    """Projections and linear layers; the embeddings, which are the output layer as well, are not."""
    names = [f"attention.{name}" for name in ("query", "key", "value", "out")] + ["expand", "contract"]
    assert list(prunable(network("transformer_lm", depth=1))) == [f"blocks.0.{name}.weight" for name in names]
    assert [name for name, weight in network("transformer").named_parameters() if weight.shape[0] == CLASSES] == [
        "symbols.weight"
    ]
    patches, *_, head = prunable(network("vit"))
    assert (patches, head) == ("patches.weight", "head.weight")


@pytest.mark.parametrize("model", ["vit", "unet", "transformer_lm", "transformer"])
def test_the_first_and_last_prunable_layers_are_those_of_the_forward_pass(model: str):
    made, called = network(model, image_size=8, channels=1), []
    names = {module: f"{name}.weight" for name, module in made.named_modules()}
    for module in names:
        module.register_forward_hook(lambda module, inputs, output: called.append(names[module]))
    inputs = (symbols(1, 5), symbols(1, 4)) if model == "transformer" else (symbols(1, 5),)
    made(*((torch.randn(1, 1, 8, 8),) if model in ("vit", "unet") else inputs))
    candidates = list(prunable(made))
    used = [name for name in called if name in candidates]
    assert (used[0], used[-1]) == (candidates[0], candidates[-1])
    assert set(used) == set(candidates)


# What depends on what


@given(place=st.integers(1, 11), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_later_symbol_changes_no_earlier_logit(place: int, seed: int):
    model, translator, source = network("transformer_lm"), network("transformer"), symbols(2, 6)
    text = symbols(2, 12, seed=seed)
    changed = text.clone()
    changed[:, place:] = symbols(2, 12 - place, seed=seed + 100)
    changed[:, place] = (text[:, place] - 2) % (CLASSES - 3) + 3  # another one
    for outputs, others in (
        (model(text), model(changed)),
        (translator(source, text), translator(source, changed)),
    ):
        assert torch.allclose(outputs[:, :place], others[:, :place], atol=1e-5)
        assert not torch.allclose(outputs[:, place], others[:, place], atol=1e-3)


def test_an_earlier_symbol_changes_every_later_logit():
    model, text = network("transformer_lm"), symbols(1, 12)
    changed = text.clone()
    changed[:, 3] = (text[:, 3] - 2) % (CLASSES - 3) + 3
    differs = (model(text) - model(changed)).abs().amax((0, 2)) > 1e-6
    assert differs.tolist() == [place >= 3 for place in range(12)]


@given(padding=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_padding_changes_nothing(padding: int):
    model = network("transformer")
    source, target = symbols(2, 6), symbols(2, 5)
    padded = torch.cat([source, torch.zeros(2, padding, dtype=torch.int64)], 1)
    longer = torch.cat([target, torch.zeros(2, padding, dtype=torch.int64)], 1)
    assert torch.allclose(model(padded, longer)[:, :5], model(source, target), atol=1e-5)
    generated = (model.generate(each, 8, START, STOP) for each in (source, padded))
    assert torch.equal(*generated)
    empty = torch.zeros(2, 4, dtype=torch.int64)
    assert model(empty, target).isfinite().all()


def test_the_order_of_symbols_matters():
    """One block without positions would add the earlier symbols up in any order."""
    model, text = network("transformer_lm", depth=1), symbols(1, 6)
    swapped = text[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.equal(text, swapped)
    assert not torch.allclose(model(text)[:, -1], model(swapped)[:, -1], atol=1e-4)


def test_positions_are_the_sines_and_cosines_of_the_paper():
    table = sinusoids(7, 5, torch.zeros(()))
    assert table.shape == (7, 5)
    for position, column in ((0, 0), (3, 0), (3, 1), (6, 4)):
        wave = np.sin if column % 2 == 0 else np.cos
        assert table[position, column].item() == pytest.approx(
            wave(position / 10_000 ** (column // 2 * 2 / 5)), abs=1e-6
        )


# Translation


def test_generation_is_the_most_likely_symbol_after_each_other():
    model, source = network("transformer"), symbols(3, 6)
    made = model.generate(source, 7, START, CLASSES)  # a stop that no sentence has
    for number in range(3):
        target = [START]
        for _ in range(7):
            logits = model(source[number : number + 1], torch.tensor([target]))
            target.append(int(logits[0, -1].argmax()))
        assert made[number].tolist() == target[1:]


class Scripted(Translator):
    """Says what it is told to, one row a sentence."""

    def __init__(self, script: Tensor):
        super().__init__(8, 1, CLASSES)
        self.script = script

    def _decode(self, target: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        return nn.functional.one_hot(self.script[:, : target.shape[1]], CLASSES).float()


def test_generation_ends_when_every_sentence_has_stopped_once():
    script = torch.tensor([[5, STOP, 5, 5, 5, 5], [6, 6, 6, STOP, 6, 6]])
    assert Scripted(script).generate(symbols(2, 6), 6, START, STOP).tolist() == script[:, :4].tolist()
    assert Scripted(script).generate(symbols(2, 6), 3, START, STOP).tolist() == script[:, :3].tolist()


# Operations and pruning


def test_macs_of_one_transformer_layer_by_hand():
    width, n = 8, 6
    counted = macs(network("transformer_lm", depth=1), (symbols(1, n),))
    square = n * width * width
    assert list(counted.layers.values()) == [square, square, square, square, 4 * square, 4 * square]
    assert counted.others == 2 * n * n * width + n * width * CLASSES  # attention, and the output layer
    counted = macs(network("transformer", depth=1), (symbols(1, n), symbols(1, 4)))
    small = 4 * width * width
    decoder = [small] * 4 + [small, square, square, small] + [4 * small, 4 * small]
    assert list(counted.layers.values()) == [square] * 4 + [4 * square] * 2 + decoder
    assert counted.others == 2 * width * (n * n + 4 * 4 + 4 * n) + 4 * width * CLASSES


def test_a_vision_transformer_is_pruned_and_retrained_like_any_network(tmp_path: Path):
    recipe = DIGITS.model_copy(
        update={"model": "vit", "width": 16, "depth": 1, "epochs": 4, "milestones": (3,), "warmup_epochs": 0}
        | {"optimizer": "adam", "learning_rate": 0.01}
    )
    store = Store(tmp_path)
    worker = Worker(store, RunOptions("cpu", 1))
    cell = Cell(recipe, "IMP", 0, "LLR", 0.5, Budget.parse("10it"))
    for each in (Cell.dense(recipe, 0), cell):
        worker.run(each)
    record = store.read(cell.id)
    assert record["status"] == "ok"
    assert record["sparsity"]["prunable"] == pytest.approx(0.5, abs=1e-3)
    assert "positions" not in record["sparsity"]["layers"]
    assert record["accuracy"]["final"]["test"] > 0.4
    assert 1 < record["macs"]["speedup"] < 2.5


# Networks from outside


def test_a_network_from_outside_is_built_from_the_seed_and_trained(tmp_path: Path):
    recipe = DIGITS.model_copy(
        update={"model": "tests.user_networks:mlp", "epochs": 3, "milestones": (), "warmup_epochs": 0, "width": 8}
        | {"dense_layers": "last"}
    )
    refuse_unfit(recipe)
    one, same = (models.build(recipe, 3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    dense = Cell.dense(recipe, 0)
    store = Store(tmp_path)
    Worker(store, RunOptions("cpu", 1)).run(dense)
    record = store.read(dense.id)
    assert list(record["sparsity"]["layers"]) == ["1.weight"]
    assert record["macs"]["dense"] == 64 * 8 + 8 * 10
    assert record["provenance"]["outside"].keys() == {"tests.user_networks"}


def test_a_network_that_is_compiled_already_has_the_names_of_its_own():
    made = models.build(problem("tests.user_networks:compiled"), 0)
    assert made.state_dict().keys() == models.build(problem("tests.user_networks:mlp"), 0).state_dict().keys()


def test_a_network_of_volumes_keeps_its_format():
    made = models.build(problem("tests.user_networks:volumes"), 0)
    assert made(torch.zeros(1, 1, 2, 2, 2)).shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("tests.user_networks:no_network", "it gives a list, not a torch.nn.Module"),
        ("tests.user_networks:broken", "AttributeError: 'Problem' object has no attribute 'no_such_field'"),
        ("tests.user_networks:with_extra_state", "_extra_state of its state is no tensor"),
        ("tests.user_networks:lazy", "its lazy layers have no weights before their first batch"),
        ("tests.user_networks:nobody", "module 'tests.user_networks' has no 'nobody'"),
        ("no_such_place:network", "Python finds no module 'no_such_place'"),
        ("no_such_place.within:network", "Python finds no module 'no_such_place'"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(model: str, words: str):
    with pytest.raises(UserError) as caught:
        models.build(problem(model), 0)
    message = str(caught.value)
    assert message.startswith(f"problem p: model '{model}': ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "unet"}, "model unet is for task segmentation, not for task classification"),
        (
            {"model": "transformer_lm"},
            "model transformer_lm is for task language_modelling, not for task classification",
        ),
        (
            {"model": "transformer_lm", "task": "translation"},
            "is for task language_modelling, not for task translation",
        ),
        ({"model": "resnet8", "task": "segmentation"}, "model resnet8 is for task classification, not for task segm"),
        ({"model": "resnet8", "depth": 4}, "model resnet8 has a depth of its own, so that depth 4 means nothing"),
        ({"model": "unet", "task": "segmentation", "image_size": 28}, "image_size is a multiple of 8, not 28"),
        ({"model": "vit", "image_size": 30}, "image_size is a multiple of 4, not 30"),
        ({"model": "mine_network"}, "or your own as 'module:function'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_while_planning(fields: dict, words: str):
    with pytest.raises(UserError, match=r"^problem p: model ") as caught:
        refuse_unfit(problem(**{"task": "classification", **fields}))
    assert words in str(caught.value)


def test_a_task_from_outside_may_use_any_network():
    refuse_unfit(problem("unet", task="tests.user_task:Turning", image_size=32))


def test_the_command_refuses_a_network_for_another_task(tmp_path: Path):
    code, out, error = run("table1", "--set", "model=transformer", "--dry-run", "--results", str(tmp_path))
    assert (code, out) == (2, "")
    assert error == "error: problem digits: model transformer is for task translation, not for task classification\n"
