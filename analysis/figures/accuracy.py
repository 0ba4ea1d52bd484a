"""Accuracy against budget, sparsity and speedup."""

from __future__ import annotations

import pandas as pd

from analysis import table2
from analysis.claims import per_cent
from analysis.figures.drawing import (
    WIDTH,
    Drawing,
    Selection,
    draw_line,
    legend_below,
    line_style,
    over_seeds,
    panels,
    positions,
    seeds_sentence,
)
from benchmark.errors import UserError


def budget(selection: Selection) -> Drawing:
    """A panel a sparsity, a line a schedule."""
    cells = selection.cells[selection.cells["budget"] != ""].copy()
    if cells.empty:
        raise UserError("figure budget: these records have no budget; it is for sweeps that retrain")
    cells["row"] = row_names(cells)
    rows = positions(cells["row"].unique())
    sparsities = sorted(cells["sparsity"].unique())
    figure, found = panels(len(sparsities), share_y=False)
    for panel, sparsity in zip(found, sparsities, strict=True):
        own = over_seeds(cells[cells["sparsity"] == sparsity], ["row", "epochs"], "final_test")
        for row, position in rows.items():
            draw_line(panel, own[own["row"] == row], "epochs", position, row)
        panel.set_title(f"{per_cent(sparsity)} sparsity")
        panel.set_xlabel("retraining epochs")
        ticks = sorted(own["epochs"].unique())
        if len(ticks) <= 6:
            panel.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    found[0].set_ylabel("test accuracy in per cent")
    legend_below(figure, found[0])
    sentence = "Final test accuracy against the retraining budget, a panel a sparsity; the panels' scales differ."
    return Drawing("budget", figure, (sentence, seeds_sentence(cells)))


def methods(selection: Selection) -> Drawing:
    """One panel, a line a method (and schedule)."""
    cells = shown(selection)
    rows = positions(cells["row"].unique())
    figure, (panel,) = panels(1, height=3.2)
    table = over_seeds(cells, ["row", "sparsity"], "final_test")
    table["sparsity"] *= 100
    for row, position in rows.items():
        draw_line(panel, table[table["row"] == row], "sparsity", position, row)
    panel.set_xlabel("sparsity in per cent (target)")
    panel.set_ylabel("test accuracy in per cent")
    panel.set_xticks(sorted(table["sparsity"].unique()))
    legend_below(figure, panel, most=5)
    return Drawing(
        "methods", figure, (f"Final test accuracy against sparsity{_shown_words(selection)}.", seeds_sentence(cells))
    )


def speedup(selection: Selection) -> Drawing:
    """One panel; a line a method through its sparsities, since methods reach different speedups at one sparsity."""
    cells = shown(selection).dropna(subset=["speedup", "final_test"])
    if cells.empty:
        raise UserError("figure speedup: these records have no speedup")
    rows = positions(cells["row"].unique())
    figure, (panel,) = panels(1, height=3.2)
    figure.set_size_inches(WIDTH * 0.7, 3.4)
    for row, position in rows.items():
        own = cells[cells["row"] == row].groupby("sparsity")[["speedup", "final_test"]]
        mean, std = own.mean(), own.std().fillna(0.0)
        panel.errorbar(
            mean["speedup"],
            mean["final_test"] * 100,
            xerr=std["speedup"],
            yerr=std["final_test"] * 100,
            label=row,
            elinewidth=0.7,
            **line_style(position),
        )
    panel.set_xlabel("theoretical speedup (dense MACs / remaining MACs)")
    panel.set_ylabel("test accuracy in per cent")
    legend_below(figure, panel, most=5)
    sentence = (
        f"Final test accuracy against theoretical speedup{_shown_words(selection)}, a point a sparsity: "
        f"{', '.join(per_cent(value) for value in sorted(cells['sparsity'].unique()))}."
    )
    return Drawing("speedup", figure, (sentence, "Bars are one sample standard deviation over seeds."))


def shown(selection: Selection) -> pd.DataFrame:
    """The records with their "row": chosen settings of a sweep of methods, else the largest budget of each schedule."""
    if table2.fits(selection.group.axes):
        cells = pd.concat(table2.chosen(selection.group).values())
        return cells.assign(row=cells["method"])
    cells = selection.cells
    retrained = cells[cells["budget"] != ""]
    if len(retrained) and not selection.narrowed:
        longest = retrained.groupby("budget")["epochs"].max().idxmax()
        cells = cells[cells["budget"].isin(["", longest])]
    return cells.assign(row=row_names(cells))


def _shown_words(selection: Selection) -> str:
    if table2.fits(selection.group.axes):
        return ", settings chosen on validation accuracy"
    budgets = ", ".join(text for text in shown(selection)["budget"].unique() if text)
    return f" at a budget of {budgets}" if budgets else ""


def row_names(cells: pd.DataFrame) -> pd.Series:
    """What tells lines apart: the schedule, with the method where there are several."""
    names = cells["schedule"].where(cells["schedule"] != "", cells["method"])
    return names if cells["method"].nunique() == 1 else (cells["method"] + " " + cells["schedule"]).str.strip()
