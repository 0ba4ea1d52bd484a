"""Sparsity, MACs and speedup, against counting by hand and against what is published for ResNet-50."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.cells import Problem
from benchmark.problems import models
from benchmark.pruning.masks import Masks
from benchmark.pruning.metrics import macs, measure
from benchmark.pruning.prunable import prunable
from tests.conftest import ROOT


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


IMAGE = (torch.zeros(1, 3, 9, 7),)
BY_HAND = {
    "first.weight": 5 * 4 * 8 * 3 * 9,
    "block.0.weight": 5 * 4 * 12 * (8 // 4) * 9,
    "shortcut.weight": 5 * 4 * 12 * 8,
    "valid.weight": 3 * 3 * 2 * 12 * 6,
    "twice.weight": 2 * (2 * 2),
}


def test_macs_equal_counting_by_hand() -> None:
    assert macs(Small(), IMAGE) == (BY_HAND, 0)
    assert macs(Small().to(memory_format=torch.channels_last), IMAGE) == (BY_HAND, 0)  # type: ignore[call-overload]
    assert macs(Small(), IMAGE).total == sum(BY_HAND.values())


def test_a_network_that_is_one_layer() -> None:
    assert macs(nn.Linear(5, 4), (torch.zeros(1, 5),)) == ({"weight": 20}, 0)


def test_batch_norm_over_a_single_value_per_channel_can_be_counted() -> None:
    assert macs(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (torch.zeros(1, 5),)) == ({"0.weight": 20}, 0)


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), nn.Conv1d(3, 5, 2), nn.Linear(7, 5)]
)
def test_macs_are_half_of_what_torchs_own_counter_counts(layer: nn.Module) -> None:
    example = torch.zeros(1, 3, 9) if isinstance(layer, nn.Conv1d) else torch.zeros(1, 3, 9, 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(example)
    assert macs(layer, (example,)) == ({"weight": counter.get_total_flops() // 2}, 0)


@pytest.mark.parametrize("name", models.MODELS)
def test_macs_of_every_model_are_half_of_what_torchs_own_counter_counts(name: str) -> None:
    task = models.TASK_OF.get(name, "classification")
    channels, size = (1, 8) if name == "resnet8" else (3, 32)
    recipe = Problem(
        name="any", task=task, dataset="any", model=name, epochs=1, channels=channels, image_size=size, classes=20
    )
    network = models.build(recipe, 0).eval()
    inputs = {
        "transformer_lm": (torch.ones(1, 9, dtype=torch.int64),),
        **dict.fromkeys(
            ("transformer", "t5"), (torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64))
        ),
    }.get(name, (torch.zeros(1, channels, size, size),))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    counted = macs(network, inputs)
    assert counted.total == counter.get_total_flops() // 2
    assert all(counted.layers.values())
    assert (counted.others > 0) == (name in ("vit", "transformer_lm", "transformer", "t5"))


def test_resnet50_has_the_published_number_of_macs() -> None:
    with torch.device("meta"):
        resnet50 = torchvision.models.resnet50()
    counted = macs(resnet50, (torch.zeros(1, 3, 224, 224),))
    assert len(counted.layers) == 54
    assert counted.total == pytest.approx(4.09e9, abs=0.05e9)


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


# Networks of symbols, and products without a layer


def symbols(length: int) -> tuple[Tensor, ...]:
    return (torch.zeros(1, length, dtype=torch.int64),)


class Attending(nn.Module):
    """Torch's own attention, to itself and to something else, and an output layer tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(11, 8)
        self.itself = nn.MultiheadAttention(8, 2, batch_first=True)
        self.other = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
        self.reduce = nn.Linear(8, 6)
        self.queries = nn.Parameter(torch.randn(1, 3, 8))
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.symbols.weight

    def forward(self, x: Tensor, weights: bool = False) -> Tensor:
        x = self.symbols(x)
        x, _ = self.itself(x, x, x, need_weights=weights)
        x = self.reduce(x)
        x, _ = self.other(self.queries, x, x, need_weights=weights)
        return self.out(x)


ATTENTION = 2 * 5 * 5 * 8 + 2 * 3 * 5 * 8
"""Scores and sums of 5 positions with 5, and of 3 with 5."""


@pytest.mark.parametrize("need_weights", [False, True])
def test_macs_of_attention_by_hand(need_weights: bool) -> None:
    model = Attending()
    counted = macs(model, (*symbols(5), torch.tensor(need_weights)))  # one of them by other functions
    assert counted.layers == {
        "itself.in_proj_weight": 5 * 8 * 24,
        "itself.out_proj.weight": 5 * 8 * 8,
        "other.q_proj_weight": 3 * 8 * 8,
        "other.k_proj_weight": 5 * 6 * 8,
        "other.v_proj_weight": 5 * 6 * 8,
        "other.out_proj.weight": 3 * 8 * 8,
        "reduce.weight": 5 * 8 * 6,
    }
    assert counted.others == ATTENTION + 3 * 8 * 11  # and the layer that is tied to the embedding


def test_the_speedup_counts_what_cannot_be_pruned() -> None:
    model = Attending()
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.zero_()
    measured = measure(model, symbols(5))["macs"]
    assert measured["sparse"] == ATTENTION + 3 * 8 * 11
    assert measured["speedup"] == measured["dense"] / measured["sparse"]


def test_macs_of_torchs_transformer_layer_are_those_of_its_parts() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()  # which has a fused path for evaluation
    counted = macs(layer, (torch.zeros(1, 5, 8),))
    assert counted.layers == {
        "self_attn.in_proj_weight": 5 * 8 * 24,
        "self_attn.out_proj.weight": 5 * 8 * 8,
        "linear1.weight": 5 * 8 * 16,
        "linear2.weight": 5 * 16 * 8,
    }
    assert counted.others == 2 * 5 * 5 * 8


class Products(nn.Module):
    """Weights that no layer multiplies, and products of activations."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        """x: (1, 5, 3)."""
        weight = self.weight
        return {
            "linear by keyword": lambda: nn.functional.linear(input=x, weight=weight),
            "linear, the weight first": lambda: nn.functional.linear(weight=weight, bias=torch.zeros(4), input=x),
            "matmul by keyword": lambda: torch.matmul(other=weight.T, input=x),
            "tensordot": lambda: torch.tensordot(x, weight, dims=([2], [1])),
            "linalg.matmul": lambda: torch.linalg.matmul(x, weight.T),
            "addmm_": lambda: torch.zeros(5, 4).addmm_(x[0], weight.t()),
            "chain": lambda: torch.linalg.multi_dot([x[0], weight.T, torch.ones(4, 2)]),
            "matmul": lambda: x @ weight.T,
            "transposed first": lambda: weight @ x.transpose(1, 2),
            "einsum": lambda: torch.einsum("bti,oi->bto", x, weight),
            "einsum without a result": lambda: torch.einsum("...ti,oi", x, weight),
            "einsum of three": lambda: torch.einsum("bti,oi,po->btp", x, weight, torch.ones(2, 4)),
            "addmm": lambda: torch.addmm(torch.zeros(4), x[0], weight.t()),
            "mv": lambda: torch.stack([torch.mv(weight, row) for row in x[0]]),
            "products": lambda: torch.bmm(x, x.mT) @ torch.baddbmm(torch.zeros(1), x, weight[:3].expand(1, 3, 3)),
        }[self.kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "linear by keyword",
        "linear, the weight first",
        "matmul",
        "matmul by keyword",
        "transposed first",
        "einsum",
        "einsum without a result",
        "tensordot",
        "linalg.matmul",
        "addmm_",
        "addmm",
        "mv",
    ],
)
def test_a_weight_is_known_however_it_is_multiplied(kind: str) -> None:
    assert macs(Products(kind), (torch.zeros(1, 5, 3),)) == ({"weight": 5 * 4 * 3}, 0)


def test_products_of_activations_belong_to_no_weight() -> None:
    assert macs(Products("products"), (torch.zeros(1, 5, 3),)) == ({"weight": 5 * 3 * 3}, 5 * 5 * 3 + 5 * 5 * 3)


@pytest.mark.parametrize("kind", ["chain", "einsum of three"])
def test_of_a_chain_of_matrices_each_product_counts(kind: str) -> None:
    assert macs(Products(kind), (torch.zeros(1, 5, 3),)) == ({"weight": 5 * 3 * 4}, 5 * 4 * 2)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_macs_of_recurrent_layers_by_hand(kind: type[nn.RNNBase]) -> None:
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    layer = kind(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    ends = [f"{layer}{direction}" for layer in ("l0", "l1") for direction in ("", "_reverse")]
    inputs = {f"weight_ih_{end}": 7 * gates * 5 * (3 if "l0" in end else 10) for end in ends}
    hidden = {f"weight_hh_{end}": 7 * gates * 5 * 5 for end in ends}
    assert macs(layer, (torch.zeros(1, 7, 3),)) == ({**inputs, **hidden}, 0)
    layer.not_prunable = set(hidden)  # type: ignore[assignment]
    assert macs(layer, (torch.zeros(1, 7, 3),)) == (inputs, sum(hidden.values()))


def test_layers_that_stay_dense_count_as_they_are() -> None:
    model = Small()
    model.not_prunable = {"first.weight"}  # type: ignore[assignment]
    rest = {name: count for name, count in BY_HAND.items() if name != "first.weight"}
    assert macs(model, IMAGE) == (rest, BY_HAND["first.weight"])
    with torch.no_grad():
        model.first.weight.zero_()
    assert measure(model, IMAGE)["macs"]["speedup"] == 1


def test_counting_loads_no_compiler() -> None:
    code = """
import sys
import torch
from torch import nn
from benchmark.pruning.metrics import macs
x = torch.zeros(1, 5, 8)
for network in (nn.TransformerEncoderLayer(8, 2), nn.LSTM(8, 5), nn.Sequential(nn.Conv1d(5, 3, 3), nn.BatchNorm1d(3))):
    assert macs(network, (x,)).total
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
