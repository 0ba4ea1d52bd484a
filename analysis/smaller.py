"""The networks that are left where a sweep pruned whole filters: parameters, operations and measured latency."""

from __future__ import annotations

import pandas as pd

from analysis import settings
from analysis.claims import per_cent
from analysis.groups import RecipeGroup
from analysis.tables import Column, Row, Table, entry

MILLISECONDS = 1e3
SHOWN = (
    ("sparsity_reached", "zeros", 2, 100.0),
    ("smaller_parameters", "parameters", 0, 1.0),
    ("smaller_macs", "MACs", 0, 1.0),
    ("speedup", "speedup", 2, 1.0),
    ("latency_masked", "ms masked", 3, MILLISECONDS),
    ("latency_smaller", "ms smaller", 3, MILLISECONDS),
)
"""Column of the records, its label in the table, decimals, and the factor to its unit."""


def tables(group: RecipeGroup) -> tuple[Table, ...]:
    """One table, a row for each setting and fraction of filters removed; none where no whole filters were pruned."""
    cells = group.tested.dropna(subset="smaller_parameters")
    if cells.empty:
        return ()
    rows = []
    for text in group.axes.hyperparameters:
        for sparsity in group.axes.sparsities:
            runs = cells[(cells["hyperparameters"] == text) & (cells["sparsity"] == sparsity)]
            if len(runs):
                rows.append(_row(f"{settings.in_words(text)}, {per_cent(sparsity)}", runs, group.expected))
    return (
        Table(
            "smaller",
            f"The smaller networks, {group.recipe.name}",
            "filters removed",
            tuple(Column("", label, decimals, ranked=False) for _, label, decimals, _ in SHOWN),
            tuple(rows),
            caption=(
                "The per cent of a row is the fraction of filters that every layer loses of which whole filters can "
                "be removed. Zeros: per cent of the prunable weights that are zero for it; speedup: dense MACs over "
                "MACs of the non-zero weights.",
                "Parameters and MACs (of one image) are those of the network that was built without the filters. "
                f"Latency: forward pass of {group.recipe.batch_size} images, median of a run's repeats, taken in turns "
                "with the masked network, beside whatever else the machine did. Medians over the schedules and "
                "budgets of a seed, mean ± over seeds.",
            ),
        ),
    )


def _row(label: str, runs: pd.DataFrame, expected: int) -> Row:
    by_seed = runs.groupby("seed")[[column for column, _, _, _ in SHOWN]].median()
    ids = tuple(runs.sort_values("seed")["id"])
    return Row(
        label,
        tuple(entry(list(by_seed[column].dropna() * factor), expected, runs=ids) for column, _, _, factor in SHOWN),
    )
