"""What a long sweep says while it runs."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from benchmark.launch import display
from benchmark.launch.display import Display, Pace
from benchmark.launch.events import Epoch, Started
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import make_plan
from benchmark.results.store import Store


def planned(tmp_path, sweep: str = "table1", *only: str):
    loaded = load_sweep(sweep, only=list(only))
    return make_plan(loaded.cells, Store(tmp_path), loaded.execution)


def test_the_time_left_counts_the_epochs_of_running_cells(tmp_path):
    now = [0.0]
    plan = planned(tmp_path, "table1", "seed=0,schedule=LLR,sparsity=0.9")
    pace = Pace(plan.tasks, lambda: now[0])
    assert pace.seconds_left is None
    dense, cell = plan.tasks[0].cell, plan.tasks[-1].cell
    now[0] = 18.0
    assert pace.reached(dense, 9) == "9 of 90"
    # a cell that is taken up in its middle: only its last epoch was trained here
    assert pace.done == 9
    assert pace.seconds_left == pytest.approx(18 / 1 * (pace.total - 9))
    now[0] = 36.0
    pace.reached(dense, 18)
    assert pace.seconds_left == pytest.approx(36 / 10 * (pace.total - 18))
    pace.ended(dense, trained_here=True)
    begun = pace.done
    assert begun == 90
    pace.reached(cell, 90.999)
    assert pace.done == pytest.approx(90.999)


def test_a_run_that_goes_on_where_another_ends_counts_only_its_own_epochs(tmp_path):
    plan = planned(tmp_path, "figure1", "schedule=LRW,seed=0")
    pace = Pace(plan.tasks)
    longer = next(task for task in plan.tasks if task.shared)
    pace.reached(longer.cell, 90 + longer.shared + 3)
    assert pace.done == pytest.approx(3)


def test_a_terminal_shows_those_of_many_running_cells_that_were_heard_of_last(tmp_path):
    plan = planned(tmp_path)
    text = io.StringIO()
    shown = Display(plan, Store(tmp_path), Console(file=text, width=200, force_terminal=True), workers=2)
    cells = [task.cell for task in plan.tasks[: display.SHOWN_CELLS + 3]]
    for cell in cells:
        shown.show(Started(cell))
    shown.show(Epoch(cells[0], 34, {"epoch": 2.0}))  # one without a validation
    console = Console(file=io.StringIO(), width=200)
    console.print(shown._picture())
    picture = console.file.getvalue()
    assert "and 3 others" in picture
    assert re.search(rf"{cells[0].id}  epoch 2 of 90 *\n", picture)
    assert [cell.id in picture for cell in cells[1:4]] == [False] * 3


def test_without_a_terminal_a_long_cell_is_heard_of_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(display, "QUIET_SECONDS", 0)
    plan = planned(tmp_path)
    text = io.StringIO()
    shown = Display(plan, Store(tmp_path), Console(file=text, width=200), workers=2)
    cell = plan.tasks[0].cell
    shown.show(Started(cell))
    shown.show(Epoch(cell, 34, {"epoch": 2.0, "validation_accuracy": 0.5}))
    line = text.getvalue()
    assert f"0/165 {cell.id}  epoch 2 of 90, validation 50.0 %  about" in line
    assert "left" in line
