"""The launcher of a cluster: hands what is left of a sweep to SLURM, and returns."""

from __future__ import annotations

import shlex
from collections import Counter

from benchmark.errors import UserError
from benchmark.launch.display import duration
from benchmark.launch.launcher import Launcher, Options, Work, counts, list_cells
from benchmark.launch.slurm import jobs
from benchmark.launch.slurm.chunks import JobLayout
from benchmark.launch.slurm.profile import Profile, load_profile, sbatch_parameters
from benchmark.launch.slurm.state import read_state
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan, make_plan
from benchmark.problems.folder import EMBEDDED
from benchmark.results.store import Store
from benchmark.tracking.markers import without_marker

ELSEWHERE = {
    "workers": "workers", "device": "device", "gpus_per_cell": "tasks", "cells_per_gpu": "workers",
    "validate_every": "validate_every", "checkpoint_seconds": "checkpoint", "hang_seconds": "hang",
}  # fmt: skip
"""Options of this machine, each with what a profile has in its place."""


class Slurm(Launcher):
    """Raises UserError for a profile that cannot be used, and for options that a profile has keys for."""

    def __init__(self, options: Options):
        super().__init__(options)
        for name, key in ELSEWHERE.items():
            given = getattr(options, name)
            if given != getattr(Options, name):
                option = f"--{name.replace('_', '-')} {given}"
                raise UserError(f"{option} is for this machine: with --executor slurm use --set slurm.{key}={given}")
        keep = {} if options.keep == "nothing" else {"keep": options.keep}
        self.profile = load_profile(options.cluster, {**keep, **options.settings})

    def submit(self, work: Work) -> int:
        """Submit what is neither done nor queued; exit code 1 if sbatch did not take all of it."""
        work.open()
        sweep, store, say = work.current, work.store, work.say
        if work.download and sweep.problem.dataset not in EMBEDDED:
            from benchmark.problems.sources import download  # here, since nodes of a cluster seldom have the internet

            download(sweep.problem, work.data)

        def plan() -> Plan:
            made = make_plan(sweep.cells, store, sweep.execution)
            say(counts(sweep, made))
            if made.tasks:
                work.try_own(elsewhere=True)
            return made

        result = jobs.submit(sweep, plan, store, self.profile, work.data, work.tracking, say)
        if result.queued_cells:
            say(f"{result.queued_cells} cells are queued or running already and are not submitted again")
        if result.submission is None:
            say("nothing to submit")
        else:
            _name_jobs(result, work, self.profile)
        folder = shlex.quote(str(store.path))
        if left := _left_to_publish(work, sweep):
            say(f"{left} finished cells are not in W&B; python -m benchmark.publish --results {folder} sends them")
        if result.jobs or result.queued_cells:
            say(
                f"python -m benchmark.status {shlex.quote(sweep.name)} --results {folder} --watch shows how it goes; "
                "--cancel ends it"
            )
        if result.refusal:
            what = "the rest" if result.jobs else "all of it"
            limit = "submit limit" in result.refusal or "QOS" in result.refusal  # an array is taken whole or not at all
            fewer = ", fewer and longer jobs where its limit is never enough: --set slurm.max_jobs=N" if limit else ""
            say(f"sbatch refused {what}: {result.refusal}; the same command again submits it{fewer}")
            return 1
        return 0

    def cancel(self, work: Work) -> int:
        cancelled, others = jobs.cancel(work.store, work.sweep.name, work.sweep.problem.name)
        work.say(
            f"{len(cancelled)} jobs cancelled; running cells save a checkpoint, and the same command without --cancel "
            "goes on"
        )
        for line in others:
            work.say(line)
        return 0

    def describe(self, work: Work, cells: bool) -> int:
        """What would be submitted, without needing a cluster."""
        sweep, store, profile, say = work.current, work.store, self.profile, work.say
        plan = make_plan(sweep.cells, store, sweep.execution)
        say(counts(sweep, plan))
        state = read_state(store)
        if state.unknown:
            say(f"what is queued already is unknown here ({state.unknown}) and counted as not submitted")
        layout, _ = jobs.plan_jobs(sweep, plan, store, profile, state.queued, jobs.array_size())
        say(f"{len(layout.chunks)} jobs in {len(layout.arrays)} arrays; {len(state.queued)} cells are queued already")
        for kind, title in (("dense", "dense runs"), ("cells", "cells, after their dense run")):
            chunks = [layout.chunks[number] for array in layout.arrays if array.kind == kind for number in array.chunks]
            sizes = Counter(len(chunk.tasks) for chunk in chunks)
            if sizes:
                parts = [f"{count} x {size}" for size, count in sorted(sizes.items(), reverse=True)]
                say(f"{title}: {', '.join(parts)} a job")
        say(_cost(layout, profile))
        say("each job asks for:")
        for line in sbatch_options(sweep, store, profile):
            say(f"  {line}")
        if cells:
            list_cells(work, plan, sweep.cells)
        return 0


def _left_to_publish(work: Work, sweep: Sweep) -> int:
    """Finished cells without a W&B run, where W&B is used at all."""
    store, tracking = work.store, work.tracking
    used = tracking in ("online", "live") or (tracking == "auto" and (store.path / "published").is_dir())
    present = store.ids() if used else set()
    return len(without_marker(store, [cell.id for cell in sweep.cells if cell.id in present])) if present else 0


def _name_jobs(result: jobs.Submitted, work: Work, profile: Profile) -> None:
    assert result.submission is not None
    for array, ids in zip(result.layout.arrays, result.jobs, strict=False):
        cells = sum(len(result.layout.chunks[chunk].tasks) for chunk in array.chunks)
        waits = [*(f"job {n}" for n in array.after_jobs), *(["its dense runs"] if array.after_chunks else [])]
        name = ids[0] if len(ids) == 1 else f"{ids[0].partition('_')[0]}_[0-{len(ids) - 1}]"
        what = f"{cells} {'dense run' if array.kind == 'dense' else 'cell'}{'s' * (cells > 1)}"
        work.say(f"job {name}: {what}{', after ' + ' and '.join(waits) if waits else ''}")
    if result.jobs:
        work.say(f"logs: {jobs.log_folder(work.store, result.submission.id, profile)}")


def sbatch_options(sweep: Sweep, store: Store, profile: Profile) -> list[str]:
    """The lines of the script that sbatch gets, as they would be for a job that waits for nothing.

    The submission has no id yet: ID stands for it.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = sbatch_parameters(profile, sweep.name, profile.array_parallelism, None)
    text = _make_sbatch_string(command="", folder=jobs.log_folder(store, "ID", profile), **parameters)
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return [*lines, *(f"setup: {line}" for line in profile.setup)]


def _cost(layout: JobLayout, profile: Profile) -> str:
    seconds = layout.job_seconds(profile)
    most = len(layout.chunks) * profile.time
    hours = "GPU-hours" if profile.gpus else "job-hours"

    def spent(value: float) -> str:
        return f"{profile.gpu_hours(value) if profile.gpus else value / 3600:.1f}"

    if seconds is None:
        return f"{hours}: unknown until a first cell has run; at most {spent(most)} if every job ran to its limit once"
    side = min(profile.array_parallelism, len(layout.chunks)) or 1
    return f"{hours}: about {spent(seconds)}; about {duration(seconds / side)} with {side} jobs at a time"
