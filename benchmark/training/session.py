"""What surrounds a run: its checkpoints and trunks, the wish to stop, the agreement of its ranks, and its time.

The run asks before every iteration (`pause`), before its first (`resume`) and after every phase (`leave_trunk`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from benchmark.problems.batches import Batches
from benchmark.training.checkpoint import Checkpoints, Trunks
from benchmark.training.group import Group
from benchmark.training.method import Method
from benchmark.training.options import RunOptions
from benchmark.training.progress import Progress

EPOCH_PATIENCE = 0.25
"""Share of `checkpoint_seconds` after which the end of an epoch is a moment for a checkpoint."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is saved."""


class Resumable(Protocol):
    """What a session needs of a run (`training.loop.Run`)."""

    progress: Progress
    options: RunOptions
    data: Batches
    group: Group
    method: Method

    def state(self) -> dict[str, Any]: ...

    def adopt(self, state: dict[str, Any]) -> None: ...

    def standing_still(self) -> AbstractContextManager[None]: ...


class Session:
    """One attempt at a run. A default one saves nothing and is never asked to stop.

    Args:
        checkpoints: of this run.
        trunks: states that runs of other cells come through too.
        parent: hash of the dense weights that the network starts with, "" if it starts from its initial ones.
        report: called at every epoch with the iterations that are done and the latest row of the history.
        should_stop: asked at every iteration.
        began: when the attempt did, by time.perf_counter.

    `earlier`: "total", "training" and "evaluation" seconds of the attempts before, each up to its last checkpoint.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None = None,
        trunks: Trunks | None = None,
        parent: str = "",
        report: Callable[[int, dict[str, float]], None] = lambda done, values: None,
        should_stop: Callable[[], bool] = lambda: False,
        began: float | None = None,
    ):
        self.checkpoints, self.trunks, self.parent = checkpoints, trunks, parent
        self.report, self.should_stop = report, should_stop
        self.began = time.perf_counter() if began is None else began
        self.earlier: dict[str, float] = {}
        self._saved_at = time.monotonic()

    def resume(self, run: Resumable) -> None:
        """Let the run go on from its last checkpoint, else from a trunk, else from its start."""
        state = self.checkpoints.load(run.data.device) if self.checkpoints is not None else None
        if state is not None and state["origin"] == self._origin(run):
            run.adopt(state)
            seconds = run.progress.seconds
            own = {"training": seconds["training"] - seconds["inherited"], "evaluation": seconds["evaluation"]}
            self.earlier = {"total": state["elapsed"], **own}
            return
        if state is not None and self.checkpoints is not None:
            changed = "data" if state["origin"]["data"] != run.data.fingerprint else "dense network"
            self.checkpoints.refused.append(f"the {changed} changed since the checkpoint was written; starting again")
        self._start_from_trunk(run)

    def pause(self, run: Resumable) -> None:
        """Save if a checkpoint is due. Raises Interrupted, after saving, if the run is asked to stop."""
        stop, save = run.group.decide(self.should_stop(), self._checkpoint_due(run))
        if stop or save:
            with run.standing_still():
                self.save(run)
        if stop:
            raise Interrupted(f"stopped before iteration {run.progress.iteration} of phase {run.progress.phase}")

    def save(self, run: Resumable) -> None:
        if self.checkpoints is None:
            return
        state = self._state(run)
        if run.group.leads:
            self.checkpoints.save(state)
        self._saved_at = time.monotonic()

    def leave_trunk(self, run: Resumable) -> None:
        """For runs of other cells that come through the same state, if the method says that there are any."""
        name = run.method.trunk(run.progress.phase)
        if self.trunks is not None and name is not None:
            state = self._state(run)
            if run.group.leads:
                self.trunks.save(name, state)

    def seconds(self, run: Resumable) -> dict[str, Any]:
        """What the cell took by now, in all attempts, as records have it."""
        attempts = {"earlier": self.earlier} if self.earlier else {}
        return {"total": self._elapsed(), **run.progress.seconds, **attempts}

    def _elapsed(self) -> float:
        return self.earlier.get("total", 0.0) + time.perf_counter() - self.began

    def _start_from_trunk(self, run: Resumable) -> None:
        """Take up the longest part of this run that another one left."""
        for phase in range(run.method.phases - 1, 0, -1):
            name = run.method.trunk(phase)
            state = self.trunks.load(name, run.data.device) if self.trunks is not None and name is not None else None
            if state is not None and state["origin"] == self._origin(run):
                run.adopt(state)
                run.progress.seconds["inherited"] = run.progress.seconds["training"]
                run.progress.seconds["evaluation"] = 0.0
                return

    def _checkpoint_due(self, run: Resumable) -> bool:
        """Every `checkpoint_seconds`, and with every epoch unless epochs are so short that it would slow training."""
        between_epochs = run.progress.position % run.data.iterations_per_epoch == 0
        patience = run.options.checkpoint_seconds * (EPOCH_PATIENCE if between_epochs else 1.0)
        return self.checkpoints is not None and time.monotonic() - self._saved_at >= patience

    def _origin(self, run: Resumable) -> dict[str, str]:
        """What must be the same for a state to be one of this run."""
        return {"data": run.data.fingerprint, "parent": self.parent}

    def _state(self, run: Resumable) -> dict[str, Any]:
        return {**run.state(), "origin": self._origin(run), "elapsed": self._elapsed()}
