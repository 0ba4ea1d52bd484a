"""How a machine is shared among workers, and what a worker that cannot start costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.launch import machine
from benchmark.launch.events import Retried, Started
from benchmark.launch.launcher import Options
from benchmark.launch.local import Local
from benchmark.launch.machine import PoolOptions, share_out
from benchmark.launch.pool import SUSPENDED_SECONDS, LocalPool, _Slot
from benchmark.planning.advice import saved_by_compiling
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import Plan, PlannedTask, make_plan
from benchmark.results.store import Store
from benchmark.training.options import RunOptions
from tests.conftest import ROOT, wait_for

SWEEP = load_sweep("table1")


@pytest.mark.parametrize(
    ("visible", "found"), [("0,1,3", ("0", "1", "3")), ("", ()), ("-1", ()), ("GPU-4f,GPU-5a", ("GPU-4f", "GPU-5a"))]
)
def test_gpus_are_those_that_the_process_may_see(monkeypatch, visible: str, found: tuple[str, ...]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == found


@pytest.mark.parametrize(
    ("listing", "cards"),
    [("No devices were found", ()), ("GPU 0: a card\n  MIG 1g.5gb Device 0: x\nGPU 1: a card", ("0", "1"))],
)
def test_gpus_are_those_that_nvidia_smi_lists(monkeypatch, tmp_path, listing: str, cards: tuple[str, ...]):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{listing}'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(machine, "gpu_files", lambda: [Path("/dev/nvidia0")])
    assert machine.gpus() == cards


@pytest.mark.parametrize("script", ["exit 18", "echo 'GPU 0: a card'; exit 9"])
def test_gpus_are_counted_by_their_files_where_nvidia_smi_fails(monkeypatch, tmp_path, script: str):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(
        machine, "gpu_files", lambda: [Path("/dev/nvidia1"), Path("/dev/nvidia0"), Path("/dev/nvidiactl")]
    )
    assert machine.gpus() == ("0", "1")


@pytest.mark.parametrize(("cores", "workers", "expected"), [(8, None, (8, 1)), (8, 2, (2, 1)), (1, 4, (4, 1))])
def test_digits_train_with_one_thread_whatever_the_machine(monkeypatch, cores: int, workers, expected):
    """More threads would change the order of sums, and records with them."""
    monkeypatch.setattr("benchmark.launch.machine.cores", lambda: cores)
    options = share_out(SWEEP.execution.threads, workers, "cpu")
    assert (options.workers, options.run.threads) == expected


def test_one_worker_a_gpu_by_default(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert share_out(None).workers == 2
    assert share_out(None).alone
    assert share_out(None, cells_per_gpu=3).workers == 6
    assert not share_out(None, cells_per_gpu=3).alone, "cuDNN would time its algorithms beside neighbours"
    assert PoolOptions(1, RunOptions(), ranks=4).alone, "each rank finds a GPU of its own"
    assert share_out(None, gpus_per_cell=2).workers == 1
    assert share_out(None, device="cpu").gpus == ()


def test_workers_that_cannot_start_stop_the_sweep_with_one_message(tmp_path):
    store = Store(tmp_path)
    tasks = make_plan(SWEEP.cells[:2], store, SWEEP.execution).tasks
    pool = LocalPool(store, PoolOptions(2, RunOptions("no such device", 1)))
    with pytest.raises(UserError, match="workers cannot start"):
        list(pool.run(tasks))
    pool.stop()


def test_a_worker_that_was_told_to_stop_as_the_pool_was_is_not_lost(tmp_path):
    """scontrol requeue sends SIGTERM to all processes of a job: a worker may be gone before its pool has looked."""
    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(1, RunOptions(threads=1)))
    gone = lambda: any(slot.ready and not slot.process.is_alive() for slot in pool._slots)  # noqa: E731
    events = []
    for event in pool.run(make_plan(SWEEP.cells[:1], store, SWEEP.execution).tasks, should_stop=gone):
        if isinstance(event, Started):
            os.kill(pool._slots[0].process.pid, signal.SIGTERM)
        events.append(event)
    pool.stop()
    assert [type(event) for event in events] == [Started]


@pytest.mark.long
def test_a_sweep_that_was_suspended_for_longer_than_a_cell_may_hang_goes_on(tmp_path):
    """`scontrol suspend`, gang scheduling, Ctrl-Z: its clock runs on, its workers do not."""
    options = ["table1", "--only", "schedule=FT,sparsity=0.9,budget=2.22%", "--seeds", "1", "--set", "epochs=400"]
    options += ["--workers", "1", "--tracking", "off", "--hang-seconds", "6", "--results", str(tmp_path / "runs")]
    running = subprocess.Popen(
        [sys.executable, "-m", "benchmark.sweep", *options, "--checkpoint-seconds", "0.5"],
        cwd=ROOT,
        start_new_session=True,
    )
    wait_for(lambda: list(tmp_path.glob("runs/checkpoints/*/*/*.pt")), 120)
    os.killpg(running.pid, signal.SIGSTOP)
    time.sleep(SUSPENDED_SECONDS + 3)
    os.killpg(running.pid, signal.SIGCONT)
    time.sleep(3)
    os.killpg(running.pid, signal.SIGTERM)
    running.wait(120)
    assert not Store(tmp_path / "runs").failures()


def test_the_last_words_of_a_worker_are_heard_however_soon_it_goes(tmp_path, monkeypatch):
    """Out of memory it says so and leaves: that must not become a worker which went for no reason."""
    ours, theirs = multiprocessing.Pipe()

    class Leaving:
        exitcode, sentinel = 0, theirs.fileno()

        def is_alive(self) -> bool:
            if not theirs.closed:
                theirs.send(("failed", "out of memory", "MemoryError: 1 TB", ""))
                theirs.close()
            return False

        def join(self, seconds: float | None = None) -> None:
            pass

    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(1, RunOptions(threads=1)))
    slot = _Slot(0, Leaving(), ours)
    task = make_plan(SWEEP.cells[:1], store, SWEEP.execution).tasks[0]
    slot.ready, slot.task = True, task
    pool._slots = [slot]
    monkeypatch.setattr(pool, "_start", lambda number: slot)
    theirs.send(("alive",))
    (event,) = pool._collect([], lambda: False)
    assert event == Retried(task.cell, "MemoryError: 1 TB")


@pytest.mark.parametrize(("cause", "given"), [("out of memory", False), ("exception", True)])
def test_a_worker_that_leaves_after_a_failure_is_given_no_other_cell(tmp_path, cause: str, given: bool):
    ours, theirs = multiprocessing.Pipe()
    store = Store(tmp_path)
    pool = LocalPool(store, PoolOptions(1, RunOptions(threads=1)))
    pool._slots = [slot := _Slot(0, multiprocessing.Process(), ours)]
    task, another = make_plan(SWEEP.cells[:2], store, SWEEP.execution).tasks[-2:]
    slot.ready, slot.task = True, task
    waiting = [another]
    list(pool._hear(slot, ("failed", cause, "it went wrong", ""), waiting))
    list(pool._assign(waiting, set(), set(), lambda task: True))
    assert theirs.poll() == given


def test_a_fork_server_that_refuses_for_a_moment_costs_no_sweep(tmp_path, monkeypatch):
    """One that was killed still has its address until the system has cleared it away."""
    refusals = [ConnectionRefusedError("refused"), EOFError(), ConnectionRefusedError("refused"), OSError("gone")]

    def start(self):
        if refusals:
            raise refusals.pop()
        self._popen = object()

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    pool = LocalPool(Store(tmp_path), PoolOptions(1, RunOptions(threads=1)))
    assert pool._start(0).number == 0
    assert not refusals


def test_a_fork_server_that_never_comes_stops_the_sweep_with_one_message(tmp_path, monkeypatch):
    def start(self):
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    monkeypatch.setattr("benchmark.launch.pool.SERVER_SECONDS", 0.5)
    with pytest.raises(UserError, match="workers cannot start"):
        LocalPool(Store(tmp_path), PoolOptions(1, RunOptions(threads=1)))._start(0)


def test_what_ends_the_fork_server_is_one_line_and_its_trace_in_a_log(tmp_path):
    """As with a PYTORCH_CUDA_ALLOC_CONF that torch does not understand."""
    (tmp_path / "torch.py").write_text("import os\nos.write(2, b'Traceback: of torch')\nos.abort()\n")
    code = "import sys; from benchmark import cli, sweep; from benchmark.launch import pool\n"
    code += "assert pool.SERVER_SECONDS; pool.SERVER_SECONDS = 0\n"
    code += "sys.exit(cli.main(sweep.app, ['table1', '--seeds', '1', '--tracking', 'off', '--results', 'runs']))"
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    (log,) = (tmp_path / "runs" / "logs").iterdir()
    assert line.startswith("error: workers cannot start")
    assert line.endswith(f"see runs/logs/{log.name}")
    assert "Traceback: of torch" in log.read_text()


def test_a_plan_names_a_setting_that_would_save_minutes_where_that_was_measured():
    sweep = load_sweep("table1", "fashion_mnist")
    assert saved_by_compiling(sweep.problem, 3600) == pytest.approx(0.8 * 3600 * 0.15 / 1.15 - 25)
    assert saved_by_compiling(sweep.problem, 600) == 0, "less than two minutes"
    assert saved_by_compiling(load_sweep("table1").problem, 1e6) == 0, "digits gain nothing"
    plan = Plan(sweep.cells, frozenset(), (PlannedTask(sweep.cells[0], 50.0), PlannedTask(sweep.cells[1], 50.0)), 72.0)
    words = Local(Options(device="cpu", workers=2, threads=1)).cost(plan)
    without_gpu = not machine.gpu_files() and sys.platform != "darwin"
    assert (Local(Options(workers=2, threads=1)).cost(plan) == words) == without_gpu
    assert words.startswith("time: about 1 h 0 min with 2 workers of 1 thread; --set compile=default: about 5 min 51 s")
    assert load_sweep("table1", "fashion_mnist", settings={"compile": "default"}).problem.compile == "default"
