"""Sweeps on a real SLURM: the one of slurm/one-machine, started for these tests; skipped without its packages."""

from __future__ import annotations

import getpass
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.results.store import Store
from tests.conftest import ROOT
from tests.slurm_cluster import ALONE, CELLS, ONE, TOGETHER, Cluster, Fault, Outcome, missing_programs, records
from tests.slurm_plays import SERVERS, OneRaises, Publication, Table1, publish

WITHOUT = f"SLURM is not installed ({', '.join(missing_programs())}): slurm/one-machine up --install"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=WITHOUT),
]


AT_ONCE = 6
"""Plays side by side. Each waits most of its time, but a worker process needs memory for torch."""
AGAIN_BY_ITSELF = (
    *("time limit", "scontrol requeue", "kill -9 of the task", "preemption"),
    *("two ranks: scontrol requeue", "two ranks: kill -9 of the task", "two ranks: kill -9 of the other"),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("cluster", numbered=True) / "daemons", tmp_path_factory.mktemp("work"))
    started.prepare()
    started.up()
    yield started
    started.down()


@pytest.fixture(scope="module")
def local(cluster: Cluster, tmp_path_factory) -> Path:
    """The slow sweep, trained on this machine without disturbance and without its slowness."""
    results = tmp_path_factory.mktemp("local")
    sweep = [sys.executable, "-m", "benchmark.sweep", str(cluster.work / "slow.yaml")]
    # exit code 1 of the table is of no interest here
    cluster.run(*sweep, "--workers", "1", "--tracking", "off", "--results", results, check=False)
    assert len(records(results)) == CELLS + 1
    return results


@pytest.fixture(scope="module")
def local_pair(cluster: Cluster, tmp_path_factory) -> Path:
    """One cell of the slow sweep and its dense run, each trained by two processes of this machine."""
    results = tmp_path_factory.mktemp("pair")
    sweep = [sys.executable, "-m", "benchmark.sweep", str(cluster.work / "slow.yaml"), *ONE, "--results", results]
    cluster.run(*sweep, "--gpus-per-cell", "2", "--device", "cpu", "--workers", "1", "--tracking", "off", check=False)
    assert len(records(results)) == 2
    return results


@dataclass
class Plays:
    """What became of a sweep under each fault, of table1 here and through SLURM, and of jobs with each W&B server."""

    outcomes: dict[str, Outcome]
    table1: Table1
    one_raises: OneRaises
    publications: dict[str, Publication]


@pytest.fixture(scope="module")
def plays(cluster: Cluster, local: Path, local_pair: Path, tmp_path_factory, request) -> Plays:
    """All that mostly waits side by side, the longest first; then, one by one, the faults that strike every job."""

    def play(fault: Fault) -> Outcome:
        return fault.play(cluster, local_pair if fault.ranks == 2 else local, tmp_path_factory.mktemp("fault"))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        faults = {fault.name: threads.submit(play, fault) for fault in TOGETHER}
        table1 = threads.submit(Table1.play, cluster, tmp_path_factory.mktemp("table1"))
        one_raises = threads.submit(OneRaises.play, cluster, local_pair, tmp_path_factory.mktemp("raises"))
        servers = {
            kind: threads.submit(publish, cluster, local, tmp_path_factory.mktemp("wandb"), kind) for kind in SERVERS
        }
    found = {name: one.result() for name, one in faults.items()}
    for fault in ALONE:
        found[fault.name] = play(fault)
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{'fault':34} {'commands':>8} {'tries':>6} {'lost':>5} {'doubled':>8} {'wrong':>6}")
        for name, one in found.items():
            print(f"{name:34} {one.commands:8} {one.attempts:6} {one.lost:5} {one.doubled:8} {one.wrong:6}")
    publications = {kind: one.result() for kind, one in servers.items()}
    return Plays(found, table1.result(), one_raises.result(), publications)


def test_table1_through_slurm_gives_the_local_records_bit_for_bit(plays: Plays):
    there = plays.table1.there
    assert len(there) == 162 + 3, plays.table1.status
    assert there == plays.table1.here
    assert "3 dense runs" in plays.table1.submitted
    assert "cells, after its dense runs" in plays.table1.submitted
    assert "nothing to submit" in plays.table1.again
    assert plays.table1.status.splitlines()[1].split()[:7] == ["table1", "162", "162", "0", "0", "0", "0"]


@pytest.mark.parametrize("fault", [fault.name for fault in (*TOGETHER, *ALONE)])
def test_a_disturbed_sweep_ends_with_the_records_of_an_undisturbed_one(plays: Plays, fault: str):
    outcome = plays.outcomes[fault]
    assert outcome.clean, outcome
    mark = next(one.mark for one in (*TOGETHER, *ALONE) if one.name == fault)
    assert outcome.marks[mark], f"the fault struck nothing: {outcome}"


@pytest.mark.parametrize("fault", AGAIN_BY_ITSELF)
def test_what_slurm_can_start_again_needs_no_command(plays: Plays, fault: str):
    assert plays.outcomes[fault].commands == 1
    assert plays.outcomes[fault].attempts > 1


def test_a_cell_that_raises_on_all_ranks_fails_alone_and_the_job_goes_on(plays: Plays):
    found = plays.one_raises
    assert found.status.splitlines()[1].split()[:6] == ["slow", "2", "1", "0", "0", "1"], found.status
    assert "this one never works" in found.status
    assert found.starts == 1
    assert found.records == found.expected


@pytest.mark.parametrize("kind", SERVERS)
def test_a_job_ends_as_it_would_without_wandb_whatever_the_server_does(plays: Plays, kind: str):
    found = plays.publications[kind]
    assert found.records == found.expected
    assert found.published_by_the_job == (kind == "answers")
    assert found.rows == {name: len(record["history"]["epoch"]) for name, record in found.records.items()}
    assert found.left == []


def test_a_long_cell_is_shown_while_its_job_runs(plays: Plays):
    assert plays.publications["answers"].provisional_rows > 0


def test_a_failed_dense_run_fails_its_cells_with_the_reason_and_the_next_command_repairs_it(
    cluster: Cluster, local: Path, tmp_path: Path
):
    (tmp_path / "weights").write_text("in the way of the folder")
    cluster.sweep(tmp_path)
    cluster.wait(tmp_path)
    status = cluster.status(tmp_path)
    assert status.splitlines()[1].split()[:6] == ["slow", "4", "0", "0", "0", "4"], status
    assert "dense run failed" in status
    assert "cannot be written" in status
    (tmp_path / "weights").unlink()
    cluster.sweep(tmp_path)
    cluster.wait(tmp_path)
    assert records(tmp_path) == records(local), cluster.logs(tmp_path)


HELD = ("--set", "slurm.extra={hold: true}")
FEW = ("--only", "sparsity=0.9,budget=11.11%", "--seeds", "1")


def test_submitting_twice_at_once_or_again_after_a_crash_doubles_nothing(cluster: Cluster, tmp_path: Path):
    def submit(*options: str, **variables: str) -> str:
        return cluster.sweep(tmp_path, *FEW, *options, name="table1", **variables)

    with ThreadPoolExecutor(2) as threads:
        printed = list(threads.map(lambda _: submit(*HELD), range(2)))
    assert sum("nothing to submit" in text for text in printed) == 1, printed
    assert len(cluster.jobs(tmp_path)) == 2
    for path in tmp_path.glob("submissions/*/jobs/*"):
        path.unlink()  # as if the command had died right after sbatch
    assert "6 cells are queued" in submit(*HELD)
    assert len(cluster.jobs(tmp_path)) == 2
    assert "2 jobs cancelled" in submit("--cancel")
    assert not cluster.jobs(tmp_path)
    # from inside a job, whose variables would otherwise decide for the new jobs
    submit(*HELD, SLURM_JOB_ID="1", SBATCH_PARTITION="nowhere", SLURM_CPUS_PER_TASK="7", SUBMITIT_EXECUTOR="slurm")
    assert len(cluster.jobs(tmp_path)) == 2
    assert "2 jobs cancelled" in submit("--cancel")


def test_arrays_are_split_at_the_clusters_limit(cluster: Cluster, tmp_path: Path):
    cluster.sweep(tmp_path, *HELD, "--set", "slurm.chunk=1s", "--set", "slurm.max_jobs=20", name="table1")
    jobs = cluster.jobs(tmp_path)
    sizes = [sum(job.startswith(array + "_") for job in jobs) for array in {job.partition("_")[0] for job in jobs}]
    assert 15 <= len(jobs) <= 20
    assert max(sizes) <= 8
    status = cluster.status(tmp_path)
    assert status.splitlines()[1].split()[:6] == ["table1", "162", "0", "0", "162", "0"], status
    assert "JobHeldUser" in status
    cluster.run("scancel", "--user", getpass.getuser())
    status = cluster.status(tmp_path)
    assert "162 cells were in jobs that ended without a report" in status
    assert "no accounting (sacct)" in status


def test_what_sbatch_refuses_is_said_and_leaves_nothing_behind(cluster: Cluster, tmp_path: Path):
    printed = cluster.sweep(tmp_path, *FEW, "--set", "slurm.partition=nowhere", name="table1", check=False)
    assert "invalid partition" in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("submissions/*/log/*"))
    assert "6 cells, after" in cluster.sweep(tmp_path, *FEW, *HELD, name="table1")
    cluster.sweep(tmp_path, "--cancel", name="table1")


def test_a_job_refuses_code_that_changed_since_its_submission(cluster: Cluster, local: Path, tmp_path: Path):
    cluster.sweep(tmp_path, *HELD)
    for path in tmp_path.glob("submissions/*/submission.json"):
        text = path.read_text()
        path.write_text(text.replace('"code": "', '"code": "0'))
    for job in cluster.jobs(tmp_path):
        cluster.run("scontrol", "release", job)
    cluster.wait(tmp_path)
    assert records(tmp_path) == {}
    assert "the code changed since the submission" in cluster.status(tmp_path)
    cluster.sweep(tmp_path, "--set", "slurm.code_changed=warn")
    cluster.wait(tmp_path)
    assert records(tmp_path) == records(local)


def test_two_tasks_of_a_job_train_one_cell_together_as_two_ranks_of_one_machine_do(
    cluster: Cluster, local_pair: Path, tmp_path: Path
):
    cluster.sweep(tmp_path, *ONE, "--set", "slurm.tasks=2")
    cluster.wait(tmp_path)
    found = {record["id"]: record for record in Store(tmp_path).records()}
    assert [record["provenance"]["ranks"] for record in found.values()] == [2, 2], cluster.logs(tmp_path)
    assert records(tmp_path) == records(local_pair)


def test_one_machine_says_what_runs(cluster: Cluster):
    printed = cluster.run(ROOT / "slurm" / "one-machine", "status", "--folder", cluster.folder).stdout
    assert "slurmctld  running" in printed
    assert "slurmdbd   not running" in printed
