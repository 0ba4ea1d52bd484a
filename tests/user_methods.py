"""Methods as somebody outside the suite writes them: one that keeps every promise, and some that break one each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from benchmark.methods import Declaration
from benchmark.methods.scratch import FromScratch
from benchmark.training.method import Context, Method
from benchmark.training.schedules import LearningRates


def declare(name: str) -> Declaration:
    where = f"tests.user_methods:{name}"
    return Declaration(where, from_dense=False, retrains=False, defaults={"decay": 1.0, "at": 20})


class Halfway(FromScratch):
    """Prunes by magnitude once, before iteration `at`."""

    declaration = declare("Halfway")

    def before_iteration(self, k: int) -> None:
        if k == int(self.context.number("at")):
            self.masks.prune_to(self.target)

    def after_step(self) -> None:
        self.masks.apply_()


class Revives(Halfway):
    """Forgets to keep pruned weights at zero."""

    declaration = declare("Revives")

    def after_step(self) -> None: ...


class Forgets(Halfway):
    """Counts for itself and does not say so in a checkpoint, so that it prunes later after an interruption."""

    declaration = declare("Forgets")

    def __init__(self, context: Context):
        super().__init__(context)
        self.count = 0

    def before_iteration(self, k: int) -> None:
        self.count += 1
        super().before_iteration(self.count)


class Drifts(Halfway):
    """Prunes one iteration later in every run of a process."""

    declaration = declare("Drifts")
    runs: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, context: Context):
        super().__init__(context)
        self.late = next(self.runs)

    def before_iteration(self, k: int) -> None:
        super().before_iteration(k - self.late)


class StopsEarly(Halfway):
    """Trains for half of its epochs."""

    declaration = declare("StopsEarly")

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates[: len(self.context.dense_rates) // 2]


class Misspelled(Halfway):
    """Its hook is called by nothing."""

    declaration = declare("Misspelled")

    def before_iteratoin(self, k: int) -> None: ...

    def halfway_there(self) -> bool:
        return True


class FallsShort(Method):
    """Prunes half of what it should."""

    declaration = declare("FallsShort")

    def begin(self, phase: int) -> LearningRates:
        return self.context.dense_rates

    def finish(self) -> None:
        self.masks.prune_to(self.context.cell.sparsity / 2)  # type: ignore[operator]


class Meddles(Halfway):
    """Its forward pass leaves other weights behind than it found."""

    declaration = declare("Meddles")

    @torch.no_grad()
    def exit_forward(self) -> None:
        self.masks.weights[0].mul_(1.001)


class Empties(Halfway):
    """Leaves nothing of the classifier."""

    declaration = declare("Empties")

    @torch.no_grad()
    def settle(self) -> None:
        self.masks.weights[-1].zero_()


class Undeclared(Halfway):
    declaration: Any = None


class Misnamed(Halfway):
    """Its declaration was copied from elsewhere."""

    declaration = Declaration("wrong:Name", from_dense=False, retrains=False, defaults={"decay": 1.0, "at": 20})


class Inherits(Halfway):
    """Forgets to declare itself."""


class WithoutDecay(Halfway):
    """Its declaration lacks what its base class needs."""

    declaration = Declaration("tests.user_methods:WithoutDecay", from_dense=False, retrains=False, defaults={"at": 20})


class Raises(Halfway):
    """Slips in its own code."""

    declaration = declare("Raises")
    nothing: ClassVar[list[int]] = []

    def after_step(self) -> None:
        self.nothing[0]


class NotesText(Halfway):
    declaration = declare("NotesText")

    def finish(self) -> None:
        super().finish()
        self.context.note("half way")  # type: ignore[arg-type]


class LearnsInATensor(Halfway):
    """Its sparsity is a tensor, as it comes out of a computation."""

    declaration = declare("LearnsInATensor")

    def finish(self) -> None:
        super().finish()
        self.learned_sparsity = torch.tensor(0.5)  # type: ignore[assignment]


class ForgetsToReturn(Halfway):
    declaration = declare("ForgetsToReturn")

    def begin(self, phase: int) -> LearningRates:
        super().begin(phase)
        return None  # type: ignore[return-value]


class NegativeRates(Halfway):
    declaration = declare("NegativeRates")

    def begin(self, phase: int) -> LearningRates:
        return -super().begin(phase)


class Yields(Halfway):
    """Its hook is a generator, which runs none of its lines when it is called."""

    declaration = declare("Yields")

    def before_iteration(self, k: int) -> Iterator[None]:  # type: ignore[override]
        super().before_iteration(k)
        yield


class AtTheEnd(Halfway):
    """Prunes nothing while it trains."""

    declaration = declare("AtTheEnd")

    def before_iteration(self, k: int) -> None: ...


class Overshoots(Halfway):
    declaration = declare("Overshoots")

    def __init__(self, context: Context):
        super().__init__(context)
        self.target = 0.8


class SmallerIsText(Halfway):
    declaration = declare("SmallerIsText")

    def smaller(self) -> Any:
        return "smaller"


class NoSubclass:
    declaration = declare("NoSubclass")


def no_class() -> None: ...


no_class.declaration = declare("no_class")  # type: ignore[attr-defined]
