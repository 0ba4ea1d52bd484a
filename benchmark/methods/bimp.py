"""Budgeted IMP (Zimmer, Spiegel & Pokutta, ICLR 2023): dense training and retraining within one budget."""

from __future__ import annotations

from benchmark.errors import UserError
from benchmark.methods.declarations import COUNT, DECAY, NORM, Declaration, Numbers, Schedules, Words
from benchmark.methods.imp import Cycle, prune
from benchmark.methods.limits import decays_linearly
from benchmark.methods.scratch import FromScratch
from benchmark.pruning.criteria import Unstructured
from benchmark.pruning.gradual import cycle_lengths, ladder
from benchmark.training.method import Context
from benchmark.training.schedules import LearningRates, dense_learning_rates, dense_warmup_iterations


class BIMP(FromScratch):
    """Train for T0 < T epochs with a linear schedule, then run IMP over the remaining T - T0 epochs.

    Every phase starts a fresh optimizer. Hyperparameters:
        dense_share: T0 / T.
        cycles: n; each prunes 1 - (1 - S)^(1/n) of the alive weights and retrains. They share the T - T0 epochs evenly,
            and the last one takes the remainder.
        schedule: of the retraining.
        span: what a cycle's epochs are divided by in ALLR's d2: "T0" as in the authors' code, or "T" as their poster
            can be read.
    """

    declaration = Declaration(
        "benchmark.methods.bimp:BIMP",
        defaults={"dense_share": 0.75, "cycles": 1, "schedule": "ALLR", "span": "T0", "norm": "all", "decay": 1.0},
        accepted={
            "dense_share": Numbers(0, 1, open_below=True, open_above=True),
            "cycles": COUNT,
            "schedule": Schedules(),
            "span": Words("T0", "T"),
            "norm": NORM,
            **DECAY,
        },
        check=decays_linearly,
    )

    def __init__(self, context: Context):
        super().__init__(context)
        problem, per_epoch = context.problem, context.iterations_per_epoch
        share, cycles = context.number("dense_share"), int(context.number("cycles"))
        total = len(context.dense_rates)
        dense = round(share * total)
        if not 0 < dense < total:
            raise UserError(
                f"method BIMP: hyperparameter dense_share is {share:g}; of {total} iterations that leaves one side none"
            )
        self.span = str(context.hyperparameters["span"])
        linear = problem.model_copy(update={"decay": "linear"})
        self.first = dense_learning_rates(linear, per_epoch, dense / per_epoch)
        self.first_warmup = dense_warmup_iterations(linear, per_epoch, dense)
        self.ladder = ladder("even", self.target, cycles)
        self.lengths = cycle_lengths(total - dense, cycles)
        self.phases = 1 + cycles
        if (
            context.hyperparameters["schedule"] == "LRW" and self.lengths[-1] > dense
        ):  # before the dense phase is paid for
            raise UserError(
                f"method BIMP: schedule LRW replays the last iterations of the dense phase, which has {dense}, not "
                f"{self.lengths[-1]}: a larger dense_share, or more cycles"
            )

    def begin(self, phase: int) -> LearningRates:
        if phase == 0:
            return self.first
        return prune(
            self,
            Cycle(
                number=phase - 1,
                sparsity=self.ladder[phase - 1],
                iterations=self.lengths[phase - 1],
                schedule=str(self.context.hyperparameters["schedule"]),
                dense=self.first,
                dense_warmup=self.first_warmup,
                span=len(self.first) if self.span == "T0" else len(self.context.dense_rates),
            ),
            Unstructured(self.masks),
        )

    def after_step(self) -> None:
        self.masks.apply_()
