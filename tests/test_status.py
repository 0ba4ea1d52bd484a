"""What is done, queued, failed and left, from files and a squeue that the tests write; and how jobs are laid out."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from benchmark import cli, status
from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.launch.progress import Asked, SweepProgress, look, progress
from benchmark.launch.slurm import jobs as slurm
from benchmark.launch.slurm.chunks import JobLayout, lay_out
from benchmark.launch.slurm.profile import Profile
from benchmark.launch.slurm.queue import Unknown, read_queue
from benchmark.launch.slurm.submissions import Submission, submissions, write_intent
from benchmark.launch.slurm.task import _ChunkJob
from benchmark.measure.publishing import made_up_record
from benchmark.planning.grid import load_sweep
from benchmark.planning.plan import make_plan
from benchmark.results.locks import Locks
from benchmark.results.store import Store
from tests.conftest import assert_one_line_refusal
from tests.test_chunks import COST


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A squeue that answers with the lines given, or fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def answer(*lines: str, code: int = 0, error: str = "") -> None:
        listing = folder / "listing"
        listing.write_text("".join(line + "\n" for line in lines))
        script = folder / "squeue"
        script.write_text(f"#!/bin/sh\necho '{error}' >&2\ncat {listing}\nexit {code}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    return answer


@pytest.fixture
def submitted(tmp_path: Path) -> tuple[Store, Submission, JobLayout]:
    """table1 with one seed: one dense run in job 7, 54 cells in the tasks of array 8."""
    store = Store(tmp_path / "results")
    wanted = load_sweep("table1", seeds="1")
    profile = Profile()
    layout = lay_out(make_plan(wanted.cells, store, wanted.execution).tasks, COST, profile, 1001, {})
    submission = write_intent(store, wanted, layout, COST, profile, None)
    submission.add_jobs(0, {0: "7"})
    submission.add_jobs(1, {chunk: f"8_{k}" for k, chunk in enumerate(layout.arrays[1].chunks)})
    return store, submission, layout


def state(store: Store) -> SweepProgress:
    return progress(look(store.path), "table1")


def record(store: Store, name: str) -> None:
    """As much of a record as status looks at."""
    path = store.record_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def test_a_job_reads_the_cells_that_were_planned_for_it(submitted):
    _, submission, layout = submitted
    for number, chunk in enumerate(layout.chunks):
        assert [task for task, _ in submission.tasks(number)] == list(chunk.tasks)


def test_cells_of_queued_jobs_are_queued_and_done_ones_done(squeue, submitted):
    store, submission, layout = submitted
    waiting = (f"8_{k}|PENDING|Dependency|{submission.job_name(1)}" for k in range(2))
    squeue(f"7|RUNNING|None|{submission.job_name(0)}", *waiting)
    found = state(store)
    assert (found.cells, found.counts["queued"], found.dense["queued"]) == (54, 54, 1)
    assert found.jobs == {"running": 1, "pending": 2}
    assert any("Dependency" in note for note in found.notes)
    record(store, layout.chunks[0].tasks[0].cell.id)
    record(store, layout.chunks[1].tasks[0].cell.id)
    found = state(store)
    assert (found.counts["done"], found.counts["queued"], found.dense["done"]) == (1, 53, 1)
    # one job of one worker runs: what is left one after the other, as estimated (records here say nothing of time)
    left = [task for chunk in layout.chunks[1:] for task in chunk.tasks][1:]
    assert found.seconds_left == pytest.approx(sum(COST.seconds(task) for task in left), rel=1e-3)


def test_a_failed_cell_is_failed_until_it_is_queued_again_and_a_silent_job_is_named(squeue, submitted):
    store, submission, layout = submitted
    first, last = layout.chunks[1], layout.chunks[-1]
    store.add_failure(first.tasks[0].cell.id, "exception", "ValueError: no")
    squeue(f"8_0|RUNNING|None|{submission.job_name(1)}")
    assert state(store).counts["failed"] == 0
    squeue(f"8_1|RUNNING|None|{submission.job_name(1)}")
    found = state(store)
    assert found.counts == {"failed": 1, "left": len(first.tasks) - 1, "queued": len(last.tasks)}
    assert [failure["message"] for failure in found.failures] == ["ValueError: no"]
    assert any("ended without a report (8_0" in note for note in found.notes)


def test_a_cell_that_is_tried_again_here_is_running_and_no_longer_failed(tmp_path: Path):
    store, (cell, *_) = Store(tmp_path), load_sweep("table1", seeds="1").cells
    store.add_failure(cell.id, "exception", "ValueError: no")
    assert [failure["id"] for failure in state(store).failures] == [cell.id]
    lock = Locks().take(store.file("claims", cell.id))
    found = state(store)
    assert (found.counts["running"], found.counts["failed"], found.failures) == (1, 0, [])
    lock.release()


def test_an_array_whose_ids_were_never_noted_is_found_by_its_name(squeue, submitted):
    store, submission, layout = submitted
    (submission.folder / "jobs" / "1.json").unlink()
    squeue(*(f"31_{k}|PENDING|None|{submission.job_name(1)}" for k in range(2)))
    assert state(store).counts["queued"] == 54
    assert not (submission.folder / "jobs" / "1.json").exists(), "status must not write"
    assert len(slurm.reconcile(store)[0].jobs) == 2
    assert submission.jobs(1) == {chunk: f"31_{k}" for k, chunk in enumerate(layout.arrays[1].chunks)}


def test_a_squeue_that_does_not_answer_is_not_an_empty_queue(squeue, submitted):
    store, submission, _ = submitted
    squeue(code=1, error="slurm_load_jobs error: Unable to contact slurm controller")
    assert any("unknown: squeue says: slurm_load_jobs error" in note for note in state(store).notes)
    with pytest.raises(UserError, match="nothing was submitted"):
        slurm.reconcile(store)
    assert not submission.closed
    squeue()
    assert slurm.reconcile(store) == []
    assert submission.closed


def test_a_sweep_of_which_nobody_knows_what_is_queued_is_not_called_idle(
    squeue, submitted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    store, submission, _ = submitted
    squeue(code=1, error="no controller")
    shown = ["table1", "--results", str(store.path)]
    assert cli.main(status.app, shown) == 0
    said = capsys.readouterr().out
    assert "what is queued is unknown" in said
    assert "nothing runs or waits" not in said
    monkeypatch.setattr(status.time, "sleep", lambda _: squeue())
    assert cli.main(status.app, [*shown, "--watch"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert "54 left; what is queued is unknown: squeue says: no controller" in first
    assert any("nothing runs or waits" in line for line in rest), "it ended before squeue had answered"
    squeue(code=1, error="no controller")
    submission.close()
    assert not state(store).unknown, "nothing can be queued of a closed submission"


def test_a_machine_without_squeue_is_not_asked_again(submitted, monkeypatch: pytest.MonkeyPatch):
    store, _, _ = submitted
    monkeypatch.setenv("PATH", "")
    found = state(store)
    assert found.unknown
    assert not found.unclear


def test_jobs_that_squeue_still_lists_as_ended_count_as_ended(squeue):
    squeue("1|COMPLETED|None|a", "2|RUNNING|None|b|c")
    queue = read_queue([os.getuid()])
    assert list(queue) == ["2"]
    assert queue["2"].name == "b|c"
    squeue(code=1)
    with pytest.raises(Unknown):
        read_queue([os.getuid()])


def test_status_works_on_a_machine_without_slurm_and_before_anything_ran(command, tmp_path: Path):
    done = command("benchmark.status", "table1", "--results", str(tmp_path), "--watch")
    assert done.returncode == 0, done.stderr
    assert "162 cells, 0 done, 0 running, 0 queued, 0 failed, 162 left" in done.stdout
    assert_one_line_refusal(command("benchmark.status", "--results", str(tmp_path)), "no sweep was submitted")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tabel1"], ["tabel1", "table1"]),
        (["table1", "--results", "no/such/folder"], ["--results no/such/folder", "no such folder"]),
        (["--problem", "nope"], ["problem 'nope'", "digits"]),
        (["table1", "--set", "epochs"], ["--set epochs", "KEY=VALUE"]),
        (["table1", "--set", "epoch=4"], ["epoch"]),
        (["table1", "--seeds", "many"], ["many"]),
        (["table1", "--only", "colour=red"], ["--only", "colour"]),
        (["--only", "method=STR"], ["--only", "name it"]),
        (["--data", "images"], ["--data", "name it"]),
    ],
)
def test_a_mistake_in_the_status_command_is_named(command, tmp_path: Path, arguments: list[str], words: list[str]):
    assert_one_line_refusal(command("benchmark.status", "--results", str(tmp_path), *arguments), *words)


def test_a_narrow_terminal_is_told_as_much_as_a_wide_one(command, tmp_path: Path):
    shown = command("benchmark.status", "table1", "--results", str(tmp_path), COLUMNS="20").stdout
    assert "table1" in shown
    assert "162" in shown


@pytest.mark.parametrize("content", ['{"uid": 1, "swe', "[]", '{"uid": 1}'])
def test_a_damaged_submission_is_named(command, tmp_path: Path, content: str):
    file = tmp_path / "submissions" / "a" / "submission.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert_one_line_refusal(command("benchmark.status", "table1", "--results", str(tmp_path)), f"{file} cannot be read")


def test_an_unknown_problem_is_refused_where_something_was_submitted(squeue, submitted):
    store, _, _ = submitted
    squeue()
    assert progress(look(store.path), "table1", Asked(problem="digits")).cells == 54
    with pytest.raises(UserError, match="nope"):
        progress(look(store.path), "table1", Asked(problem="nope"))


def test_a_sweep_with_another_recipe_is_found_as_it_was_told(command, tmp_path: Path):
    recipe = ["--set", "batch_size=32", "--seeds", "1", "--only", "schedule=FT,sparsity=0.9"]
    wanted = load_sweep("table1", seeds="1", only=["schedule=FT,sparsity=0.9"], settings={"batch_size": 32})
    store = Store(tmp_path)
    for cell in (*wanted.cells, Cell.dense(wanted.problem, 0)):
        record(store, cell.id)
    count = len(wanted.cells)

    def said(*arguments: str) -> str:
        return command("benchmark.status", *arguments, "--results", str(tmp_path), "--watch").stdout

    assert f"table1: {count} cells, {count} done" in said("table1", *recipe, "--set", "slurm.time=4h")
    for without in (said("table1"), said()):
        assert "162 cells, 0 done" in without
        assert f"table1: {count} records with another recipe or other seeds here: repeat its --set" in without
        assert "table1: nothing runs or waits" not in without, "what was meant is finished"
    assert "another recipe" not in said("table1", *recipe)
    narrow = command("benchmark.status", "table1", "--results", str(tmp_path), COLUMNS="60").stdout
    assert f"table1: {count} records with another recipe or other seeds here: repeat its --set and --seeds\n" in narrow


def test_what_was_asked_for_is_counted_among_what_was_submitted(squeue, submitted):
    store, submission, _ = submitted
    squeue(*(f"8_{k}|PENDING|None|{submission.job_name(1)}" for k in range(2)))
    found = progress(look(store.path), "table1", Asked(seeds="2", only=("sparsity=0.9",)))
    assert found.counts["queued"] == found.counts["left"] == found.cells / 2 > 0


@pytest.mark.parametrize("every", ["nan", "inf", "0.5"])
def test_a_pause_that_cannot_be_is_refused(command, tmp_path: Path, every: str):
    done = command("benchmark.status", "table1", "--results", str(tmp_path), "--every", every)
    assert_one_line_refusal(done, f"--every {every}", "from 1 to")


def test_status_and_a_dry_run_import_no_torch(command, tmp_path: Path):
    code = (
        "import sys; from benchmark import cli, status, sweep\n"
        f"cli.main(status.app, ['table1', '--results', '{tmp_path}'])\n"
        f"cli.main(sweep.app, ['table1', '--executor', 'slurm', '--dry-run', '--results', '{tmp_path}'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "False"
    assert "GPU-hours: about" in done.stdout
    assert "--signal=USR2@120" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--executor", "slrum"], ["--executor slrum", "local, slurm"]),
        (["--cancel"], ["--cancel", "--executor slurm"]),
        (["--set", "slurm.time=4h"], ["slurm.time", "--executor slurm"]),
        (["--executor", "slurm", "--set", "slurm.time=soon"], ["time", "soon"]),
        (["--executor", "slurm", "--cluster", "nowhere"], ["nowhere", "one-gpu"]),
        (["--executor", "slurm", "--workers", "3"], ["--workers", "slurm.workers"]),
        (["--executor", "slurm", "--gpus-per-cell", "4"], ["--gpus-per-cell 4", "slurm.tasks"]),
        (["--executor", "slurm", "--cells-per-gpu", "3"], ["--cells-per-gpu 3", "slurm.workers"]),
        (["--executor", "slurm", "--checkpoint-seconds", "1"], ["--checkpoint-seconds 1", "slurm.checkpoint"]),
        (["--executor", "slurm", "--hang-seconds", "5"], ["--hang-seconds 5", "slurm.hang"]),
    ],
)
def test_a_mistake_in_the_sweep_command_is_named(command, tmp_path: Path, arguments: list[str], words: list[str]):
    assert_one_line_refusal(command("benchmark.sweep", "table1", "--results", str(tmp_path), *arguments), *words)


def test_a_refusal_of_sbatch_is_said_once_and_nothing_else_promised(command, squeue, tmp_path: Path):
    squeue()
    script, srun = tmp_path / "bin" / "sbatch", tmp_path / "bin" / "srun"
    srun.touch(0o755)
    words = ["invalid partition specified: nowhere", "Batch job submission failed: Invalid partition name specified"]
    script.write_text("#!/bin/sh\n" + "".join(f"echo 'sbatch: error: {line}' >&2\n" for line in words) + "exit 1\n")
    script.chmod(0o755)
    results = tmp_path / "runs"
    done = command("benchmark.sweep", "table1", "--seeds", "1", "--executor", "slurm", "--results", str(results))
    assert done.returncode == 1
    assert done.stderr == ""
    assert f"sbatch refused all of it: {'; '.join(words)}; the same command" in done.stdout
    assert done.stdout.count("nowhere") == 1
    for promise in ("shows how it goes", "logs:"):
        assert promise not in done.stdout
    assert [one.closed for one in submissions(Store(results))] == [True]
    script.write_text("#!/bin/sh\necho Submitted batch job 12\n")
    done = command("benchmark.sweep", "table1", "--seeds", "1", "--executor", "slurm", "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert f"python -m benchmark.status table1 --results {results} --watch shows how it goes" in done.stdout


@pytest.mark.parametrize(("setting", "place"), [((), "runs/submissions/ID/log"), (("slurm.logs={}/x",), "x/ID")])
def test_a_dry_run_shows_where_the_logs_will_be(command, tmp_path: Path, setting: tuple[str, ...], place: str):
    options = [part for text in setting for part in ("--set", text.format(tmp_path))]
    arguments = ["--executor", "slurm", "--dry-run", "--results", str(tmp_path / "runs"), *options]
    assert f"--output={tmp_path}/{place}/%j_0_log.out" in command("benchmark.sweep", "table1", *arguments).stdout
    assert list(tmp_path.iterdir()) == []


def test_a_job_trains_again_what_nothing_can_read_and_says_so(submitted, capsys):
    store, submission, _ = submitted
    dense, *cells = [task.cell.id for chunk in (0, 1) for task, _ in submission.tasks(chunk)]
    store.commit({"schema": 1, "id": dense, "cell": {}, "seconds": {}, "provenance": {}})
    record(store, cells[0])
    job = _ChunkJob(submission, 0)
    assert job._remaining() == []
    job = _ChunkJob(submission, 1)
    assert [task.cell.id for task in job._remaining()] == cells
    assert f"the record of {cells[0]} is truncated" in capsys.readouterr().out


def test_the_overhead_of_jobs_is_what_their_cells_do_not_account_for(command, submitted):
    store, submission, layout = submitted
    cell = layout.chunks[0].tasks[0].cell
    record = made_up_record(0) | {"id": cell.id, "cell": cell.to_json()}
    record["seconds"] = {"total": 6.0, "training": 4.0, "evaluation": 1.0}
    record["provenance"] |= {"start": "2026-01-01T00:00:12+00:00"}
    store.commit(record)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [{"event": "start", "time": str(began + timedelta(seconds=10)), "job_start": str(began.timestamp())}]
    lines += [{"event": "end", "time": str(began + timedelta(seconds=20))}]
    (submission.folder / "attempts" / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = command("benchmark.measure", "overhead", "--results", str(store.path)).stdout
    assert "1 jobs, 1 cells, 20.0 s of workers: 20 % training, 5 % evaluation" in said
    assert "beyond these 15.000 s a cell" in said
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["12.000", "1.000", "2.000"]
    (submission.folder / "attempts" / "0.jsonl").unlink()
    empty = command("benchmark.measure", "overhead", "--results", str(store.path))
    assert_one_line_refusal(empty, "--results", "no SLURM job")


def test_one_machine_down_without_anything_up_says_so(tmp_path: Path):
    script = Path(__file__).parent.parent / "slurm" / "one-machine"
    done = subprocess.run([script, "down", "--folder", tmp_path / "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "nothing is up" in done.stderr


@pytest.mark.parametrize(("user", "command"), [(0, "`env DEBIAN_FRONTEND"), (1000, "`sudo env DEBIAN_FRONTEND")])
def test_one_machine_names_missing_packages_and_installs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, user: int, command: str
):
    loader = SourceFileLoader("one_machine", str(Path(__file__).parent.parent / "slurm" / "one-machine"))
    script = module_from_spec(spec_from_loader("one_machine", loader))
    loader.exec_module(script)
    monkeypatch.setattr(script.shutil, "which", lambda program: program if program == "apt-get" else None)
    monkeypatch.setattr(script.subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    monkeypatch.setattr(script.os, "getuid", lambda: user)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["one-machine", "up", "--folder", str(tmp_path / "x")])
    assert script.main() == 2
    said = capsys.readouterr().err
    assert "missing packages: mariadb-server munge slurm-wlm slurmdbd; `up --install` runs" in said
    assert command in said
    assert not (tmp_path / "x").exists()
