"""Figure 1: what iterative pruning reaches with a number of retraining epochs in total, and the baseline's level."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.ticker import NullLocator

from analysis.claims import per_cent, seeds_words
from analysis.figures.drawing import COLOURS, WIDTH, Drawing, Selection, legend_below, panels
from analysis.paper.envelope import Run, Step, common_seeds, envelope, incomplete, met_after, settings
from benchmark.errors import UserError
from benchmark.methods.ladders import ladder

BASELINE = "LRW"
"""Schedule of Renda et al.'s iterative baseline; all other schedules make the envelope."""

ENVELOPE, BASELINE_COLOUR = COLOURS[4], COLOURS[5]
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RENDA_WORDS = ", 20 % of the weights each"
"""What the words for a setting end with that prunes by Renda et al.'s ladder."""
EXPLAINED = (
    "Line: the best so far with at most so many retraining epochs in total, over all numbers of cycles and epochs per "
    "cycle. Settings (cycles, epochs per cycle) are selected on validation accuracy, and the test accuracy of the "
    "selected is reported: mean and band of one sample standard deviation over the n seeds that the title says, the "
    "same for all settings and the baseline, cut at 0 and 100 %. Faint points: every run, also of settings that miss "
    f"one of these seeds and take no other part. Dashed: the mean of the iterative baseline ({BASELINE}), at the "
    "epochs that the title says; a ring where the line first meets it. The panels' scales differ."
)
CAVEAT = (
    "A selected setting takes over only where its mean test accuracy is above that of the one before: this running "
    "maximum makes the line monotone, and a little too high where settings differ by less than their deviation."
)


@dataclass(frozen=True)
class Part:
    """One sparsity: its runs, their envelope, and the baseline with the most epochs, all over the same seeds."""

    sparsity: float
    runs: tuple[Run, ...]
    seeds: frozenset[int]
    steps: tuple[Step, ...]
    baseline: Step | None
    """None if it has no records, or not of all the seeds."""
    baseline_misses_seeds: bool = False
    fell: frozenset[str] = frozenset()
    """Ids of the runs that collapsed."""

    @property
    def points(self) -> list[Run]:
        """The runs that are drawn one by one: not those that collapsed, which would stretch the axis."""
        return [run for run in self.runs if run.id not in self.fell]

    @property
    def title(self) -> str:
        return f"{per_cent(self.sparsity)} sparsity{f', n = {seeds_words([len(self.seeds)])}' if self.seeds else ''}"

    @property
    def heading(self) -> str:
        """What the title of the panel says of the baseline."""
        if self.baseline is None:
            return self._no_baseline
        met = met_after(self.steps, self.baseline.mean)
        words = "not met" if met is None else f"met after {met:g}"
        return f"baseline of {self.baseline.epochs:g} epochs: {words}"

    @property
    def sentence(self) -> str:
        """The message of the figure, in words."""
        start = f"{per_cent(self.sparsity)} sparsity: "
        left_out = incomplete(self.runs, self.seeds)
        if not self.steps:
            return f"{start}{'no seed that all settings have' if left_out else 'no runs yet'}."
        last = self.steps[-1]
        tried = max(step.epochs for step in settings(self.runs, self.seeds))
        best = f"the envelope of settings of up to {tried:g} epochs ends at {last.mean:.2%}"
        best += f" after {last.epochs:g} epochs ({last.setting})"
        over = f"n = {seeds_words([len(self.seeds)])}"
        if left_out:
            over += f", {left_out} setting{'s' if left_out > 1 else ''} with missing seeds left out"
        if self.baseline is None:
            return f"{start}{self._no_baseline}; {best}; {over}."
        base = f"the baseline of {self.baseline.epochs:g} epochs"
        met = met_after(self.steps, self.baseline.mean)
        if met is None:
            return f"{start}{base} ({self.baseline.mean:.2%}) is not met; {best}; {over}."
        return f"{start}{base} ({self.baseline.mean:.2%}) is met after {met:g}; {over}."

    @property
    def _no_baseline(self) -> str:
        return "the baseline misses seeds" if self.baseline_misses_seeds else "no records of the baseline"


def parts(selection: Selection) -> list[Part]:
    """A part a sparsity, the lowest first. Raises UserError for records without cycles."""
    cells = selection.cells[selection.cells["budget"] != ""]
    if cells.empty or not ((cells["cycles"] > 1) | cells["hyperparameters"].str.contains("cycles|ladder")).any():
        raise UserError("figure figure1: no run here has several cycles; it is for sweeps of iterative pruning")
    found = []
    for sparsity in sorted(cells["sparsity"].unique()):
        own = cells[cells["sparsity"] == sparsity]
        is_baseline = own["schedule"] == BASELINE
        runs, base = _runs(own[~is_baseline]), _runs(own[is_baseline])
        longest = [run for run in base if run.epochs == base[-1].epochs]  # never a shorter one in its place
        seeds = common_seeds(runs) or common_seeds(longest)
        level = settings(longest, seeds)
        fell = frozenset(own["id"][own["status"] == "collapsed"])
        missed = bool(base) and not level
        found.append(Part(float(sparsity), runs, seeds, envelope(runs), level[-1] if level else None, missed, fell))
    return found


def draw(selection: Selection) -> Drawing:
    """A panel a sparsity, epochs on a logarithmic axis."""
    found = parts(selection)
    figure, drawn = panels(len(found), height=2.5, share_y=False)
    figure.set_figwidth(WIDTH)
    for panel, part in zip(drawn, found, strict=True):
        _draw_part(panel, part)
        panel.set_title(f"{part.title}\n{part.heading}", fontsize=7)
        fell = len(part.runs) - len(part.points)
        panel.set_xlabel("retraining epochs in total" + f"\nnot drawn: {fell} collapsed runs" * bool(fell))
    drawn[0].set_ylabel("test accuracy in per cent")
    legend_below(figure, drawn[0])
    sentences = (*(part.sentence for part in found), EXPLAINED, CAVEAT, *_collapsed(found), *_ladder_sentence(found))
    return Drawing("figure1", figure, sentences)


def _collapsed(found: Sequence[Part]) -> list[str]:
    fell = [(len(part.runs) - len(part.points), per_cent(part.sparsity)) for part in found]
    named = ", ".join(f"{count} at {sparsity}" for count, sparsity in fell if count)
    return [f"Runs that collapsed are left out of the points: {named}."] if named else []


def _ladder_sentence(found: Sequence[Part]) -> list[str]:
    """Why the baseline has the cycles that it has; nothing where it does not prune by Renda et al.'s ladder."""
    own = [part.sparsity for part in found if part.baseline and part.baseline.setting.endswith(RENDA_WORDS)]
    if not own:
        return []
    counts = ", ".join(f"{len(ladder('renda', sparsity, 1))} at {per_cent(sparsity)}" for sparsity in own)
    return [
        "The baseline prunes 20 % of the remaining weights in every cycle until the sparsity is reached, which takes "
        f"ceil(log(1 - sparsity) / log 0.8) cycles: {counts}. The published 2000 epochs of 200 a cycle are 10 cycles, "
        "which end at 89.3 %."
    ]


def _draw_part(panel: Panel, part: Part) -> None:
    x, y = [run.epochs for run in part.points], [100 * run.test for run in part.points]
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "color": ENVELOPE}
    panel.plot(x, y, alpha=0.25, markersize=3, markeredgewidth=0, label="every run", **look)
    panel.set_xscale("log")
    last = max((run.epochs for run in part.runs), default=1.0)
    if part.steps:
        x = [step.epochs for step in part.steps]
        held = (*part.steps, part.steps[-1])
        mean = np.array([100 * step.mean for step in held])
        std = np.array([100 * step.std for step in held])
        panel.step([*x, last], mean, where="post", color=ENVELOPE, label="best so far, selected on validation accuracy")
        if len(part.seeds) > 1:
            low, high = np.maximum(mean - std, 0.0), np.minimum(mean + std, 100.0)
            panel.fill_between([*x, last], low, high, step="post", color=ENVELOPE, alpha=0.15, linewidth=0)
        panel.plot(x, mean[:-1], **look)
    if part.baseline is not None:
        level = 100 * part.baseline.mean
        dashed = (0, (5, 3))
        panel.axhline(level, color=BASELINE_COLOUR, linestyle=dashed, label=f"iterative baseline ({BASELINE})")
        met = met_after(part.steps, part.baseline.mean)
        if met is not None:
            ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "color": BASELINE_COLOUR}
            panel.plot([met], [level], marker="o", linestyle="", **ring)
            panel.axvline(met, color=BASELINE_COLOUR, linestyle=(0, (1, 2)), linewidth=0.8)
    ticks = [tick for tick in TICKS if min(x, default=1.0) <= tick <= last]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())


def _runs(cells: pd.DataFrame) -> tuple[Run, ...]:
    columns = ("id", "schedule", "hyperparameters", "epochs", "cycles", "seed", "final_validation", "final_test")
    runs = []
    for values in cells[list(columns)].itertuples(index=False, name=None):
        name, schedule, chosen, epochs, cycles, seed, validation, test = values
        setting = _setting(schedule, chosen, epochs, int(cycles))
        runs.append(Run(setting, round(epochs, 2), seed, validation, test, name))
    return tuple(sorted(runs, key=lambda run: (run.epochs, run.setting, run.seed)))


def _setting(schedule: str, hyperparameters: str, epochs: float, cycles: int) -> str:
    """In words: ALLR, 4 cycles of 5 epochs."""
    chosen = json.loads(hyperparameters) if hyperparameters else {}
    cycles = cycles or int(chosen.get("cycles", 1))
    chosen.pop("cycles", None)
    words = f"{cycles} cycle{'s' if cycles > 1 else ''} of {epochs / cycles:.3g} epochs"
    if chosen.pop("ladder", "even") == "renda":
        words += RENDA_WORDS
    others = "".join(f", {key} {value}" for key, value in chosen.items())
    return f"{schedule}, {words}{others}"
