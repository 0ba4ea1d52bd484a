"""What a plan says before anything runs: what is needed, what waits for what, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UserError
from benchmark.measure.publishing import made_up_record
from benchmark.planning.grid import Execution, load_sweep
from benchmark.planning.plan import make_plan, refuse_unfit
from benchmark.results.store import Store

TABLE1, FIGURE1 = load_sweep("table1"), load_sweep("figure1")


def test_every_cell_waits_for_the_dense_run_of_its_seed(tmp_path: Path):
    plan = make_plan(TABLE1.cells, Store(tmp_path), TABLE1.execution)
    dense = {task.cell.id: task.cell.seed for task in plan.dense_tasks}
    assert sorted(dense.values()) == [0, 1, 2]
    for task in plan.tasks[3:]:
        assert dense[task.after] == task.cell.seed


def test_only_what_is_needed_is_planned(tmp_path: Path):
    some = load_sweep("table1", only=["seed=1,schedule=LLR"])
    plan = make_plan(some.cells, Store(tmp_path), some.execution)
    assert [task.cell.seed for task in plan.tasks] == [1] * 10
    assert plan.epochs == pytest.approx(90 + 3 * (1.998 + 4.995 + 9.999))


def test_runs_that_share_a_beginning_follow_each_other_and_cost_only_their_rest(tmp_path: Path):
    baseline = [cell for cell in FIGURE1.cells if cell.schedule == "LRW" and cell.seed == 0]
    plan = make_plan(baseline, Store(tmp_path), FIGURE1.execution)
    by_sparsity = {task.cell.sparsity: task for task in plan.tasks}
    assert by_sparsity[0.95].behind == by_sparsity[0.9].cell.id
    assert by_sparsity[0.98].behind == by_sparsity[0.95].cell.id
    assert [by_sparsity[s].epochs / 90 for s in (0.9, 0.95, 0.98)] == [11, 14 - 10, 18 - 13]


def test_runs_that_differ_in_what_matters_share_nothing(tmp_path: Path):
    plan = make_plan(FIGURE1.cells, Store(tmp_path), FIGURE1.execution)
    for task in plan.tasks:
        if task.behind is not None:
            other = next(t.cell for t in plan.tasks if t.cell.id == task.behind)
            same = ("seed", "schedule", "budget", "hyperparameters", "problem")
            assert all(getattr(other, key) == getattr(task.cell, key) for key in same)


def test_many_workers_end_no_sooner_than_the_longest_cell_behind_its_dense_run(tmp_path: Path):
    cells = load_sweep("table1", seeds="1").cells
    plan = make_plan(cells, Store(tmp_path), Execution(seconds_per_epoch=1.0))
    assert plan.seconds(1) == pytest.approx(plan.epochs)
    assert plan.seconds(1000) == pytest.approx(90 + 0.1111 * 90)


@pytest.mark.parametrize(
    ("budget", "settings", "refused"),
    [
        ("100%", "", False),
        ("150%", "", True),
        ("91ep", "", True),
        ("150%", ", hyperparameters: {cycles: [2]}", False),
        ("250%", ", hyperparameters: {cycles: [2]}", True),
        ("150%/cycle", ", hyperparameters: {cycles: [2]}", True),
    ],
)
def test_a_rewinding_longer_than_the_dense_run_is_refused_before_anything_is_trained(
    tmp_path: Path, budget: str, settings: str, refused: bool
):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f'title: t\ngrids: [{{method: IMP, schedule: [LRW], sparsity: [0.9], budget: ["{budget}"]{settings}}}]\n'
    )
    cells = load_sweep(str(file)).cells
    if not refused:
        refuse_unfit(cells)
        return
    with pytest.raises(
        UserError, match=r"schedule LRW replays .* each cycle, which has 90 epochs; budget .* is accepted"
    ):
        refuse_unfit(cells)


@pytest.mark.parametrize(
    "change", [{"seconds": {"total": 10**400}}, {"seconds": {}}, {"iterations": {"total": "0", "per_epoch": 5}}]
)
def test_a_record_that_says_no_time_stops_no_plan(tmp_path: Path, change: dict):
    store, (cell, *_) = Store.open_for_writing(tmp_path), TABLE1.cells
    store.commit(made_up_record(0) | {"id": cell.id, "cell": cell.to_json()} | change)
    hint = TABLE1.execution.seconds_per_epoch
    assert make_plan(TABLE1.cells, store, TABLE1.execution).seconds_per_epoch == hint
