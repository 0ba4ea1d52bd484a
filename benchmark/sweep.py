"""`python -m benchmark.sweep NAME`: run a sweep, or go on with it.

The same command again skips what is done, tries again what failed, and goes on with what was interrupted.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark import cli
from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.launch.launcher import Options, Work, build, warn
from benchmark.launch.slurm.profile import split_settings
from benchmark.planning.finished import FinishedCells
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import refuse_unfit
from benchmark.planning.tuning import tuned_only
from benchmark.problems import fits
from benchmark.problems.folder import complete
from benchmark.results.store import Store
from benchmark.streams import make_console
from benchmark.tracking.runs import check_mode

app = cli.make_app()
console = make_console()


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
    data: Annotated[Path | None, typer.Option(help="The folder of the images or texts; default data/")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Your dense network, not trained: a .pt or .safetensors file, a Hugging Face folder"),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the images if they are not there")] = False,
    results: Annotated[Path, typer.Option(help="The results folder")] = cli.RESULTS,
    tracking: Annotated[
        str, typer.Option(help="Weights & Biases: auto, online, offline, off; live also shows long cells as they train")
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and what it costs")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="With --dry-run: one line a cell")] = False,
    executor: Annotated[str, typer.Option(help="local, slurm (a cluster), or one of your own: mine:Class")] = "local",
    cluster: Annotated[str | None, typer.Option(help="With slurm: a profile of slurm/, or a file of your own")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="With slurm: end this sweep's jobs")] = False,
    tuned: Annotated[
        bool, typer.Option("--tuned-only", help="Only the settings that tuning chose, with all seeds")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside records that cannot be read; their cells train again")
    ] = False,
    validate_every: Annotated[int, typer.Option(min=1, help="Epochs from one validation to the next")] = 1,
    keep: Annotated[str, typer.Option(help="Of a finished cell beside its record: nothing or weights")] = "nothing",
    checkpoint_seconds: Annotated[float, typer.Option(help="Between checkpoints of a running cell")] = 60.0,
    hang_seconds: Annotated[float, typer.Option(help="A cell without a finished iteration for so long fails")] = 1800.0,
) -> int:
    """Train every cell of a sweep that has no record yet, then print its table."""
    if cells and not dry_run:
        raise UserError("--cells needs --dry-run")
    if dry_run and (repair or cancel):
        raise UserError(
            f"{'--repair' if repair else '--cancel'} changes something, --dry-run nothing: give one of them"
        )
    mode = check_mode(tracking)
    recipe, settings = split_settings(cli.parse_settings(set_ or []))
    options = Options(
        workers=workers,
        device=device,
        gpus_per_cell=gpus_per_cell,
        cells_per_gpu=cells_per_gpu,
        validate_every=validate_every,
        keep=keep,
        checkpoint_seconds=checkpoint_seconds,
        hang_seconds=hang_seconds,
        cluster=cluster,
        settings=settings,
    )
    dense = None if weights is None else _read_weights(weights, recipe)
    chosen = load_sweep(name, problem, seeds, only or (), recipe, order, complete=complete(data))
    fits.refuse_unfit(chosen.problem)
    refuse_unfit(chosen.cells)
    store = Store(results)
    if dense is not None:
        _take_weights(*dense, chosen.problem, None if dry_run else store)
    elif (taken := chosen.problem.weights) and not any(store.given.glob(f"{taken}.*")):
        raise UserError(f"weights {taken} are not in {store.given}: give --weights FILE")
    if tuned:
        chosen = tuned_only(chosen, store)
    launcher = build(executor, replace(options, threads=chosen.execution.threads))
    work = Work(name, chosen, store, console, data, download, mode, repair, only or ())
    if cancel:
        return launcher.cancel(work)
    if dry_run:
        finished = FinishedCells(chosen.cells, store)
        finished.refuse_damaged(repair=False)
        code = launcher.describe(work, cells)
        warn(finished.edited())
    else:
        code = launcher.submit(work)
    if not isinstance(code, int):
        raise UserError(f"--executor {executor}: its submit and describe return an exit code, not {code!r}")
    return code


def _read_weights(text: str, recipe: dict[str, Any]) -> tuple[bytes, Path]:
    """(bytes, path) of the file of --weights, whose hash goes into the recipe. Raises UserError."""
    from benchmark.training import given  # imports torch, which planning does not

    path = given.find(text)
    raw, recipe["weights"] = given.content(path)
    if Path(text).is_dir():
        recipe.update({key: value for key, value in given.beside(path.parent).items() if key not in recipe})
    return raw, path


def _take_weights(raw: bytes, path: Path, problem: Problem, store: Store | None) -> None:
    """Check that weights fit the problem's network, and copy them into the store. Raises UserError."""
    from benchmark.training import given

    if remark := given.check(raw, path, problem):
        console.print(remark, soft_wrap=True, highlight=False, markup=False)
    if store is not None:
        given.keep(raw, path, problem, store.given)


if __name__ == "__main__":
    sys.exit(cli.main(app))
