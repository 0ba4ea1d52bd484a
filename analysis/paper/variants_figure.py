"""What was pruned against how it was retrained: Le and Hua's study."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes as Panel

from analysis.claims import budget_words, per_cent
from analysis.figures import drawing
from analysis.figures.drawing import Drawing, Places, Selection
from analysis.figures.scores import removes_filters, row_names, rows_of
from analysis.labels import of_setting
from benchmark.errors import UserError


def draw(selection: Selection) -> Drawing:
    """A panel a sparsity and budget; the schedules across, a marker for what was pruned."""
    axes, cells, metric = selection.group.axes, selection.cells, selection.metric
    if cells["hyperparameters"].nunique() < 2 or cells["schedule"].nunique() < 2:
        raise UserError("figure variants: these records are not of several settings retrained with several schedules")
    labels = row_names(selection, cells)
    cells = cells.assign(row=list(map(of_setting, labels, cells["schedule"])))
    rows = rows_of(selection, cells, "variants")
    places = {name: place for place, name in enumerate(axes.schedules)}
    columns = sorted(dict.fromkeys(zip(cells["sparsity"], cells["epochs"].round(2), cells["budget"], strict=True)))
    figure, grid = drawing.panels(len(columns), height=2.5, share_y=False, wide=True)
    counts = []
    for panel, (sparsity, _, text) in zip(grid, columns, strict=True):
        column = cells[(cells["sparsity"] == sparsity) & (cells["budget"] == text)]
        table = drawing.over_seeds(column, ["row", "schedule"], metric)  # all of it: that some collapse is the message
        table["x"] = table["schedule"].map(places)
        counts += table["count"].tolist()
        _draw_settings(panel, table, rows)
        panel.set_title(f"{per_cent(sparsity)} pruned, budget {budget_words(text)}")
        panel.set_xticks(list(places.values()), list(places))
        panel.xaxis.grid(False)
    for panel in drawing.first_of_rows(grid):
        panel.set_ylabel(drawing.axis_title(metric))
    drawing.legend_below(figure, grid[0], most=3)
    sentence = f"Final test {metric.label}, what was pruned against how it was retrained; the panels' scales differ."
    filters = (
        "Per cent pruned: of the weights, or of every layer's filters (with stages: of the first stage's, the others "
        "in proportion), so that the two kinds are not equally sparse."
    )
    dotted = "Dotted: magnitude pruning followed by FT."
    more = (*([filters] if removes_filters(cells) else []), dotted)
    return Drawing("variants", figure, (sentence, *more, drawing.seeds_sentence(counts, metric, "bar")))


def _draw_settings(panel: Panel, table: pd.DataFrame, rows: Places) -> None:
    for place, (row, position) in enumerate(rows.items()):
        line = table[table["row"] == row]
        if line.empty:
            continue
        x = line["x"] + 0.8 * ((place + 0.5) / len(rows) - 0.5)
        look = {**drawing.line_style(position), "linestyle": ""}
        panel.errorbar(x, line["mean"], yerr=drawing.errors(line), label=row, elinewidth=0.8, **look)
    base = table[(table["schedule"] == "FT") & table["row"].str.startswith("criterion magnitude")]
    for level in base["mean"]:
        panel.axhline(level, color=drawing.COLOURS[0], linewidth=0.8, linestyle=(0, (1, 2)))
