"""How a machine is shared among workers, and what a worker that cannot start costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from benchmark.errors import UserError
from benchmark.grid import load_sweep
from benchmark.launch import machine
from benchmark.launch.events import Finished, Retried, Started
from benchmark.launch.local import LocalPool, _Slot
from benchmark.launch.machine import PoolOptions, share_out
from benchmark.plan import Task, make_plan
from benchmark.store import Store
from tests.conftest import ROOT

SWEEP = load_sweep("table1")


@pytest.mark.parametrize(
    ("visible", "found"), [("0,1,3", ("0", "1", "3")), ("", ()), ("-1", ()), ("GPU-4f,GPU-5a", ("GPU-4f", "GPU-5a"))]
)
def test_gpus_are_those_that_the_process_may_see(monkeypatch, visible: str, found: tuple[str, ...]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == found


@pytest.mark.parametrize(("cores", "workers", "expected"), [(8, None, (8, 1)), (8, 2, (2, 1)), (1, 4, (4, 1))])
def test_digits_train_with_one_thread_whatever_the_machine(monkeypatch, cores: int, workers, expected):
    """More threads would change the order of sums, and records with them."""
    monkeypatch.setattr("benchmark.launch.machine.cores", lambda: cores)
    options = share_out(SWEEP.execution.threads, workers, "cpu")
    assert (options.workers, options.threads) == expected


def test_one_worker_a_gpu_by_default(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert share_out(None).workers == 2
    assert share_out(None, cells_per_gpu=3).workers == 6
    assert share_out(None, gpus_per_cell=2).workers == 1
    assert share_out(None, device="cpu").gpus == ()


def test_workers_that_cannot_start_stop_the_sweep_with_one_message(tmp_path):
    store = Store(tmp_path)
    tasks = make_plan(SWEEP.cells[:2], store, SWEEP.execution).tasks
    pool = LocalPool(store, PoolOptions(workers=2, threads=1, device="no such device"))
    with pytest.raises(UserError, match="workers cannot start"):
        list(pool.run(tasks))
    pool.stop()


def test_a_worker_that_was_told_to_stop_as_the_pool_was_is_not_lost(tmp_path):
    """scontrol requeue sends SIGTERM to all processes of a job: a worker may be gone before its pool has looked."""
    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(workers=1, threads=1))
    gone = lambda: any(slot.ready and not slot.process.is_alive() for slot in pool._slots)  # noqa: E731
    events = []
    for event in pool.run(make_plan(SWEEP.cells[:1], store, SWEEP.execution).tasks, should_stop=gone):
        if isinstance(event, Started):
            os.kill(pool._slots[0].process.pid, signal.SIGTERM)
        events.append(event)
    pool.stop()
    assert [type(event) for event in events] == [Started]


def test_the_last_words_of_a_worker_are_heard_however_soon_it_goes(tmp_path, monkeypatch):
    """Out of memory it says so and leaves: that must not become a worker which went for no reason."""
    ours, theirs = multiprocessing.Pipe()

    class Leaving:
        exitcode, sentinel = 0, theirs.fileno()

        def is_alive(self) -> bool:
            if not theirs.closed:
                theirs.send(("failed", task.cell.id, "out of memory", "MemoryError: 1 TB", ""))
                theirs.close()
            return False

        def join(self, seconds: float | None = None) -> None:
            pass

    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(workers=1, threads=1))
    slot = _Slot(0, Leaving(), ours)
    task = make_plan(SWEEP.cells[:1], store, SWEEP.execution).tasks[0]
    slot.ready, slot.tasks = True, {task.cell.id: task}
    pool._slots = [slot]
    monkeypatch.setattr(pool, "_start", lambda number: slot)
    theirs.send(("alive",))
    (event,) = pool._collect([], lambda: False)
    assert event == Retried(task.cell, "MemoryError: 1 TB")


@pytest.mark.parametrize(("cause", "given"), [("out of memory", False), ("exception", True)])
def test_a_worker_that_leaves_after_a_failure_is_given_no_other_cell(tmp_path, cause: str, given: bool):
    ours, theirs = multiprocessing.Pipe()
    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(workers=1, threads=1))
    pool._slots = [slot := _Slot(0, multiprocessing.Process(), ours)]
    task, another = make_plan(SWEEP.cells[:2], store, SWEEP.execution).tasks[-2:]
    slot.ready, slot.tasks = True, {task.cell.id: task}
    waiting = [another]
    list(pool._hear(slot, ("failed", task.cell.id, cause, "it went wrong", ""), waiting))
    slot.tasks = {another.cell.id: another}
    list(pool._hear(slot, ("failed", another.cell.id, "exception", "so did its fellow", ""), []))
    list(pool._assign(waiting, set(), set(), lambda task, others: True))
    assert theirs.poll() == given


def stacking(tmp_path, workers: int, stack: int) -> tuple[LocalPool, list[Connection]]:
    """A pool whose workers are ready, and what they are sent."""
    pool = LocalPool(Store(tmp_path), PoolOptions(workers=workers, threads=1, stack=stack))
    pipes = [multiprocessing.Pipe() for _ in range(workers)]
    pool._slots = [_Slot(number, multiprocessing.Process(), ours) for number, (ours, _) in enumerate(pipes)]
    for slot in pool._slots:
        slot.ready = True
    return pool, [theirs for _, theirs in pipes]


@pytest.mark.parametrize(
    ("workers", "stack", "expected"),
    [(1, 1, [1]), (2, 4, [4, 4]), (2, 100, [27, 27]), (4, 100, [14, 14, 13, 13]), (2, 54, [27, 27])],
)
def test_cells_of_a_seed_are_shared_out_among_the_workers(tmp_path, workers: int, stack: int, expected: list[int]):
    pool, workers_ends = stacking(tmp_path, workers, stack)
    waiting = [Task(cell, 1.0) for cell in SWEEP.cells if cell.seed == 0]
    assert len(waiting) == 54
    list(pool._assign(waiting, set(), set(), lambda task, others: True))
    sent = [end.recv() for end in workers_ends]
    assert [len(cells) for cells in sent] == expected
    assert len({cell.id for cells in sent for cell in cells}) == sum(expected) == 54 - len(waiting)


def test_a_stack_takes_no_more_than_is_admitted_and_leaves_the_others_waiting(tmp_path):
    """As near the end of a SLURM job."""
    pool, (end,) = stacking(tmp_path, 1, 18)
    waiting = [Task(cell, 1.0) for cell in SWEEP.cells if cell.seed == 0]
    list(pool._assign(waiting, set(), set(), lambda task, others: len(others) < 3))
    assert len(end.recv()) == 3
    assert len(waiting) == 54 - 3


def test_a_worker_lost_with_a_stack_fails_nobody_and_each_goes_on_alone(tmp_path, monkeypatch):
    pool, (end,) = stacking(tmp_path, 1, 3)
    monkeypatch.setattr(pool, "_start", lambda number: pool._slots[0])
    waiting = [Task(cell, 1.0) for cell in SWEEP.cells[:3]]
    list(pool._assign(waiting, set(), set(), lambda task, others: True))
    first, *others = end.recv()
    slot = pool._slots[0]
    ended = [*pool._hear(slot, ("done", first.id, "done"), waiting), *pool._bury(slot, waiting, "killed", "gone")]
    assert ended == [Finished(first, True), *(Retried(cell, "gone; it is tried alone") for cell in others)]
    for _ in others:
        slot.tasks, slot.connection = {}, (pipe := multiprocessing.Pipe())[0]
        list(pool._assign(waiting, set(), set(), lambda task, others: True))
        assert len(pipe[1].recv()) == 1
    assert not waiting


def test_a_fork_server_that_refuses_for_a_moment_costs_no_sweep(tmp_path, monkeypatch):
    """One that was killed still has its address until the system has cleared it away."""
    refusals = [ConnectionRefusedError("refused"), EOFError(), ConnectionRefusedError("refused"), OSError("gone")]

    def start(self):
        if refusals:
            raise refusals.pop()
        self._popen = object()

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    pool = LocalPool(Store(tmp_path), PoolOptions(workers=1, threads=1))
    assert pool._start(0).number == 0
    assert not refusals


def test_a_fork_server_that_never_comes_stops_the_sweep_with_one_message(tmp_path, monkeypatch):
    def start(self):
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    monkeypatch.setattr("benchmark.launch.local.SERVER_SECONDS", 0.5)
    with pytest.raises(UserError, match="workers cannot start"):
        LocalPool(Store(tmp_path), PoolOptions(workers=1, threads=1))._start(0)


def test_what_ends_the_fork_server_is_one_line_and_its_trace_in_a_log(tmp_path):
    """As with a PYTORCH_CUDA_ALLOC_CONF that torch does not understand."""
    (tmp_path / "torch.py").write_text("import os\nos.write(2, b'Traceback: of torch')\nos.abort()\n")
    code = "import sys; from benchmark import cli, sweep; from benchmark.launch import local\nlocal.SERVER_SECONDS = 0\n"
    code += "sys.exit(cli.main(sweep.app, ['table1', '--seeds', '1', '--tracking', 'off', '--results', 'runs']))"
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    (log,) = (tmp_path / "runs" / "logs").iterdir()
    assert line.startswith("error: workers cannot start")
    assert line.endswith(f"see runs/logs/{log.name}")
    assert "Traceback: of torch" in log.read_text()
