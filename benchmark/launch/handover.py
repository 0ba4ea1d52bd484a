"""What `python -m benchmark.sweep NAME --executor slurm` prints and returns."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark.errors import UserError
from benchmark.launch import slurm
from benchmark.launch.chunks import Layout
from benchmark.launch.describe import counts
from benchmark.launch.display import duration
from benchmark.launch.profile import Profile, load_profile, sbatch_parameters, split_settings
from benchmark.launch.queue import Unknown, live, read_queue
from benchmark.launch.submissions import submissions
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan, make_plan
from benchmark.results.store import Store
from benchmark.tracking.runs import Mode, without_marker

Say = Callable[[str], None]


def choose_executor(
    executor: str,
    cluster: str | None,
    cancel: bool,
    settings: dict[str, Any],
    workers: int | None,
    device: str,
    validate_every: int,
) -> tuple[dict[str, Any], Profile | None]:
    """(settings of the recipe, the cluster's profile or None for this machine). Raises UserError."""
    if executor not in ("local", "slurm"):
        raise UserError(f"--executor {executor}: one of local, slurm")
    recipe, slurm_settings = split_settings(settings)
    if executor == "local":
        given = (
            ["--cancel"] * cancel + ["--cluster"] * (cluster is not None) + [f"--set slurm.{k}" for k in slurm_settings]
        )
        if given:
            raise UserError(f"{given[0]} needs --executor slurm")
        return recipe, None
    if workers is not None or device != "auto":
        raise UserError("--workers and --device are for this machine: with --executor slurm use --set slurm.workers=2")
    if validate_every > 1:
        raise UserError(
            f"--validate-every {validate_every} is for this machine: with --executor slurm use "
            f"--set slurm.validate_every={validate_every}"
        )
    return recipe, load_profile(cluster, slurm_settings)


def submit(wanted: Sweep, store: Store, profile: Profile, data: Path | None, tracking: Mode, console: Console) -> int:
    """Submit what is left and return; exit code 1 if sbatch did not take all of it."""
    say = _printer(console)

    def plan() -> Plan:
        made = make_plan(wanted.cells, store, wanted.execution)
        say(counts(wanted, made))
        return made

    result = slurm.submit(wanted, plan, store, profile, data, tracking, say)
    if result.queued_cells:
        say(f"{result.queued_cells} cells are queued or running already and are not submitted again")
    if result.submission is None:
        say("nothing to submit")
    else:
        _name_jobs(result, store, profile, say)
    if left := _left_to_publish(wanted, store, tracking):
        say(f"{left} finished cells are not in W&B; python -m benchmark.publish --results {store.path} sends them")
    if result.jobs or result.queued_cells:
        folder = shlex.quote(str(store.path))
        say(f"python -m benchmark.status {wanted.name} --results {folder} --watch shows how it goes; --cancel ends it")
    if result.refusal:
        what = "the rest" if result.jobs else "all of it"
        say(f"sbatch refused {what}: {result.refusal}; the same command again submits it")
        return 1
    return 0


def _left_to_publish(wanted: Sweep, store: Store, tracking: Mode) -> int:
    """Finished cells without a W&B run, where W&B is used at all."""
    used = tracking in ("online", "live") or (tracking == "auto" and (store.path / "published").is_dir())
    present = store.ids() if used else set()
    return len(without_marker(store, [cell.id for cell in wanted.cells if cell.id in present])) if present else 0


def _name_jobs(result: slurm.Submitted, store: Store, profile: Profile, say: Say) -> None:
    assert result.submission is not None
    for array, jobs in zip(result.layout.arrays, result.jobs, strict=False):
        cells = sum(len(result.layout.chunks[chunk].tasks) for chunk in array.chunks)
        waits = [*(f"job {n}" for n in array.after_jobs), *(["its dense runs"] if array.after_chunks else [])]
        name = jobs[0] if len(jobs) == 1 else f"{jobs[0].partition('_')[0]}_[0-{len(jobs) - 1}]"
        what = f"{cells} {'dense run' if array.kind == 'dense' else 'cell'}{'s' * (cells > 1)}"
        say(f"job {name}: {what}{', after ' + ' and '.join(waits) if waits else ''}")
    if result.jobs:
        say(f"logs: {slurm.log_folder(store, result.submission.id, profile)}")


def describe(wanted: Sweep, store: Store, profile: Profile, console: Console) -> int:
    """What would be submitted, without needing a cluster."""
    say = _printer(console)
    plan = make_plan(wanted.cells, store, wanted.execution)
    say(counts(wanted, plan))
    queued: dict[str, str] = {}
    open_ones = [one for one in submissions(store) if not one.closed]
    try:
        queue = read_queue(one.about["uid"] for one in open_ones)
        queued = {name: job.id for one in open_ones for name, job in live(one, queue, note=False).job_of_cell().items()}
    except Unknown as error:
        say(f"what is queued already is unknown here ({error}) and counted as not submitted")
    layout, _ = slurm.plan_jobs(wanted, plan, store, profile, queued, slurm.array_size())
    say(f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays; {len(queued)} cells are queued already")
    for kind, title in (("dense", "dense runs"), ("cells", "cells, after their dense run")):
        sizes = Counter(
            len(layout.chunks[chunk].tasks) for array in layout.arrays if array.kind == kind for chunk in array.chunks
        )
        if sizes:
            parts = [f"{count} x {size}" for size, count in sorted(sizes.items(), reverse=True)]
            say(f"{title}: {', '.join(parts)} a job")
    say(_cost(layout, profile))
    say("each job asks for:")
    for line in sbatch_options(wanted, store, profile):
        say(f"  {line}")
    return 0


def sbatch_options(wanted: Sweep, store: Store, profile: Profile) -> list[str]:
    """The lines of the script that sbatch gets, as they would be for a job that waits for nothing.

    What it would call the submission is not known yet: ID stands for it.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = sbatch_parameters(profile, wanted.name, profile.array_parallelism, None)
    text = _make_sbatch_string(command="", folder=slurm.log_folder(store, "ID", profile), **parameters)
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return [*lines, *(f"setup: {line}" for line in profile.setup)]


def _cost(layout: Layout, profile: Profile) -> str:
    seconds = layout.job_seconds(profile)
    most = len(layout.chunks) * profile.time
    hours = "GPU-hours" if profile.gpus else "job-hours"

    def spent(value: float) -> str:
        return f"{profile.gpu_hours(value) if profile.gpus else value / 3600:.1f}"

    if seconds is None:
        return f"{hours}: unknown until a first cell has run; at most {spent(most)} if every job ran to its limit once"
    side = min(profile.array_parallelism, len(layout.chunks)) or 1
    return f"{hours}: about {spent(seconds)}; about {duration(seconds / side)} with {side} jobs at a time"


def cancel(wanted: Sweep, store: Store, profile: Profile, console: Console) -> int:
    say = _printer(console)
    jobs, others = slurm.cancel(store, wanted.name)
    say(f"{len(jobs)} jobs cancelled; running cells save a checkpoint, and the same command without --cancel goes on")
    for line in others:
        say(line)
    return 0


def _printer(console: Console) -> Say:
    return lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False)
