"""What SLURM has queued and running, by one squeue call, and which cells that means.

Nothing here needs sacct. A job that squeue no longer lists has ended; what it achieved, the records and failures say.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.launch.slurm.submissions import Submission

FORMAT = "%i|%T|%r|%j"
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
}  # fmt: skip
SECONDS = 60.0


class Unknown(Exception):
    """SLURM does not say what is queued; that is not the same as nothing."""


class NoSqueue(Unknown):
    """This machine cannot ask SLURM, now or later."""


@dataclass(frozen=True)
class SlurmJob:
    """A job of the queue.

    Args:
        id: as squeue shows it, 12 or 12_3.
        state: as squeue names it, PENDING for one.
        reason: why it waits.
        name: that it was submitted with.
    """

    id: str
    state: str
    reason: str
    name: str

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING", "STAGE_OUT")


Queue = dict[str, SlurmJob]
"""Jobs that are queued or running, by id."""


def ask(*command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """What one of SLURM's commands answers. Raises Unknown where it does not, or is not there."""
    try:
        return subprocess.run(  # noqa: S603
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"{command[0]} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise Unknown(f"{command[0]} does not answer ({error.strerror or error})") from None


def read_queue(uids: Iterable[int]) -> Queue:
    """The jobs of these users. Raises Unknown if there is no squeue or SLURM does not answer."""
    users = ",".join(str(uid) for uid in sorted(set(uids)))
    if not users:
        return {}
    if shutil.which("squeue") is None:
        raise NoSqueue("there is no squeue here")
    done = ask("squeue", "--noheader", "--array", f"--format={FORMAT}", f"--user={users}")
    if done.returncode or "Invalid user" in done.stderr:  # of whom it would list nothing
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Unknown(f"squeue says: {last.removeprefix('squeue: ')}")
    jobs = {}
    for line in done.stdout.splitlines():
        if line.count("|") < FORMAT.count("|"):
            continue  # such as the name of the cluster, where SLURM_CLUSTERS asks for several
        name, state, reason, title = line.split("|", 3)
        if state not in ENDED:
            jobs[name] = SlurmJob(name, state, reason, title)
    return jobs


@dataclass(frozen=True)
class Live:
    """What of a submission is queued or running: job by chunk, and of arrays that nobody noted the ids of."""

    submission: Submission
    jobs: dict[int, SlurmJob]

    def job_of_cell(self) -> dict[str, SlurmJob]:
        """For every cell in a queued or running job, that job."""
        if not self.jobs:
            return {}
        return {line.id: self.jobs[line.chunk] for line in self.submission.lines() if line.chunk in self.jobs}


def live(submission: Submission, queue: Queue, note: bool = True) -> Live:
    """Match a submission with the queue; an array whose ids were never noted is found by its name, and noted."""
    jobs: dict[int, SlurmJob] = {}
    for number, array in enumerate(submission.arrays):
        noted = submission.jobs(number)
        name = submission.job_name(number)
        if noted is None:
            noted = _by_name(array.chunks, [job for job in queue.values() if job.name == name])
            if noted and note:
                submission.add_jobs(number, noted)
        # by name as well: another cluster that shares the folder, or one made anew, has other jobs of the same numbers
        jobs.update({chunk: queue[job] for chunk, job in noted.items() if job in queue and queue[job].name == name})
    return Live(submission, jobs)


def _by_name(chunks: tuple[int, ...], jobs: list[SlurmJob]) -> dict[int, str]:
    """Task k of an array is its k-th chunk; a single chunk is a job without an index."""
    if len(chunks) == 1 and len(jobs) == 1:
        return {chunks[0]: jobs[0].id}
    if not jobs:
        return {}
    master = jobs[0].id.partition("_")[0]
    return {chunk: f"{master}_{index}" for index, chunk in enumerate(chunks)}
