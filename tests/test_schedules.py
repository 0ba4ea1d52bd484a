"""The retraining schedules: closed forms, identities between them, their edges, and one from outside the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cells import Problem
from benchmark.errors import UserError
from benchmark.training.schedules import (
    SCHEDULES,
    Retraining,
    dense_learning_rates,
    dense_warmup_iterations,
    fine_tuning_last,
    learning_rates,
    peak_fraction,
    relative_distance,
    resolve,
)

PER_EPOCH = 7
IMAGENET = Problem(name="p", dataset="d", model="m", epochs=90, milestones=(30, 60, 80), warmup_epochs=5)
N_DENSE = 90 * PER_EPOCH


def dense_run(problem: Problem = IMAGENET) -> tuple[np.ndarray, int]:
    rates = dense_learning_rates(problem, PER_EPOCH)
    return rates, dense_warmup_iterations(problem, PER_EPOCH, rates.size)


def retraining(iterations: int, d1: float = 0.3, d2: float = 0.1, problem: Problem = IMAGENET) -> Retraining:
    return Retraining(*dense_run(problem), iterations, d1, d2)


problems = st.builds(
    Problem,
    name=st.just("p"),
    dataset=st.just("d"),
    model=st.just("m"),
    epochs=st.integers(1, 40),
    learning_rate=st.floats(1e-4, 10),
    decay=st.sampled_from(["step", "linear", "cosine"]),
    milestones=st.lists(st.integers(1, 40), unique=True, max_size=4).map(lambda m: tuple(sorted(m))),
    gamma=st.floats(0.01, 1),
    warmup_epochs=st.sampled_from([0, 0.5, 1]),
)
any_retraining = st.builds(
    retraining,
    iterations=st.integers(0, 300),
    d1=st.floats(0, 1.5),
    d2=st.floats(0, 1),
    problem=problems,
)


# --- the dense run -------------------------------------------------------------------------------------------------


def test_dense_step_schedule_is_walked_across_its_warmup_and_every_milestone() -> None:
    rates, warmup = dense_run()
    assert rates.shape == (N_DENSE,)
    assert warmup == 35
    assert np.allclose(rates[:35], 0.1 * np.arange(1, 36) / 35)
    for epoch, before, after in [(30, 0.1, 0.01), (60, 0.01, 0.001), (80, 0.001, 0.0001)]:
        assert rates[epoch * PER_EPOCH - 1] == pytest.approx(before)
        assert rates[epoch * PER_EPOCH] == pytest.approx(after)
    assert len(set(rates[35:])) == 4


def test_gamma_of_the_recipe_is_used() -> None:
    wide = Problem(name="p", dataset="d", model="m", epochs=200, milestones=(60, 120, 160), gamma=0.2)
    rates = dense_learning_rates(wide, 1)
    assert rates[[59, 60, 119, 120, 159, 160]] == pytest.approx([0.1, 0.02, 0.02, 0.004, 0.004, 0.0008])


@pytest.mark.parametrize(("decay", "middle"), [("linear", 0.05), ("cosine", 0.05)])
def test_smooth_decays_start_after_the_warmup_and_are_half_way_at_half_way(decay: str, middle: float) -> None:
    problem = Problem(name="p", dataset="d", model="m", epochs=10, decay=decay, warmup_epochs=2)
    rates = dense_learning_rates(problem, 10)
    assert rates[19] == rates[20] == 0.1
    assert rates[60] == pytest.approx(middle)
    assert np.all(np.diff(rates[20:]) < 0)
    assert 0 < rates[-1] < 0.002


def test_a_shorter_dense_phase_ends_its_linear_decay_early() -> None:
    problem = Problem(name="p", dataset="d", model="m", epochs=10, decay="linear")
    rates = dense_learning_rates(problem, 10, epochs=4.5)
    assert rates.shape == (45,)
    assert rates[-1] == pytest.approx(0.1 / 45)


@given(problems, st.integers(1, 9))
def test_dense_rates_are_positive_and_never_above_the_recipes(problem: Problem, per_epoch: int) -> None:
    rates = dense_learning_rates(problem, per_epoch)
    assert rates.shape == (problem.epochs * per_epoch,)
    assert np.all(rates > 0)
    assert np.all(rates <= problem.learning_rate)


# --- what holds for all schedules ----------------------------------------------------------------------------------


@given(any_retraining, st.sampled_from(sorted(SCHEDULES)))
def test_every_schedule_gives_n_finite_rates_from_0_to_the_dense_peak(retraining: Retraining, name: str) -> None:
    if name == "LRW" and retraining.iterations > retraining.dense.size:
        return  # refused, see below
    rates = SCHEDULES[name](retraining)
    assert rates.shape == (retraining.iterations,)
    assert np.isfinite(rates).all()
    assert np.all((rates >= 0) & (rates <= retraining.eta_max))
    assert np.array_equal(learning_rates(name, retraining), rates)


@given(any_retraining, st.sampled_from(["SLR", "CLR", "LLR", "ALLR"]))
def test_warmup_begins_at_0_is_a_half_cosine_and_reaches_the_peak_at_w(retraining: Retraining, name: str) -> None:
    rates, w = SCHEDULES[name](retraining), int(0.1 * retraining.iterations)
    assert retraining.warmup == w
    if retraining.iterations == 0:
        return
    peak = retraining.eta_max * (peak_fraction(retraining) if name == "ALLR" else 1)
    if name != "SLR" or retraining.dense_warmup:  # otherwise SLR begins where the dense run does
        assert rates[w] == peak
    if w:
        assert rates[0] == 0
        assert rates[:w] == pytest.approx([peak * (1 - np.cos(np.pi * j / w)) / 2 for j in range(w)])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_no_iterations_give_no_learning_rates(name: str) -> None:
    assert learning_rates(name, retraining(0)).shape == (0,)


@pytest.mark.parametrize("name", ["SLR", "CLR", "LLR"])
def test_fewer_than_ten_iterations_have_no_warmup(name: str) -> None:
    assert learning_rates(name, retraining(9))[0] == 0.1
    assert learning_rates(name, retraining(10))[0] == 0


# --- each one ------------------------------------------------------------------------------------------------------


def test_fine_tuning_is_constant_at_the_smallest_rate_after_the_dense_warmup() -> None:
    # the first warm-up iteration, 0.1 / 35, is below 0.01 here: it must not count
    problem = IMAGENET.model_copy(update={"milestones": (30.0,), "gamma": 0.1})
    assert learning_rates("FT", retraining(20, problem=problem)) == pytest.approx([0.01] * 20)


def test_fine_tuning_option_of_the_poster_is_the_last_dense_rate() -> None:
    rising = Retraining(np.array([0.3, 0.1, 0.2]), 0, 4)
    assert fine_tuning_last(rising).tolist() == [0.2] * 4
    assert resolve("FT")(rising).tolist() == [0.1] * 4
    assert resolve("benchmark.training.schedules:fine_tuning_last") is fine_tuning_last


@given(st.integers(0, 10 * PER_EPOCH))
def test_lrw_equals_ft_within_the_last_plateau_and_not_beyond(iterations: int) -> None:
    assert np.array_equal(learning_rates("LRW", retraining(iterations)), learning_rates("FT", retraining(iterations)))
    longer = retraining(10 * PER_EPOCH + 1)
    assert learning_rates("LRW", longer)[0] > learning_rates("FT", longer)[0]


def test_lrw_replays_the_end_of_the_dense_run_all_of_it_at_most() -> None:
    dense, _ = dense_run()
    assert np.array_equal(learning_rates("LRW", retraining(N_DENSE)), dense)
    assert np.array_equal(learning_rates("LRW", retraining(300)), dense[-300:])
    with pytest.raises(UserError, match=f"LRW.*has {N_DENSE}, not {N_DENSE + 1}"):
        learning_rates("LRW", retraining(N_DENSE + 1))


@pytest.mark.parametrize("iterations", [40, 200, N_DENSE, 3 * N_DENSE])
def test_slr_spans_all_the_dense_milestones_in_proportion(iterations: int) -> None:
    """3 * N_DENSE: longer retraining than the dense run stretches it."""
    rates = learning_rates("SLR", retraining(iterations))
    decay = rates[iterations // 10 :]
    assert sorted(set(decay), reverse=True) == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    shares = [np.mean(np.isclose(decay, rate, rtol=1e-6, atol=0)) for rate in (0.1, 0.01, 0.001, 0.0001)]
    assert shares == pytest.approx([30 / 90, 30 / 90, 20 / 90, 10 / 90], abs=1.5 / decay.size)


def test_clr_is_half_a_cosine_from_the_peak_to_the_smallest_rate() -> None:
    rates = learning_rates("CLR", retraining(100))
    assert rates[10] == 0.1
    assert rates[10 + 45] == pytest.approx((0.1 + 0.0001) / 2)
    assert rates[10 + 30] == pytest.approx(0.0001 + (0.1 - 0.0001) * 0.75)  # cos(pi / 3) = 1/2
    assert rates[99] == pytest.approx(0.0001 + (0.1 - 0.0001) * (1 + np.cos(np.pi * 89 / 90)) / 2)


def test_llr_is_a_line_that_would_reach_0_one_iteration_after_the_end() -> None:
    rates = learning_rates("LLR", retraining(100))
    assert rates[10:] == pytest.approx(0.1 * (1 - np.arange(90) / 90))
    assert rates[99] == pytest.approx(0.1 / 90)


@given(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1))
def test_allr_is_llr_scaled_by_the_larger_of_d1_and_d2(iterations: int, d1: float, d2: float) -> None:
    allr = retraining(iterations, d1, d2)
    assert peak_fraction(allr) == max(d1, d2)
    assert learning_rates("ALLR", allr) == pytest.approx(max(d1, d2) * learning_rates("LLR", allr), rel=1e-12)


@pytest.mark.parametrize(("d1", "d2"), [(1.0, 0.1), (0.1, 1.0), (1.2, 0.1)])
def test_allr_with_d_of_1_is_llr(d1: float, d2: float) -> None:
    """d1 above 1 happens with random pruning and counts as 1."""
    allr = retraining(50, d1, d2)
    assert peak_fraction(allr) == 1
    assert np.array_equal(learning_rates("ALLR", allr), learning_rates("LLR", allr))


# --- d1 ------------------------------------------------------------------------------------------------------------


def test_relative_distance_by_hand() -> None:
    # theta = (3, 4), the 3 pruned: ||theta - theta_p|| = 3, ||theta|| = 5, s = 1/2
    assert relative_distance(5, 3, 0.5) == pytest.approx(3 / (5 * np.sqrt(0.5)))


def test_relative_distance_is_0_where_nothing_was_pruned_or_all_were_0() -> None:
    assert relative_distance(5, 0, 0) == 0
    assert relative_distance(0, 0, 0.5) == 0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.data())
def test_magnitude_pruning_keeps_the_relative_distance_from_0_to_1(weights: list[float], data: st.DataObject) -> None:
    theta = np.sort(np.abs(weights))
    pruned = data.draw(st.integers(0, len(weights) - 1))
    d1 = relative_distance(float(np.linalg.norm(theta)), float(np.linalg.norm(theta[:pruned])), pruned / len(weights))
    assert 0 <= d1 <= 1 + 1e-9


@pytest.mark.parametrize("sparsity", [1, 1.5, -0.1, float("nan")])
def test_relative_distance_refuses_a_sparsity_of_1_and_other_nonsense(sparsity: float) -> None:
    with pytest.raises(UserError, match="sparsity"):
        relative_distance(5, 3, sparsity)


# --- schedules by name ---------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of somebody else's, importable as `their_schedules`."""
    path = tmp_path / "their_schedules.py"
    path.write_text(
        "import numpy as np\n"
        "CONSTANT = 3\n"
        "def square_root(r):\n"
        "    return r.eta_max * np.sqrt(1 - np.arange(r.iterations) / max(r.iterations, 1))\n"
        "def too_short(r):\n"
        "    return np.zeros(r.iterations - 1)\n"
        "def too_large(r):\n"
        "    return np.full(r.iterations, 2 * r.eta_max)\n"
        "def negative(r):\n"
        "    return np.full(r.iterations, -0.1)\n"
        "def undefined(r):\n"
        "    return np.full(r.iterations, np.nan)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_schedules", raising=False)
    return path


def test_a_schedule_from_outside_the_package_is_used_by_its_name(outside: Path) -> None:
    rates = learning_rates("their_schedules:square_root", retraining(100))
    assert rates[0] == 0.1
    assert rates[75] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("too_short", r"'their_schedules:too_short' gave shape \(19,\).*20 iterations"),
        ("too_large", "'their_schedules:too_large' gave 0.2 at iteration 0.*0 to 0.1"),
        ("negative", "'their_schedules:negative' gave -0.1"),
        ("undefined", "'their_schedules:undefined' gave nan"),
    ],
)
def test_a_schedule_that_gives_nonsense_is_refused_by_name(outside: Path, function: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        learning_rates(f"their_schedules:{function}", retraining(20))


@pytest.mark.parametrize(
    "name",
    ["XLR", "", "llr", ":f", "their_schedules:", "their_schedules:absent", "their_schedules:CONSTANT", "no.such:f"],
)
def test_an_unknown_schedule_is_answered_with_what_is_accepted(outside: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"FT, LRW, SLR, CLR, LLR, ALLR.*module:function"):
        resolve(name)


def test_a_module_that_breaks_while_imported_is_one_line(outside: Path) -> None:
    outside.write_text("1 / 0\n")
    with pytest.raises(UserError, match="division by zero"):
        resolve("their_schedules:square_root")
