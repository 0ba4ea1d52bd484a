"""Figure 1: what iterative pruning reaches with a number of retraining epochs in total, and the baseline's level."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.ticker import NullLocator

from analysis.claims import per_cent
from analysis.envelope import Run, Step, envelope, met_after, settings
from analysis.figures.drawing import COLOURS, WIDTH, Drawing, Selection, legend_below, panels
from benchmark.errors import UserError

BASELINE = "LRW"
"""Schedule of Renda et al.'s iterative baseline; all other schedules make the envelope."""

ENVELOPE, BASELINE_COLOUR = COLOURS[4], COLOURS[5]
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
EXPLAINED = (
    "Line: the best so far with at most so many retraining epochs in total, over all numbers of cycles and epochs per "
    "cycle. Settings (cycles, epochs per cycle) are selected on validation accuracy, and the test accuracy of the "
    "selected is reported: mean and band of one sample standard deviation over seeds, cut at 0 and 100 %. Faint "
    f"points: every run. Dashed: the mean of the iterative baseline ({BASELINE}), at the epochs that the title says; a "
    "ring where the line first meets it. The panels' scales differ."
)
CAVEAT = (
    "A selected setting takes over only where its mean test accuracy is above that of the one before: this running "
    "maximum makes the line monotone, and a little too high where settings differ by less than their deviation."
)


@dataclass(frozen=True)
class Part:
    """One sparsity: its runs, their envelope, and the baseline with the most epochs, if there is one."""

    sparsity: float
    runs: tuple[Run, ...]
    steps: tuple[Step, ...]
    baseline: Step | None

    @property
    def heading(self) -> str:
        """What the title of the panel says of the baseline."""
        if self.baseline is None:
            return "no records of the baseline"
        met = met_after(self.steps, self.baseline.mean)
        words = "not met" if met is None else f"met after {met:g}"
        return f"baseline of {self.baseline.epochs:g} epochs: {words}"

    @property
    def sentence(self) -> str:
        """The message of the figure, in words."""
        start = f"{per_cent(self.sparsity)} sparsity: "
        if not self.steps:
            return f"{start}no runs yet."
        last = self.steps[-1]
        best = f"the envelope ends at {last.mean:.2%} after {last.epochs:g} epochs ({last.setting})"
        if self.baseline is None:
            return f"{start}no records of the baseline; {best}."
        base = f"the baseline of {self.baseline.epochs:g} epochs"
        met = met_after(self.steps, self.baseline.mean)
        if met is None:
            return f"{start}{base} ({self.baseline.mean:.2%}) is not met; {best}."
        return f"{start}{base} ({self.baseline.mean:.2%}) is met after {met:g}."


def parts(selection: Selection) -> list[Part]:
    """A part a sparsity, the lowest first. Raises UserError for records without cycles."""
    cells = selection.cells[selection.cells["budget"] != ""]
    if cells.empty or not ((cells["cycles"] > 1) | cells["hyperparameters"].str.contains("cycles|ladder")).any():
        raise UserError("figure figure1: no run here has several cycles; it is for sweeps of iterative pruning")
    found = []
    for sparsity in sorted(cells["sparsity"].unique()):
        own = cells[cells["sparsity"] == sparsity]
        is_baseline = own["schedule"] == BASELINE
        runs = _runs(own[~is_baseline])
        baselines = settings(_runs(own[is_baseline]))
        found.append(Part(float(sparsity), runs, envelope(runs), baselines[-1] if baselines else None))
    return found


def draw(selection: Selection) -> Drawing:
    """A panel a sparsity, epochs on a logarithmic axis."""
    found = parts(selection)
    figure, drawn = panels(len(found), height=2.5, share_y=False)
    figure.set_figwidth(WIDTH)
    for panel, part in zip(drawn, found, strict=True):
        _draw_part(panel, part)
        panel.set_title(f"{per_cent(part.sparsity)} sparsity\n{part.heading}", fontsize=7)
        panel.set_xlabel("retraining epochs in total")
    drawn[0].set_ylabel("test accuracy in per cent")
    legend_below(figure, drawn[0])
    return Drawing("figure1", figure, (*(part.sentence for part in found), EXPLAINED, CAVEAT))


def _draw_part(panel: Panel, part: Part) -> None:
    x, y = [run.epochs for run in part.runs], [100 * run.test for run in part.runs]
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "color": ENVELOPE}
    panel.plot(x, y, alpha=0.25, markersize=3, markeredgewidth=0, label="every run", **look)
    panel.set_xscale("log")
    last = max(x, default=1.0)
    if part.steps:
        x = [step.epochs for step in part.steps]
        held = (*part.steps, part.steps[-1])
        mean = np.array([100 * step.mean for step in held])
        std = np.array([100 * step.std for step in held])
        panel.step([*x, last], mean, where="post", color=ENVELOPE, label="best so far, selected on validation accuracy")
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
        words += ", 20 % of the weights each"
    others = "".join(f", {key} {value}" for key, value in chosen.items())
    return f"{schedule}, {words}{others}"
