"""Schedules from outside the package that do what a cell must not do to its neighbours."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from benchmark.training.schedules import LearningRates, Retraining


def usual(retraining: Retraining) -> LearningRates:
    print("a usual cell was here")
    return np.full(retraining.iterations, retraining.eta_max / 2)


def exception(retraining: Retraining) -> LearningRates:
    print("about to raise")
    secrets = " ".join(os.environ.get(name, "") for name in ("WANDB_API_KEY", "SOME_TOKEN", "MY_SECRET"))
    print(f"this cell prints {secrets}")
    raise RuntimeError(f"<b>injected</b>\nand a second line {secrets}")


def nan(retraining: Retraining) -> LearningRates:
    return np.full(retraining.iterations, np.nan)


def infinite(retraining: Retraining) -> LearningRates:
    return np.full(retraining.iterations, 1e38)


def wrong_length(retraining: Retraining) -> LearningRates:
    return np.full(retraining.iterations + 1, 0.1)


def abort(retraining: Retraining) -> LearningRates:
    print("about to abort", flush=True)
    os.abort()


def leave(retraining: Retraining) -> LearningRates:
    os._exit(3)


def quit_interpreter(retraining: Retraining) -> LearningRates:
    sys.exit("a method that calls sys.exit")


def hang(retraining: Retraining) -> LearningRates:
    print("about to hang", flush=True)
    while True:
        time.sleep(1)


def memory(retraining: Retraining) -> LearningRates:
    """Ask for more memory than there is, as Python and as the kernel's out-of-memory killer see it."""
    np.ones(1 << 50)
    return np.zeros(retraining.iterations)


def oom_kill(retraining: Retraining) -> LearningRates:
    """What the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), 9)
    return np.zeros(retraining.iterations)


def deep(retraining: Retraining) -> LearningRates:
    return deep(retraining)


def device(retraining: Retraining) -> LearningRates:
    """What torch raises when a GPU reports an error; the process is of no use afterwards."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def device_memory(retraining: Retraining) -> LearningRates:
    import torch  # the sweep, which looks this function up as well, does without

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
