"""`python -m benchmark.sweep NAME`: run a sweep, or go on with it.

The same command again skips what is done, tries again what failed, and goes on with what was interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmark import cli
from benchmark.errors import UserError
from benchmark.launch import handover, ranks
from benchmark.launch.describe import counts, describe
from benchmark.launch.handover import choose_executor
from benchmark.launch.machine import check_device_name, share_out
from benchmark.launch.running import run_here
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import edited, make_plan, mixtures, refuse_damaged, refuse_unfit
from benchmark.planning.tuning import current, stages, tuned_only
from benchmark.problems import fits
from benchmark.problems.folder import complete
from benchmark.results.store import Store
from benchmark.streams import make_console
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.runs import Settings, check_mode

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = make_console()

RESULTS = Path("results/runs")
MOST_WORKERS = 4096


def _folder(option: str) -> Callable[[str | Path], Path]:
    """Reads an option's folder. Path("") would be the current folder, and "" is what a shell variable without a value
    leaves."""

    def read(value: str | Path) -> Path:
        if not str(value):
            raise UserError(f"{option} '': it is empty; write a folder, . for the current one")
        return Path(value)

    return read


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="A sweep of sweeps/ (table1), a file (mine.yaml), or - for a pipe")],
    problem: Annotated[str | None, typer.Option(help="A problem of sweeps/problems/, or a file of your own")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (5) or which (0,3,7)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Cells to keep: schedule=ALLR,sparsity=0.9; again for others as well")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of the recipe: batch_size=64; or of the cluster: slurm.time=4h"),
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Axes, outermost first: seed,sparsity,budget,method,hyperparameters,schedule")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default one a core, or one a GPU")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    gpus_per_cell: Annotated[int, typer.Option(min=1, help="GPUs that train one cell together")] = 1,
    cells_per_gpu: Annotated[int, typer.Option(min=1, help="Cells that share a GPU; small networks fill none")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(parser=_folder("--data"), metavar="PATH", help="The folder of the images; default data/"),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the images if they are not there")] = False,
    results: Annotated[
        Path, typer.Option(parser=_folder("--results"), metavar="PATH", help="The results folder")
    ] = RESULTS,
    tracking: Annotated[
        str, typer.Option(help="Weights & Biases: auto, online, offline, off; live also shows long cells as they train")
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and what it costs")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="With --dry-run: one line a cell")] = False,
    executor: Annotated[str, typer.Option(help="local, or slurm to hand the cells to a cluster")] = "local",
    cluster: Annotated[str | None, typer.Option(help="With slurm: a profile of slurm/, or a file of your own")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="With slurm: end this sweep's jobs")] = False,
    tuned: Annotated[
        bool, typer.Option("--tuned-only", help="Only the settings that tuning chose, with all seeds")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Set records that cannot be read aside")] = False,
    validate_every: Annotated[int, typer.Option(min=1, help="Epochs from one validation to the next")] = 1,
    checkpoint_seconds: Annotated[float, typer.Option(help="Between checkpoints of a running cell")] = 60.0,
    hang_seconds: Annotated[float, typer.Option(help="A cell without a finished iteration for so long fails")] = 1800.0,
) -> int:
    """Train every cell of a sweep that has no record yet, then print its table."""
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers {workers}: a count from 1 to {MOST_WORKERS}")
    if not hang_seconds > 0:  # nor nan
        raise UserError(f"--hang-seconds {hang_seconds:g}: a number above 0")
    if not checkpoint_seconds >= 0:
        raise UserError(f"--checkpoint-seconds {checkpoint_seconds:g}: a number from 0 up")
    if cells and not dry_run:
        raise UserError("--cells needs --dry-run")
    if dry_run and (repair or cancel):
        raise UserError(
            f"{'--repair' if repair else '--cancel'} changes something, --dry-run nothing: give one of them"
        )
    check_device_name(device)
    mode = check_mode(tracking)
    given = cli.parse_settings(set_ or [])
    recipe, profile = choose_executor(executor, cluster, cancel, given, workers, device, validate_every)
    wanted = load_sweep(name, problem, seeds, only or (), recipe, order, complete=complete(data))
    fits.refuse_unfit(wanted.problem)
    refuse_unfit(wanted.cells)
    if tuned:
        wanted = tuned_only(wanted, Store(results))
    if profile is not None and (cancel or dry_run):
        act = handover.cancel if cancel else handover.describe
        return act(current(wanted, Store(results)), Store(results), profile, console)
    place = ranks.check(gpus_per_cell)
    shared = "cpu" if device == "auto" and not _gpu_files() else device  # whatever CUDA_VISIBLE_DEVICES names
    shares = share_out(wanted.execution.threads, workers, shared, gpus_per_cell, cells_per_gpu)
    _refuse_absent(device, shares.gpus)
    run = replace(
        shares.run,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        data=data,
        validate_every=validate_every,
    )
    options = replace(shares, run=run, hang_seconds=hang_seconds)
    if place is not None:
        options = replace(options, workers=1, gpus=())  # every rank finds its own GPU
        if place[0] > 0:
            if make_plan(current(wanted, Store(results)).cells, Store(results), wanted.execution).tasks:
                ranks.follow(results, options.run, place)
            return 0
    if dry_run:
        found = stages(wanted, Store(results))
        plan = make_plan(found.tuning + found.chosen + found.open, Store(results), wanted.execution)
        describe(wanted, plan, options, cells, console, undecided=len(found.open))
        for line in edited(wanted.cells, Store(results)):
            print(line, file=sys.stderr)
        return 0
    store = Store.open_for_writing(results)
    store.tidy()
    for line in [
        *refuse_damaged(wanted.cells, store, repair),
        *mixtures(wanted.cells, store),
        *edited(wanted.cells, store),
    ]:
        print(line, file=sys.stderr)
    if profile is not None:
        return handover.submit(current(wanted, store), store, profile, data, mode, console)
    plan = make_plan(current(wanted, store).cells, store, wanted.execution)
    console.print(counts(wanted, plan), soft_wrap=True, highlight=False)
    if plan.tasks:
        from benchmark.problems.prepare import prepare  # later than the plan, which should come at once

        prepare(wanted.problem, data, download, console)
    publisher = Publisher(Settings(store.path, mode))
    return run_here(name, wanted, plan, store, options, publisher, console)


GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""In /dev, where a machine has a GPU: NVIDIA's, AMD's, and what Windows lends to Linux."""


def _gpu_files() -> list[Path]:
    return [file for pattern in GPU_FILES for file in Path("/dev").glob(pattern)]


def _refuse_absent(device: str, gpus: tuple[str, ...]) -> None:
    """What certainly is not there, before a worker finds out cell by cell. gpus: those that `share_out` found."""
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    if device == "cuda" and not gpus and (hidden or not _gpu_files()):
        why = "CUDA_VISIBLE_DEVICES names none" if hidden else "this machine has none"
        raise UserError(f"--device cuda: no GPU is there ({why}); use auto or cpu")
    if device == "mps" and sys.platform != "darwin":
        raise UserError("--device mps: only a Mac has it; use auto, cpu or cuda")


if __name__ == "__main__":
    sys.exit(cli.main(app))
