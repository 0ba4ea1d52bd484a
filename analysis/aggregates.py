"""A row in one number, as rliable (Agarwal et al., NeurIPS 2021) does it, with intervals by SciPy's bootstrap.

Both numbers are over all columns of a table. Their intervals are stratified: the runs of each column are drawn anew
from that column alone, each on its own, as pairs of seeds play no part in them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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

Scores = list[NDArray[np.float64]]
"""Of a row: an array of runs for each column."""


def interquartile_mean(*columns: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Mean of the middle half of all runs, along `axis`, of all columns."""
    return np.asarray(stats.trim_mean(np.concatenate(columns, axis=axis), CUT, axis=axis))


def aggregates(sheet: Sheet) -> Table:
    """Interquartile mean of every row of the sheet's first table, and how often its runs beat the leading row's."""
    rows = {label: scores for label, scores in _scores(sheet).items() if scores}
    metric = sheet.metric
    means = {label: interquartile_mean(*scores) for label, scores in rows.items()}
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
            "Interquartile mean: of the middle half of all runs of all columns. P(beats): probability that a run of "
            "the row beats one of the row with the best interquartile mean in the same column, ties one half, averaged "
            f"over the columns. Intervals: percentiles of {RESAMPLES} stratified bootstrap samples; only rows with "
            f"{LEAST_RUNS} runs or more at its sparsity in every column. As in rliable (Agarwal et al. 2021).",
        ),
    )


def _scores(sheet: Sheet) -> dict[str, Scores]:
    """Empty for a row that misses a column, has too few runs with a value in one, or ended at another sparsity."""
    table, values = sheet.tables[0], sheet.records.set_index("id")["final_test"]
    scores = {}
    for row in table.rows:
        entries = [row.entries[place] for place in score_columns(table)]
        columns = [values.reindex(entry.runs).dropna() for entry in entries]
        whole = all(entry.competes for entry in entries) and all(len(column) >= LEAST_RUNS for column in columns)
        scores[row.label] = [sheet.metric.shown(column).to_numpy(dtype=float) for column in columns] if whole else []
    return scores


def _improvement(scores: Scores, leaders: Scores, metric: Metric) -> tuple[str, str]:
    first, second = ([metric.oriented(column) for column in columns] for columns in (scores, leaders))
    return f"{improvement(*first, *second):.2f}", _interval(improvement, [*first, *second])


def _interval(statistic: Callable[..., NDArray[np.float64]], columns: Scores) -> str:
    interval = stats.bootstrap(
        columns,
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return f"{interval.low:.2f} to {interval.high:.2f}"
