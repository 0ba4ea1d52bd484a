"""Whole sweeps on the SLURM of the tests: table1 here and there, and jobs that publish to W&B servers of all kinds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.results.store import Store
from benchmark.tracking.runs import run_id, unpublished
from tests.slurm_cluster import ONE, Cluster, copy_dense, records
from tests.wandb_server import KEY, Server, hanging, refusing


@dataclass
class Table1:
    """here, there: the records of the local run and of the one through SLURM; the rest is what commands printed."""

    here: dict[str, dict]
    there: dict[str, dict]
    submitted: str
    again: str
    status: str

    @classmethod
    def play(cls, cluster: Cluster, folder: Path) -> Table1:
        here, there = folder / "here", folder / "there"
        options = ("--set", "slurm.max_jobs=6")  # three for the dense runs, one for the cells of each
        submitted = cluster.sweep(there, *options, "--set", "slurm.chunk=10s", name="table1")
        sweep = [sys.executable, "-m", "benchmark.sweep", "table1", "--workers", "1", "--tracking", "off"]
        cluster.run(*sweep, "--results", here, check=False)
        cluster.wait(there)
        again = cluster.sweep(there, *options, name="table1")
        return cls(records(here), records(there), submitted, again, cluster.status(there))


@dataclass
class OneRaises:
    """Two cells of a job of two ranks, the first of which raises, after one command: both failed, or one record."""

    records: dict[str, dict]
    expected: dict[str, dict]
    status: str
    starts: int
    """Times that the cell which raises was begun."""

    @classmethod
    def play(cls, cluster: Cluster, local_pair: Path, results: Path) -> OneRaises:
        copy_dense(local_pair, results)
        both = ("--only", "schedule=LLR", "--set", "slurm.tasks=2")
        cluster.sweep(results, *both, RAISE="0.7")
        cluster.wait(results)
        begun = cluster.logs(results).count("FAILED ")
        return cls(records(results), records(local_pair), cluster.status(results), begun)


@dataclass
class Publication:
    """Of one cell, which a job trained with a W&B server that may be bad, and `publish` sent on, and its dense run.

    rows: that the good server has in the end, by cell; provisional_rows: that it had of the cell before its end; left:
    cells that are not published in the end.
    """

    records: dict[str, dict]
    expected: dict[str, dict]
    published_by_the_job: bool
    provisional_rows: int
    rows: dict[str, int]
    left: list[str]


SERVERS = {"answers": "live", "refuses": "auto", "hangs": "online", "dies in mid-run": "live"}
"""--tracking by what the server does."""


def publish(cluster: Cluster, local: Path, results: Path, kind: str) -> Publication:
    copy_dense(local, results)
    expected = {name: record for name, record in records(local).items() if "-LLR-s0.9-" in name or "-dense-" in name}
    (cell,) = (name for name in expected if "-dense-" not in name)
    account = {"WANDB_API_KEY": KEY, "WANDB_CONFIG_DIR": str(results / "config"), "WANDB_MODE": "online"}
    with Server().serving() as good:
        with _serving(kind, good) as url:
            slow = "1.3" if kind == "answers" else "0"  # epochs of 22 s: the second is late enough to show
            cluster.sweep(results, *ONE, "--tracking", SERVERS[kind], **account, WANDB_BASE_URL=url, SLOW=slow)
            cluster.wait(results)
        by_the_job = cell not in unpublished(Store(results), "online")
        command = [sys.executable, "-m", "benchmark.publish", "--results", results]
        cluster.run(*command, **account, WANDB_BASE_URL=good.url)
        provisional = good.replaced.get(run_id({"id": cell}))
        rows = {name: len(good.runs[run_id({"id": name})].history) for name in expected}
    return Publication(
        records(results),
        expected,
        by_the_job,
        len(provisional.history) if provisional else 0,
        rows,
        unpublished(Store(results), "online"),
    )


@contextlib.contextmanager
def _serving(kind: str, good: Server) -> Iterator[str]:
    if kind == "answers":
        yield good.url
    elif kind == "refuses":
        yield refusing()
    elif kind == "hangs":
        with hanging() as url:
            yield url
    else:
        with Server(dies=True).serving() as server:
            yield server.url
