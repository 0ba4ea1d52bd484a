"""The inside of a worker process: cells in, messages out, until it is told to stop or the pool is gone.

Messages are ("ready",), ("alive",), ("epoch", iteration, values), ("done", outcome), ("failed", cause, one line,
traceback), and ("stop", one line) for what would fail every further cell as well.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.cells import Cell, cut
from benchmark.errors import CannotGoOn, UserError, named, told
from benchmark.launch import ranks
from benchmark.launch.machine import WorkerSettings
from benchmark.results.atomic import CannotWrite
from benchmark.results.redaction import RedactedStream
from benchmark.results.store import Store

ALIVE_SECONDS = 1.0
ORPHAN_SECONDS = 30.0
"""How long a worker without a pool may take to save its checkpoint and leave."""
FOLLOWER_SECONDS = 5.0
"""How long the other ranks of a cell may take to leave after this one."""
BROKEN = ("out of memory", "device error", "rank lost")
"""Causes after which a process is not to be trusted with another cell."""
FULL = "the GPU is full; fewer --cells-per-gpu, or a smaller batch_size, need less: "
LINE = 1000
"""Characters of an error's message that are shown; its traceback is kept whole."""


def serve(connection: Connection, settings: WorkerSettings) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    threading.Thread(target=_watch, args=(connection.fileno(), stop), name="orphan watch", daemon=True).start()
    os.environ.pop("WANDB_API_KEY", None)  # for the process that publishes; nothing that trains has a use for it
    try:
        output = _write_output_to(settings.log)
    except CannotWrite as error:
        connection.send(("stop", str(error)))
        return
    if settings.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.gpu
    torch, Interrupted, Worker = _imported()
    group, followers = ranks.lead(settings)
    ended = threading.Event()
    if followers:
        ranks.leave_after([follower.sentinel for follower in followers], ended)
    run = settings.run
    if run.device == "auto" and settings.gpu is not None and torch.backends.cuda.is_built():
        run = replace(run, device="cuda")  # one that does not work is said, before days go by on the processor
    worker = Worker(Store(settings.store), run, group)
    last_sign = time.monotonic()

    def say(message: tuple[Any, ...]) -> None:
        try:
            connection.send(message)
        except OSError:
            stop.set()  # the pool is gone

    def should_stop() -> bool:
        nonlocal last_sign
        if time.monotonic() - last_sign > ALIVE_SECONDS:
            last_sign = time.monotonic()
            say(("alive",))
        return stop.is_set()

    try:
        say(("ready",))
        while not stop.is_set() and (cell := connection.recv()) is not None:
            outcome = attempt(worker, cell, lambda iteration, values: say(("epoch", iteration, values)), should_stop)
            for stream in output:
                stream.close_line()
            say(outcome)
            if outcome[0] == "stop" or (outcome[0] == "failed" and outcome[1] in BROKEN):
                break  # the pool starts a fresh process
            if outcome[0] == "failed" and followers:
                break  # they may stand elsewhere than this process does
        else:
            group.announce(None)
    except (Interrupted, EOFError, OSError):
        pass
    finally:
        ended.set()
        for follower in followers:
            follower.join(FOLLOWER_SECONDS)
            follower.kill()


def _imported() -> tuple[Any, Any, Any]:
    """torch, Interrupted and Worker, which take seconds. Raises the error that the pool's own try met first."""
    try:
        import torch

        from benchmark.training.session import Interrupted
        from benchmark.worker import Worker
    except Exception as error:
        from benchmark.launch.preload import failure

        raise failure or error from None
    return torch, Interrupted, Worker


def attempt(worker: Any, cell: Cell, report: Any, should_stop: Any) -> tuple[Any, ...]:
    """Run one cell; the message that tells its end. Raises Interrupted."""
    from benchmark.training.session import Interrupted

    try:
        return ("done", worker.run(cell, report, should_stop))
    except Interrupted:
        raise
    except CannotGoOn as error:
        return ("stop", str(error))
    except UserError as error:
        return ("failed", "refused", one_line(str(error)), "")
    except MemoryError as error:
        return ("failed", "out of memory", one_line(f"MemoryError: {error}"), traceback.format_exc())
    except (Exception, SystemExit) as error:
        cause = _cause(error)
        advice = FULL if cause == "out of memory" else ""
        said = told(error) if cause == "exception" else named(error)
        return ("failed", cause, advice + one_line(said), traceback.format_exc())


def one_line(text: str) -> str:
    """What somebody's code said, as one line that every terminal and file can show."""
    line = " ".join(text.split())
    return cut("".join(character if character.isprintable() else "?" for character in line), LINE)


def _cause(error: BaseException) -> str:
    """torch names what a GPU reports in the class or only in the message, depending on its version."""
    from benchmark.training.group import lost_a_rank

    if lost_a_rank(error):
        return "rank lost"
    text = str(error) if isinstance(error, RuntimeError) else ""
    # CUDA's context and its libraries allocate beside torch, and report it in words
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "ALLOC_FAILED" in text:
        return "out of memory"
    device = any(word in text for word in ("CUDA", "CUBLAS", "CUDNN", "cuDNN"))
    return "device error" if device else "exception"


def _watch(connection: int, stop: threading.Event) -> None:
    """Leave when the pool's end of the connection is closed, and its process gone: also out of a cell that hangs."""
    poll = select.poll()
    poll.register(connection, 0)  # hang-ups are always reported
    poll.poll()
    stop.set()
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _write_output_to(log: Path) -> list[RedactedStream]:
    """Send what the process prints, from Python or below it, to a file, and a trace there if it crashes."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise CannotWrite(log, error) from error
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable(file=2)
    streams = [RedactedStream(sys.stdout), RedactedStream(sys.stderr)]
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    return streams
