"""Training as a user relies on it: paired, exact to one weight, resumable bit for bit."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark.cells import Budget, Cell
from benchmark.methods import load, settings_of
from benchmark.planning.grid import load_problem
from benchmark.problems import models
from benchmark.problems.data import Data
from benchmark.pruning.gradual import ladder
from benchmark.recording import make_record
from benchmark.tasks import make_task
from benchmark.training import sums
from benchmark.training.checkpoint import BadCheckpoint, Checkpoints, Trunks
from benchmark.training.checkpoint import load as load_checkpoint
from benchmark.training.evaluation import evaluate, recalibrate
from benchmark.training.loop import Run
from benchmark.training.session import Interrupted, Session

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {"epochs": 6, "milestones": [2, 4, 5], "warmup_epochs": 1})
DATA = Data(PROBLEM, torch.device("cpu"))
TASK = make_task(PROBLEM)


def make_run(cell: Cell, **options) -> Run:
    network = models.build(cell.problem, cell.seed)
    return Run(cell, network, DATA, load(cell.method), settings_of(cell), session=Session(**options))


def imp(schedule: str = "ALLR", sparsity: float = 0.9, budget: str = "1.5ep", seed: int = 0, **hyperparameters) -> Cell:
    return Cell(PROBLEM, "IMP", seed, schedule, sparsity, Budget.parse(budget), tuple(sorted(hyperparameters.items())))


def outcome(run: Run) -> dict:
    run.execute()
    return make_record(run.cell, run, None)


def test_pruned_weights_are_exactly_as_many_as_asked_and_zero_at_the_end():
    run = make_run(imp(sparsity=0.9))
    run.execute()
    weights = torch.cat([weight.detach().flatten() for weight in run.method.weights.values()])
    assert int((weights == 0).sum()) == round(0.9 * weights.numel())


def test_iterative_pruning_reaches_every_step_of_its_ladder_exactly():
    run = make_run(imp(sparsity=0.9, budget="3ep", cycles=3))
    progress = run.execute()
    total = sum(weight.numel() for weight in run.method.weights.values())
    reached = [round(cycle["sparsity"] * total) for cycle in progress.cycles]
    assert reached == [round(sparsity * total) for sparsity in ladder("even", 0.9, 3)]
    assert sum(cycle["iterations"] for cycle in progress.cycles) == 3 * DATA.iterations_per_epoch


@given(sparsity=st.floats(0.01, 0.99), cycles=st.integers(1, 40), kind=st.sampled_from(["even", "renda"]))
def test_ladders_rise_to_the_target(sparsity: float, cycles: int, kind: str):
    steps = ladder(kind, sparsity, cycles)
    assert steps == sorted(steps)
    assert steps[-1] == sparsity
    alive = np.array([1.0, *(1 - np.array(steps))])
    fractions = 1 - alive[1:] / alive[:-1]
    if kind == "even":
        assert len(steps) == cycles
        assert np.allclose(fractions, 1 - (1 - sparsity) ** (1 / cycles))
    else:
        assert np.allclose(fractions[:-1], 0.2)
        assert 0 < fractions[-1] <= 0.2 + 1e-9


def test_without_budget_the_network_is_still_pruned_and_measured():
    record = outcome(make_run(imp(budget="0ep")))
    assert record["iterations"]["total"] == 0
    assert record["accuracy"]["final"] == record["accuracy"]["pruned"]
    assert record["sparsity"]["prunable"] == pytest.approx(0.9, abs=1e-4)


def test_cells_of_a_seed_see_the_same_batches_and_start_from_the_same_weights():
    one, other = make_run(imp("FT", 0.7)), make_run(imp("ALLR", 0.9))
    for a, b in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for (x, y), (u, v) in zip(DATA.training_batches(0, 3), DATA.training_batches(0, 3), strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


@pytest.mark.parametrize("start", [1, 7, 16])
def test_an_epoch_taken_up_in_its_middle_goes_on_with_the_same_batches(start: int):
    whole = list(DATA.training_batches(0, 2))[start:]
    rest = list(DATA.training_batches(0, 2, start))
    assert len(whole) == len(rest)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole, rest, strict=True))


def test_seeds_and_epochs_differ():
    first = next(DATA.training_batches(0, 0))[0]
    assert not torch.equal(first, next(DATA.training_batches(1, 0))[0])
    assert not torch.equal(first, next(DATA.training_batches(0, 1))[0])
    assert not torch.equal(models.build(PROBLEM, 0).fc.weight, models.build(PROBLEM, 1).fc.weight)


def test_an_epoch_shows_every_training_image_once():
    labels = torch.cat([labels for _, labels in DATA.training_batches(0, 0)])
    assert torch.equal(labels.sort().values, DATA.labels.sort().values)


def test_building_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models.build(PROBLEM, 0)
    assert torch.equal(torch.rand(1), expected)


def test_recalibration_is_the_plain_average_over_the_batches():
    network = models.build(PROBLEM, 0)
    means = []
    network.conv1.register_forward_hook(lambda module, inputs, output: means.append(output.mean((0, 2, 3))))
    recalibrate(network, Data(PROBLEM, torch.device("cpu")), 0)
    assert len(means) == DATA.iterations_per_epoch
    assert torch.allclose(network.bn1.running_mean, torch.stack(means).mean(0), atol=1e-5)
    assert network.bn1.momentum == 0.1


def test_dropout_draws_the_same_whatever_a_worker_trained_before():
    """The second pass over the same network is remembered, and ends after its first batch."""
    data = Data(PROBLEM, torch.device("cpu"))

    def drawn() -> torch.Tensor:
        network = models.build(PROBLEM, 0)
        network.fc = nn.Sequential(nn.Dropout(0.5), network.fc)
        run = Run(imp(), network, data, load("IMP"), settings_of(imp()))
        run.recalibrate()
        return torch.rand(3)

    assert torch.equal(drawn(), drawn())


def test_a_network_that_comes_again_is_measured_once_and_gets_the_same_numbers():
    def measured(data: Data) -> tuple[dict, tuple[float, float], int]:
        network = models.build(PROBLEM, 0)
        seen: list[int] = []
        network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
        recalibrate(network, data, 0)
        results = evaluate(network, TASK, data, "test")
        return network.state_dict(), results, sum(seen)

    data = Data(PROBLEM, torch.device("cpu"))
    (state, results, images), (again, repeated, fewer) = measured(data), measured(data)
    assert repeated == results
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert images >= data.training_images + len(data.labels) // 10
    assert fewer <= PROBLEM.batch_size + data.evaluation_batch


def test_a_changed_network_is_measured_anew_also_where_the_change_is_not_in_its_state():
    data = Data(PROBLEM, torch.device("cpu"))
    network = models.build(PROBLEM, 0)
    before = evaluate(network, TASK, data, "test")
    network.fc.register_forward_hook(lambda module, inputs, output: output * 0.5)
    assert evaluate(network, TASK, data, "test") != before
    assert evaluate(network, TASK, data, "validation") != evaluate(network, TASK, data, "test")


CELLS = [imp("ALLR", 0.9, "1.5ep"), imp("LLR", 0.8, "2ep", cycles=2), imp("CLR", 0.8, "2ep", cycles=2, momentum="kept")]
UNDISTURBED: dict[str, dict] = {}


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(tmp_path_factory, data: st.DataObject):
    cell = data.draw(st.sampled_from(CELLS))
    if cell.id not in UNDISTURBED:
        UNDISTURBED[cell.id] = outcome(make_run(cell))
    folder = tmp_path_factory.mktemp("checkpoints")
    stops = data.draw(st.lists(st.integers(1, 33), min_size=1, max_size=3))
    for stop in stops:
        asked = iter(range(1, 10**6))
        run = make_run(
            cell, checkpoints=Checkpoints(folder / "c", cell.id), should_stop=lambda a=asked, s=stop: next(a) >= s
        )
        try:
            run.execute()
        except Interrupted:
            continue
        break
    resumed = outcome(make_run(cell, checkpoints=Checkpoints(folder / "c", cell.id)))
    assert resumed == UNDISTURBED[cell.id]


@pytest.mark.parametrize("momentum", ["fresh", "kept"])
def test_runs_that_share_their_first_cycles_train_them_once_and_end_the_same(tmp_path, momentum: str):
    """70 % takes 6 cycles of 20 %, 80 % takes 8: five of them are the same."""
    shorter, longer = (imp("LRW", s, "0.5ep/cycle", ladder="renda", momentum=momentum) for s in (0.7, 0.8))
    alone = outcome(make_run(longer))
    outcome(make_run(shorter, trunks=Trunks(tmp_path)))
    trained = []
    run = make_run(longer, trunks=Trunks(tmp_path), should_stop=lambda: trained.append(1))
    assert outcome(run) == alone
    assert len(trained) == 3 * 8, "cycles that the shorter run had trained were trained again"
    assert run.progress.seconds["inherited"] > 0


def test_a_damaged_or_foreign_checkpoint_is_refused_and_the_one_before_used(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", "cell")
    checkpoints.save({"x": torch.ones(3), "n": 1})
    checkpoints.save({"x": torch.ones(3), "n": 2})
    newest = tmp_path / "c" / "1.pt"
    whole = newest.read_bytes()
    for damaged in (whole[:-1], whole[:50], b"", bytes([*whole[:-5], whole[-5] ^ 1, *whole[-4:]])):
        newest.write_bytes(damaged)
        again = Checkpoints(tmp_path / "c", "cell")
        assert again.load(torch.device("cpu"))["n"] == 1
        assert len(again.refused) == 1
        assert str(newest) in again.refused[0]
    with pytest.raises(BadCheckpoint, match="another cell"):
        load_checkpoint(tmp_path / "c" / "0.pt", "other")


@pytest.mark.parametrize("seconds", [0.1, 1.0, 10.0])
def test_checkpoints_come_with_the_time_and_with_every_epoch_that_is_not_short(tmp_path, monkeypatch, seconds: float):
    """An iteration takes so many seconds, an epoch has 17 of them, and a checkpoint is wanted every 60 seconds."""
    now, saved = 0.0, []

    def iteration_begins() -> bool:
        nonlocal now
        now += seconds
        return False

    monkeypatch.setattr("benchmark.training.session.time.monotonic", lambda: now)
    run = make_run(
        Cell.dense(PROBLEM, 0),
        checkpoints=Checkpoints(tmp_path / "c", "cell"),
        should_stop=iteration_begins,
    )
    save = run.session.save
    monkeypatch.setattr(run.session, "save", lambda run: (saved.append(run.progress.position), save(run)))
    run.execute()
    epochs = [17, 34, 51, 68, 85]
    if seconds == 0.1:
        assert saved == []
    elif seconds == 1.0:
        assert saved == epochs
    else:
        assert set(epochs) < set(saved)
        assert max(later - earlier for earlier, later in pairwise([0, *saved, 102])) <= 7, saved


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", "cell")
    for n in range(5):
        checkpoints.save({"n": n})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3.pt", "4.pt"]
    checkpoints.clear()
    assert not (tmp_path / "c").exists()


def test_losses_and_predictions_add_up_to_the_same_bits_whenever_they_are_looked_at(monkeypatch):
    records = []
    for numbers in (0, 1 << 9, 1 << 30):
        monkeypatch.setattr(sums, "TOGETHER", numbers)
        records.append(outcome(make_run(imp(sparsity=0.5))))
    assert records[0]["history"]["train_accuracy"][-1] > 0.1
    assert records[0] == records[1] == records[2]


def test_a_loss_that_is_not_finite_ends_the_run_with_a_record_that_says_so():
    run = make_run(dataclasses.replace(imp("LLR"), problem=PROBLEM.model_copy(update={"learning_rate": 1e30})))
    record = outcome(run)
    assert record["status"] == "collapsed"
    assert "not finite" in record["remarks"][0]
    assert record["loss"]["final"]["test"] is None


def test_the_record_says_what_allr_did():
    record = outcome(make_run(imp("ALLR", 0.9, "1.5ep")))
    (cycle,) = record["cycles"]
    assert cycle["d2"] == pytest.approx(round(1.5 * 17) / (6 * 17))
    assert 0 < cycle["d1"] < 1
    assert cycle["d"] == max(cycle["d1"], cycle["d2"])
    assert record["learning_rate"]["peak"] == pytest.approx(cycle["d"] * PROBLEM.learning_rate, rel=0.05)
