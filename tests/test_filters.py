"""Pruning at random and in whole filters, and the smaller network that is left."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.cells import Budget, Cell
from benchmark.errors import UserError
from benchmark.methods import check_hyperparameters, load, settings_of
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.data import open_data
from benchmark.pruning import metrics
from benchmark.pruning.filters import Filters
from benchmark.pruning.masks import Masks
from benchmark.pruning.prunable import prunable
from benchmark.recording import make_record
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.training.checkpoint import Checkpoints, Trunks
from benchmark.training.loop import Run
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted, Session
from benchmark.worker import Worker

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {"epochs": 6, "milestones": [2, 4, 5], "warmup_epochs": 1})
DATA = open_data(PROBLEM, torch.device("cpu"))
WHOLE = ("filters", "random_filters")


def cell(criterion: str, schedule: str = "LLR", sparsity: float = 0.5, budget: str = "1.5ep", seed: int = 0, **more):
    chosen = check_hyperparameters("IMP", {"criterion": criterion, **more})
    return Cell(PROBLEM, "IMP", seed, schedule, sparsity, Budget.parse(budget), chosen)


def make_run(of: Cell, **options) -> Run:
    return Run(of, models.build(of.problem, of.seed), DATA, load("IMP"), settings_of(of), session=Session(**options))


def outcome(run: Run) -> dict:
    run.execute()
    return make_record(run.cell, run, None, run.method.smaller())


def zeros(run: Run) -> dict[str, Tensor]:
    return {name: weight.detach() == 0 for name, weight in prunable(run.network).items()}


# Single weights at random


def test_random_pruning_removes_exactly_as_many_weights_as_asked_wherever_they_are():
    run = make_run(cell("random", sparsity=0.8))
    before = torch.cat([weight.detach().flatten().clone() for weight in prunable(run.network).values()]).abs()
    record = outcome(run)
    total = before.numel()
    gone = torch.cat([where.flatten() for where in zeros(run).values()])
    assert int(gone.sum()) == round(0.8 * total)
    assert record["status"] != "missed_target"
    assert float(before[gone].mean()) == pytest.approx(float(before.mean()), rel=0.05), "it looked at the weights"
    assert all(0.5 < float(where.float().mean()) < 1 for where in zeros(run).values())


def test_random_pruning_depends_on_the_seed_and_nothing_else():
    def pruned(**changes) -> Tensor:
        run = make_run(cell("random", budget="0ep", **changes))
        run.execute()
        return torch.cat([where.flatten() for where in zeros(run).values()])

    assert torch.equal(pruned(schedule="FT"), pruned(schedule="LLR"))
    assert not torch.equal(pruned(seed=0), pruned(seed=1))


def test_cycles_of_random_pruning_draw_anew():
    run = make_run(cell("random", sparsity=0.75, budget="2it", cycles=2))
    run.execute()
    assert [round(cycle["sparsity"], 2) for cycle in run.progress.cycles] == [0.5, 0.75]
    assert run.method.masks.alive == run.method.masks.total - round(0.75 * run.method.masks.total)


# Whole filters on the network of the digits


@pytest.mark.parametrize("criterion", WHOLE)
def test_every_first_convolution_of_a_block_loses_the_same_fraction(criterion: str):
    """ResNet-8's shortcuts pad channels, so the other convolutions, tied by them, keep all of theirs."""
    run = make_run(cell(criterion, sparsity=0.6))
    record = outcome(run)
    assert record["smaller"]["layers"] == {
        "blocks.0.conv1": {"outputs": 6, "left": 2},
        "blocks.1.conv1": {"outputs": 12, "left": 5},
        "blocks.2.conv1": {"outputs": 24, "left": 10},
    }
    whole = {name: where.flatten(1).all(1) for name, where in zeros(run).items()}
    assert [int(whole[f"blocks.{block}.conv1.weight"].sum()) for block in range(3)] == [4, 7, 14]
    assert not any(whole[name].any() for name in whole if not name.endswith("conv1.weight") or name == "conv1.weight")
    for block in range(3):  # the next convolution does not read them any more
        unread = zeros(run)[f"blocks.{block}.conv2.weight"].flatten(2).all(2).all(0)
        assert torch.equal(unread, whole[f"blocks.{block}.conv1.weight"])
        norm = run.network.get_submodule(f"blocks.{block}.bn1")
        assert torch.equal(norm.weight.detach() == 0, whole[f"blocks.{block}.conv1.weight"])
        assert not norm.bias.detach()[whole[f"blocks.{block}.conv1.weight"]].any()


@pytest.mark.parametrize(
    ("stages", "left"),
    [("6/3/1", (2, 8, 22)), ("6/5/4", (2, 6, 14)), ("0/0/1", (10,)), ("even", (2, 5, 10))],
)
def test_stages_lose_the_fractions_that_they_are_given(stages: str, left: tuple[int, ...]):
    """Of 6, 12 and 24 filters: Le and Hua's rates B are .6/.3/.1, C .6/.5/.4 and D .6/.6/.6."""
    record = outcome(make_run(cell("filters", sparsity=0.6, budget="0ep", stages=stages)))
    assert [layer["left"] for layer in record["smaller"]["layers"].values()] == list(left)


@pytest.fixture(scope="module")
def resnet56():
    problem, _ = load_problem("cifar10", {"model": "resnet56"})
    return models.build(problem, 0)


@pytest.mark.parametrize(
    ("layout", "sparsity", "removed", "whole"),
    [
        ("A", 0.1, 97, (7, 9, 18, 26)),
        ("B", 0.6, 189, (7, 8, 9, 16, 18, 26)),
        ("C", 0.6, 364, (7, 8, 9, 16, 18, 26)),
        ("D", 0.6, 483, (7, 8, 9, 16, 18, 26)),
    ],
)
def test_le_and_hua_s_layouts_remove_what_their_script_removes(resnet56, layout, sparsity, removed, whole):
    """The counts are those of their script run on its own; `whole`: blocks, from 0, whose filters all stay."""
    criterion = Filters(resnet56, (3, 32, 32), Masks(prunable(resnet56)), random=False, stages=layout)
    criterion.prune_to(sparsity, torch.Generator())
    gone = {name: int(channels.sum()) for name, channels in criterion.removed.items()}
    assert sum(gone.values()) == removed
    assert [name for name, count in gone.items() if not count] == [f"blocks.{block}.conv1" for block in whole]


def test_a_layout_of_le_and_hua_needs_their_network():
    with pytest.raises(UserError, match="the 27 blocks of resnet56; this network has 3 groups of filters"):
        make_run(cell("filters", stages="A")).execute()


@pytest.mark.parametrize("stages", ["6/3", "6/3/1/1"])
def test_stages_that_fit_no_network_are_refused_in_a_line(stages: str):
    with pytest.raises(UserError, match=r"hyperparameter stages is .* 3 widths \(6, 12, 24 filters\)"):
        make_run(cell("filters", stages=stages)).execute()


def test_the_filters_of_smallest_norm_go():
    run = make_run(cell("filters", budget="0ep"))
    norms = {name: weight.detach().abs().flatten(1).sum(1) for name, weight in prunable(run.network).items()}
    run.execute()
    for block in range(3):
        name = f"blocks.{block}.conv1.weight"
        gone = zeros(run)[name].flatten(1).all(1)
        assert norms[name][gone].max() < norms[name][~gone].min()


def test_random_filters_are_others():
    runs = [make_run(cell(criterion, budget="0ep")) for criterion in WHOLE]
    for run in runs:
        run.execute()
    one, other = (zeros(run)["blocks.2.conv1.weight"].flatten(1).all(1) for run in runs)
    assert one.sum() == other.sum()
    assert not torch.equal(one, other)


def test_a_layer_never_loses_its_last_filter():
    record = outcome(make_run(cell("filters", sparsity=0.99, budget="0ep")))
    assert {layer["left"] for layer in record["smaller"]["layers"].values()} == {1}


@pytest.mark.parametrize("criterion", WHOLE)
def test_the_pruned_network_computes_what_the_smaller_one_does_after_training(criterion: str):
    run = make_run(cell(criterion, "SLR", budget="2ep", cycles=2))
    record = outcome(run)
    smaller = run.method.smaller()
    assert sum(p.numel() for p in smaller.parameters()) < 0.6 * sum(p.numel() for p in run.network.parameters())
    images = next(iter(DATA.evaluation_batches("test")))[0]
    run.network.eval()
    with torch.no_grad():
        assert torch.allclose(smaller(images), run.network(images), rtol=1e-4, atol=1e-5)
    assert record["smaller"]["parameters"] == sum(p.numel() for p in smaller.parameters())
    assert record["smaller"]["macs"] == metrics.macs(smaller, DATA.example(1)).total
    assert record["smaller"]["macs"] == pytest.approx(record["macs"]["sparse"]), "zeros and filters count the same"


def test_a_small_network_counted_by_hand():
    """Half of the filters of ResNet-8 of widths 6, 12, 24: 3 + 6 + 12 left in the first convolutions."""
    record = outcome(make_run(cell("filters", budget="0ep")))
    kernels = 1 * 6 + 6 * 3 + 3 * 6 + 6 * 6 + 6 * 12 + 12 * 12 + 12 * 24
    norms = 2 * (6 + 3 + 6 + 6 + 12 + 12 + 24)
    assert record["smaller"]["parameters"] == 9 * kernels + norms + 24 * 10 + 10
    pixels = 64 * (1 * 6 + 6 * 3 + 3 * 6) + 16 * (6 * 6 + 6 * 12) + 4 * (12 * 12 + 12 * 24)
    assert record["smaller"]["macs"] == 9 * pixels + 24 * 10


def test_the_sparsity_reached_is_that_of_the_weights_and_no_missed_target():
    record = outcome(make_run(cell("filters", sparsity=0.6)))
    assert record["sparsity"]["target"] == 0.6
    assert record["sparsity"]["prunable"] != pytest.approx(0.6, abs=0.01)
    layers = record["sparsity"]["layers"].values()
    share = sum(layer["zeros"] for layer in layers) / sum(layer["weights"] for layer in layers)
    assert record["sparsity"]["prunable"] == pytest.approx(share)
    assert record["status"] != "missed_target"


@pytest.mark.parametrize("stop", [3, 9, 20])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(tmp_path, stop: int):
    one = cell("random_filters", "LLR", 0.7, "1.5ep", cycles=2)
    undisturbed = outcome(make_run(one))
    asked = iter(range(1, 10**6))
    checkpoints = Checkpoints(tmp_path / "c", one.id)
    with pytest.raises(Interrupted):
        make_run(one, checkpoints=checkpoints, should_stop=lambda: next(asked) >= stop).execute()
    assert outcome(make_run(one, checkpoints=Checkpoints(tmp_path / "c", one.id))) == undisturbed


def test_runs_that_share_their_first_cycles_share_the_filters_they_lost(tmp_path):
    shorter, longer = (cell("random_filters", "LRW", s, "4it/cycle", ladder="renda") for s in (0.5, 0.7))
    alone = outcome(make_run(longer))
    outcome(make_run(shorter, trunks=Trunks(tmp_path)))
    run = make_run(longer, trunks=Trunks(tmp_path))
    assert outcome(run) == alone
    assert run.progress.seconds["inherited"] > 0


def test_the_record_of_a_worker_has_latencies_that_are_no_part_of_the_result(tmp_path):
    records = []
    for name in ("a", "b"):
        worker = Worker(Store(tmp_path / name), RunOptions(device="cpu"))
        worker.run(Cell.dense(PROBLEM, 0))
        one = cell("filters", budget="4it")
        assert worker.run(one) == "done"
        records.append(worker.store.read(one.id))
    latency = records[0]["seconds"]["latency"]
    assert latency["batch"] == [1, 64]
    assert min(latency["masked"] + latency["smaller"]) > 0
    assert records[0]["provenance"]["device_name"]
    assert result(records[0]) == result(records[1])
    assert "smaller" in result(records[0])
