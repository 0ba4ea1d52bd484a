"""The figure of the metric against measured latency, and its front."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.figures import latency
from analysis.figures.latency import DENSE, front
from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.metric import ACCURACY, Metric
from tests.figure_records import drawn, selection
from tests.table1_records import MADE_UP, record_of
from tests.test_smaller_table import SWEEP, made_up

PERPLEXITY = Metric("perplexity", "perplexity", higher_is_better=False, bounds=(1.0, None))
NUMBERS = st.integers(1, 6)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1), st.sampled_from([ACCURACY, PERPLEXITY]))
def test_the_front_is_what_no_other_point_is_as_fast_as_and_better(points, metric):
    table = pd.DataFrame(points, columns=["x", "mean"]).astype(float)
    found = front(table, metric)
    for row in table.itertuples():
        beaten = any(other.x <= row.x and metric.is_better(other.mean, row.mean) for other in table.itertuples())
        on_it = ((found["x"] == row.x) & (found["mean"] == row.mean)).any()
        faster_and_as_good = any(o.x < row.x and o.mean == row.mean for o in table.itertuples())
        assert on_it == (not beaten and not faster_and_as_good)
    assert found["x"].is_monotonic_increasing


def test_single_weights_take_the_time_of_the_dense_network_and_filters_their_measured_share():
    dense = [record_of(Cell.dense(MADE_UP, seed), 0.97) for seed in range(5)]
    points = latency.table(selection(SWEEP, [*made_up(), *dense])).set_index(["row", "sparsity"])["x"]
    assert points[DENSE, 0.0] == points["criterion magnitude", 0.9] == points["criterion random", 0.6] == 30
    # 20 to 24 of 30 ms over five seeds
    assert points["criterion filters, stages even", 0.9] == pytest.approx(22)


def test_the_schedule_is_chosen_in_validation_and_not_by_the_test_images():
    records = made_up(lambda cell: cell.seed == 0)
    for record in records:
        best = record["cell"]["schedule"] == "SLR"
        record["accuracy"]["final"] = {"test": 0.5 if best else 0.9, "validation": 0.95 if best else 0.6}
    means = latency.table(selection(SWEEP, records))["mean"]
    assert set(means.round(6)) == {50.0}


def test_records_without_a_latency_are_refused_in_a_line(table1):
    with pytest.raises(UserError, match="no latency; it is measured where whole filters are pruned"):
        drawn(latency.latency, table1)


def test_the_size_of_a_marker_says_the_sparsity_and_no_text_lies_over_another():
    figure = drawn(latency.latency, selection(SWEEP, made_up())).figure
    panel = figure.axes[0]
    handles, labels = panel.get_legend_handles_labels()
    sizes = {label: handle.get_markersize() for handle, label in zip(handles, labels, strict=True) if "pruned" in label}
    assert list(sizes) == ["60 % pruned", "90 % pruned"]
    assert sizes["60 % pruned"] > sizes["90 % pruned"]
    assert not panel.texts
