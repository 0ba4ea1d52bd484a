"""Launchers behind the sweep command: somebody else's, as docs/launchers.md describes it, and the state of cells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import cli, sweep
from benchmark.launch.launcher import LAUNCHERS
from benchmark.launch.slurm.queue import Unknown, read_queue
from benchmark.launch.slurm.state import FRESH_SECONDS, read_state
from benchmark.launch.slurm.submissions import submissions
from benchmark.launch.slurm.task import ChunkTask
from benchmark.planning.grid import load_sweep
from benchmark.results.records import result
from benchmark.results.store import Store
from tests.conftest import ROOT

PROCESSES = ("--executor", "tests.user_launcher:Processes", "--workers", "2")
TINY = (
    *("table1", "--seeds", "2", "--only", "schedule=LLR,sparsity=0.9,budget=11.11%"),
    *("--only", "schedule=FT,sparsity=0.9,budget=11.11%", "--set", "epochs=2", "--set", "milestones=[1]"),
    *("--set", "warmup_epochs=0", "--set", "width=4", "--tracking", "off"),
)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def _unchanged():
    """A sweep in this process leaves its signals and environment as they were."""
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    os.environ.clear()
    os.environ.update(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def records(folder: Path) -> dict[str, dict]:
    return {record["id"]: result(record) for record in Store(folder).records()}


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, dict]:
    """What the launcher of this machine trains."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.launch.running._tabulate", lambda work, cells: 0)  # a table of these shows nothing new
        assert cli.main(sweep.app, [*TINY, "--workers", "2", "--results", str(folder)]) == 0
    assert len(records(folder)) == 2 * 2 + 2
    return records(folder)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A SLURM that takes every job and says of them what it is given."""

    def queue(*lines: str) -> None:
        scripts = {
            "srun": "",
            "sbatch": "echo Submitted batch job 7",
            "squeue": "".join(f"echo '{x}'\n" for x in lines),
        }
        for program, script in scripts.items():
            (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / program).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    queue()
    return queue


def test_a_launcher_of_ones_own_trains_the_records_that_the_local_one_does(local, tmp_path: Path, capfd):
    assert cli.main(sweep.app, [*TINY, *PROCESSES, "--results", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    assert "6 cells trained in" in printed
    assert "sparsity 90 %" in printed, "there is no table"
    assert records(tmp_path) == local


def test_the_jobs_of_a_cluster_train_the_same_records(local, cluster, tmp_path: Path):
    """The inside of a job, which needs no SLURM around it."""
    results = tmp_path / "runs"
    slurm = ("--executor", "slurm", "--set", "slurm.gpus=0", "--results", str(results))
    assert cli.main(sweep.app, [*TINY, *slurm]) == 0
    (submission,) = submissions(Store(results))
    jobs = [chunk for array in submission.arrays for chunk in array.chunks]
    counts = [ChunkTask(str(submission.folder), job)() for job in jobs]
    assert sum(count["finished"] for count in counts) == len(local)
    assert records(results) == local


def test_what_would_stop_every_cell_is_one_line_there_as_well(tmp_path: Path, capfd):
    (tmp_path / "weights").write_text("in the way of the folder")
    assert cli.main(sweep.app, [*TINY, *PROCESSES, "--results", str(tmp_path)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{tmp_path}/weights" in line
    assert records(tmp_path) == {}


def test_a_dry_run_and_cancel_reach_it(tmp_path: Path, capsys):
    results = ("--results", str(tmp_path / "runs"))
    assert cli.main(sweep.app, [*TINY, *PROCESSES, *results, "--dry-run"]) == 0
    assert "4 cells, 0 done, 4 to train, after 2 dense runs" in capsys.readouterr().out
    assert cli.main(sweep.app, [*TINY, *PROCESSES, *results, "--cancel"]) == 2
    assert "Ctrl-C ends a sweep of this launcher" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        ("mine", [f"one of {', '.join(LAUNCHERS)}", "module:Class"]),
        (":Class", [f"one of {', '.join(LAUNCHERS)}"]),
        ("no.such.module:Class", ["cannot import 'no.such.module'"]),
        ("benchmark.cells:Cell", ["that is no class of a Launcher"]),
        ("benchmark.cells:Nothing", ["module 'benchmark.cells' has no 'Nothing'"]),
    ],
)
def test_a_launcher_that_is_none_is_named(tmp_path: Path, capsys, executor: str, words: list[str]):
    assert cli.main(sweep.app, ["table1", "--executor", executor, "--results", str(tmp_path / "runs")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in (f"--executor {executor}", *words):
        assert word in line


def test_what_runs_is_known_by_its_lock_and_what_waits_by_squeue(cluster, tmp_path: Path):
    store = Store(tmp_path / "runs")
    running, silent, waiting = [cell.id for cell in load_sweep("table1", seeds="1").cells[:3]]
    assert cli.main(sweep.app, ["table1", "--seeds", "1", "--executor", "slurm", "--results", str(store.path)]) == 0
    (submission,) = submissions(store)
    cluster(f"7|PENDING|None|{submission.job_name(1)}")
    for name, age in ((running, 0.0), (silent, FRESH_SECONDS + 1)):
        lock = store.file("claims", name, ".0")
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        os.utime(lock, (time.time() - age,) * 2)
    state = read_state(store)
    assert [state.of(name) for name in (running, silent, waiting)] == ["running", "queued", "queued"]


def test_jobs_of_the_same_numbers_by_other_names_are_somebody_else_s(cluster, tmp_path: Path):
    """Of another cluster with the same home, or of one made anew: --cancel must not end them."""
    store = Store(tmp_path / "runs")
    options = ["table1", "--seeds", "1", "--executor", "slurm", "--results", str(store.path)]
    assert cli.main(sweep.app, options) == 0
    cluster("7|RUNNING|None|my_other_work")
    (tmp_path / "scancel").write_text(f"#!/bin/sh\ntouch {tmp_path}/cancelled\n")
    (tmp_path / "scancel").chmod(0o755)
    assert cli.main(sweep.app, [*options, "--cancel"]) == 0
    assert not (tmp_path / "cancelled").exists()


def test_a_user_whom_slurm_does_not_know_is_no_empty_queue(cluster, tmp_path: Path):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'squeue: error: Invalid user: 987654' >&2\n")
    with pytest.raises(Unknown, match="Invalid user: 987654"):
        read_queue([987654])


def test_a_job_that_cannot_requeue_itself_leaves_it_to_its_script():
    code = (
        "import signal; from benchmark.launch.slurm.task import _Signals\n"
        "def busy(number, frame): raise RuntimeError('Unable to contact slurm controller')\n"
        "signal.signal(signal.SIGUSR2, busy); _Signals().requeue()"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.returncode, "its script tries again" in finished.stdout) == (143, True)


def test_the_documented_launcher_is_the_one_that_is_tested():
    tested = (ROOT / "tests" / "user_launcher.py").read_text().partition("\n\n")[2]
    assert f"```python\n{tested}```" in (ROOT / "docs" / "launchers.md").read_text()
