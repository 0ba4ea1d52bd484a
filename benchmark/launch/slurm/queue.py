"""What SLURM has queued and running, by one squeue call, and which cells of ours that means.

Nothing here needs sacct. A job that squeue no longer lists has ended; what it achieved, the records and failures say.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmark.launch.slurm.submissions import Submission

FORMAT = "%i|%T|%M|%L|%S|%r|%j"
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT",
}  # fmt: skip
SQUEUE_SECONDS = 60


class Unknown(Exception):
    """SLURM does not say what is queued; that is not the same as nothing."""


class NoSqueue(Unknown):
    """This machine cannot ask SLURM, now or later."""


@dataclass(frozen=True)
class Job:
    """id: as squeue shows it, 12 or 12_3; elapsed, left: seconds, None where SLURM does not know."""

    id: str
    state: str
    elapsed: float | None
    left: float | None
    reason: str
    name: str

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING", "STAGE_OUT")


@dataclass(frozen=True)
class Queue:
    """Jobs that are queued or running, by id."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def named(self, name: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.name == name]


def read_queue(uids: Iterable[int]) -> Queue:
    """The jobs of these users. Raises Unknown if there is no squeue or SLURM does not answer."""
    users = ",".join(str(uid) for uid in sorted(set(uids)))
    if not users:
        return Queue()
    if shutil.which("squeue") is None:
        raise NoSqueue("there is no squeue here")
    command = ["squeue", "--noheader", "--array", f"--format={FORMAT}", f"--user={users}"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=SQUEUE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"squeue did not answer within {SQUEUE_SECONDS} s") from None
    except OSError as error:
        raise Unknown(f"squeue cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Unknown(f"squeue says: {last.removeprefix('squeue: ')}")
    jobs = {}
    for line in done.stdout.splitlines():
        if line.count("|") < FORMAT.count("|"):
            continue  # such as the name of the cluster, where SLURM_CLUSTERS asks for several
        name, state, elapsed, left, _, reason, title = line.split("|", 6)
        if state not in ENDED:
            jobs[name] = Job(name, state, _seconds(elapsed), _seconds(left), reason, title)
    return Queue(jobs)


def _seconds(text: str) -> float | None:
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@dataclass(frozen=True)
class Live:
    """What of a submission is queued or running: job by chunk, and of arrays that nobody noted the ids of."""

    submission: Submission
    jobs: dict[int, Job]

    def job_of_cell(self) -> dict[str, Job]:
        """For every cell in a queued or running job, that job."""
        if not self.jobs:
            return {}
        return {line.id: self.jobs[line.chunk] for line in self.submission.lines() if line.chunk in self.jobs}


def live(submission: Submission, queue: Queue, note: bool = True) -> Live:
    """Match a submission with the queue; an array whose ids were never noted is found by its name, and noted."""
    found: dict[int, Job] = {}
    for number, array in enumerate(submission.arrays):
        noted = submission.jobs(number)
        if noted is None:
            noted = _by_name(array.chunks, queue.named(submission.job_name(number)))
            if noted and note:
                submission.add_jobs(number, noted)
        found.update({chunk: queue.jobs[job] for chunk, job in noted.items() if job in queue.jobs})
    return Live(submission, found)


def _by_name(chunks: tuple[int, ...], jobs: list[Job]) -> dict[int, str]:
    """Task k of an array is its k-th chunk; a single chunk is a job without an index."""
    if len(chunks) == 1 and len(jobs) == 1:
        return {chunks[0]: jobs[0].id}
    if not jobs:
        return {}
    master = jobs[0].id.partition("_")[0]
    return {chunk: f"{master}_{index}" for index, chunk in enumerate(chunks)}
