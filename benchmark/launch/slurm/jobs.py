"""Submits a sweep to SLURM through submitit: dense runs first, chunks of cells after them.

Safe to repeat and to do twice at once: a lock in the results folder, an intent on disk before sbatch, job ids after
it, and squeue for what became of earlier ones. Imports no torch.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.launch.slurm.chunks import Costs, JobLayout, lay_out, learn_costs
from benchmark.launch.slurm.profile import Profile, sbatch_parameters
from benchmark.launch.slurm.queue import Live, Unknown, ask, live, read_queue
from benchmark.launch.slurm.submissions import Submission, submissions, write_intent
from benchmark.planning.grid import Sweep
from benchmark.planning.plan import Plan
from benchmark.results.locks import Locks
from benchmark.results.store import Store
from benchmark.tracking.runs import Mode

ARRAY_SIZE = 1001
"""SLURM's default MaxArraySize, where the cluster does not say."""
LOCK_SECONDS = 600.0
ENDLESS = 1_000_000
"""Timeouts after which submitit gives up. Here `profile.retries` counts them, by cause."""
HIDDEN = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SUBMITIT_")
PASSED_ON = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
"""Of these variables the ones that say where SLURM is."""
LEFT_OPEN = ("account", "partition", "qos", "constraint")


@dataclass
class Submitted:
    """What became of a submission.

    Args:
        submission: None if there was nothing to submit.
        layout: its jobs, as they were planned.
        queued_cells: cells of the sweep that earlier submissions have queued or running.
        jobs: ids of the jobs, array by array, as far as sbatch took them.
        refusal: what sbatch said when it took no more.
    """

    submission: Submission | None = None
    layout: JobLayout = field(default_factory=lambda: JobLayout((), ()))
    queued_cells: int = 0
    jobs: list[list[str]] = field(default_factory=list)
    refusal: str | None = None


def log_folder(store: Store, name: str, profile: Profile) -> Path:
    """Where the jobs of submission `name` write their logs."""
    if profile.logs is not None:
        return profile.logs.absolute() / name
    return store.path.absolute() / "submissions" / name / "log"


def array_size() -> int:
    """Tasks that the cluster allows in one array."""
    limits = [int(limit) for limit in re.findall(r"(?:MaxArraySize\s*=\s*|max_array_tasks=)(\d+)", _config())]
    return max(1, min(limits)) if limits else ARRAY_SIZE


def _config() -> str:
    """What SLURM says of the cluster's settings; "" where it does not."""
    try:
        return ask("scontrol", "show", "config").stdout
    except Unknown:
        return ""


def plan_jobs(
    sweep: Sweep, plan: Plan, store: Store, profile: Profile, queued: Mapping[str, str], size: int
) -> tuple[JobLayout, Costs]:
    """What is left, less what is queued, as jobs. queued: job id by cell id; size: tasks of an array at most."""
    left = [task for task in plan.tasks if not queued or task.cell.id not in queued]
    needed = {task.after for task in left}
    left = [task for task in left if not task.cell.is_dense or task.cell.id in needed]
    costs = learn_costs(sweep.cells, plan.done, store, sweep.execution, profile.device_name)
    return lay_out(left, costs, profile, size, queued), costs


def submit(
    sweep: Sweep,
    plan: Callable[[], Plan],
    store: Store,
    profile: Profile,
    data: Path | None,
    tracking: Mode,
    say: Callable[[str], None],
) -> Submitted:
    """Submit what is neither done nor queued. plan: made after squeue was read, so that no job ends unseen between."""
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise UserError(f"--executor slurm: there is no {program} here; submit from a login node of the cluster")
    if (store.path / "STOP").exists():
        raise UserError(f"{store.path / 'STOP'} asks all jobs to stop; remove it to submit again")
    with _lock(store, say), as_the_profile_says(profile):
        queued = {name: job.id for current in reconcile(store) for name, job in current.job_of_cell().items()}
        layout, costs = plan_jobs(sweep, plan(), store, profile, queued, array_size())
        waiting = sum(cell.id in queued for cell in sweep.cells) if queued else 0
        result = Submitted(layout=layout, queued_cells=waiting)
        if not layout.chunks:
            return result
        result.submission = write_intent(store, sweep, layout, costs, profile, data, tracking)
        _submit_arrays(result, profile, log_folder(store, result.submission.id, profile))
    return result


def reconcile(store: Store, deed: str = "submitted") -> list[Live]:
    """Open submissions and what of them is in the queue; those with nothing left there are closed.

    deed: what is to be done then. Raises UserError if SLURM does not say what is queued: submitting blindly could
    double the work.
    """
    open_ones = [submission for submission in submissions(store) if not submission.closed]
    try:
        queue = read_queue(submission.about["uid"] for submission in open_ones)
    except Unknown as error:
        raise UserError(
            f"cannot tell what is queued ({error}); nothing was {deed}{_way_out(error, open_ones)}"
        ) from None
    current = [live(submission, queue) for submission in open_ones]
    ended = [each.submission for each in current if not each.jobs]
    others = [submission for submission in ended if submission.about["uid"] != os.getuid()]
    for submission in ended:
        if submission not in others:
            submission.close()
    for submission in others if others and _shows_all_jobs() else ():
        with contextlib.suppress(OSError):  # in a folder of theirs
            submission.close()
    return [each for each in current if each.jobs]


def _way_out(error: Unknown, open_ones: list[Submission]) -> str:
    stranger = re.search(r"Invalid user: (\d+)", str(error))
    theirs = [each for each in open_ones if stranger and str(each.about["uid"]) == stranger[1]]
    if not theirs:
        return ", try again"
    closed = " and ".join(str(each.folder / "closed") for each in theirs)
    return f"; an empty file {closed} says that nothing of that user is queued any more"


def _shows_all_jobs() -> bool:
    """Whether squeue lists the jobs of others, which it may hide (PrivateData)."""
    hidden = re.search(r"PrivateData\s*=\s*(\S+)", _config())
    return hidden is not None and not {"jobs", "all"} & set(hidden[1].lower().split(","))


def cancel(store: Store, sweep: str, problem: str) -> tuple[list[str], list[str]]:
    """End this user's jobs of the sweep on this problem: (ids cancelled, lines about jobs of others, which go on).

    Running cells save a checkpoint. The STOP file also ends a job that was requeued at the wrong moment.
    """
    cancelled, others = [], []
    for current in reconcile(store, "cancelled"):
        submission, jobs = current.submission, [job.id for job in current.jobs.values()]
        if submission.about["sweep"] != sweep:
            continue
        if submission.about["problem"] != problem:
            on = submission.about["problem"]
            others.append(f"{len(jobs)} jobs of {sweep} on {on} go on; --problem {on} --cancel ends them")
            continue
        if submission.about["uid"] != os.getuid():
            owner = submission.about["user"]
            others.append(f"{len(jobs)} jobs of {owner} go on; a file {submission.stop_file} ends them as well")
            continue
        submission.stop_file.touch()
        _scancel(jobs)
        cancelled += jobs
    return cancelled, others


def _scancel(jobs: list[str]) -> None:
    for start in range(0, len(jobs), 500):
        try:
            done = ask("scancel", *jobs[start : start + 500])
        except Unknown as error:
            raise UserError(str(error)) from None
        if done.returncode and "Invalid job id" not in done.stderr:
            raise UserError(f"scancel says: {' '.join(done.stderr.split())}; the STOP file still ends the jobs")


def _submit_arrays(result: Submitted, profile: Profile, logs: Path) -> None:
    submission, layout = result.submission, result.layout
    assert submission is not None
    parallel = _shares(profile.array_parallelism, [array.kind for array in layout.arrays])
    job_of_chunk: dict[int, str] = {}
    for number, array in enumerate(layout.arrays):
        after = [*(job_of_chunk[chunk] for chunk in array.after_chunks), *array.after_jobs]
        dependency = "afterok:" + ":".join(after) if after else None
        parameters = sbatch_parameters(profile, submission.job_name(number), parallel[number], dependency)
        try:
            jobs = _sbatch(submission, logs, parameters, array.chunks)
        except _Refused as refusal:
            for rest in range(number, len(layout.arrays)):
                submission.add_jobs(rest, {}, str(refusal))
            result.refusal = str(refusal)
            if not result.jobs:
                submission.close()
            return
        job_of_chunk.update(jobs)
        submission.add_jobs(number, jobs)
        result.jobs.append(list(jobs.values()))


def _shares(parallelism: int, kinds: list[str]) -> list[int]:
    """SLURM limits each array by itself: divide what the profile allows among those that run at the same time."""
    shares = []
    for position, kind in enumerate(kinds):
        peers = kinds.count(kind)
        extra = 1 if kinds[:position].count(kind) < parallelism % peers else 0
        shares.append(max(1, parallelism // peers + extra))
    return shares


class _Refused(Exception):
    pass


def _sbatch(submission: Submission, logs: Path, parameters: dict[str, Any], chunks: tuple[int, ...]) -> dict[int, str]:
    """Submit one array; job id by chunk. Raises _Refused with what sbatch said."""
    import submitit  # half a second, which only a submission pays

    from benchmark.launch.slurm.task import ChunkTask

    logs.mkdir(parents=True, exist_ok=True)
    before = set(logs.iterdir())
    executor = submitit.SlurmExecutor(folder=logs, max_num_timeout=ENDLESS)
    executor.update_parameters(**parameters)
    try:
        # submitit prints what sbatch answered, which the exception says as well
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            jobs = [executor.submit(ChunkTask(str(submission.folder), chunk)) for chunk in chunks]
    except submitit.core.utils.FailedJobError as error:
        for orphan in set(logs.iterdir()) - before:
            if orphan.suffix in (".pkl", ".sh"):  # and no log of an earlier array's job
                orphan.unlink(missing_ok=True)
        text = str(error).partition("stderr:")[2] or str(error)
        answer = (line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in text.splitlines())
        if "timed out" in text:  # SLURM may have taken the jobs all the same, and nobody would know their ids
            with contextlib.suppress(Unknown):
                ask("scancel", "--name", parameters["job_name"])
        raise _Refused("; ".join(filter(None, answer))) from None
    except submitit.core.utils.FailedSubmissionError as error:
        raise UserError(
            f"sbatch names no job ({' '.join(str(error).splitlines()[0].split())}); the same command again asks squeue "
            "whether there is one, and submits what is not queued"
        ) from None
    return {chunk: job.job_id for chunk, job in zip(chunks, jobs, strict=True)}


@contextmanager
def _lock(store: Store, say: Callable[[str], None]) -> Iterator[None]:
    """One submission at a time to a results folder, whoever makes it."""
    locks, started, waits = Locks(), time.monotonic(), False
    while (lock := locks.take(store.path / "submissions" / "lock")) is None:
        if not waits and time.monotonic() - started > 1:
            say("waiting for another submission to this results folder")
            waits = True
        if time.monotonic() - started > LOCK_SECONDS:
            raise UserError(
                f"{store.path / 'submissions'}: another submission has held its lock for {LOCK_SECONDS:g} s"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def as_the_profile_says(profile: Profile) -> Iterator[None]:
    """sbatch without variables that change what it is told: those of a job that this may run in, and SBATCH_*, which
    overrule the options of a script. What the profile leaves open, SBATCH_ACCOUNT and the like may say."""
    kept = {*PASSED_ON, *(f"SBATCH_{key.upper()}" for key in LEFT_OPEN if getattr(profile, key) is None)}
    hidden = {name: value for name, value in os.environ.items() if name.startswith(HIDDEN) and name not in kept}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
