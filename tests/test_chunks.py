"""How the cells of a sweep are laid out as jobs of a cluster, and when a job gives up."""

from __future__ import annotations

from pathlib import Path

from benchmark.launch.slurm.attempts import Attempts
from benchmark.launch.slurm.chunks import Costs, lay_out
from benchmark.launch.slurm.profile import Profile, Retries
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import PlannedTask, make_plan
from benchmark.results.store import Store

COST = Costs({}, 10.0)
"""Seconds per epoch, so that cells of table1 on digits cost 20 to 100 s and dense runs 900 s."""


def tasks(seeds: int) -> tuple[PlannedTask, ...]:
    wanted = load_sweep("table1", seeds=str(seeds))
    return make_plan(wanted.cells, Store("nowhere"), wanted.execution).tasks


def test_short_cells_are_packed_to_the_length_asked_for_each_behind_its_own_dense_run():
    everything = tasks(3)
    layout = lay_out(everything, COST, Profile(chunk="30min"), 1001, {})
    assert sorted(t.cell.id for c in layout.chunks for t in c.tasks) == sorted(t.cell.id for t in everything)
    assert all(chunk.seconds <= 1800 for chunk in layout.chunks)
    assert sum(chunk.seconds < 900 for chunk in layout.chunks) <= 4, "chunks could be fuller"
    for array in layout.arrays:
        inside = {task.after for chunk in array.chunks for task in layout.chunks[chunk].tasks}
        before = {task.cell.id for chunk in array.after_chunks for task in layout.chunks[chunk].tasks}
        assert inside <= (before if array.kind == "cells" else {None})


def test_runs_that_share_their_beginning_are_in_one_job():
    wanted = load_sweep("figure1", seeds="2")
    everything = make_plan(wanted.cells, Store("nowhere"), wanted.execution).tasks
    sharing = [task for task in everything if task.behind]
    assert len(sharing) >= 8
    layout = lay_out(everything, COST, Profile(chunk="10min"), 1001, {})
    job = {task.cell.id: number for number, chunk in enumerate(layout.chunks) for task in chunk.tasks}
    assert len(layout.chunks) > 20
    assert len(job) == len(everything)
    assert [task.cell.id for task in sharing if job[task.cell.id] != job[task.behind]] == []


def test_many_cells_need_few_jobs_and_arrays_respect_the_limit():
    layout = lay_out(tasks(100), COST, Profile(max_jobs=150), 20, {})
    assert len(layout.chunks) <= 150
    assert max(len(array.chunks) for array in layout.arrays) <= 20


def test_cells_wait_for_a_dense_run_that_somebody_elses_job_trains():
    everything = tasks(1)
    dense, cells = everything[0], everything[1:]
    layout = lay_out(cells, COST, Profile(), 1001, {dense.cell.id: "55_2"})
    assert {array.after_jobs for array in layout.arrays} == {("55_2",)}
    free = lay_out(cells, COST, Profile(), 1001, {})
    assert {(array.after_jobs, array.after_chunks) for array in free.arrays} == {((), ())}


def test_a_job_gives_up_by_cause(tmp_path: Path):
    attempts, retries = Attempts(tmp_path / "1.jsonl"), Retries(lost=2, warned=1, idle=9)
    for number in range(3):
        assert attempts.exhausted(retries, f"at {number}") is None
        attempts.start(f"at {number}")
    assert "retries.lost allows 2" in attempts.exhausted(retries, "at 3")
    attempts.end("warned")
    assert attempts.exhausted(retries, "at 3") is None, "the third attempt was not lost after all"
    attempts.start("at 3")
    attempts.end("warned")
    assert "retries.warned allows 1" in attempts.exhausted(retries, "at 4")


def test_a_job_that_gets_nowhere_gives_up(tmp_path: Path):
    attempts, retries = Attempts(tmp_path / "1.jsonl"), Retries(idle=2)
    for _ in range(2):
        assert attempts.exhausted(retries, "here") is None
        attempts.start("here")
        attempts.end("terminated")
    assert attempts.exhausted(retries, "further") is None
    assert "retries.idle" in attempts.exhausted(retries, "here")
