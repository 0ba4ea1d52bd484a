"""What runs inside a SLURM job: the cells of one chunk, on a pool of worker processes of this node.

submitit pickles a `ChunkTask`, which is two short values and refers to this module by name. Training state is in
checkpoints, never in the pickle, so that a job that SLURM requeues by itself goes on as well as one that was warned.

SIGUSR2 (time limit, preemption with a user signal) and SIGTERM (scancel, requeue, preemption without one) only set a
flag here. The workers then stop at the next iteration and save; after that submitit's own handler requeues the job, or
the process exits with 143, which leaves it to SLURM what follows, and to the job's script where SLURM wants nothing.

The ranks of a cell stand or fall together: the loss or error of one ends the job, and its script starts it again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from datetime import datetime
from multiprocessing import forkserver
from pathlib import Path
from types import FrameType

from benchmark.cells import digest
from benchmark.environment import settle
from benchmark.launch import ranks
from benchmark.launch.events import Event, Failed, Finished, Retried
from benchmark.launch.machine import PoolOptions, given_rank, gpus
from benchmark.launch.pool import LocalPool
from benchmark.launch.publishing import Publishing
from benchmark.launch.slurm.attempts import Attempts
from benchmark.launch.slurm.profile import JOB_START, Profile
from benchmark.launch.slurm.submissions import Submission
from benchmark.planning.plan import PlannedTask
from benchmark.results import atomic
from benchmark.results.provenance import code_hash, commit
from benchmark.results.store import Store
from benchmark.streams import Output
from benchmark.tracking.runs import Settings
from benchmark.training.options import RunOptions

TERMINATED = 143
KILLED = 137
"""The job's script starts the job again after it (`profile.AGAIN_AFTER_A_SIGNAL`)."""
DENSE_SECONDS = 30.0
"""How long the record of a dense run may take to appear on another node's view of a shared file system."""
STOP_CHECK_SECONDS = 1.0
TRAIN = "train"
RUNS_PER_MINUTE = 120
"""Finished cells that all jobs of a submission together send to W&B; what is left `benchmark.publish` sends."""
PUBLISH_SECONDS = {"finished": 60.0, "warned": 10.0, "stopped": 5.0}
"""How long a job waits for W&B at its end, by the cause of it."""


class ChunkTask:
    """The entry point of a job. folder: of the submission; chunk: number of the job in it."""

    def __init__(self, folder: str, chunk: int):
        self.folder = folder
        self.chunk = chunk

    def __call__(self) -> dict[str, int]:
        settle()
        Output()  # a log on a full disk costs no cell
        job, place = _ChunkJob(Submission(Path(self.folder)), self.chunk), given_rank()
        if place is not None and place[0] > 0:
            job.follow(place)
            return {}
        return job.run()

    def checkpoint(self) -> object:
        """What submitit should run after a requeue: the same."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class _Signals:
    """Flags instead of submitit's handlers, whose requeue must wait for a safe moment."""

    def __init__(self) -> None:
        self.warned = self.terminated = False
        self._pid = os.getpid()
        self._requeue = signal.getsignal(signal.SIGUSR2)

    def install(self) -> None:
        """Start what is forked from later without these handlers: it gets the same signals and must outlive them."""
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmark.launch.preload"])
        forkserver.ensure_running()
        signal.signal(signal.SIGUSR2, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.warned = self.warned or number == signal.SIGUSR2
            self.terminated = self.terminated or number == signal.SIGTERM

    def requeue(self) -> None:
        """Have submitit requeue this job and exit. Returns only where there is no submitit around (a test)."""
        if callable(self._requeue):
            try:
                self._requeue(signal.SIGUSR2, None)
            except Exception as error:  # a controller that all jobs of an array ask in the same second
                _say(f"the job cannot be requeued from within ({error}); its script tries again")
                os._exit(TERMINATED)


class _ChunkJob:
    def __init__(self, submission: Submission, chunk: int):
        self.submission = submission
        self.chunk = chunk
        self.profile: Profile = submission.profile
        self.store = Store(submission.about["results"])
        self.attempts = Attempts(submission.folder / "attempts" / f"{chunk}.jsonl")
        self.signals = _Signals()
        self.seconds: dict[str, float] = {}
        self.cells: list[str] = []
        self.dense: dict[str, str | None] = {}
        self.begun = 0
        self.left_out: set[str] = set()
        self.counts = {"finished": 0, "failed": 0}
        self.publishing = _publishing(submission)
        self._deadline = _deadline(self.profile)
        self._looked, self._stop = 0.0, False

    def run(self) -> dict[str, int]:
        self.signals.install()
        tasks = self._remaining()
        position = self._position(tasks)
        refusal = self._code_changed() or self.attempts.exhausted(self.profile.retries, position)
        if refusal:
            self._tell_followers(False)
            self._give_up(tasks, refusal)
            return self.counts
        self.attempts.start(position)
        try:
            ready = [task for task in tasks if self._dense_is_there(task)]
            self._tell_followers(bool(ready))
            self._train(ready)
        except Exception as error:
            # Not raised: a job that fails takes those that wait for it along, and then nobody notes why.
            traceback.print_exc()
            self._give_up(self._remaining(), f"{type(error).__name__}: {error}")
            self.attempts.end("failed")
        return self.counts

    def follow(self, place: tuple[int, int, int]) -> None:
        """The other ranks of a cell (DDP): train along, once rank 0 has said that there is something to train."""
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # rank 0 decides, and they stop where it does
        while not self._signpost.exists():
            time.sleep(0.2)
        if self._signpost.read_text() == TRAIN:
            ranks.follow(self.store.path, self._pool_options().run, place)

    @property
    def _signpost(self) -> Path:
        """The file in which rank 0 of this start of the job tells the others whether there is anything to do."""
        start = f"{os.environ.get('SLURM_JOB_ID')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        return self.submission.folder / "attempts" / f"{self.chunk}.{start}.ranks"

    def _tell_followers(self, train: bool) -> None:
        if self.profile.ranks > 1:
            atomic.replace_file(self._signpost, (TRAIN if train else "leave").encode())

    def _remaining(self) -> list[PlannedTask]:
        estimates = self.submission.tasks(self.chunk)
        self.cells = [task.cell.id for task, _ in estimates]
        self.seconds = {task.cell.id: seconds for task, seconds in estimates if seconds is not None}
        damaged = {name: reason for name, _, reason in self.store.examine(self.cells) if reason}
        for name, reason in damaged.items():
            _say(f"the record of {name} {reason}")
        left = [task for task, _ in estimates if task.cell.id in damaged or not self.store.has(task.cell.id)]
        return [task for task in left if not self._failed_here(task.cell.id)]

    def _failed_here(self, name: str) -> bool:
        """Whether a start of this submission's jobs has tried the cell in vain: the next submission tries again."""
        failure = self.store.failure(name)
        return failure is not None and failure["time"] > self.submission.about["time"]

    def _train(self, tasks: list[PlannedTask]) -> None:
        pool = LocalPool(self.store, self._pool_options())
        self.publishing.catch_up(self.cells)
        _say(f"{len(tasks)} cells left of chunk {self.chunk}; a checkpoint every {self.profile.checkpoint} s")
        scattered: Event | None = None
        try:
            for event in self.publishing.listen(pool.run(tasks, self._admit, self._should_stop)):
                self._show(event)
                if self.profile.ranks > 1 and isinstance(event, Failed | Retried):
                    scattered = event
                    break
        finally:
            pool.stop()
        if scattered is not None:
            self._start_over(isinstance(scattered, Failed))
        if self.signals.terminated:
            self._end("terminated")
            os._exit(TERMINATED)  # a plain exit would wait for whatever else this process holds
        cause = "stopped" if self._stop else "warned" if self.signals.warned or self.left_out else "finished"
        self._end(cause)
        if message := self.publishing.close(PUBLISH_SECONDS[cause]):
            _say(message)
        if cause == "warned":
            self._remove_leftovers()
            self.signals.requeue()

    def _start_over(self, failed: bool) -> None:
        """Leave for the job's script to start all ranks again: they no longer stand where this one does.

        What was lost notes no end, which counts against retries.lost. Returns if a failed cell was the last one.
        """
        if failed and not self._remaining():
            return
        if failed:
            self._end("failed")
        else:
            _say("lost one of the ranks; all of them start again from the last checkpoint")
        os._exit(KILLED)

    def _pool_options(self) -> PoolOptions:
        profile, about = self.profile, self.submission.about
        limit = about["threads"]
        threads = max(1, profile.cpus // profile.workers)
        run = RunOptions(
            device=profile.device_name,
            threads=min(threads, limit) if limit else threads,
            checkpoint_seconds=profile.checkpoint,
            data=None if about["data"] is None else Path(about["data"]),
            validate_every=profile.validate_every,
            keep=profile.keep,
        )
        return PoolOptions(
            workers=profile.workers,
            run=run,
            ranks=profile.ranks,
            # of several ranks each finds its own GPU among those of its node
            gpus=gpus() if profile.device_name == "cuda" and profile.ranks == 1 else (),
            hang_seconds=profile.hang,
        )

    def _admit(self, task: PlannedTask) -> bool:
        """Start no cell that would not end in time, if it would in a job of its own."""
        seconds = self.seconds.get(task.cell.id, 0.0)
        whole = self.profile.time - self.profile.warning
        if self.begun and self._deadline - time.monotonic() < seconds < whole:
            self.left_out.add(task.cell.id)
            return False
        return True

    def _should_stop(self) -> bool:
        now = time.monotonic()
        if now - self._looked > STOP_CHECK_SECONDS:
            self._looked = now
            self._stop = self.submission.stop_file.exists() or (self.store.path / "STOP").exists()
        return self._stop or self.signals.warned or self.signals.terminated

    def _show(self, event: Event) -> None:
        self.begun += 1
        name = event.cell.id
        if isinstance(event, Finished):
            self.counts["finished"] += 1
            _say(f"done {name}" if event.trained_here else f"already done {name}")
        elif isinstance(event, Failed):
            self.counts["failed"] += 1
            _say(f"FAILED {name}: {event.cause}: {event.message}")
        elif isinstance(event, Retried):
            _say(f"again {name}: {event.message}")

    def _end(self, cause: str) -> None:
        _say(f"{cause}: {self.counts['finished']} cells finished and {self.counts['failed']} failed in this attempt")
        self.attempts.end(cause)

    def _dense_is_there(self, task: PlannedTask) -> bool:
        """A dependency only orders jobs; whether the dense run is there, its record says. If not, the cell fails."""
        dense = task.after
        if dense is None:
            return True
        if dense not in self.dense:
            self.dense[dense] = self._wait_for_dense(dense)
        reason = self.dense[dense]
        if reason is None:
            return True
        if self._should_stop():
            return False  # it was not waited for long enough to tell
        self.counts["failed"] += 1
        self.store.add_failure(task.cell.id, "dense run failed", f"the dense run {dense} failed: {reason}")
        _say(f"FAILED {task.cell.id}: the dense run {dense} failed: {reason}")
        return False

    def _wait_for_dense(self, dense: str) -> str | None:
        """None once the dense run has a record, or why it has none."""
        deadline = time.monotonic() + DENSE_SECONDS
        while not self.store.has(dense):
            failure = self.store.failure(dense)
            if failure is not None and failure["time"] >= self.submission.about["time"]:
                return f"{failure['cause']}: {failure['message']}"
            if time.monotonic() > deadline or self._should_stop():
                return "there is neither a record nor a failure of it"
            time.sleep(0.5)
        return None

    def _give_up(self, tasks: list[PlannedTask], reason: str) -> None:
        line = " ".join(reason.split())
        _say(line)
        for task in tasks:
            self.counts["failed"] += 1
            self.store.add_failure(task.cell.id, "job", line)

    def _code_changed(self) -> str | None:
        """The line to refuse with if the code that decides results is not the one that was submitted."""
        submitted, here = self.submission.about["code"], code_hash()
        if submitted == here:
            return None
        line = (
            f"the code changed since the submission: {submitted} of commit {self.submission.about['commit']}, "
            f"now {here} of commit {commit()[0]}; submit again, or --set slurm.code_changed=warn"
        )
        if self.profile.code_changed == "refuse":
            return line
        _say(f"warning: {line}")
        return None

    def _position(self, tasks: list[PlannedTask]) -> str:
        """Changes with every record and every checkpoint of this chunk."""
        folders = [self.store.file("checkpoints", task.cell.id) for task in tasks]
        files = sorted(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())
        return digest([len(tasks), files])

    def _remove_leftovers(self) -> None:
        """A pickle half written by an attempt that was killed makes submitit refuse to write the next."""
        for path in Path(os.environ.get("SUBMITIT_FOLDER", self.submission.folder)).glob("*.save_tmp"):
            if f"{os.environ.get('SLURM_ARRAY_JOB_ID') or os.environ.get('SLURM_JOB_ID')}_" in path.name:
                path.unlink(missing_ok=True)


def _publishing(submission: Submission) -> Publishing:
    """Where W&B was not asked for by name and cannot be reached, the records alone are kept: no job waits for it."""
    about = submission.about
    mode = about.get("tracking", "auto")
    jobs = min(submission.profile.array_parallelism, sum(len(array.chunks) for array in submission.arrays))
    interval = 60 / RUNS_PER_MINUTE * jobs
    settings = Settings(Path(about["results"]), mode, fallback=mode != "auto", interval=interval)
    return Publishing(settings, about["sweep"], about["problem"])


def _deadline(profile: Profile) -> float:
    """When the warning is due, on this process's clock."""
    end = os.environ.get("SLURM_JOB_END_TIME")  # not before SLURM 23
    began = os.environ.get(JOB_START)
    left = (float(end) if end else float(began or time.time()) + profile.time) - time.time()
    return time.monotonic() + left - profile.warning


def _say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)
