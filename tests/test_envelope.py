"""Figure 1's envelope: it never falls, does not depend on order, never exceeds what was run, and selects blindly."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.paper.envelope import RunScores, common_seeds, envelope, incomplete, met_after, settings

accuracies = st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.75, 0.9]), st.just(math.nan))
runs = st.lists(
    st.builds(
        RunScores,
        setting=st.sampled_from(["1 cycle", "2 cycles", "4 cycles"]),
        epochs=st.sampled_from([2.0, 5.0, 10.0, 50.0]),
        seed=st.integers(0, 2),
        validation=accuracies,
        test=accuracies,
    ),
    max_size=25,
    unique_by=lambda run: (run.setting, run.epochs, run.seed),
)


def reached(steps, epochs: float) -> float:
    """The envelope at `epochs`; NaN before its first step."""
    return next((step.mean for step in reversed(steps) if step.epochs <= epochs), math.nan)


@given(runs)
def test_it_never_falls_and_every_step_is_longer_and_higher(found):
    steps = envelope(found)
    for before, after in pairwise(steps):
        assert before.epochs < after.epochs
        assert before.mean < after.mean
        assert before.validation < after.validation


@given(runs, st.randoms())
def test_the_order_of_the_runs_does_not_matter(found, shuffler):
    shuffled = list(found)
    shuffler.shuffle(shuffled)
    assert envelope(shuffled) == envelope(found)


@given(runs)
def test_it_never_exceeds_the_best_run_within_its_epochs(found):
    steps = envelope(found)
    complete = {(step.epochs, step.setting) for step in settings(found, common_seeds(found))}
    for epochs in (1.0, 2.0, 7.0, 50.0, 1000.0):
        within = [run.test for run in found if run.epochs <= epochs and (run.epochs, run.setting) in complete]
        within = [test for test in within if math.isfinite(test)]
        level = reached(steps, epochs)
        assert math.isnan(level) == (not within)
        assert not within or level <= max(within)


@given(runs, st.floats(0, 1))
def test_it_is_met_exactly_where_it_first_is_as_high(found, level):
    steps = envelope(found)
    met = met_after(steps, level)
    if met is None:
        assert all(step.mean < level for step in steps)
    else:
        assert reached(steps, met) >= level
        assert not reached(steps, math.nextafter(met, 0)) >= level


@given(runs)
def test_a_missing_cell_is_as_if_it_had_not_been_planned(found):
    usable = [run for run in found if math.isfinite(run.test + run.validation)]
    assert envelope(found) == envelope(usable)


@given(runs)
def test_every_step_is_a_setting_that_was_run_with_the_seeds_of_all(found):
    seeds = common_seeds(found)
    for step in envelope(found):
        own = [run for run in found if (run.setting, run.epochs) == (step.setting, step.epochs)]
        assert seeds <= {run.seed for run in own if math.isfinite(run.test + run.validation)}
        assert step.n == len(seeds)
        assert step in settings(found, seeds)


def run(setting: str, epochs: float, validation: float, test: float, seed: int = 0) -> RunScores:
    return RunScores(setting, epochs, seed, validation, test)


def test_selection_looks_at_validation_alone():
    """The setting that is best on test is not selected, since another of its length is better on validation."""
    (step,) = envelope([run("a", 10, validation=0.8, test=0.99), run("b", 10, validation=0.9, test=0.7)])
    assert (step.setting, step.mean) == ("b", 0.7)


def test_a_longer_setting_that_is_selected_but_worse_on_test_does_not_pull_the_envelope_down():
    found = [run("a", 5, 0.8, 0.9), run("a", 10, 0.85, 0.7), run("a", 20, 0.9, 0.95)]
    assert [(step.epochs, step.mean) for step in envelope(found)] == [(5, 0.9), (20, 0.95)]


def test_of_equal_settings_the_shorter_one_and_then_the_first_by_name_counts():
    found = [run("b", 5, 0.8, 0.9), run("a", 5, 0.8, 0.9), run("a", 10, 0.8, 0.99)]
    assert [(step.epochs, step.setting) for step in envelope(found)] == [(5, "a")]


def test_the_band_is_the_sample_deviation_over_seeds_and_none_for_one():
    (step,) = envelope([run("a", 5, 0.8, 0.90, 0), run("a", 5, 0.8, 0.92, 1), run("a", 5, 0.8, 0.94, 2)])
    assert (round(step.mean, 9), round(step.std, 9), step.n) == (0.92, 0.02, 3)
    assert envelope([run("a", 5, 0.8, 0.9)])[0].std == 0.0


def seeds_of(setting: str, epochs: float, level: float, seeds: tuple[int, ...]) -> list[RunScores]:
    return [run(setting, epochs, level, level, seed) for seed in seeds]


def test_a_setting_with_missing_seeds_takes_no_part():
    """One easy seed of a longer setting does not take over from three seeds of a shorter one."""
    found = [*seeds_of("a", 5, 0.90, (0, 1, 2)), *seeds_of("b", 10, 0.95, (2,)), *seeds_of("c", 20, 0.97, (0, 1))]
    assert [(step.setting, step.n) for step in envelope(found)] == [("a", 3)]
    assert incomplete(found, common_seeds(found)) == 2


def test_means_are_over_the_seeds_that_the_most_complete_settings_share():
    a = [*seeds_of("a", 5, 0.90, (1, 2)), *seeds_of("a", 5, 0.99, (0,))]
    found = [*a, *seeds_of("b", 10, 0.95, (1, 2, 3)), *seeds_of("c", 20, 0.97, (1, 2))]
    assert common_seeds(found) == {1, 2}
    assert [(step.setting, round(step.mean, 9), step.n) for step in envelope(found)] == [
        ("a", 0.9, 2),
        ("b", 0.95, 2),
        ("c", 0.97, 2),
    ]
    apart = [run("a", 5, 0.9, 0.9, 0), run("b", 5, 0.9, 0.9, 1)]
    assert envelope(apart) == ()
    assert incomplete(apart, common_seeds(apart)) == 2


def test_nothing_run_is_no_envelope():
    assert envelope([]) == ()
    assert met_after((), 0.5) is None
