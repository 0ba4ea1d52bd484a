"""What every figure has in common: its data, its style, its files."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import choice
from analysis.claims import seeds_words
from analysis.groups import RecipeGroup
from benchmark.errors import UserError
from benchmark.metric import Metric

FORMATS = ("pdf", "svg", "png")
WIDTH = 6.8
"""Inches, of a page with margins."""
TITLE_LETTERS = 36
"""Letters on a line of an axis's title."""
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C8C00", "#7F7F7F")
"""Okabe and Ito's palette, which is safe for colour-blind readers, its yellow darkened for white paper, and a grey."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), "-", "-", "-", "-", "-", (0, (4, 2)), (0, (1, 1)))


Places = Mapping[str, int]
"""Labels of lines with their place in the style."""


@dataclass(frozen=True)
class Selection:
    """The records that a figure shows: one sweep on one recipe.

    Args:
        group: the rows of these records.
        whole: the records themselves by id, perhaps with others; each is read when it is asked for.
        narrowed: whether the reader chose the cells (--only), so that nothing needs to be left out.
        order: lists of names of which each has a place in the style, such as a list of schedules.
    """

    group: RecipeGroup
    whole: Mapping[str, Mapping[str, Any]]
    narrowed: bool = False
    order: Sequence[Sequence[str]] = ()

    @property
    def cells(self) -> pd.DataFrame:
        """Those of the sweep; of one that tunes the chosen settings on the seeds that test. Raises UserError where none
        is chosen and tested."""
        if not self.group.axes.tuning_seeds:
            return self.group.cells
        chosen = choice.chosen(self.group)
        if not chosen:
            raise UserError(f"the figures of {self.group.axes.name}: no setting is chosen yet")
        return pd.concat(chosen.values())

    @property
    def metric(self) -> Metric:
        return self.group.metric

    def positions(self, names: Iterable[str]) -> dict[str, int]:
        """Names in their order, with the place of each in the style: a name of `order` looks alike in every figure."""
        names = list(names)
        places = {name: known.index(name) for known in self.order for name in names if name in known}
        free = (place for place in itertools.count() if place not in places.values())
        ordered = sorted(places, key=lambda name: places[name]) + [name for name in names if name not in places]
        return {name: places[name] if name in places else next(free) for name in ordered}

    def iterations_per_epoch(self) -> int | None:
        known = self.group.every["iterations_per_epoch"].dropna()
        return int(known.iloc[0]) if len(known) else None


@dataclass(frozen=True)
class Drawing:
    """A figure, the stem of its files, and what it shows in sentences."""

    name: str
    figure: Figure
    sentences: tuple[str, ...]


@contextmanager
def style() -> Iterator[None]:
    """Our style alone, over matplotlib's defaults: nothing of what the process has set before."""
    with as_file(files("analysis") / "figures.mplstyle") as path, matplotlib.style.context(path, after_reset=True):
        yield


def encode(drawing: Drawing, suffix: str) -> bytes:
    """The figure as a PDF, SVG or PNG; the same bytes for the same records."""
    stream = io.BytesIO()
    dates: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with style():
        drawing.figure.draw_without_rendering()  # tick labels settle, and the layout of the second drawing knows them
        drawing.figure.savefig(stream, format=suffix, metadata=dates.get(suffix))
    return stream.getvalue()


def line_style(position: int) -> dict[str, Any]:
    """Colour, marker and dash of the line at `position`: any two of the first nine differ in more than colour."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "marker": MARKERS[position % len(MARKERS)],
        "linestyle": DASHES[position % len(DASHES)],
    }


def panels(count: int, height: float = 2.3, share_y: bool = True, wide: bool = False) -> tuple[Figure, list[Panel]]:
    """A figure of `count` panels, three abreast at most; `wide`: as wide as the page, also with fewer."""
    across = _across(count)
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH if wide else max(WIDTH * across / 3, WIDTH * 0.55), height * down + 0.4))
    grid = figure.subplots(down, across, squeeze=False, sharey=share_y)
    cells = [panel for row in grid for panel in row]
    for unused in cells[count:]:
        unused.remove()
    return figure, cells[:count]


def _across(count: int) -> int:
    return 2 if count == 4 else min(count, 3)


def first_of_rows(grid: Sequence[Panel]) -> Sequence[Panel]:
    """Of the panels of a figure those that stand on the left."""
    return grid[:: _across(len(grid))]


def legend_below(figure: Figure, panel: Panel, most: int = 6) -> None:
    """One legend for all panels, outside of them: it covers nothing."""
    handles, labels = panel.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=min(most, len(unique)))


def axis_title(metric: Metric) -> str:
    """Of an axis of final test values."""
    return textwrap.fill(f"test {metric.label}{metric.in_unit}{metric.direction}", TITLE_LETTERS)


def over_seeds(frame: pd.DataFrame, by: Sequence[str], metric: Metric) -> pd.DataFrame:
    """Mean, sample deviation (NaN of one) and n of the final test values, one row per combination of `by`.

    low and high: one deviation around the mean, within the metric's bounds; of one run the mean.
    collapsed: how many of the runs did; total: of how many, those without a value included.
    """
    frame = frame.assign(value=metric.shown(frame["final_test"]), fell=frame["status"] == "collapsed")
    points = frame.groupby(list(by), sort=False)
    table = points["value"].agg(["mean", "std", "count"])
    table["collapsed"], table["total"] = points["fell"].sum(), points.size()
    low, high = map(metric.shown, metric.limits)
    table["low"] = (table["mean"] - table["std"].fillna(0.0)).clip(lower=low)
    table["high"] = (table["mean"] + table["std"].fillna(0.0)).clip(upper=high)
    return table.reset_index()


def errors(table: pd.DataFrame) -> NDArray[np.float64]:
    """What errorbar takes as yerr, shape (2, rows); NaN, no bar, of one run and for what is outside of the axis."""
    bars = np.array([table["mean"] - table["low"], table["high"] - table["mean"]])
    hidden = (table["count"] < 2) | table.get("outside", False)
    return np.where(hidden, np.nan, bars)


def scaled(table: pd.DataFrame, metric: Metric) -> tuple[pd.DataFrame, tuple[float, float] | None]:
    """The table of `over_seeds` with "outside", and limits of an axis for the entries without collapsed runs.

    What collapsed would squeeze all others: it is outside where its mean is worse than all of them. None if nothing is.
    """
    kept = table[table["collapsed"] == 0]
    bottom, top = float(kept["low"].min()), float(kept["high"].max())
    room = 0.06 * max(top - bottom, 0.01 * metric.scale)
    worst = metric.oriented(bottom - room if metric.higher_is_better else top + room)
    table = table.assign(outside=metric.oriented(table["mean"]) < worst)  # nothing if every entry has collapsed runs
    return table, (bottom - room, top + room) if table["outside"].any() else None


def point_outside(
    panel: Panel, table: pd.DataFrame, limits: tuple[float, float] | None, x: str, rows: Places, metric: Metric
) -> list[str]:
    """Set the limits of the y axis; an arrow at its worse edge for each entry outside, and a line that says which."""
    if limits is None:
        return []
    panel.set_ylim(*limits)
    edge, up = (limits[0], 1) if metric.higher_is_better else (limits[1], -1)
    names = []
    for entry in table[table["outside"]].to_dict("records"):
        colour = line_style(rows[entry["row"]])["color"]
        panel.annotate(
            f"{entry['row']} {_level(entry, 1)}",
            xy=(entry[x], edge),
            xytext=(-4, 14 * up),
            textcoords="offset points",
            color=colour,
            fontsize=6.5,
            horizontalalignment="right",
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 0.8},
        )
        fell = f"{entry['collapsed']} of {entry['total']} runs collapsed"
        names.append(f"{entry['row']} at {entry[x]:.3g} ({_level(entry, 2)}, {fell})")
    return names


def _level(entry: Mapping[Any, Any], digits: int) -> str:
    """Mean ± deviation; the mean alone of one run."""
    deviation = f" ± {entry['std']:.{digits}f}" if entry["count"] > 1 else ""
    return f"{entry['mean']:.{digits}f}{deviation}"


def draw_line(panel: Panel, table: pd.DataFrame, x: str, position: int, label: str) -> None:
    """A line of means over `x` with a band of one sample deviation, between points of several runs."""
    table = table.sort_values(x)
    look = line_style(position)
    panel.plot(table[x], table["mean"], label=label, **look)
    several = table["count"] > 1
    panel.fill_between(
        table[x], table["low"], table["high"], where=several, color=look["color"], alpha=0.13, linewidth=0
    )


def beyond(metric: Metric) -> str:
    """Where an axis ends beyond which the worst values lie."""
    return "below" if metric.higher_is_better else "above"


def cut(metric: Metric) -> str:
    """Where bands and bars end, after a comma; nothing where nothing ends them."""
    ends = [f"{end:g}" for end in map(metric.shown, metric.limits) if math.isfinite(end)]
    return f", cut at {' and '.join(ends)} {metric.unit}".rstrip() if ends else ""


def seeds_sentence(counts: Iterable[int], metric: Metric, what: str = "band") -> str:
    """`counts`: the number of seeds of every point; `what` shows the deviation: "band" or "bar"."""
    drawn = [int(count) for count in counts if count > 0]  # a point without a value is not drawn
    if max(drawn, default=1) < 2:
        return "One seed."
    none = f" (no {what} for 1 seed)" if min(drawn) < 2 else ""
    return f"Mean and {what} of one sample standard deviation over {seeds_words(drawn)}{none}{cut(metric)}."
