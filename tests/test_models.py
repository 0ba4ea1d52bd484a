"""Networks as published: their sizes, shapes, and initial weights that depend on the seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import segmentation

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.problems import models
from benchmark.problems.fits import refuse_unfit
from benchmark.pruning.prunable import prunable

PUBLISHED = {
    # (model, classes, image size): trainable parameters
    ("resnet20", 10, 32): 269_722,  # He et al. 2016, table 6: 0.27 M
    ("resnet56", 10, 32): 853_018,  # 0.85 M
    ("resnet18", 10, 32): 11_173_962,  # 11.17 M with the 3x3 stem
    ("resnet10", 10, 32): 4_903_242,  # 4.9 M, as implementations of this depth report
    ("vgg16", 10, 32): 14_728_266,  # 14.7 M with batch norm and one linear layer
    ("wideresnet28-10", 10, 32): 36_479_194,  # Zagoruyko and Komodakis 2016, table 4: 36.5 M
    ("wideresnet28-10", 100, 32): 36_536_884,
    ("resnet50", 1000, 224): 25_557_032,  # torchvision's documentation
}


def problem(model: str, classes: int = 10, size: int = 32, **fields) -> Problem:
    return Problem(name="p", dataset="noise", model=model, classes=classes, image_size=size, epochs=1, **fields)


@pytest.mark.parametrize("case", PUBLISHED)
def test_models_have_as_many_parameters_as_published(case: tuple[str, int, int]):
    with torch.device("meta"):
        network = models.MODELS[case[0]](problem(*case))
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[case]


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg16", "wideresnet28-10", "resnet50"])
def test_models_give_one_logit_a_class_for_other_sizes_too(name: str):
    narrow = {} if name == "resnet50" else {"width": 4}
    network = models.build(problem(name, 7, 64, **narrow), 0).eval()
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 7)


def test_resnets_halve_the_image_twice_and_wide_ones_too():
    for name, stages in (("resnet20", 3), ("wideresnet28-10", 3), ("resnet18", 4)):
        network = models.build(problem(name, width=4), 0)
        sizes = []
        network.blocks.register_forward_hook(lambda module, inputs, output, s=sizes: s.append(output.shape[-1]))
        network(torch.randn(2, 3, 32, 32))
        assert sizes == [32 >> (stages - 1)]


def test_layers_as_the_name_says():
    """Convolutions on the main path plus the classifier; shortcuts (1x1) do not count."""
    for name, layers in (
        ("resnet20", 20),
        ("resnet56", 56),
        ("resnet10", 10),
        ("resnet18", 18),
        ("vgg16", 14),
        ("wideresnet28-10", 26),
    ):
        network = models.build(problem(name, width=4), 0)
        threes = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
        # The original VGG-16 has two linear layers more; a wide ResNet's name counts its two changing shortcuts.
        assert len(threes) + 1 == layers


def test_large_images_lie_channels_last_and_digits_do_not():
    large = models.build(problem("resnet20", width=4), 0).blocks[0].conv1.weight
    small = models.build(problem("resnet8", size=8, width=4), 0).blocks[0].conv1.weight
    assert large.is_contiguous(memory_format=torch.channels_last)
    assert small.is_contiguous()


def test_initial_weights_are_the_seed_s_and_not_the_recipe_s():
    one = models.build(problem("resnet18", width=4), 0)
    same = models.build(problem("resnet18", width=4, learning_rate=0.3, batch_size=7), 0)
    other = models.build(problem("resnet18", width=4), 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_what_a_model_cannot_do_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"model 'resnet21' is unknown: one of resnet8, resnet20"):
        models.build(problem("resnet21"), 0)
    with pytest.raises(UserError, match=r"resnet50 takes 3 channels, not 1"):
        models.build(problem("resnet50", channels=1), 0)
    with pytest.raises(UserError, match=r"image_size must be 32"):
        models.build(problem("vgg16", size=16), 0)


def test_a_new_network_is_a_function_and_a_line(monkeypatch):
    """Planning accepts its name, and it is built with the initial weights of the seed."""

    def two_layers(recipe: Problem) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5), torch.nn.Linear(5, recipe.classes))

    monkeypatch.setitem(models.MODELS, "two-layers", two_layers)
    recipe = problem("two-layers", size=8)
    refuse_unfit(recipe)
    first, second = (models.build(recipe, 0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


IMAGE_CLASSIFIERS = ("resnet8", "resnet20", "resnet56", "resnet10", "resnet18", "vgg16", "wideresnet28-10", "resnet50")


@pytest.mark.parametrize("name", IMAGE_CLASSIFIERS)
def test_all_weights_of_rank_2_of_the_convolutional_networks_are_prunable(name: str):
    """As they were when rank alone decided: committed records depend on it."""
    network = models.build(problem(name, width=2 if name != "resnet50" else 0), 0)
    assert list(prunable(network)) == [key for key, weight in network.named_parameters() if weight.dim() >= 2]


@pytest.mark.parametrize(("name", "size"), [("fcn_resnet50", 40), ("deeplabv3_resnet50", 296)])
def test_networks_for_large_masks_are_torchvisions(name: str, size: int):
    """Names, sizes and outputs, without the head that helps training alone."""
    ours = models.build(problem(name, 5, size, task="segmentation"), 0).eval()
    with torch.device("meta"):  # which spares a second initialisation
        theirs = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, aux_loss=False).eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images)["out"], atol=1e-4)


@pytest.mark.parametrize(("size", "widest"), [(256, 18), (288, 18), (296, 36)])
def test_no_dilation_reaches_beyond_the_features(size: int, widest: int):
    """Its outer taps would see padding alone: weights that are free to prune, and that cost MACs."""
    with torch.device("meta"):
        network = models.build(problem("deeplabv3_resnet50", 5, size, task="segmentation"), 0)
    assert max(layer.dilation[0] for layer in network.modules() if isinstance(layer, nn.Conv2d)) == widest < size / 8


def test_what_a_unet_enlarges_has_the_variance_of_its_other_layers():
    """With torch's own initialisation it is 1/12 of that, and pruning would remove whole layers of them first."""
    for layer in models.build(problem("unet", task="segmentation", width=32), 0).up:
        values = layer.up(torch.randn(4, layer.up.in_channels, 8, 8))
        assert 1.7 < values.var() < 2.3


@pytest.mark.parametrize(
    ("dense_layers", "kept"), [("first", ["conv1"]), ("last", ["fc"]), ("first_and_last", ["conv1", "fc"])]
)
def test_first_and_last_layers_stay_dense_where_the_recipe_says_so(dense_layers: str, kept: list[str]):
    everything, left = (
        list(prunable(models.build(problem("resnet8", width=2, dense_layers=layers), 0)))
        for layers in ("none", dense_layers)
    )
    assert set(everything) - set(left) == {f"{layer}.weight" for layer in kept}
    assert left == [name for name in everything if name in left]


def test_what_a_network_keeps_dense_is_kept_with_what_the_recipe_adds(monkeypatch):
    def own(recipe: Problem) -> torch.nn.Module:
        network = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
        network.not_prunable = {"0.weight"}
        return network

    monkeypatch.setitem(models.MODELS, "own", own)
    assert list(prunable(models.build(problem("own"), 0))) == ["1.weight", "2.weight", "3.weight"]
    assert list(prunable(models.build(problem("own", dense_layers="first"), 0))) == ["2.weight", "3.weight"]


def test_a_network_without_anything_to_prune_is_refused_in_one_line(monkeypatch):
    def own(recipe: Problem) -> torch.nn.Module:
        network = torch.nn.Sequential(torch.nn.Embedding(5, 5), torch.nn.Linear(5, 5))
        network.not_prunable = {"1.weights"} if recipe.width else frozenset()
        return network

    monkeypatch.setitem(models.MODELS, "own", own)
    assert list(prunable(models.build(problem("own"), 0))) == ["1.weight"]
    with pytest.raises(
        UserError, match=r"model own: .*no weight .* to prune beside those that dense_layers last keeps"
    ):
        models.build(problem("own", dense_layers="last"), 0)
    with pytest.raises(UserError, match=r"model own: its not_prunable names '1\.weights', which is no parameter of it"):
        models.build(problem("own", width=1), 0)
    monkeypatch.setitem(models.MODELS, "own", lambda recipe: torch.nn.BatchNorm2d(3))
    with pytest.raises(UserError, match=r"model own: it has no weight of a convolution or linear layer to prune$"):
        models.build(problem("own"), 0)
