"""Figure 1: what iterative pruning reaches with a number of retraining epochs in total, and the baseline's level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.ticker import NullLocator

from analysis.claims import per_cent, seeds_words
from analysis.figures.drawing import COLOURS, Drawing, Selection, axis_title, cut, legend_below, panels
from analysis.paper.claims_figure1 import BASELINE
from analysis.paper.envelope import RunScores, SettingMean, common_seeds, envelope, incomplete, met_after, settings
from analysis.report import plots
from analysis.settings import values_of
from benchmark.errors import UserError
from benchmark.methods.ladders import ladder
from benchmark.metric import Metric

ENVELOPE, BASELINE_COLOUR = COLOURS[4], COLOURS[5]
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RENDA_WORDS = ", 20 % of the weights each"
"""What the words for a setting end with that prunes by Renda et al.'s ladder."""


def explained(metric: Metric) -> tuple[str, str]:
    """What the lines and points are, and what to make of them."""
    above, maximum, high = ("above", "maximum", "high") if metric.higher_is_better else ("below", "minimum", "low")
    return (
        "Line: the best so far with at most so many retraining epochs in total, over all numbers of cycles and epochs "
        f"per cycle. Settings (cycles, epochs per cycle) are selected on validation {metric.label}, and the test "
        f"{metric.label} of the selected is reported: mean and band of one sample standard deviation over the n seeds "
        f"that the title says, the same for all settings and the baseline{cut(metric)}. Faint points: every run, also "
        "of settings that miss one of these seeds and take no other part. Dashed: the mean of the iterative baseline "
        f"({BASELINE}), at the epochs that the title says; a ring where the line first meets it. The panels' scales "
        "differ.",
        f"A selected setting takes over only where its mean test {metric.label} is {above} that of the one before: "
        f"this running {maximum} makes the line monotone, and a little too {high} where settings differ by less than "
        "their deviation.",
    )


@dataclass(frozen=True)
class SparsityPart:
    """One sparsity, all of it over the same seeds. Scores of runs and steps are oriented: higher ones are better.

    Args:
        metric: what the scores are oriented values of.
        sparsity: as a fraction.
        runs: all but the baseline's.
        seeds: those that all of the most complete settings have.
        steps: the envelope of the runs.
        baseline: the one with the most epochs; None if it has no records, or not of all the seeds.
        baseline_misses_seeds: whether it has records, but not of all the seeds.
        fell: ids of the runs that collapsed.
    """

    metric: Metric
    sparsity: float
    runs: tuple[RunScores, ...]
    seeds: frozenset[int]
    steps: tuple[SettingMean, ...]
    baseline: SettingMean | None
    baseline_misses_seeds: bool = False
    fell: frozenset[str] = frozenset()

    @property
    def points(self) -> list[RunScores]:
        """The runs that are drawn one by one: not those that collapsed, which would stretch the axis."""
        return [run for run in self.runs if run.id not in self.fell]

    def shown(self, score: float) -> float:
        """As figures show it, for scores that are oriented."""
        return float(self.metric.shown(self.metric.oriented(score)))

    def level(self, step: SettingMean) -> str:
        """The mean of a step in words."""
        return f"{self.shown(step.mean):.2f}{self.metric.unit}"

    def runs_of(self, step: SettingMean) -> list[RunScores]:
        """The runs whose mean the step is."""
        setting = (step.setting, step.epochs)
        return [run for run in self.runs if (run.setting, run.epochs) == setting and run.seed in self.seeds]

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
        best = f"the envelope of settings of up to {tried:g} epochs ends at {self.level(last)}"
        best += f" after {last.epochs:g} epochs ({last.setting})"
        over = f"n = {seeds_words([len(self.seeds)])}"
        if left_out:
            over += f", {left_out} setting{'s' if left_out > 1 else ''} with missing seeds left out"
        if self.baseline is None:
            return f"{start}{self._no_baseline}; {best}; {over}."
        base = f"the baseline of {self.baseline.epochs:g} epochs"
        met = met_after(self.steps, self.baseline.mean)
        if met is None:
            return f"{start}{base} ({self.level(self.baseline)}) is not met; {best}; {over}."
        return f"{start}{base} ({self.level(self.baseline)}) is met after {met:g}; {over}."

    @property
    def _no_baseline(self) -> str:
        return "the baseline misses seeds" if self.baseline_misses_seeds else "no records of the baseline"


def parts(selection: Selection) -> list[SparsityPart]:
    """A part a sparsity, the lowest first. Raises UserError for records without cycles."""
    cells = selection.cells[selection.cells["budget"] != ""]
    if cells.empty or not ((cells["cycles"] > 1) | cells["hyperparameters"].str.contains("cycles|ladder")).any():
        raise UserError("figure figure1: no run here has several cycles; it is for sweeps of iterative pruning")
    by_sparsity = []
    for sparsity in sorted(cells["sparsity"].unique()):
        at = cells[cells["sparsity"] == sparsity]
        is_baseline = at["schedule"] == BASELINE
        runs, base = (_runs(part, selection.metric) for part in (at[~is_baseline], at[is_baseline]))
        longest = [run for run in base if run.epochs == base[-1].epochs]  # never a shorter one in its place
        seeds = common_seeds(runs) or common_seeds(longest)
        level = settings(longest, seeds)
        fell = frozenset(at["id"][at["status"] == "collapsed"])
        missed = bool(base) and not level
        by_sparsity.append(
            SparsityPart(
                selection.metric,
                float(sparsity),
                runs,
                seeds,
                envelope(runs),
                level[-1] if level else None,
                missed,
                fell,
            )
        )
    return by_sparsity


def draw(selection: Selection) -> Drawing:
    """A panel a sparsity, epochs on a logarithmic axis."""
    sparsities = parts(selection)
    figure, grid = panels(len(sparsities), height=2.5, share_y=False, wide=True)
    for panel, part in zip(grid, sparsities, strict=True):
        _draw_part(panel, part)
        panel.set_title(f"{part.title}\n{part.heading}", fontsize=7)
        fell = len(part.runs) - len(part.points)
        panel.set_xlabel("retraining epochs in total" + f"\nnot drawn: {fell} collapsed runs" * bool(fell))
    grid[0].set_ylabel(axis_title(selection.metric))
    legend_below(figure, grid[0])
    said = [part.sentence for part in sparsities]
    sentences = (*said, *explained(selection.metric), *_collapsed(sparsities), *_ladder_sentence(sparsities))
    return Drawing("figure1", figure, sentences)


def _collapsed(sparsities: Sequence[SparsityPart]) -> list[str]:
    fell = [(len(part.runs) - len(part.points), per_cent(part.sparsity)) for part in sparsities]
    named = ", ".join(f"{count} at {sparsity}" for count, sparsity in fell if count)
    return [f"Runs that collapsed are left out of the points: {named}."] if named else []


def _ladder_sentence(sparsities: Sequence[SparsityPart]) -> list[str]:
    """Why the baseline has the cycles that it has; nothing where it does not prune by Renda et al.'s ladder."""
    of_ladder = [part.sparsity for part in sparsities if part.baseline and part.baseline.setting.endswith(RENDA_WORDS)]
    if not of_ladder:
        return []
    counts = ", ".join(f"{len(ladder('renda', sparsity, 1))} at {per_cent(sparsity)}" for sparsity in of_ladder)
    return [
        "The baseline prunes 20 % of the remaining weights in every cycle until the sparsity is reached, which takes "
        f"ceil(log(1 - sparsity) / log 0.8) cycles: {counts}. The published 2000 epochs of 200 a cycle are 10 cycles, "
        "which end at 89.3 %."
    ]


def _draw_part(panel: Panel, part: SparsityPart) -> None:
    x, y = [run.epochs for run in part.points], [part.shown(run.test) for run in part.points]
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "color": ENVELOPE}
    panel.plot(x, y, alpha=0.25, markersize=3, markeredgewidth=0, label="every run", **look)
    panel.set_xscale("log")
    last = max((run.epochs for run in part.runs), default=1.0)
    if part.steps:
        x = [step.epochs for step in part.steps]
        held = (*part.steps, part.steps[-1])
        mean = np.array([part.shown(step.mean) for step in held])
        std = np.array([part.metric.shown(step.std) for step in held])
        panel.step([*x, last], mean, where="post", color=ENVELOPE, label=_best_words(part.metric))
        if len(part.seeds) > 1:
            low, high = np.clip((mean - std, mean + std), *map(part.metric.shown, part.metric.limits))
            panel.fill_between([*x, last], low, high, step="post", color=ENVELOPE, alpha=0.15, linewidth=0)
        panel.plot(x, mean[:-1], **look)
    if part.baseline is not None:
        level = part.shown(part.baseline.mean)
        dashed = (0, (5, 3))
        panel.axhline(level, color=BASELINE_COLOUR, linestyle=dashed, label=f"iterative baseline ({BASELINE})")
        met = met_after(part.steps, part.baseline.mean)
        if met is not None:
            ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "color": BASELINE_COLOUR}
            panel.plot([met], [level], marker="o", linestyle="", **ring)
            panel.axvline(met, color=BASELINE_COLOUR, linestyle=(0, (1, 2)), linewidth=0.8)
    ticks = [tick for tick in TICKS if min(x, default=1.0) <= tick <= last]
    crowded = len(ticks) > 7
    panel.set_xticks(ticks, [str(tick) if not crowded or np.log10(tick) % 1 == 0 else "" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())


def _best_words(metric: Metric) -> str:
    return f"best so far, selected on validation {metric.label}"


def _runs(cells: pd.DataFrame, metric: Metric) -> tuple[RunScores, ...]:
    columns = ("id", "schedule", "hyperparameters", "epochs", "cycles", "seed", "final_validation", "final_test")
    runs = []
    for values in cells[list(columns)].itertuples(index=False, name=None):
        name, schedule, chosen, epochs, cycles, seed, validation, test = values
        setting = _setting(schedule, chosen, epochs, int(cycles))
        scores = metric.oriented(validation), metric.oriented(test)
        runs.append(RunScores(setting, round(epochs, 2), seed, *scores, name))
    return tuple(sorted(runs, key=lambda run: (run.epochs, run.setting, run.seed)))


def _setting(schedule: str, hyperparameters: str, epochs: float, cycles: int) -> str:
    """In words: ALLR, 4 cycles of 5 epochs."""
    chosen = values_of(hyperparameters)
    cycles = cycles or int(chosen.get("cycles", 1))
    chosen.pop("cycles", None)
    words = f"{cycles} cycle{'s' if cycles > 1 else ''} of {epochs / cycles:.3g} epochs"
    if chosen.pop("ladder", "even") == "renda":
        words += RENDA_WORDS
    others = "".join(f", {key} {value}" for key, value in chosen.items())
    return f"{schedule}, {words}{others}"


# The interactive form


def best(selection: Selection) -> list[str]:
    """What is reached, a sentence a sparsity: the columns of a sweep of cycles have no ranks that would say it."""
    return [part.sentence for part in parts(selection)]


def plot(selection: Selection) -> plots.Plot:
    """A panel a sparsity: every run, the envelope, the level of the baseline."""
    ticks = {"tickvals": TICKS, "ticktext": [str(tick) for tick in TICKS]}
    drawn: list[plots.Panel] = []
    for part in parts(selection):
        text = f"retraining epochs, {part.title}<br>{part.heading}"
        x = {"title": {"text": text, "font": {"size": 11}}, "type": "log", **ticks}
        drawn.append(([_every_run(part), _best_so_far(part), *_baseline(part)], x, {}))
    return plots.side_by_side(drawn, selection.metric)


def _every_run(part: SparsityPart) -> dict[str, Any]:
    return plots.trace(
        "markers",
        "every run",
        [run.epochs for run in part.points],
        [round(part.shown(run.test), 3) for run in part.points],
        text=[f"{run.setting}, seed {run.seed}" for run in part.points],
        customdata=[run.id for run in part.points],
        marker={"color": ENVELOPE, "opacity": 0.3, "size": 5},
        hovertemplate=f"%{{text}}<br>%{{x}} epochs: %{{y:.2f}} {part.metric.unit}<extra></extra>",
    )


def _best_so_far(part: SparsityPart) -> dict[str, Any]:
    """A step's customdata are the ids of its records."""
    bars = [round(part.metric.shown(step.std), 3) if step.n > 1 else None for step in part.steps]
    return plots.trace(
        "lines+markers",
        _best_words(part.metric),
        [step.epochs for step in part.steps],
        [round(part.shown(step.mean), 3) for step in part.steps],
        error_y={"type": "data", "array": bars, "thickness": 1},
        text=[f"{step.setting}, n = {step.n}" for step in part.steps],
        customdata=[" ".join(run.id for run in part.runs_of(step)) for step in part.steps],
        line={"color": ENVELOPE, "shape": "hv"},
        hovertemplate=f"%{{text}}<br>from %{{x}} epochs on: %{{y:.2f}} {part.metric.unit}<extra></extra>",
    )


def _baseline(part: SparsityPart) -> list[dict[str, Any]]:
    if part.baseline is None or not part.runs:
        return []
    x = [min(run.epochs for run in part.runs), max(run.epochs for run in part.runs)]
    y = [round(part.shown(part.baseline.mean), 3)] * 2
    look = {"line": {"color": BASELINE_COLOUR, "dash": "dash"}, "hoverinfo": "name+y"}
    return [plots.trace("lines", f"iterative baseline ({BASELINE})", x, y, **look)]
