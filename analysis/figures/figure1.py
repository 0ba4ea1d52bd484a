"""Figure 1: what iterative pruning reaches with a number of retraining epochs in total, and the baseline's level."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel

from analysis.claims import per_cent
from analysis.envelope import Run, Step, envelope, met_after, settings
from analysis.figures.drawing import COLOURS, MARKERS, WIDTH, Drawing, Selection, legend_below, panels
from benchmark.errors import UserError

BASELINE = "LRW"
"""Schedule of Renda et al.'s iterative baseline; all other schedules make the envelope."""

PLACES = (4, 5, 3, 6, 1)
"""Colours of the sparsities, the lowest first."""
EXPLAINED = (
    "Lines: the best so far with at most so many retraining epochs in total, over all numbers of cycles and epochs per "
    "cycle. Settings are selected on validation accuracy; the test accuracy of the selected is shown, mean and band of "
    "one sample standard deviation over seeds. Faint points: every run. Dashed: the iterative baseline "
    f"({BASELINE}); a circle where the line first meets it."
)


@dataclass(frozen=True)
class Part:
    """One sparsity: its runs, their envelope, and the baseline with the most epochs, if there is one."""

    sparsity: float
    runs: tuple[Run, ...]
    steps: tuple[Step, ...]
    baseline: Step | None

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
    """A part a sparsity, the lowest first. Raises UserError for records without budgets."""
    cells = selection.cells[selection.cells["budget"] != ""]
    if cells.empty:
        raise UserError("figure figure1: these records have no budget; it is for sweeps of iterative pruning")
    found = []
    for sparsity in sorted(cells["sparsity"].unique()):
        own = cells[cells["sparsity"] == sparsity]
        is_baseline = own["schedule"] == BASELINE
        runs = _runs(own[~is_baseline])
        baselines = settings(_runs(own[is_baseline]))
        found.append(Part(float(sparsity), runs, envelope(runs), baselines[-1] if baselines else None))
    return found


def draw(selection: Selection) -> Drawing:
    """One panel; a colour and a marker a sparsity."""
    found = parts(selection)
    figure, (panel,) = panels(1, height=3.4)
    figure.set_size_inches(WIDTH, 3.7)
    longest = max(run.epochs for part in found for run in part.runs) if any(part.runs for part in found) else 1.0
    for position, part in enumerate(found):
        _draw_part(
            panel, part, longest * 1.04, COLOURS[PLACES[position % len(PLACES)]], MARKERS[position % len(MARKERS)]
        )
    panel.set_xlabel("retraining epochs in total")
    panel.set_ylabel("test accuracy in per cent")
    legend_below(figure, panel, most=len(found))
    return Drawing("figure1", figure, (*(part.sentence for part in found), EXPLAINED))


def _draw_part(panel: Panel, part: Part, end: float, colour: str, marker: str) -> None:
    look: dict[str, Any] = {"linestyle": "", "marker": marker, "color": colour}
    x, y = [run.epochs for run in part.runs], [100 * run.test for run in part.runs]
    panel.plot(x, y, alpha=0.22, markersize=3, markeredgewidth=0, **look)
    if part.steps:
        x = [step.epochs for step in part.steps]
        mean = np.array([100 * step.mean for step in (*part.steps, part.steps[-1])])
        std = np.array([100 * step.std for step in (*part.steps, part.steps[-1])])
        panel.step([*x, end], mean, where="post", color=colour, label=f"ALLR, best so far, {per_cent(part.sparsity)}")
        panel.fill_between([*x, end], mean - std, mean + std, step="post", color=colour, alpha=0.15, linewidth=0)
        panel.plot(x, mean[:-1], **look)
    if part.baseline is not None:
        label = f"baseline, {per_cent(part.sparsity)} ({part.baseline.epochs:g} epochs)"
        level = 100 * part.baseline.mean
        panel.axhline(level, color=colour, linestyle=(0, (5, 3)), linewidth=1.0, label=label)
        met = met_after(part.steps, part.baseline.mean)
        if met is not None:
            panel.plot([met], [level], marker="o", markersize=9, markerfacecolor="none", color=colour)


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
