"""Runs that share model, data order and batch size, trained in step: one batched forward and backward for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmark.problems.batches import Batch, Batches
from benchmark.training.loop import Interrupted, Run, Training, Turn
from benchmark.training.stack import Stack


class Stopwatch:
    """A clock that stands still while it is another run's time, and counts a share of what is done for several."""

    def __init__(self) -> None:
        self._counted = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """Seconds so far."""
        return self._counted + (0.0 if self._since is None else time.perf_counter() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._counted, self._since = self(), None

    def add(self, seconds: float) -> None:
        self._counted += seconds


class SharedBatches(Batches):
    """The batches of `data` for runs in step: each is drawn once, and kept until the next one is asked for."""

    def __init__(self, data: Batches):
        super().__init__(data.problem, data.device, data.shard)
        self.data = data
        self.fingerprint, self.remarks, self.remembered = data.fingerprint, data.remarks, data.remembered
        self._drawn: tuple[tuple[int, int, int], Batch] | None = None
        self._following: Iterator[Batch] = iter(())

    @property
    def training_images(self) -> int:
        return self.data.training_images

    def evaluation_sizes(self) -> dict[str, int]:
        return self.data.evaluation_sizes()

    def evaluation_batches(self, name: str) -> Iterator[Batch]:
        return self.data.evaluation_batches(name)

    def training_batches(self, seed: int, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        if epoch < 0:  # not training: the batch-norm pass of one of the runs
            yield from self.data.training_batches(seed, epoch, start, stop)
            return
        for index in range(start, self.iterations_per_epoch if stop is None else stop):
            yield self._batch(seed, epoch, index)

    def _batch(self, seed: int, epoch: int, index: int) -> Batch:
        where = (seed, epoch, index)
        if self._drawn is None or self._drawn[0] != where:
            if self._drawn is None or self._drawn[0] != (seed, epoch, index - 1):
                self._following = self.data.training_batches(seed, epoch, index)
            self._drawn = where, next(self._following)
        return self._drawn[1]


@dataclass(frozen=True, eq=False)
class Member:
    """One of several trainings in step, and the time that counts as its own."""

    training: Training
    clock: Stopwatch


Ended = Callable[[Member, Any], None]
"""Told what the training of a member returned, or the exception that ended it."""


def in_step(members: Sequence[Member], ended: Ended) -> None:
    """Train all to their ends, those as one that stand at the same position of the data order.

    An exception of what they share, such as too little memory for all, ends those that are left and is raised;
    Interrupted is, once all have saved.
    """
    interrupted: list[Interrupted] = []
    due: dict[Member, Turn] = {}
    errors: dict[Member, Exception] = {}
    stack, stacked = None, list[Member]()
    now = list(members)
    try:
        while True:
            for member in now:
                if interrupted and not stacked:
                    continue  # in the first round: it has not begun, and need not
                turn = _advance(member, errors.get(member), ended, interrupted)
                if turn is None:
                    due.pop(member, None)
                else:
                    due[member] = turn
            if not due:
                break
            position = min(turn.position for turn in due.values())
            now = [member for member in members if member in due and due[member].position == position]
            if now != stacked:
                stack, stacked = _stack([due[member].run for member in now]), now
            errors = step({member: due[member] for member in now}, stack)
    finally:
        for member in members:
            member.training.close()  # nothing happens to those that have ended
    if interrupted:
        raise interrupted[0]


def _advance(member: Member, error: Exception | None, ended: Ended, interrupted: list[Interrupted]) -> Turn | None:
    """Its next iteration, None if there is none. error: what its last one raised."""
    try:
        with member.clock.running():
            return next(member.training) if error is None else member.training.throw(error)
    except StopIteration as end:
        ended(member, end.value)
    except Interrupted as stop:
        interrupted.append(stop)
    except Exception as failure:
        ended(member, failure)
    return None


def _stack(runs: Sequence[Run]) -> Stack | None:
    """None for one alone."""
    if len(runs) == 1:
        return None
    for run in runs:
        run.progress.stacked = max(run.progress.stacked, len(runs))
    return Stack([run.network for run in runs], runs[0].cell.problem)


def step(due: Mapping[Member, Turn], stack: Stack | None) -> dict[Member, Exception]:
    """One iteration of the members, whose networks are those of `stack` in this order; None for one alone.

    Returns what methods raised.
    """
    errors: dict[Member, Exception] = {}
    if stack is None:
        for member, turn in due.items():
            with _own(member, errors):
                turn.run.step(turn.k, turn.rate, turn.images, turn.labels)
        return errors
    for member, turn in due.items():
        with _own(member, errors):
            turn.run.step.open(turn.k, turn.rate)
    first = next(iter(due.values()))
    with _shared(due):
        losses, logits = stack.forward_backward(first.images, first.labels)
    for (member, turn), loss, outputs in zip(due.items(), losses, logits, strict=True):
        if member not in errors:
            with _own(member, errors):
                turn.run.step.close(loss, outputs, turn.labels)
    if any(turn.last for turn in due.values()):
        with _shared(due):  # what a GPU has still to do is nobody's own
            losses.cpu()
    return errors


@contextmanager
def _shared(members: Collection[Member]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    for member in members:
        member.clock.add((time.perf_counter() - started) / len(members))


@contextmanager
def _own(member: Member, errors: dict[Member, Exception]) -> Iterator[None]:
    """What is the time, and the error, of one member alone."""
    try:
        with member.clock.running():
            yield
    except Exception as error:
        errors[member] = error
