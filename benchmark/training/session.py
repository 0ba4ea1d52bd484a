"""A session: the checkpoints and trunks of a run, requests to stop it, and the time that it took.

The run calls `resume` before its first iteration, `pause` before every iteration and `leave_trunk` after every phase.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmark.training.checkpoint import Checkpoints, Trunks

if TYPE_CHECKING:
    from benchmark.training.loop import Run

EPOCH_PATIENCE = 0.25
"""Share of `checkpoint_seconds` after which a checkpoint is saved at the end of an epoch."""


class Interrupted(Exception):
    """The run was asked to stop, and has saved a checkpoint."""


class Session:
    """One attempt at a run. With the defaults it saves nothing and is never asked to stop.

    Args:
        checkpoints: of this run.
        trunks: states that it shares with runs of other cells.
        parent: hash of the dense weights that the network starts with, "" if it starts from its initial ones.
        report: called at every epoch with the iterations done and the latest row of the history.
        should_stop: called at every iteration.
        began: when the attempt began, by time.perf_counter; None for now.

    earlier: "total", "training" and "evaluation" seconds of earlier attempts, each up to its last checkpoint.
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

    def resume(self, run: Run) -> None:
        """Let the run continue from its last checkpoint, else from a trunk, else from its start."""
        state = self.checkpoints.load(run.data.device) if self.checkpoints is not None else None
        if state is not None and state["origin"] == self._origin(run):
            run.adopt(state)
            seconds = run.progress.seconds
            self.earlier = {
                "total": state["elapsed"],
                "training": seconds["training"] - seconds["inherited"],
                "evaluation": seconds["evaluation"],
            }
            return
        if state is not None and self.checkpoints is not None:
            changed = "data" if state["origin"]["data"] != run.data.fingerprint else "dense network"
            self.checkpoints.refused.append(f"the {changed} changed since the checkpoint was written; starting again")
        self._start_from_trunk(run)

    def pause(self, run: Run) -> None:
        """Save if a checkpoint is due. Raises Interrupted, after saving, if the run is asked to stop."""
        stop, save = run.group.decide(self.should_stop(), self._checkpoint_due(run))
        if stop or save:
            with run.standing_still():
                self.save(run)
        if stop:
            raise Interrupted(f"stopped before iteration {run.progress.iteration} of phase {run.progress.phase}")

    def save(self, run: Run) -> None:
        if self.checkpoints is None:
            return
        state = self._state(run)
        if run.group.leads:
            self.checkpoints.save(state)
        self._saved_at = time.monotonic()

    def leave_trunk(self, run: Run) -> None:
        """Save the state as a trunk, if the method says that runs of other cells can share it."""
        name = run.method.trunk(run.progress.phase)
        if self.trunks is not None and name is not None:
            state = self._state(run)
            if run.group.leads:
                self.trunks.save(name, state)

    def seconds(self, run: Run) -> dict[str, Any]:
        """Seconds of the cell so far, in all attempts, as in its record."""
        attempts = {"earlier": self.earlier} if self.earlier else {}
        return {"total": self._elapsed(), **run.progress.seconds, **attempts}

    def _elapsed(self) -> float:
        return self.earlier.get("total", 0.0) + time.perf_counter() - self.began

    def _start_from_trunk(self, run: Run) -> None:
        """Start from the latest state that a run of another cell left."""
        for phase in range(run.method.phases - 1, 0, -1):
            name = run.method.trunk(phase)
            state = self.trunks.load(name, run.data.device) if self.trunks is not None and name is not None else None
            if state is not None and state["origin"] == self._origin(run):
                run.adopt(state)
                run.progress.seconds["inherited"] = run.progress.seconds["training"]
                run.progress.seconds["evaluation"] = 0.0
                return

    def _checkpoint_due(self, run: Run) -> bool:
        """Every `checkpoint_seconds`, or at the end of an epoch once EPOCH_PATIENCE of that time has passed."""
        between_epochs = run.progress.position % run.data.iterations_per_epoch == 0
        patience = run.options.checkpoint_seconds * (EPOCH_PATIENCE if between_epochs else 1.0)
        return self.checkpoints is not None and time.monotonic() - self._saved_at >= patience

    def _origin(self, run: Run) -> dict[str, str]:
        """What must be the same in a state that this run continues from."""
        return {"data": run.data.fingerprint, "parent": self.parent}

    def _state(self, run: Run) -> dict[str, Any]:
        return {**run.state(), "origin": self._origin(run), "elapsed": self._elapsed()}
