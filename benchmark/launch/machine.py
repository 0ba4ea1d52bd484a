"""What this machine has, and how a pool of workers shares it. Imports no torch."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from benchmark.errors import UserError
from benchmark.training.options import RunOptions

DEVICES = ("auto", "cpu", "cuda", "mps")
GPU_ID = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")
"""What CUDA_VISIBLE_DEVICES may name."""
GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""In /dev, where a machine has a GPU: NVIDIA's, AMD's, and what Windows lends to Linux."""
FILES, FILES_A_WORKER = 24, 2
"""What a sweep has open, and what it has open for each worker."""


@dataclass(frozen=True)
class PoolOptions:
    """A pool of worker processes.

    Args:
        workers: processes.
        run: how each of them trains.
        gpus: ids to spread them over.
        hang_seconds: without a sign of life until a worker is given up.
        ranks: processes that train one cell together (--gpus-per-cell).
    """

    workers: int
    run: RunOptions
    gpus: tuple[str, ...] = ()
    hang_seconds: float = 1800.0
    ranks: int = 1

    @property
    def alone(self) -> bool:
        """Whether no two of them use one GPU."""
        return self.workers <= max(1, len(self.gpus) // self.ranks)


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker process is told at its start.

    Args:
        store: the results folder.
        run: how it trains.
        ranks: processes that train one cell together, this one leading.
        log: the file for what it prints.
        gpu: ids of its GPUs, as CUDA_VISIBLE_DEVICES has them.
    """

    store: Path
    run: RunOptions
    ranks: int
    log: Path
    gpu: str | None


def check_device_name(name: str) -> None:
    """Whether --device names one of DEVICES, be it here or not. Raises UserError."""
    if name not in DEVICES:
        raise UserError(f"--device {name}: one of {', '.join(DEVICES)}")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """Ids of the NVIDIA GPUs that this process may use, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # CUDA sees none from the first on that names none
        return tuple(takewhile(GPU_ID.fullmatch, (part.strip() for part in visible.split(","))))
    if (listed := _listed()) is not None:
        return listed
    # it is missing or fails, as in some containers; without ids all workers, one a core, would share the first GPU
    numbers = sorted(int(match[1]) for file in gpu_files() if (match := re.fullmatch(r"nvidia(\d+)", file.name)))
    return tuple(map(str, numbers))


def _listed() -> tuple[str, ...] | None:
    """By nvidia-smi; None where it cannot say."""
    tool = shutil.which("nvidia-smi")
    try:
        done = subprocess.run([tool or "", "-L"], capture_output=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = (re.match(rb"GPU (\d+)", line) for line in done.stdout.splitlines())  # a card's MIG devices follow it
    return tuple(match[1].decode() for match in numbers if match)


def gpu_files() -> list[Path]:
    return [file for pattern in GPU_FILES for file in Path("/dev").glob(pattern)]


def check_present(device: str, cards: tuple[str, ...]) -> None:
    """Raises UserError for a device that certainly is not there, before a worker finds out cell by cell.

    cards: the GPUs that `share_out` has found.
    """
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    if device == "cuda" and not cards and (hidden or not gpu_files()):
        why = "CUDA_VISIBLE_DEVICES names none" if hidden else "this machine has none"
        raise UserError(f"--device cuda: no GPU is there ({why}); use auto or cpu")
    if device == "mps" and sys.platform != "darwin":
        raise UserError("--device mps: only a Mac has it; use auto, cpu or cuda")


def open_files_for(workers: int) -> None:
    """Let this process have as many files open as a pool of so many workers needs. Raises UserError if it may not."""
    needed = FILES + FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UserError(f"{workers} workers need {needed} open files, ulimit -n allows {hard}: give fewer --workers")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def given_rank() -> tuple[int, int, int] | None:
    """(rank, ranks, local rank) that torchrun or srun gave this process; None for a process of its own."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "RANK" not in os.environ and "SLURM_STEP_ID" in os.environ:  # a step of srun, not a batch script
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    try:
        rank, ranks, local = (int(os.environ.get(name, "-1")) for name in names)
    except ValueError:
        raise UserError(f"{', '.join(names)}: expected numbers from torchrun or srun") from None
    return (rank, ranks, max(local, 0)) if ranks > 1 and rank >= 0 else None


def share_out(
    thread_limit: int | None,
    workers: int | None = None,
    device: str = "auto",
    gpus_per_cell: int = 1,
    cells_per_gpu: int = 1,
) -> PoolOptions:
    """How workers share this machine: one for each cell that its GPUs hold, else for each core, and the threads among
    them, but no more than `thread_limit` each. Raises UserError where the GPUs cannot be shared out so."""
    cards = () if device in ("cpu", "mps") else gpus()
    if gpus_per_cell > 1 and len(cards) % gpus_per_cell and given_rank() is None:
        raise UserError(f"--gpus-per-cell {gpus_per_cell}: this machine's {len(cards)} GPUs cannot be shared out so")
    limit = thread_limit or cores()
    each_core = max(1, cores() // (thread_limit or 1) // gpus_per_cell)
    count = workers or len(cards) * cells_per_gpu // gpus_per_cell or each_core
    threads = min(max(1, cores() // (count * gpus_per_cell)), limit)
    return PoolOptions(count, RunOptions(device, threads), gpus=cards, ranks=gpus_per_cell)
