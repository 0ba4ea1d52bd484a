"""Cells that are trained as one batched model come to what each comes to alone."""

from __future__ import annotations

import io
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmark.cells import Budget, Cell
from benchmark.envelope import seal
from benchmark.errors import UserError
from benchmark.grid import load_problem
from benchmark.methods import declaration, load
from benchmark.plan import Task, fellows_of
from benchmark.problems import models
from benchmark.problems.batches import Batches
from benchmark.problems.data import open_data
from benchmark.problems.fits import check_stack
from benchmark.pruning.selection import NotANumber
from benchmark.store import Store
from benchmark.training.checkpoint import Checkpoints, encode
from benchmark.training.loop import Interrupted, Run
from benchmark.training.method import Method
from benchmark.training.stack import NotStackable, Stack
from benchmark.training.together import Member, SharedBatches, Stopwatch, in_step
from benchmark.worker import Options, Worker
from tests.method_runs import SCRATCH

torch.set_num_threads(1)
PROBLEM, _ = load_problem("digits", {"epochs": 2, "milestones": [1], "warmup_epochs": 0, "width": 4})
DENSE = Cell.dense(PROBLEM, 0)
DATA = open_data(PROBLEM, torch.device("cpu"))
SCHEDULES = ("FT", "LLR", "CLR")


def cell(schedule: str = "LLR", budget: str = "1ep", sparsity: float = 0.8, **settings) -> Cell:
    return Cell(PROBLEM, "IMP", 0, schedule, sparsity, Budget.parse(budget), **settings)


def run_of(of: Cell, data: Batches = DATA, **options) -> Run:
    settings = {**declaration(of.method).defaults, **dict(of.hyperparameters)}
    return Run(of, models.build(of.problem, of.seed), data, load(of.method), settings, **options)


def train_in_step(runs: list[Run]) -> dict[int, object]:
    """What became of each."""
    ends: dict[int, object] = {}
    members = {Member(run.turns(), Stopwatch()): index for index, run in enumerate(runs)}
    in_step(list(members), lambda member, outcome: ends.update({members[member]: outcome}))
    return ends


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().double().reshape(-1) for value in network.state_dict().values()])


def networks_of(model: str, count: int, **recipe) -> tuple[list[nn.Module], torch.Tensor, torch.Tensor]:
    """In float64, where sums in another order differ by next to nothing; images and labels."""
    name = {"resnet8": "digits", "resnet50": "imagenet", "wideresnet28-10": "cifar100"}.get(model, "cifar10")
    problem, _ = load_problem(name, {"model": model, "classes": 10, **recipe})
    networks = [models.build(problem, seed).double() for seed in range(count)]
    size = min(problem.image_size, 64)
    images = torch.rand(4, problem.channels, size, size, dtype=torch.float64)
    return networks, images, torch.randint(0, 10, (4,))


@pytest.mark.parametrize(
    ("model", "count", "recipe"),
    [
        ("resnet8", 18, {}),
        ("resnet20", 3, {}),
        ("resnet18", 2, {"width": 4}),
        ("vgg16", 2, {"width": 4}),
        ("wideresnet28-10", 2, {"width": 1}),
        ("resnet50", 2, {"width": 4}),
    ],
)
def test_every_network_has_a_batched_form_with_the_same_outputs_gradients_and_statistics(model, count, recipe):
    torch.manual_seed(0)
    networks, images, labels = networks_of(model, count, **recipe)
    alone, _, _ = networks_of(model, count, **recipe)
    stack = Stack(networks, PROBLEM)
    losses, logits = stack.forward_backward(images, labels)
    losses, logits = stack.forward_backward(images, labels)  # the gradients are those of this batch, not of both
    for network, reference, loss, outputs in zip(networks, alone, losses, logits, strict=True):
        for _ in range(2):
            expected = reference(images)
            reference.zero_grad()
            functional.cross_entropy(expected, labels).backward()
        torch.testing.assert_close(outputs, expected)
        torch.testing.assert_close(loss, functional.cross_entropy(expected, labels))
        for (name, own), (_, other) in zip(network.named_parameters(), reference.named_parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, msg=lambda text, name=name: f"{name}: {text}")
        for (name, own), (_, other) in zip(network.named_buffers(), reference.named_buffers(), strict=True):
            torch.testing.assert_close(own, other, msg=lambda text, name=name: f"{name}: {text}")


def test_networks_keep_the_strides_that_checkpoints_optimizers_and_masks_were_made_with():
    networks = [models.build(PROBLEM, seed) for seed in range(3)]
    before = [parameter.stride() for parameter in networks[0].parameters()]
    Stack(networks, PROBLEM).forward_backward(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    for network in networks:
        assert [parameter.stride() for parameter in network.parameters()] == before
        assert [parameter.grad.stride() for parameter in network.parameters()] == before


class Double(SharedBatches):
    def training_batches(self, *where, **more):
        return ((images.double(), labels) for images, labels in super().training_batches(*where, **more))

    def evaluation_batches(self, name):
        return ((images.double(), labels) for images, labels in super().evaluation_batches(name))


def double_run(of: Cell, data: Batches, **options) -> Run:
    network = models.build(of.problem, of.seed).double()
    settings = {**declaration(of.method).defaults, **dict(of.hyperparameters)}
    return Run(of, network, data, load(of.method), settings, **options)


@pytest.fixture
def double():
    """Also what a method makes for itself."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
def test_every_method_trains_together_with_the_others_as_it_does_alone():
    """All from the initial weights: the methods of Table 2 in one model, each with masks, thresholds and optimizer of
    its own."""
    cells = [Cell(PROBLEM, method, 0, sparsity=0.9) for method in SCRATCH]
    data = Double(DATA)
    together = [double_run(of, data) for of in cells]
    assert train_in_step(together) == dict.fromkeys(range(len(cells)))
    for of, run in zip(cells, together, strict=True):
        expected = double_run(of, Double(DATA))
        expected.execute()
        assert run.progress.stacked == len(SCRATCH)
        assert expected.progress.stacked == 1
        own, other = weights(run.network), weights(expected.network)
        torch.testing.assert_close(own, other, msg=lambda text, method=of.method: f"{method}: {text}")
        assert run.progress.measures["accuracy"] == expected.progress.measures["accuracy"], of.method
        assert run.progress.history["train_loss"] == pytest.approx(expected.progress.history["train_loss"])
        for rates, others in zip(run.progress.rates, expected.progress.rates, strict=True):
            assert rates == pytest.approx(others)


@pytest.mark.usefixtures("double")
def test_runs_of_other_lengths_cycles_and_positions_join_and_leave_the_stack():
    cells = [cell(budget="0.5ep"), cell(budget="2ep"), cell("CLR", "2ep", hyperparameters=(("cycles", 2),))]
    data = Double(DATA)
    runs = [double_run(of, data) for of in cells]
    runs[1].progress.position += 5  # as if its first iterations were done: it waits until the others come there
    train_in_step(runs)
    assert [run.progress.stacked for run in runs] == [3, 3, 3]
    for of, run, skipped in zip(cells, runs, (0, 5, 0), strict=True):
        expected = double_run(of, Double(DATA))
        expected.progress.position += skipped
        expected.execute()
        torch.testing.assert_close(weights(run.network), weights(expected.network))
        assert run.progress.history["iteration"] == expected.progress.history["iteration"]


KEPT = cell("CLR", "2ep", hyperparameters=(("cycles", 2), ("momentum", "kept")))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "of", [KEPT, *(Cell(PROBLEM, method, 0, sparsity=0.9) for method in SCRATCH)], ids=lambda of: of.method
)
def test_what_was_saved_in_a_stack_goes_on_alone_as_if_it_had_been_alone(of: Cell, tmp_path):
    asked = iter(range(1000))
    checkpoints = Checkpoints(tmp_path, of.id)
    stop = lambda: next(asked) >= 20  # noqa: E731
    data = Double(DATA)
    stacked = double_run(of, data, checkpoints=checkpoints, should_stop=stop)
    fellow = Cell(PROBLEM, "GMP", 0, sparsity=0.5)
    others = [double_run(fellow, data, should_stop=lambda: stacked.progress.position >= 20) for _ in range(3)]
    with pytest.raises(Interrupted):
        train_in_step([stacked, *others])
    resumed = double_run(of, Double(DATA), checkpoints=checkpoints)
    resumed.execute()
    alone = double_run(of, Double(DATA))
    alone.execute()
    torch.testing.assert_close(weights(resumed.network), weights(alone.network))
    assert resumed.progress.stacked == 4, "its record would show a speed of its own"


class Breaking(Method):
    """Fails, or loses its numbers, in its fourth iteration, before or after the forward pass."""

    def __init__(self, context, when: str, error: type[Exception]):
        super().__init__(context)
        self.when, self.error = when, error

    def begin(self, phase):
        return self.context.dense_rates[:20]

    def before_iteration(self, k):
        self.break_down(k, "before")

    def after_step(self):
        self.break_down(self.count, "after")
        self.count += 1

    count = 0

    def break_down(self, k, when):
        if k == 3 and when == self.when:
            raise self.error("broken")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [RuntimeError, NotANumber])
def test_what_a_method_raises_ends_its_own_run_alone(when, error):
    def runs() -> list[Run]:
        data = Double(DATA)
        breaking = double_run(DENSE, data)
        breaking.method = breaking.step.method = Breaking(breaking.method.context, when, error)
        breaking._start_optimizer()
        return [double_run(cell(), data), breaking, double_run(cell("CLR"), data)]

    together = runs()
    ends = train_in_step(together)
    for index in (0, 2):
        (expected,) = [run for number, run in enumerate(runs()) if number == index]
        expected.execute()
        torch.testing.assert_close(weights(together[index].network), weights(expected.network))
        assert ends[index] is None
    if error is RuntimeError:
        assert isinstance(ends[1], RuntimeError)
    else:
        assert together[1].progress.cut_short
        assert "final" in together[1].progress.measures["accuracy"]
    assert together[1].progress.iteration == 3


def test_a_method_that_puts_other_tensors_in_the_place_of_its_weights_is_not_trained_with_others():
    class Moving(Breaking):
        def enter_forward(self):
            weight = next(iter(self.weights.values()))
            weight.data = weight.data.clone()

    runs = [run_of(cell()), run_of(cell("CLR"))]
    runs[0].method = runs[0].step.method = Moving(runs[0].method.context, "never", RuntimeError)
    runs[0]._start_optimizer()
    with pytest.raises(NotStackable, match="put other tensors in the place"):
        train_in_step(runs)


def test_a_layer_without_a_batched_form_is_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(NotStackable, match="Scaled has no batched form"):
        Stack([nn.Sequential(Scaled()), nn.Sequential(Scaled())], PROBLEM)


# Workers


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "runs")
    Worker(made, Options("cpu", 1)).run(DENSE)
    return made


def run_together(
    store: Store, cells: list[Cell], should_stop=lambda: False, seconds: float = 60.0
) -> dict[str, object]:
    ends: dict[str, object] = {}
    worker = Worker(store, Options("cpu", 1, checkpoint_seconds=seconds))
    worker.run_together(cells, lambda *row: None, should_stop, lambda of, end: ends.update({of.id: end}))
    return ends


CELLS = [cell(schedule, sparsity=sparsity) for schedule in SCHEDULES for sparsity in (0.7, 0.9)]


def test_cells_trained_together_have_their_records_and_share_the_time(store):
    started = time.perf_counter()
    assert run_together(store, CELLS) == {of.id: "done" for of in CELLS}
    took = time.perf_counter() - started
    records = [store.read(of.id) for of in CELLS]
    for of, record in zip(CELLS, records, strict=True):
        assert record["provenance"]["stacked"] == len(CELLS)
        assert record["images_per_second"] is None
        alone = Store(store.path.parent / "alone")
        Worker(alone, Options("cpu", 1)).run(DENSE)
        Worker(alone, Options("cpu", 1)).run(of)
        expected = alone.read(of.id)
        assert "stacked" not in expected["provenance"]
        assert record["parent"] == expected["parent"]
        assert record["sparsity"] == expected["sparsity"]
        assert record["iterations"] == expected["iterations"]
        assert record["learning_rate"]["peak"] == pytest.approx(expected["learning_rate"]["peak"])
        for split in ("validation", "test"):  # rounding grows while a network learns
            assert record["accuracy"]["final"][split] == pytest.approx(expected["accuracy"]["final"][split], abs=0.05)
    assert 0.5 * took < sum(record["seconds"]["total"] for record in records) <= took
    assert not list((store.path / "claims").rglob("*.0"))


def test_cells_that_are_done_or_held_are_left_out_and_the_others_trained(store):
    Worker(store, Options("cpu", 1)).run(CELLS[0])
    held = Worker(store).claims.take(store.file("claims", CELLS[1].id))
    ends = run_together(store, CELLS[:4])
    held.release()
    assert list(ends.values()) == ["already done", "held by another", "done", "done"]
    assert store.read(CELLS[2].id)["provenance"]["stacked"] == 2


def test_cells_that_were_interrupted_together_go_on_together_or_alone(store, tmp_path):
    whole = Store(tmp_path / "whole")
    Worker(whole, Options("cpu", 1)).run(DENSE)
    run_together(whole, CELLS)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run_together(store, CELLS, lambda: next(asked) >= 40)  # in the middle of a round of all six
    assert not any(store.has(of.id) for of in CELLS)
    assert not list((store.path / "claims").rglob("*.0"))
    assert run_together(store, CELLS[:-1]) == {of.id: "done" for of in CELLS[:-1]}
    assert Worker(store, Options("cpu", 1)).run(CELLS[-1]) == "done"
    for of in CELLS:
        found, expected = store.read(of.id), whole.read(of.id)
        assert found["iterations"] == expected["iterations"]
        assert found["seconds"]["earlier"]["training"] > 0
        assert found["history"]["iteration"] == expected["history"]["iteration"]
        assert found["accuracy"]["final"]["test"] == pytest.approx(expected["accuracy"]["final"]["test"], abs=0.05)


def test_a_checkpoint_of_a_stack_holds_one_network(store):
    def size(together: list[Cell]) -> int:
        """Of the first cell's checkpoint."""
        asked = iter(range(10_000))
        with pytest.raises(Interrupted):
            run_together(store, together, lambda: next(asked) >= 5 * len(together))
        (file,) = store.file("checkpoints", together[0].id).iterdir()
        return file.stat().st_size

    assert size(CELLS[:1]) == pytest.approx(size(CELLS[1:4]), rel=0.02)


def test_the_weights_of_a_dense_run_are_the_same_file_whether_stacked_or_not(store):
    alone = models.build(PROBLEM, 0)
    buffer = io.BytesIO()
    torch.save(alone.state_dict(), buffer)
    plain = seal("dense", buffer.getvalue(), "")
    assert encode("dense", alone.state_dict()) == plain
    networks = [models.build(PROBLEM, seed) for seed in range(3)]
    Stack(networks, PROBLEM)
    content, _ = encode("dense", networks[0].state_dict())
    assert len(content) == pytest.approx(len(plain[0]), rel=0.01)


def test_a_stop_while_a_stack_begins_begins_no_other_cell(store):
    with pytest.raises(Interrupted):
        run_together(store, CELLS, lambda: True)
    assert len(list((store.path / "checkpoints").rglob("*.pt"))) == 1
    assert not list((store.path / "claims").rglob("*.0"))


def test_too_little_memory_for_all_leaves_no_claim_and_no_record(store, monkeypatch):
    def fail(*_):
        raise MemoryError("1 TB")

    monkeypatch.setattr("benchmark.training.together.Stack", fail)
    with pytest.raises(MemoryError):
        run_together(store, CELLS)
    assert store.ids() == {DENSE.id}
    assert not list((store.path / "claims").rglob("*.0"))


# Which cells


def test_fellows_share_problem_seed_and_start_and_come_from_inside():
    other, _ = load_problem("digits", {"epochs": 3, "milestones": [1], "warmup_epochs": 0})
    task = Task(cell(), 1.0)
    longer, near = Task(cell("CLR"), 8.0), Task(cell("SLR"), 1.5)
    strangers = [
        Task(Cell(PROBLEM, "IMP", 1, "LLR", 0.8, Budget.parse("1ep")), 1.0),
        Task(Cell(other, "IMP", 0, "LLR", 0.8, Budget.parse("1ep")), 1.0),
        Task(Cell(PROBLEM, "GMP", 0, sparsity=0.8), 2.0),
        Task(Cell(PROBLEM, "tests.user_methods:Snip", 0, sparsity=0.8), 2.0),
    ]
    assert fellows_of(task, [longer, *strangers, near]) == [near, longer]
    assert fellows_of(strangers[-1], [task]) == []


@pytest.mark.parametrize(
    ("setting", "word"), [({"compile": "default"}, "compile default"), ({"precision": "fp16"}, "precision fp16")]
)
def test_what_cannot_be_had_together_is_refused(setting, word):
    problem = PROBLEM.model_copy(update=setting)
    check_stack(problem, 1)
    with pytest.raises(UserError, match=f"{word} cannot be had where 4 cells"):
        check_stack(problem, 4)
