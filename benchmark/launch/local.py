"""The launcher of this machine: a pool of worker processes, and the sweep command waits for it."""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmark.errors import UserError
from benchmark.launch import ranks
from benchmark.launch.display import duration
from benchmark.launch.launcher import Launcher, Options, Work
from benchmark.launch.machine import check_present, gpu_files, share_out
from benchmark.launch.pool import LocalPool
from benchmark.launch.running import run
from benchmark.planning.advice import saved_by_compiling
from benchmark.planning.plan import Plan


class Local(Launcher):
    """Raises UserError where this machine lacks what the options ask for."""

    def __init__(self, options: Options):
        super().__init__(options)
        foreign = ["--cluster"] * (options.cluster is not None) + [f"--set slurm.{key}" for key in options.settings]
        if foreign:
            raise UserError(f"{foreign[0]} needs --executor slurm")
        self.rank = ranks.check(options.gpus_per_cell)
        # whatever CUDA_VISIBLE_DEVICES names
        shared = "cpu" if options.device == "auto" and not gpu_files() else options.device
        shares = share_out(options.threads, options.workers, shared, options.gpus_per_cell, options.cells_per_gpu)
        check_present(options.device, shares.gpus)
        self.on_processor = shared == "cpu" and (options.device == "cpu" or sys.platform != "darwin")
        run_options = replace(
            shares.run,
            device=options.device,
            checkpoint_seconds=options.checkpoint_seconds,
            validate_every=options.validate_every,
            keep=options.keep,
        )
        self.pool_options = replace(shares, run=run_options, hang_seconds=options.hang_seconds)
        if self.rank is not None:
            self.pool_options = replace(self.pool_options, workers=1, gpus=())  # every rank finds its own GPU

    @property
    def follows(self) -> bool:
        """Whether another process of torchrun or srun runs the sweep, and this one trains along."""
        return self.rank is not None and self.rank[0] > 0

    def submit(self, work: Work) -> int:
        options = replace(self.pool_options, run=replace(self.pool_options.run, data=work.data))
        if not self.follows:
            return run(work, options.workers, lambda: LocalPool(work.store, options))
        if self.rank is not None and work.plan().tasks:
            ranks.follow(work.store.path, options.run, self.rank)
        return 0

    def cancel(self, work: Work) -> int:
        raise UserError("--cancel needs --executor slurm; a sweep on this machine ends with Ctrl-C")

    def describe(self, work: Work, cells: bool) -> int:
        return 0 if self.follows else super().describe(work, cells)

    def cost(self, plan: Plan) -> str:
        """Time and GPU-hours."""
        workers, threads, gpus = self.pool_options.workers, self.pool_options.run.threads, len(self.pool_options.gpus)
        seconds = plan.seconds(workers)
        how = f"{workers} workers of {threads} thread{'' if threads == 1 else 's'}"
        if gpus:
            how += f" on {gpus} GPUs"
        if seconds is None:
            return f"time: unknown until a first cell has run; {how}"
        if gpus:
            return f"time: about {duration(seconds)} with {how}, {seconds * gpus / 3600:.1f} GPU-hours"
        saved = 0.0
        if self.on_processor and self.rank is None and not plan.done:  # compiled cells are others than those done
            saved = saved_by_compiling(plan.cells[0].problem, seconds)
        less = f"; --set compile=default: about {duration(saved)} less, as cells of their own" if saved else ""
        return f"time: about {duration(seconds)} with {how}{less}"
