"""The process that talks to wandb: jobs in, answers out, started by publisher.py and never by hand.

It is a process of its own so that whatever wandb does (start threads, block, fail, leave a service stuck) stays away
from the sweep. It ends when its parent does, at any moment and however the parent dies; wandb's own service notices
and ends within two seconds.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from benchmark.results.locks import Locks
from benchmark.results.store import Store
from benchmark.tracking.live import LiveRuns, log_path
from benchmark.tracking.markers import is_published, read_marker, write_marker
from benchmark.tracking.runs import Answer, Job, Settings, publish_record, reason_of, resolve_mode


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    connection = Connection(int(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they reach all processes of a terminal or job; the parent decides
    os.nice(settings.niceness)
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    try:
        import wandb

        mode, reason = resolve_mode(settings.mode)
    except Exception as error:
        connection.send(Answer("failed", reason=f"wandb cannot be used: {reason_of(error)}"))
        return
    connection.send(Answer("ready", mode, reason))
    store, locks = Store(settings.store), Locks()
    live = LiveRuns(store, settings)
    while (job := jobs.get()) is not None:
        connection.send(_attempt(job, store, locks, settings, live))
    live.close()
    wandb.teardown()


def _listen(connection: Connection, jobs: queue.SimpleQueue[Job | None]) -> None:
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone, or wants this to end now


def _attempt(job: Job, store: Store, locks: Locks, settings: Settings, live: LiveRuns) -> Answer:
    try:
        if job.cell is not None:
            return live.show(job)
        live.end(job.cell_id)
        return _publish(job, store, locks, settings)
    except Exception as error:
        return Answer("failed", reason=reason_of(error))


def _publish(job: Job, store: Store, locks: Locks, settings: Settings) -> Answer:
    """Publish one cell unless it is, or another process is at it; the lock makes sure that only one is."""
    if not job.again and is_published(store, job.cell_id, job.mode):
        return _already(store, job)
    lock = locks.take(store.file("publishing", job.cell_id))
    if lock is None:
        return Answer("busy")
    try:
        if not job.again and is_published(store, job.cell_id, job.mode):
            return _already(store, job)
        record = store.read(job.cell_id)
        if record is None:
            return Answer("no record", reason=store.problems[-1] if store.problems else f"no record of {job.cell_id}")
        marker = read_marker(store, job.cell_id)
        published = publish_record(record, job.group or (marker or {}).get("group", ""), settings, job.mode)
        write_marker(store, job.cell_id, published, job.again)
        log_path(store, job.cell_id).unlink(missing_ok=True)
        return Answer("published", published.mode, url=published.url)
    finally:
        lock.release()


def _already(store: Store, job: Job) -> Answer:
    return Answer("already published", (read_marker(store, job.cell_id) or {}).get("mode", job.mode))


if __name__ == "__main__":
    main()
