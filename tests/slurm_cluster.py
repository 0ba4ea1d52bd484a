"""A SLURM cluster for tests (slurm/one-machine), and sweeps on it that are slow enough to be disturbed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.results.records import result
from benchmark.results.store import Store
from tests.conftest import ROOT, wait_for

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
PATIENCE = 1200.0
"""Seconds until something counts as hung: machines that also do other work take many times as long as idle ones."""
CELLS = 4
ONE = ("--only", "schedule=LLR,sparsity=0.9")
"""One of them."""

SLOW_METHOD = '''
import os
import time
from dataclasses import replace

from benchmark.methods import METHODS
from benchmark.methods.imp import IMP


class SlowIMP(IMP):
    """IMP whose iterations take as long as SLOW says, so that one can disturb them; sparsity RAISE raises."""

    declaration = replace(METHODS["IMP"], where="slow:SlowIMP")

    def before_iteration(self, k):
        time.sleep(float(os.environ.get("SLOW", "0")))
        if k > 3 and os.environ.get("RAISE") == str(self.context.cell.sparsity):
            raise RuntimeError("this one never works")
        super().before_iteration(k)
'''
SLOW_SWEEP = """
title: cells that can be disturbed
problem: digits
seeds: 1
recipe: {epochs: 9, milestones: [3, 6, 8], warmup_epochs: 1}
grids:
  - {method: "slow:SlowIMP", schedule: [LLR, ALLR], sparsity: [0.7, 0.9], budget: ["3ep"]}
"""
PROFILE = """
partition: low
gpus: 0
cpus: 1
memory: null
time: 10min
warning: 90s
checkpoint: 1s
chunk: 10min
"""


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


@dataclass
class Cluster:
    """folder: of the daemons; work: where slow.py, slow.yaml and test.yaml are."""

    folder: Path
    work: Path
    variables: dict[str, str] = field(default_factory=dict)

    def up(self) -> None:
        options = ["--no-accounting", "--array-size", "8", "--requeue-seconds", "5", "--cpus", "24"]
        command = [ROOT / "slurm" / "one-machine", "up", "--folder", self.folder, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        self.variables["SLURM_CONF"] = re.search(r"SLURM_CONF=(.*)", done.stdout)[1]

    def down(self) -> None:
        subprocess.run([ROOT / "slurm" / "one-machine", "down", "--folder", self.folder], check=False, timeout=120)

    def prepare(self) -> None:
        self.work.mkdir(exist_ok=True)
        (self.work / "slow.py").write_text(SLOW_METHOD)
        (self.work / "slow.yaml").write_text(SLOW_SWEEP)
        (self.work / "test.yaml").write_text(PROFILE)
        self.variables |= {"PYTHONPATH": f"{self.work}:{ROOT}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *command: str | Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.variables, **variables}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def sweep(self, results: Path, *options: str, name: str = "", check: bool = True, **variables: str) -> str:
        """The sweep command on this cluster; what it printed."""
        sweep = name or str(self.work / "slow.yaml")
        slurm = ["--executor", "slurm", "--cluster", str(self.work / "test.yaml"), "--results", str(results)]
        slurm += ["--tracking", "off"]  # where options do not say otherwise
        done = self.run(sys.executable, "-m", "benchmark.sweep", sweep, *slurm, *options, check=check, **variables)
        return done.stdout + done.stderr

    def status(self, results: Path, *options: str) -> str:
        return self.run(sys.executable, "-m", "benchmark.status", *options, "--results", results).stdout

    def jobs(self, results: Path) -> dict[str, str]:
        """State by id of the jobs that were submitted for a results folder."""
        names = {path.name for path in (results / "submissions").glob("*") if path.is_dir()}
        found = {}
        for line in self.run("squeue", "--noheader", "--array", "--format=%i %T %j").stdout.splitlines():
            job, state, name = line.split(" ", 2)
            if any(one in name for one in names):
                found[job] = state
        return found

    def wait(self, results: Path, seconds: float = PATIENCE) -> None:
        """Until no job of the folder is queued or running."""
        wait_for(lambda: not self.jobs(results), seconds, lambda: self.logs(results))

    def logs(self, results: Path) -> str:
        files = sorted((results / "submissions").glob("*/log/*_log.*"))
        return "\n".join(f"{path.name}: {path.read_text()}" for path in files)


def records(results: Path) -> dict[str, dict]:
    return {record["id"]: result(record) for record in Store(results).records()}


@dataclass
class Outcome:
    """commands: sweep commands it took; attempts: starts of the disturbed jobs; the rest counts cells."""

    commands: int
    attempts: int
    lost: int
    doubled: int
    wrong: int
    marks: Counter[str]
    """Ends of attempts by cause; "again": a worker was replaced; "lost": an attempt that noted no end."""

    @property
    def clean(self) -> bool:
        return (self.lost, self.doubled, self.wrong) == (0, 0, 0)


@dataclass
class Fault:
    """strike: disturbs a job in the middle of a cell; mark: what it leaves, without which it came too late to count;
    options, slow: of the sweep command and its iterations; ranks: processes that train one cell together."""

    name: str
    strike: Callable[[Cluster, Path, str], None]
    mark: str
    options: tuple[str, ...] = ()
    slow: float = 0.06
    ranks: int = 1

    def play(self, cluster: Cluster, undisturbed: Path, results: Path) -> Outcome:
        """Submit, disturb, and repeat the command until nothing is left."""
        copy_dense(undisturbed, results)
        expected = records(undisturbed)
        commands = 0
        while commands < 4 and len(records(results)) < len(expected):
            cluster.sweep(results, *self.options, SLOW=str(self.slow))
            commands += 1
            if commands == 1:
                in_a_cell = lambda: list(results.glob("checkpoints/*/*/*.pt"))  # noqa: E731
                wait_for(in_a_cell, PATIENCE, lambda: cluster.logs(results))
                self.strike(cluster, results, min(cluster.jobs(results)))
            cluster.wait(results)
        found = records(results)
        starts = [
            json.loads(line)
            for path in results.glob("submissions/*/attempts/*.jsonl")
            for line in path.read_text().splitlines()
        ]
        trained = Counter(re.findall(r"\d done (\S+)", cluster.logs(results)))
        marks = Counter(line["cause"] for line in starts if line["event"] == "end")
        attempts = sum(line["event"] == "start" for line in starts)
        marks["lost"] = attempts - marks.total()
        marks["again"] = len(re.findall(r"\d again ", cluster.logs(results)))
        marks["second"] = attempts - 1
        return Outcome(
            commands,
            attempts,
            lost=len(expected.keys() - found.keys()),
            doubled=sum(count > 1 for count in trained.values()) + len(list(results.glob("set-aside/*"))),
            wrong=sum(found[name] != expected[name] for name in found),
            marks=marks,
        )


def copy_dense(source: Path, target: Path) -> None:
    """Start a results folder with the dense runs of another."""
    for path in [*source.glob("records/*/*-dense-*"), *source.glob("weights/*/*")]:
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)


def process_of(results: Path, rank: int = 0) -> int:
    """The Python process of a folder's job, which supervises its workers, or one of its other ranks."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
            variables = (path.parent / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if f"SLURM_PROCID={rank}" not in variables:
            continue
        if "submitit.core._submit" in words and words[-2].startswith(str(results)) and "srun" not in words[0]:
            return int(path.parent.name)
    raise AssertionError(f"no job of {results} runs")


def kill_task(cluster: Cluster, results: Path, job: str) -> None:
    os.kill(process_of(results), signal.SIGKILL)


def kill_second_rank(cluster: Cluster, results: Path, job: str) -> None:
    os.kill(process_of(results, rank=1), signal.SIGKILL)


def kill_worker(cluster: Cluster, results: Path, job: str) -> None:
    claim = next(results.glob("claims/*/*"))
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)


def requeue(cluster: Cluster, results: Path, job: str) -> None:
    cluster.run("scontrol", "requeue", job)


def cancel_task(cluster: Cluster, results: Path, job: str) -> None:
    cluster.run("scancel", job)


def stop_file(cluster: Cluster, results: Path, job: str) -> None:
    (results / "STOP").touch()
    wait_for(lambda: not cluster.jobs(results), 30, lambda: cluster.logs(results))
    (results / "STOP").unlink()


def cancel_sweep(cluster: Cluster, results: Path, job: str) -> None:
    cluster.sweep(results, "--cancel")


def wait_for_the_limit(cluster: Cluster, results: Path, job: str) -> None:
    pass


def preempt(cluster: Cluster, results: Path, job: str) -> None:
    command = ["sbatch", "--partition=high", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 2"]
    urgent = cluster.run(*command).stdout.split()[-1]
    wait_for(lambda: urgent not in cluster.run("squeue", "--noheader", "--format=%i").stdout.split(), 60)


def lose_node(cluster: Cluster, results: Path, job: str) -> None:
    """The node goes away for SLURM, which requeues the job, while the process lives on and may finish its cells."""
    os.kill(int((cluster.folder / "slurmd.pid").read_text()), signal.SIGKILL)
    node = cluster.run("sinfo", "--noheader", "--format=%n").stdout.strip()
    cluster.run(
        "scontrol", "update", f"nodename={node}", "state=down", "reason=lost"
    )  # what else takes it half a minute
    wait_for(lambda: cluster.jobs(results).get(job) == "PENDING", 30)
    cluster.run(str(shutil.which("slurmd", path=PATH)))

    def back() -> bool:
        # refused where the node has come back by itself in the meantime
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return "down" not in cluster.run("sinfo", "--noheader", "--format=%T").stdout

    wait_for(back, 60)


SHORT = ("--set", "slurm.time=2min", "--set", "slurm.warning=60s", "--set", "slurm.retries.idle=100")
"""SLURM looks twice a minute: it warns after 60 to 90 s, which the cells' 102 s of sleep outlast. Where much else runs,
starting alone may take as long, again and again."""
TWO_RANKS = (*ONE, "--set", "slurm.tasks=2")
TOGETHER = (
    Fault("time limit", wait_for_the_limit, "warned", SHORT, 0.5),
    Fault("scontrol requeue", requeue, "terminated"),
    Fault("scancel of one task", cancel_task, "terminated"),
    Fault("kill -9 of the task", kill_task, "lost"),
    Fault("kill -9 of a worker", kill_worker, "again"),
    Fault("STOP file", stop_file, "stopped"),
    Fault("--cancel", cancel_sweep, "terminated", slow=0.5),
    Fault("two ranks: scontrol requeue", requeue, "terminated", TWO_RANKS, 0.15, ranks=2),
    Fault("two ranks: kill -9 of the task", kill_task, "second", TWO_RANKS, 0.15, ranks=2),
    Fault("two ranks: kill -9 of the other", kill_second_rank, "second", TWO_RANKS, 0.15, ranks=2),
)
ALONE = (Fault("preemption", preempt, "warned"), Fault("kill -9 of slurmd", lose_node, "second", slow=0.1))
