"""The processes of one cell that is trained on several GPUs.

`--gpus-per-cell N` makes every worker of a pool start N - 1 others on its machine. Under torchrun or srun the processes
are there already: rank 0 runs the sweep, its one worker leads, and the other ranks follow that worker.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.launch.machine import WorkerSettings, given_rank
from benchmark.results.store import Store
from benchmark.training.options import RunOptions

FIRST_PORT = 20_000
PORTS = 20_000
LOST_SECONDS = 30.0
"""How long a rank may take to leave by itself after another one has."""


def check(gpus_per_cell: int) -> tuple[int, int, int] | None:
    """What torchrun or srun gave, if --gpus-per-cell agrees. Raises UserError."""
    place = given_rank()
    if place is not None and place[1] != gpus_per_cell:
        raise UserError(
            f"--gpus-per-cell {gpus_per_cell}: torchrun or srun started {place[1]} processes for this sweep; "
            f"give --gpus-per-cell {place[1]}, or start one process"
        )
    return place


def lead(settings: WorkerSettings) -> tuple[Any, list[BaseProcess]]:
    """The group of a pool's worker, and the followers that it started."""
    from benchmark.training.group import ALONE, Group, join
    from benchmark.worker import pick_device

    if settings.ranks == 1:
        return ALONE, []
    device = pick_device(settings.run.device)
    place = given_rank()
    if place is not None:
        group = Group(*place)
        join(group, device, _meet_elsewhere())
        return group, []
    meeting = f"file://{Path(tempfile.mkdtemp(prefix='ranks-')) / 'meeting'}"
    followers = [_start(settings, rank, meeting) for rank in range(1, settings.ranks)]
    group = Group(0, settings.ranks, 0)
    try:
        join(group, device, meeting)
    except BaseException:
        for follower in followers:
            follower.kill()
        raise
    return group, followers


def _start(settings: WorkerSettings, rank: int, meeting: str) -> BaseProcess:
    """Spawned, not forked: the leader may have used its GPU, which a fork does not survive. No daemon: those may not
    have processes of their own, and large images are loaded by some."""
    place = rank, settings.ranks, rank
    arguments = (settings.store, settings.run, place, meeting)
    process = multiprocessing.get_context("spawn").Process(target=follow, args=arguments)
    process.start()
    return process


def leave_after(others: Sequence[int], ended: threading.Event) -> None:
    """End this process some time after one of the `others` (sentinels) has, unless training has `ended`: with NCCL the
    kernels of the ranks that are left wait for ever, and so does whoever waits for these."""

    def watch() -> None:
        connection.wait(others)
        if not ended.wait(LOST_SECONDS):
            os._exit(1)

    threading.Thread(target=watch, name="rank watch", daemon=True).start()


def follow(results: Path, options: RunOptions, place: tuple[int, int, int], meeting: str | None = None) -> None:
    """The main function of a rank that does not lead."""
    import signal

    from benchmark.training.group import Group, join
    from benchmark.worker import Worker, pick_device

    for number in (signal.SIGINT, signal.SIGTERM):  # the leader says when to stop, after it has saved
        signal.signal(number, signal.SIG_IGN)
    ended = threading.Event()
    if leader := multiprocessing.parent_process():
        leave_after([leader.sentinel], ended)
    group = Group(*place)
    join(group, pick_device(options.device), meeting or _meet_elsewhere())
    Worker(Store(results), options, group).follow()
    ended.set()
    group.leave()


def _meet_elsewhere() -> str:
    """torchrun says where to meet; under srun it is the first host of the job, at a port made of the job's number."""
    if "MASTER_ADDR" not in os.environ:
        try:
            hosts = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
            listing = subprocess.run(hosts, capture_output=True, text=True, check=True, timeout=60).stdout  # noqa: S603
            job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
            os.environ["MASTER_ADDR"] = listing.split()[0]
        except (LookupError, ValueError, OSError, subprocess.SubprocessError):
            raise UserError("RANK is set and MASTER_ADDR is not: start the processes with torchrun or srun") from None
        os.environ["MASTER_PORT"] = str(FIRST_PORT + (31 * job + step) % PORTS)
    return "env://"
