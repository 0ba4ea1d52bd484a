"""One cell on several processes gives what it gives on one: gloo on the CPU stands in for GPUs."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn

from benchmark.cells import Budget, Cell, Problem
from benchmark.launch import ranks
from benchmark.launch.machine import WorkerSettings
from benchmark.launch.pool import PRELOADED
from benchmark.results.records import result
from benchmark.results.store import Store
from benchmark.training.group import Group, join, synchronise_batch_norm
from benchmark.training.options import RunOptions
from benchmark.training.session import Interrupted
from benchmark.worker import Worker
from tests.conftest import ROOT, assert_one_line_refusal, below, wait_for

# A batch of 53 leaves parts of 27 and 26, and the last batch of an epoch is smaller still.
PROBLEM = Problem(
    name="digits", dataset="digits", model="resnet8", width=4, image_size=8, channels=1, epochs=2, batch_size=53,
    warmup_epochs=1, crop_padding=1, flip=True, learning_rate=0.05, recalibration_batches=5,
)  # fmt: skip
# At a rate at which last digits, in which the two differ by how a processor rounds, do not grow before the end.
CALM = PROBLEM.model_copy(update={"learning_rate": 0.02})
DENSE = Cell.dense(CALM, 0)
# The ranks wait for each other some thirty times an iteration: shorter epochs wherever a network need not learn much.
SHORTER = PROBLEM.model_copy(update={"training_share": 0.4})
# Little is pruned from so small a network, since where much is, the last digits of sums decide which weights live.
PRUNED = [
    Cell(CALM, "IMP", 0, "ALLR", 0.5, Budget.parse("0.5ep")),
    Cell(SHORTER, "STR", 0, None, 0.5, None, (("s_init", -9.0),)),
    Cell(SHORTER, "GMP", 0, None, 0.2),
]

HALVED = {"width": 2, "training_share": 0.6, "learning_rate": 0.1}
HALF = [Cell.dense(PROBLEM.model_copy(update={"precision": name, **HALVED}), 0) for name in ("bf16", "fp16")]
CELLS = (DENSE, *PRUNED, *HALF)


def in_ranks(function, ranks: int, folder: Path, *arguments) -> list:
    """What function(group, *arguments) returns on each rank. The ranks are forked from a server that has torch."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    multiprocessing.start_processes(_rank, (ranks, folder, function, arguments), ranks, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _rank(rank: int, ranks: int, folder: Path, function, arguments) -> None:
    torch.set_num_threads(1)
    group = Group(rank, ranks, rank)
    join(group, torch.device("cpu"), f"file://{folder / 'meeting'}")
    torch.save(function(group, *arguments), folder / f"{rank}.pt")
    group.leave()


def train(group: Group, store: Path, cells: Sequence[Cell]) -> list[tuple]:
    """Masks and weights of each cell, as this rank has them at the end."""
    worker = Worker(Store(store), RunOptions("cpu", 1), group)
    finished = []
    from benchmark import worker as module

    class Remembered(module.Run):
        def execute(self):
            progress = super().execute()
            masks = {name: mask.clone() for name, mask in self.method.masks.state_dict().items()}
            finished.append((masks, {name: t.clone() for name, t in self.network.state_dict().items()}))
            return progress

    module.Run = Remembered
    if group.leads:
        for cell in cells:
            assert worker.run(cell) == "done"
        group.announce(None)
    else:
        worker.follow()
    return finished


SHORT = Cell(PROBLEM.model_copy(update={"training_share": 0.2}), "GMP", 0, None, 0.2)
"""Two epochs of five iterations."""


def stopped_everywhere(group: Group, folder: Path) -> list[dict]:
    """What the record of SHORT says when training is never stopped, and when it is stopped before every second of its
    iterations, the even and the odd ones, and goes on from the checkpoint each time."""
    records = []
    for first in (None, 0, 1):
        worker = Worker(Store(folder / f"{first}"), RunOptions("cpu", 1), group)
        stops = [] if first is None else [first, *[2] * 4]  # iterations that each attempt trains before it is stopped
        for trained in stops:
            asked = itertools.count()
            if group.leads:
                with contextlib.suppress(Interrupted):
                    worker.run(SHORT, should_stop=lambda asked=asked, trained=trained: next(asked) == trained)
                assert not worker.store.has(SHORT.id), "it was to be stopped"
            else:
                worker.follow()
        if group.leads:
            assert worker.run(SHORT) == "done"
            group.announce(None)
            records.append(result(worker.store.read(SHORT.id)))
        else:
            worker.follow()
    return records


def everything(group: Group, store: Path) -> dict:
    """All that the tests ask of two ranks, since starting them takes longer than what they do."""
    return {
        "stopped": stopped_everywhere(group, store.with_name("stopped")),
        "trained": train(group, store, CELLS),
        "steps": {sizes: steps(group, list(sizes)) for sizes in SHARES},
        "cumulative": cumulative(group),
        "decided": (group.decide(group.leads, not group.leads), group.announce(f"from {group.rank}"), dist.get_rank()),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Store, Store, list]:
    """The same cells trained by one process and by two, and what each of the two had at the end."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    worker = Worker(Store(alone), RunOptions("cpu", 1))
    for cell in CELLS:
        assert worker.run(cell) == "done"
    ends = in_ranks(everything, 2, tmp_path_factory.mktemp("ranks"), together)
    return Store(alone), Store(together), ends


@pytest.mark.parametrize("cell", [DENSE, *PRUNED], ids=lambda cell: cell.method)
def test_two_processes_train_what_one_trains(trained, cell: Cell):
    one, two = (store.read(cell.id) for store in trained[:2])
    assert two["iterations"] == one["iterations"]
    if cell.schedule != "ALLR":  # its peak comes from the weights, which differ in their last digits
        assert two["learning_rate"]["sha256"] == one["learning_rate"]["sha256"]
    assert two["learning_rate"]["peak"] == pytest.approx(one["learning_rate"]["peak"], rel=1e-4)
    assert two["sparsity"]["prunable"] == pytest.approx(one["sparsity"]["prunable"], abs=0.003)
    for key in ("train_loss", "validation_loss"):
        assert two["history"][key] == pytest.approx(one["history"][key], rel=0.01)
    assert two["accuracy"]["final"]["test"] == pytest.approx(one["accuracy"]["final"]["test"], abs=0.01)
    assert (one["provenance"]["ranks"], two["provenance"]["ranks"]) == (1, 2)


@pytest.mark.parametrize("cell", HALF, ids=lambda cell: cell.problem.precision)
def test_in_half_precision_too_but_for_its_rounding(trained, cell: Cell):
    one, two = (store.read(cell.id) for store in trained[:2])
    assert two["iterations"]["total"] == one["iterations"]["total"]
    assert two["learning_rate"]["sha256"] == one["learning_rate"]["sha256"]
    # the losses of so early a validation differ more among precisions than between these two
    assert two["history"]["train_loss"] == pytest.approx(one["history"]["train_loss"], rel=0.02)
    skipped = [record["iterations"].get("skipped", 0) for record in (one, two)]
    assert max(skipped) <= 2, "of a part of a batch float16 overflows a little earlier, and then no more"


def test_masks_and_weights_are_the_same_on_every_rank(trained):
    first, second = (end["trained"] for end in trained[2])
    assert len(first) == len(second) == len(CELLS)
    for one, other in zip(first, second, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not mask.all() for mask in first[1][0].values())


def test_only_rank_0_writes(trained):
    assert len(list(trained[1].records())) == len(CELLS)
    assert not list((trained[1].path / "checkpoints").rglob("*.pt"))
    assert not (trained[1].path / "set-aside").exists()


def test_a_run_that_goes_on_from_any_iteration_changes_no_bit_of_its_record(trained, tmp_path):
    for undisturbed, *others in (stopped_everywhere(Group(), tmp_path), trained[2][0]["stopped"]):
        assert undisturbed["iterations"] == {"total": 10, "per_epoch": 5}
        assert len(others) == 2
        for record in others:
            assert record == undisturbed


# The pieces


def steps(group: Group, sizes: list[int]) -> dict[str, torch.Tensor]:
    """Gradients and batch-norm statistics of a batch that is shared out in parts of `sizes`."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 3))
    images, labels = torch.randn(7, 2, 6, 6), torch.randint(3, (7,))
    synchronise_batch_norm(network, group)
    first = sum(sizes[: group.rank])
    part = slice(first, first + sizes[group.rank])
    wrapped = group.wrap(network)
    loss = nn.functional.cross_entropy(wrapped(images[part]), labels[part])
    group.weigh(loss, sizes[group.rank]).backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {**gradients, **network.state_dict()}


SHARES = ((4, 3), (6, 1), (7, 0))


@pytest.mark.parametrize("sizes", SHARES)
def test_gradients_and_statistics_are_those_of_the_whole_batch(trained, sizes: tuple[int, int]):
    whole = steps(Group(), [7])
    for end in trained[2]:
        for name, expected in whole.items():
            assert torch.allclose(end["steps"][sizes][name].float(), expected.float(), rtol=1e-4, atol=1e-5), name


def cumulative(group: Group) -> torch.Tensor:
    """Statistics over three batches as the pass after pruning takes them: plain averages."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(2, momentum=None))
    synchronise_batch_norm(network, group)
    for _ in range(3):
        batch = torch.randn(6, 2, 3, 3)
        network(batch[group.rank :: group.ranks])
    return network[0].running_mean


def test_the_batch_norm_pass_averages_over_all_ranks(trained):
    assert all(torch.allclose(end["cumulative"], cumulative(Group()), atol=1e-6) for end in trained[2])


def test_rank_0_decides_for_all(trained):
    assert [end["decided"] for end in trained[2]] == [((True, False), "from 0", rank) for rank in (0, 1)]


# From the command line


SWEEP = """
title: two ranks
problem: digits
recipe: {epochs: 1, milestones: [], warmup_epochs: 0}
seeds: 1
grids: [{method: IMP, schedule: [LLR], sparsity: [0.5], budget: ["2it"]}]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> list[str]:
    (tmp_path / "two.yaml").write_text(SWEEP)
    return [str(tmp_path / "two.yaml"), "--device", "cpu", "--results", str(tmp_path / "runs"), "--tracking", "off"]


def test_a_worker_starts_its_other_ranks(command, sweep, tmp_path: Path):
    command("benchmark.sweep", *sweep, "--gpus-per-cell", "2", "--workers", "1")
    records = list(Store(tmp_path / "runs").records())
    assert [record["provenance"]["ranks"] for record in records] == [2, 2]


@pytest.mark.long
def test_a_rank_that_is_killed_costs_no_cell_and_changes_no_bit(command, sweep, tmp_path: Path):
    alone, disturbed = tmp_path / "alone", tmp_path / "disturbed"
    two = [*sweep[:3], "--tracking", "off", "--gpus-per-cell", "2", "--workers", "1", "--set", "epochs=9"]
    two += ["--checkpoint-seconds", "0.1"]
    assert command("benchmark.sweep", *two, "--results", str(alone)).returncode == 0
    running = subprocess.Popen([sys.executable, "-m", "benchmark.sweep", *two, "--results", str(disturbed)], cwd=ROOT)
    others = lambda: [pid for pid, command in below(running.pid) if "spawn_main" in command]  # noqa: E731
    wait_for(lambda: others() and list(disturbed.glob("checkpoints/*/*/*.pt")), 200)
    os.kill(others()[0], signal.SIGKILL)
    running.wait(200)
    there, here = ({one["id"]: result(one) for one in Store(path).records()} for path in (alone, disturbed))
    assert len(there) == 2
    assert there == here
    assert not Store(disturbed).failures()


@pytest.mark.long
def test_torchrun_starts_the_ranks_of_a_sweep(sweep, tmp_path: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*torchrun, "-m", "benchmark.sweep", *sweep, "--gpus-per-cell", "2"]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    records = list(Store(tmp_path / "runs").records())
    assert [record["provenance"]["ranks"] for record in records] == [2, 2]


def test_a_rank_without_any_word_of_a_lost_one_leaves():
    """NCCL says nothing: its kernels wait, and whoever waits for these does."""
    code = (
        "import multiprocessing, threading, time; from benchmark.launch import ranks; ranks.LOST_SECONDS = 0.2; "
        "other = multiprocessing.get_context('fork').Process(target=time.sleep, args=(0.2,)); other.start(); "
        "ended = threading.Event(); {}; ranks.leave_after([other.sentinel], ended); time.sleep({})"
    )
    for before, patience, end in (("pass", 60, 1), ("ended.set()", 1, 0)):
        assert (
            subprocess.run([sys.executable, "-c", code.format(before, patience)], cwd=ROOT, timeout=50).returncode
            == end
        )


def test_other_ranks_may_have_processes_that_load_their_images(tmp_path: Path):
    follower = ranks._start(
        WorkerSettings(tmp_path, RunOptions(), 2, tmp_path / "log", None), 1, f"file://{tmp_path}/m"
    )
    follower.kill()
    assert not follower.daemon


def test_processes_that_do_not_fit_the_option_are_refused(command, sweep):
    finished = command("benchmark.sweep", *sweep, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    assert_one_line_refusal(finished, "--gpus-per-cell 1", "give --gpus-per-cell 2")
