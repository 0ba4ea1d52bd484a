"""Pruning to the weight, masks that keep zeros at zero through training, and their way through a checkpoint."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmark.errors import UserError
from benchmark.pruning.masks import Masks, Score, norm, norm_of_difference, random_scores
from benchmark.pruning.prunable import prunable
from benchmark.pruning.selection import Bracket


class Shortcut(nn.Module):
    """A block with a projection shortcut, biases and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.shortcut = nn.Conv2d(4, 6, 1, stride=2, bias=False)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.first(x)))
        x = torch.relu(self.second(x) + self.shortcut(x))
        return self.classifier(x.mean((2, 3)))


WEIGHTS = 36 + 216 + 24 + 18


def network(channels_last: bool = False) -> Shortcut:
    torch.manual_seed(0)
    made = Shortcut()
    return made.to(memory_format=torch.channels_last) if channels_last else made  # type: ignore[call-overload]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def by_magnitude(weights: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """The scores that pruning without any goes by."""
    return [weight.detach().abs() for weight in weights]


def train(model: nn.Module, steps: int, after_step: Any = lambda: None, fused: bool = True) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3, fused=fused)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images = torch.randn(8, 1, 6, 6, generator=generator)
        labels = torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        after_step()


def test_every_weight_of_a_convolution_or_linear_layer_is_prunable_and_nothing_else() -> None:
    assert list(prunable(network())) == ["first.weight", "second.weight", "shortcut.weight", "classifier.weight"]


class OfSymbols(nn.Module):
    """Everything of rank 2 that is no weight to prune, beside what is."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(11, 6)
        self.bag = nn.EmbeddingBag(5, 6)
        self.positions = nn.Parameter(torch.zeros(9, 6))
        self.class_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 2)
        self.across = nn.MultiheadAttention(6, 2, kdim=4, vdim=5, add_bias_kv=True)
        self.norm = nn.LayerNorm((9, 6))
        self.rms = nn.RMSNorm((9, 6))
        self.recurrent = nn.LSTM(6, 3, proj_size=2)
        self.up = nn.ConvTranspose1d(6, 2, 2)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.symbols.weight


def test_attention_and_recurrent_layers_are_prunable_and_embeddings_positions_and_norms_are_not() -> None:
    model = OfSymbols()
    attention = ["attention.in_proj_weight", "attention.out_proj.weight"]
    across = [f"across.{name}_proj_weight" for name in "qkv"] + ["across.out_proj.weight"]
    recurrent = [f"recurrent.weight_{name}_l0" for name in ("ih", "hh", "hr")]
    assert list(prunable(model)) == [*attention, *across, *recurrent, "up.weight"]
    model.out.weight = nn.Parameter(torch.zeros(11, 6))  # not tied any more
    assert list(prunable(model))[-1] == "out.weight"


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_the_norms_of_weight_norm_are_no_weights_to_prune() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    assert list(prunable(model)) == ["0.weight_v", "1.weight"]


def test_a_network_may_name_what_is_never_pruned_by_any_name_that_it_has() -> None:
    model = network()
    model.not_prunable = {"first.weight", "again.weight"}  # type: ignore[assignment]
    model.again = model.shortcut
    assert list(prunable(model)) == ["second.weight", "classifier.weight"]
    assert list(prunable(copy.deepcopy(model))) == ["second.weight", "classifier.weight"]
    assert Masks(prunable(model)).total == 216 + 18


@pytest.mark.parametrize("channels_last", [False, True])
def test_pruning_takes_the_smallest_magnitudes_of_the_whole_network(channels_last: bool) -> None:
    model = network(channels_last)
    before = flat([*copy.deepcopy(prunable(model)).values()])
    masks = Masks(prunable(model))
    masks.prune_to(0.9)
    pruned = round(0.9 * WEIGHTS)
    after = flat(masks.weights)
    assert masks.alive == int(after.count_nonzero()) == WEIGHTS - pruned
    assert masks.sparsity == pruned / WEIGHTS
    smallest = before.abs().argsort()[:pruned]
    assert not after[smallest].any()
    kept = after != 0
    assert torch.equal(after[kept], before[kept])
    for weight, mask in zip(masks.weights, masks.tensors, strict=True):
        assert mask.stride() == weight.stride()
        assert mask.dtype == weight.dtype
        assert torch.equal(mask, (weight != 0).to(mask.dtype))


@given(
    st.lists(st.floats(0, 0.6), min_size=1, max_size=5), st.booleans(), st.sampled_from([by_magnitude, random_scores])
)
@settings(deadline=None, max_examples=50)
def test_each_cycle_prunes_exactly_its_fraction_of_the_alive_and_none_returns(
    fractions: list[float], channels_last: bool, score: Score
) -> None:
    """Also where the alive weights include exact zeros, which must not be mistaken for pruned ones."""
    model, generator = network(channels_last), torch.Generator().manual_seed(3)
    masks = Masks(prunable(model))
    for fraction in fractions:
        alive, earlier = masks.alive, flat(masks.tensors).clone()
        with torch.no_grad():  # training in between: the alive move, some to 0
            for weight, mask in zip(masks.weights, masks.tensors, strict=True):
                weight.copy_(torch.randn(weight.shape, generator=generator).mul(2).round() * mask)
        values = flat(masks.weights)
        left = alive - round(fraction * alive)
        masks.prune_to(1 - left / WEIGHTS, score(masks.weights, generator))
        now = flat(masks.tensors)
        assert masks.alive == int(now.sum()) == left
        assert not (now > earlier).any()
        gone = (earlier == 1) & (now == 0)
        if score is by_magnitude and gone.any() and now.any():
            assert values[gone].abs().max() <= values[now == 1].abs().min()


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_a_target_is_reached_to_one_weight_and_never_undone(targets: list[float]) -> None:
    masks = Masks(prunable(network()))
    for i, target in enumerate(targets):
        masks.prune_to(target)
        assert WEIGHTS - masks.alive == max(round(t * WEIGHTS) for t in targets[: i + 1])
        assert int(flat(masks.weights).count_nonzero()) == masks.alive


def test_pruning_without_scores_is_by_magnitude() -> None:
    plain, scored = Masks(prunable(network())), Masks(prunable(network()))
    for target in (0.3, 0.8):
        plain.prune_to(target)
        scored.prune_to(target, by_magnitude(scored.weights, torch.Generator()))
        assert torch.equal(flat(plain.tensors), flat(scored.tensors))


def test_random_scores_are_the_seeds_and_do_not_look_at_the_weights() -> None:
    model = network()
    weights = list(prunable(model).values())
    draw = lambda seed: flat(random_scores(weights, torch.Generator().manual_seed(seed)))  # noqa: E731
    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))
    masks = Masks(prunable(model))
    masks.prune_to(0.5, random_scores(weights, torch.Generator().manual_seed(5)))
    shares = [float(mask.mean()) for mask in masks.tensors if mask.numel() > 30]
    assert shares == pytest.approx([0.5, 0.5], abs=0.2)


@pytest.mark.parametrize("channels_last", [False, True])
def test_pruned_weights_stay_zero_through_momentum_and_weight_decay(channels_last: bool) -> None:
    model = network(channels_last)
    train(model, 5)
    masks = Masks(prunable(model))
    masks.prune_to(0.8)
    kept = flat(masks.weights).clone()
    pruned = flat(masks.tensors) == 0

    def check() -> None:
        masks.apply_()
        assert not flat(masks.weights)[pruned].any()

    train(model, 200, check)
    assert not torch.isclose(flat(masks.weights)[~pruned], kept[~pruned], rtol=1e-3).all()  # the rest did train


@pytest.mark.parametrize("fused", [True, False])
def test_training_equals_the_reparametrisation_of_torch_bit_for_bit(fused: bool) -> None:
    ours = network()
    masks = Masks(prunable(ours))
    masks.prune_to(0.7)
    theirs = network()
    for name, mask in zip(masks.names, masks.tensors, strict=True):
        prune.custom_from_mask(theirs.get_submodule(name.removesuffix(".weight")), "weight", mask)
    train(ours, 20, masks.apply_, fused)
    train(theirs, 20, fused=fused)
    for module_name in ("first", "second", "shortcut", "classifier"):
        prune.remove(theirs.get_submodule(module_name), "weight")
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_what_was_taken_away_is_returned() -> None:
    model = network()
    before = flat([*copy.deepcopy(prunable(model)).values()])
    masks = Masks(prunable(model))
    for target in (0.5, 0.75):
        taken = flat(masks.prune_to(target))
        assert torch.equal(flat(masks.weights) + taken, before)
        assert int(taken.count_nonzero()) == round(target * WEIGHTS) - (round(0.5 * WEIGHTS) if target > 0.5 else 0)
        before = flat(masks.weights).clone()


@pytest.mark.parametrize("fraction", [1, 1.5, -0.1, math.nan])
def test_pruning_everything_or_nonsense_is_refused(fraction: float) -> None:
    masks = Masks(prunable(network()))
    for act in (masks.prune_to, masks.select):
        with pytest.raises(UserError, match="sparsity"):
            act(fraction)
    assert masks.alive == WEIGHTS


def test_scores_of_another_shape_are_refused() -> None:
    masks = Masks(prunable(network()))
    with pytest.raises(ValueError, match="shape"):
        masks.prune_to(0.5, [score.flatten() for score in masks.tensors])


def test_selecting_anew_lets_weights_return_and_leaves_them_alone() -> None:
    model = network()
    masks, bracket = Masks(prunable(model)), Bracket()
    masks.select(0.9, bracket=bracket)
    dense = flat(masks.weights).clone()
    first = flat(masks.tensors).clone()
    assert int(first.sum()) == masks.alive == WEIGHTS - round(0.9 * WEIGHTS)
    assert int(dense.count_nonzero()) == WEIGHTS
    with torch.no_grad():
        masks.weights[0].add_(10)
    masks.select(0.9, bracket=bracket)
    assert masks.tensors[0].sum() > first[:36].sum()
    assert int(flat(masks.tensors).sum()) == masks.alive == WEIGHTS - round(0.9 * WEIGHTS)


def test_masks_go_through_a_checkpoint(tmp_path: Any) -> None:
    masks = Masks(prunable(network(channels_last=True)))
    masks.prune_to(0.6)
    torch.save(masks.state_dict(), tmp_path / "masks.pt")
    restored = Masks(prunable(network(channels_last=True)))
    restored.load_state_dict(torch.load(tmp_path / "masks.pt", weights_only=True))
    assert restored.alive == masks.alive
    assert torch.equal(flat(restored.tensors), flat(masks.tensors))
    assert [mask.stride() for mask in restored.tensors] == [mask.stride() for mask in masks.tensors]
    assert restored.tensors[0].dtype == torch.float32


def test_masks_of_another_network_are_refused_and_change_nothing() -> None:
    masks = Masks(prunable(network()))
    masks.prune_to(0.5)
    state, before = masks.state_dict(), flat(masks.tensors).clone()
    with pytest.raises(UserError, match=r"another network: extra\.weight"):
        masks.load_state_dict({**state, "extra.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(UserError, match=r"another network: classifier\.weight"):
        masks.load_state_dict({name: mask for name, mask in state.items() if name != "classifier.weight"})
    with pytest.raises(UserError, match=r"classifier\.weight has shape \(3, 7\), not \(3, 6\)"):
        masks.load_state_dict({**state, "classifier.weight": torch.zeros(3, 7, dtype=torch.bool)})
    assert torch.equal(flat(masks.tensors), before)


def test_norms_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
        model[0].bias.fill_(12.0)
        model[1].weight.fill_(84.0)
        model[1].bias.zero_()
    assert norm(model) == 85  # 3, 4, 12, 84
    assert norm(model, everything=False) == 5
    assert norm_of_difference([torch.tensor([3.0]), torch.tensor([[4.0]])]) == 5
    assert norm_of_difference([]) == 0


def test_norms_are_summed_in_double_precision() -> None:
    assert norm_of_difference([torch.full((3_000_000,), 0.1)]) == pytest.approx(
        float(torch.tensor(0.1)) * math.sqrt(3_000_000), rel=1e-10
    )
