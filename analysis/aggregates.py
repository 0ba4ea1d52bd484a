"""A row in one number, as rliable (Agarwal et al., NeurIPS 2021) does it, with intervals by SciPy's bootstrap.

Both numbers are over all columns of a table. Runs of one seed share a dense network, so where all columns have the same
seeds, the bootstrap draws whole seeds, for both rows at once. Else the runs of each column are drawn on their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.render.sheet import Sheet
from analysis.statistics import CONFIDENCE, improvement
from analysis.tables import Column, Table, TextRow, score_columns
from benchmark.metric import Metric

RESAMPLES = 2_000
LEAST_RUNS = 3
"""Of a column: fewer runs have no interval worth the name."""
CUT = 0.25
"""Share of the scores that the interquartile mean leaves out on either side."""

Scores = list[pd.Series]
"""Of a row: for each column the values of its runs, by seed."""


def interquartile_mean(*columns: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Mean of the middle half of all runs, along `axis`, of all columns."""
    return np.asarray(stats.trim_mean(np.concatenate(columns, axis=axis), CUT, axis=axis))


def aggregates(sheet: Sheet) -> Table:
    """Interquartile mean of every row of the sheet's first table, and how often its runs beat the leading row's."""
    rows = {label: scores for label, scores in _scores(sheet).items() if scores}
    metric = sheet.metric
    means = {label: interquartile_mean(*map(np.asarray, scores)) for label, scores in rows.items()}
    leader = max(means, key=lambda label: float(metric.oriented(means[label])), default="")
    lines = [
        TextRow(
            label,
            (
                f"{means[label]:.2f}",
                _interval(interquartile_mean, scores),
                *(("", "") if label == leader else _improvement(scores, rows[leader], metric)),
            ),
        )
        for label, scores in rows.items()
    ]
    first = sheet.tables[0]
    return Table(
        f"{first.key}-aggregates",
        f"{first.title}: all columns in one number",
        first.stub,
        (
            Column("interquartile mean", metric.label, ranked=False),
            Column("interquartile mean", f"{CONFIDENCE:.0%} interval", ranked=False),
            Column(f"P(beats {leader})", "share", ranked=False),
            Column(f"P(beats {leader})", f"{CONFIDENCE:.0%} interval", ranked=False),
        ),
        (),
        tuple(lines),
        (
            "Interquartile mean: of the middle half of all runs of all columns, so that of a row with some columns far "
            "below the others these count least. P(beats): probability that a run of "
            "the row beats one of the row with the best interquartile mean in the same column, ties one half, averaged "
            f"over the columns. Intervals: percentiles of {RESAMPLES} bootstrap samples, of whole seeds where all "
            "columns have the same ones, else of each column's runs; only rows with "
            f"{LEAST_RUNS} runs or more at its sparsity in every column. Both as in rliable (Agarwal et al. 2021).",
        ),
    )


def _scores(sheet: Sheet) -> dict[str, Scores]:
    """Empty for a row that misses a column, has too few runs with a value in one, or ended at another sparsity."""
    table, runs = sheet.tables[0], sheet.records.set_index("id")
    scores = {}
    for row in table.rows:
        entries = [row.entries[place] for place in score_columns(table)]
        columns = [runs.reindex(entry.runs).set_index("seed")["final_test"].dropna() for entry in entries]
        whole = all(entry.competes for entry in entries) and all(len(column) >= LEAST_RUNS for column in columns)
        scores[row.label] = [sheet.metric.shown(column.astype(float)) for column in columns] if whole else []
    return scores


def _improvement(scores: Scores, leaders: Scores, metric: Metric) -> tuple[str, str]:
    first, second = ([metric.oriented(column) for column in columns] for columns in (scores, leaders))
    share = improvement(*(column.to_numpy() for column in (*first, *second)))
    return f"{share:.2f}", _interval(improvement, [*first, *second])


def _interval(statistic: Callable[..., NDArray[np.float64]], columns: Scores) -> str:
    interval = stats.bootstrap(
        [column.to_numpy() for column in columns],
        statistic,
        paired=all(column.index.equals(columns[0].index) for column in columns),
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return f"{interval.low:.2f} to {interval.high:.2f}"
