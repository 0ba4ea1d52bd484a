"""Whole filters of other networks than that of the digits, and which networks can lose none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.cells import Budget, Cell
from benchmark.errors import UserError
from benchmark.methods import check_hyperparameters
from benchmark.problems import models
from benchmark.pruning.filters import Filters, find_groups, where
from benchmark.pruning.masks import Masks
from benchmark.pruning.prunable import prunable
from tests.test_filters import PROBLEM, cell, make_run


class Bottleneckless(nn.Module):
    """Two blocks as torchvision's, one with a 1x1 shortcut; biases; a hidden linear layer after flattening."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.one, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.two, self.short = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(4, 8, 1, 2)
        self.hidden, self.head = nn.Linear(8 * 16, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.norm(self.one(x)))
        x = functional.relu(self.two(x) + self.short(x))
        return self.head(functional.relu(self.hidden(x.flatten(1))))


class Padded(nn.Module):
    """A block with a shortcut that pads channels, and no batch norm."""

    def __init__(self):
        super().__init__()
        self.stem, self.one = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.two, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(self.two(functional.relu(self.one(x))) + functional.pad(x, (0, 0, 0, 0, 2, 2)))
        return self.head(x.mean((2, 3)))


class Rolled(nn.Module):
    """A shortcut that shifts channels, which torch-pruning takes for one that does not."""

    def __init__(self):
        super().__init__()
        self.stem, self.one = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(self.one(x) + x.roll(1, 1))
        return self.head(x.mean((2, 3)))


def network_of(model: str, **settings) -> tuple[nn.Module, tuple[int, int, int]]:
    problem = PROBLEM.model_copy(update={"model": model, **settings})
    return models.build(problem, 0), (problem.channels, problem.image_size, problem.image_size)


NETWORKS = {
    "resnet20": lambda: network_of("resnet20"),
    "resnet18": lambda: network_of("resnet18", width=8),
    "wideresnet28-10": lambda: network_of("wideresnet28-10", width=2),
    "vgg16": lambda: network_of("vgg16", width=4, image_size=32),
    "resnet50": lambda: network_of("resnet50", width=4, channels=3, image_size=32),
    "biases and flattening": lambda: (Bottleneckless(), (1, 8, 8)),
}


def train_double(
    network: nn.Module, optimizer: torch.optim.Optimizer, criterion: Filters, image: tuple[int, int, int], steps: int
) -> None:
    torch.manual_seed(0)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        images = torch.randn(4, *image, dtype=torch.float64)
        functional.cross_entropy(network(images), torch.arange(4)).backward()
        optimizer.step()
        criterion.apply_()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smaller_network_computes_the_same_and_has_no_more_than_what_is_left(name: str):
    network, image = NETWORKS[name]()
    network.double()
    criterion = Filters(network, image, Masks(prunable(network)), random=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    train_double(network, optimizer, criterion, image, 1)  # momentum of what is about to go
    criterion.prune_to(0.6, torch.Generator().manual_seed(1))
    train_double(network, optimizer, criterion, image, 3)
    parameters = dict(network.named_parameters())
    for parameter, gone in where(criterion.groups, criterion.removed, parameters).items():
        assert not parameters[parameter].detach()[gone].any(), f"momentum moved what was removed of {parameter}"
    smaller = criterion.smaller()
    network.eval()
    images = torch.randn(3, *image, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(smaller(images), network(images), rtol=1e-8, atol=1e-10)
    left = sum(int(torch.count_nonzero(weight)) for weight in prunable(network).values())
    assert sum(weight.numel() for weight in prunable(smaller).values()) == left


def test_projection_shortcuts_lose_the_channels_of_the_layers_they_are_added_to():
    network, image = network_of("resnet18", width=8)
    criterion = Filters(network, image, Masks(prunable(network)), random=False)
    criterion.prune_to(0.5, torch.Generator())
    stage = ("blocks.2.conv2", "blocks.2.shortcut.0", "blocks.3.conv2")
    gone = [network.get_parameter(f"{name}.weight").flatten(1).eq(0).all(1) for name in stage]
    assert int(gone[0].sum()) == 8
    assert torch.equal(gone[0], gone[1])
    assert torch.equal(gone[0], gone[2])


def test_the_norm_of_tied_channels_is_the_sum_over_their_layers():
    network, image = network_of("resnet18", width=8)
    (stage,) = (group for group in find_groups(network, image) if "blocks.2.conv2" in group.layers)
    norms = sum(network.get_parameter(f"{name}.weight").detach().abs().flatten(1).sum(1) for name in stage.layers)
    criterion = Filters(network, image, Masks(prunable(network)), random=False)
    criterion.prune_to(0.25, torch.Generator())
    assert criterion.removed[stage.name].nonzero().flatten().tolist() == sorted(norms.argsort()[:4].tolist())


def test_layers_tied_by_a_shortcut_that_pads_are_left_alone():
    assert [group.layers for group in find_groups(Padded(), (1, 8, 8))] == [("one",)]


def test_finding_filters_leaves_the_network_as_it_was():
    network, image = network_of("resnet18", width=8)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    find_groups(network, image)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Rolled(), "computes other things"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "no layer of which whole filters"),
    ],
)
def test_networks_that_cannot_lose_filters_are_refused_in_a_line(network: nn.Module, words: str):
    with pytest.raises(UserError, match=words) as refused:
        find_groups(network, (1, 8, 8))
    assert "\n" not in str(refused.value)


def test_an_unknown_criterion_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"criterion is 'taylor'.*magnitude, random, filters or random_filters"):
        make_run(cell("taylor"))


def test_the_default_criterion_leaves_identities_as_they_were():
    assert check_hyperparameters("IMP", {"criterion": "magnitude"}) == ()
    assert cell("magnitude").id == Cell(PROBLEM, "IMP", 0, "LLR", 0.5, Budget.parse("1.5ep")).id


def test_a_layer_that_stays_dense_loses_no_filter_and_what_it_is_tied_to_none_either():
    everything, _ = network_of("resnet18", width=8)
    network, image = network_of("resnet18", width=8, dense_layers="first")
    stage = {"conv1", "blocks.0.conv2", "blocks.1.conv2"}  # added up by shortcuts
    kept = {group.layers for group in find_groups(everything, image)} - {g.layers for g in find_groups(network, image)}
    assert [set(layers) for layers in kept] == [stage]
    criterion = Filters(network, image, Masks(prunable(network)), random=False)
    criterion.prune_to(0.5, torch.Generator())
    assert network.conv1.weight.count_nonzero() == network.conv1.weight.numel()
    assert network.blocks[0].conv1.weight.flatten(1).eq(0).all(1).sum() == 4
