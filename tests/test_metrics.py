"""Sparsity, MACs and speedup, against counting by hand and against what is published for ResNet-50."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.cells import Problem
from benchmark.problems import models
from benchmark.pruning.masks import Masks, prunable
from benchmark.pruning.metrics import macs, measure


class Small(nn.Module):
    """Stride, padding, groups, a projection shortcut and a layer that is used twice; input 3 x 9 x 7."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False), nn.ReLU())
        self.shortcut = nn.Conv2d(8, 12, 1, bias=False)
        self.valid = nn.Conv2d(12, 2, (3, 2))
        self.twice = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.first(x))  # 8 x 5 x 4
        x = self.block(x) + self.shortcut(x)  # 12 x 5 x 4
        x = self.valid(x)  # 2 x 3 x 3
        return self.twice(self.twice(x.mean((2, 3))))


IMAGE = (3, 9, 7)
BY_HAND = {
    "first.weight": 5 * 4 * 8 * 3 * 9,
    "block.0.weight": 5 * 4 * 12 * (8 // 4) * 9,
    "shortcut.weight": 5 * 4 * 12 * 8,
    "valid.weight": 3 * 3 * 2 * 12 * 6,
    "twice.weight": 2 * (2 * 2),
}


def test_macs_equal_counting_by_hand() -> None:
    assert macs(Small(), IMAGE) == BY_HAND
    assert macs(Small().to(memory_format=torch.channels_last), IMAGE) == BY_HAND  # type: ignore[call-overload]


def test_a_network_that_is_one_layer() -> None:
    assert macs(nn.Linear(5, 4), (5,)) == {"weight": 20}


def test_batch_norm_over_a_single_value_per_channel_can_be_counted() -> None:
    assert macs(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (5,)) == {"0.weight": 20}


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), nn.Conv1d(3, 5, 2), nn.Linear(7, 5)]
)
def test_macs_are_half_of_what_torchs_own_counter_counts(layer: nn.Module) -> None:
    image = (3, 9) if isinstance(layer, nn.Conv1d) else (3, 9, 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, *image))
    assert macs(layer, image) == {"weight": counter.get_total_flops() // 2}


@pytest.mark.parametrize("name", models.MODELS)
def test_macs_of_every_model_are_half_of_what_torchs_own_counter_counts(name: str) -> None:
    digits = name == "resnet8"
    recipe = Problem(
        name="any", dataset="any", model=name, epochs=1, channels=1 if digits else 3, image_size=8 if digits else 32
    )
    network = models.build(recipe, 0).eval()
    image = (recipe.channels, recipe.image_size, recipe.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *image))
    assert sum(macs(network, image).values()) == counter.get_total_flops() // 2


def test_resnet50_has_the_published_number_of_macs() -> None:
    with torch.device("meta"):
        resnet50 = torchvision.models.resnet50()
    counted = macs(resnet50, (3, 224, 224))
    assert len(counted) == 54
    assert sum(counted.values()) == pytest.approx(4.09e9, abs=0.05e9)


def test_sparsity_macs_and_speedup_of_a_pruned_network_by_hand() -> None:
    model = Small()
    with torch.no_grad():
        model.first.weight[:, :, 0] = 0  # a third
        model.shortcut.weight[:3] = 0  # a quarter
        model.bn.bias.zero_()  # no prunable weight
    measured = measure(model, IMAGE)
    zeros = 8 * 3 * 3 + 3 * 8
    weights = 8 * 3 * 9 + 12 * 2 * 9 + 12 * 8 + 2 * 12 * 6 + 4
    assert measured["sparsity"]["prunable"] == pytest.approx(zeros / weights)
    assert measured["sparsity"]["all"] == pytest.approx(zeros / (weights + 8 + 8 + 8 + 2 + 2))
    assert measured["sparsity"]["layers"]["first.weight"] == {
        "weights": 216,
        "zeros": 72,
        "macs": BY_HAND["first.weight"],
    }
    assert measured["sparsity"]["layers"]["block.0.weight"]["zeros"] == 0
    dense = sum(BY_HAND.values())
    sparse = dense - BY_HAND["first.weight"] / 3 - BY_HAND["shortcut.weight"] / 4
    assert measured["macs"]["dense"] == dense
    assert measured["macs"]["sparse"] == pytest.approx(sparse)
    assert measured["macs"]["speedup"] == pytest.approx(dense / sparse)


def test_sparsity_is_what_the_masks_say() -> None:
    model = Small()
    masks = Masks(prunable(model))
    masks.prune_to(0.9)
    assert measure(model, IMAGE)["sparsity"]["prunable"] == pytest.approx(masks.sparsity)


def test_a_dense_network_has_no_speedup_and_an_empty_one_none_that_json_can_hold() -> None:
    model = Small()
    assert measure(model, IMAGE)["macs"]["speedup"] == 1
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.zero_()
    measured = measure(model, IMAGE)
    assert measured["macs"]["sparse"] == 0
    assert measured["macs"]["speedup"] is None
    json.dumps(measured, allow_nan=False)


def test_measuring_leaves_the_network_as_it_was() -> None:
    model = Small()
    model.bn.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, IMAGE)
    assert model.training
    assert model.first.training
    assert not model.bn.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
