"""The plan for a GPU, rehearsed without one: its steps, its time limit, going on, and what is taken along."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
import typer

from benchmark import cli, sweep, throughput
from benchmark.measure import __main__ as measure
from benchmark.measure import gpu, gpu_pack, graph, smoke
from benchmark.measure.common import usable_device
from benchmark.measure.gpu_plan import PlanStep, plan
from benchmark.planning.grid import load_problem
from tests.conftest import PATIENCE, ROOT

TINY = {"model": "resnet8", "width": 2, "batch_size": 8, "image_size": 16}
PLAY = """
import os, signal, subprocess, sys, time
what, *rest = sys.argv[1:]
print("begun", what)
if what == "fail":
    sys.exit("error: no such thing")
if what == "twice":  # with a child that would outlive it
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(rest[0], "w").write(str(child.pid))
if what in ("sleep", "twice"):
    time.sleep(600)
if what == "sweep":
    os.makedirs(rest[0] + "/weights", exist_ok=True)
    open(rest[0] + "/weights/w.pt", "a").write("x")
    if len(rest) > 1:
        signal.signal(signal.SIGINT, lambda *_: (print("saved"), sys.exit(130)))
        time.sleep(600)
print("ended", what)
"""


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes steps of a program that does as it is told."""
    (tmp_path / "play.py").write_text(PLAY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def step(name: str, *arguments: str, limit: float = 60.0, **options) -> PlanStep:
        return PlanStep(name, limit, ("play", *arguments), "a question", **options)

    return step


def states(outcomes: dict[str, gpu.Outcome]) -> dict[str, str]:
    return {name: outcome.state for name, outcome in outcomes.items()}


def test_steps_end_in_results_on_disk_and_a_second_call_goes_on_after_those_that_are_done(play, tmp_path, capsys):
    folder = gpu.OutFolder(tmp_path / "out", resume=False)
    child = tmp_path / "child"
    steps = [play("one", "work"), play("two", "fail"), play("three", "twice", str(child), limit=3)]
    began = time.monotonic()
    outcomes = gpu.run([*steps, play("four", "work", limit=1000)], folder, began + 100)
    assert states(outcomes) == {"one": "done", "two": "failed", "three": "failed", "four": "skipped"}
    assert outcomes["one"].lines == ("begun work", "ended work")
    assert outcomes["two"].reason == "error: no such thing"
    assert outcomes["three"].reason == "not finished within 3 s"
    assert "of the budget were left" in outcomes["four"].reason
    assert_gone(int(child.read_text()))
    kept = [json.loads(line) for line in folder.steps.read_text().splitlines()]
    assert [(line["step"], line["state"]) for line in kept] == list(states(outcomes).items())
    folder.steps.write_text(folder.steps.read_text() + '{"step": "two", "sta')  # the machine was taken away
    capsys.readouterr()
    again = gpu.run(
        [play("one", "fail"), play("two", "work")], gpu.OutFolder(tmp_path / "out", resume=True), began + 200
    )
    assert (again["one"].state, again["two"].state) == ("done", "done")
    assert "one:" not in capsys.readouterr().out
    gpu.show([play("one"), play("two"), play("three")], again)
    assert "not finished within 3 s" in capsys.readouterr().out


def assert_gone(process: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("a process that a step started has outlived it")


@pytest.mark.long
def test_the_sweep_takes_the_rest_of_the_time_and_its_results_come_home_in_one_file(play, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 2.0)
    out = tmp_path / "out"
    for visit, resume in enumerate((False, True), 1):
        folder = gpu.OutFolder(out, resume)
        step = play("table1", "sweep", str(folder.results), "until stopped", takes_the_rest=True)
        (outcome,) = gpu.run([step], folder, time.monotonic() + 6).values()
        assert (outcome.state, outcome.lines[-1]) == ("interrupted", "saved")
        (folder.results / "checkpoints" / "ab" / "cell").mkdir(parents=True, exist_ok=True)
        for number in (9, 10):
            (folder.results / "checkpoints" / "ab" / "cell" / f"{number}.pt").write_text("x")
        (folder.results / "logs").mkdir()
        folder.close()
        assert sorted(path.name for path in out.iterdir()) == ["log.txt", "steps.jsonl", "table1.zip"]
        with zipfile.ZipFile(folder.archive) as archive:
            assert archive.read("table1/weights/w.pt") == b"x" * visit
            names = [name for name in archive.namelist() if not name.endswith("/")]
        assert sorted(names) == ["table1/checkpoints/ab/cell/10.pt", "table1/weights/w.pt"]


def test_a_step_whose_images_were_not_unpacked_is_left_out_and_a_later_call_unpacks_them_again(play, tmp_path):
    images = tmp_path / "images"
    steps = [play("images", "fail", folder=images), play("table1", "work", needs=images)]
    outcomes = gpu.run(steps, gpu.OutFolder(tmp_path / "out", resume=False), time.monotonic() + 100)
    assert (outcomes["table1"].state, outcomes["table1"].reason) == ("skipped", "images are not there")
    steps[0] = play("images", "sweep", str(images), folder=images)
    outcomes = gpu.run(steps, gpu.OutFolder(tmp_path / "out", resume=True), time.monotonic() + 100)
    assert states(outcomes) == {"images": "done", "table1": "done"}


def test_a_signal_ends_the_step_at_work_and_leaves_an_archive(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmark.measure", "gpu", "--device", "cpu", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not (out / "log.txt").exists() or "== smoke" not in (out / "log.txt").read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    (out / "table1" / "weights").mkdir(parents=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 130
    assert (out / "table1.zip").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("data", [None, Path("images"), Path("images.tar.xz")])
def test_every_command_of_the_plan_is_one_that_its_program_takes(device: str, data: Path | None, tmp_path, monkeypatch):
    """For a GPU as well, where none of them can run: a misspelt option would cost the first minutes on one."""
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: path == Path("images") or is_dir(path))
    steps = plan(device, data, tmp_path / "table1", tmp_path)
    assert len({step.name for step in steps}) == len(steps)
    assert all(step.limit > 0 and step.answers for step in steps)
    programs = {"benchmark.sweep": sweep, "benchmark.throughput": throughput, "benchmark.measure": measure}
    for step in steps:
        module, *arguments = step.arguments
        if module == "tarfile":
            continue
        command = typer.main.get_command(programs[module].app)
        if module == "benchmark.measure":
            name = arguments.pop(0)
            command = command.commands[name]  # type: ignore[attr-defined]
        parsed = command.make_context(module, list(arguments)).params
        problem = parsed.get("problem") or ("digits" if "sweep" in module and data is None else "cifar10")
        load_problem(problem, cli.parse_settings(parsed.get("set_") or []))
        if module == "benchmark.sweep":
            words = [word if word != "cuda" else "auto" for word in arguments]
            assert cli.main(sweep.app, [*words, "--dry-run"]) == 0, shlex.join(words)


def test_a_budget_is_shared_out_so_that_table_1_begins_in_the_first_call():
    names = [step.name for step in plan("cuda", Path("images"), Path("table1"), Path("scratch"))]
    assert names[:2] == ["smoke", "pool"]
    assert names.index("table1") < names.index("resnet50-224") < names.index("latencies")


@pytest.mark.long
def test_the_whole_plan_is_rehearsed_on_a_processor_in_two_calls(tmp_path):
    def call(budget: int, *more: str) -> subprocess.CompletedProcess[str]:
        arguments = ["gpu", "--device", "cpu", "--budget", str(budget), "--out", str(tmp_path / "out"), *more]
        command = [sys.executable, "-m", "benchmark.measure", *arguments]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert time.monotonic() - began < budget + 5, "5 s to start Python"
        return done

    first = call(150)
    assert "of the budget were left" in first.stdout
    second = call(3000, "--resume")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resuming: the same weights" in first.stdout + second.stdout  # a busy machine has no time for it at first
    if "smoke: done" in first.stdout:
        assert "resuming: the same weights\n" not in second.stdout
    with zipfile.ZipFile(tmp_path / "out" / "table1.zip") as archive:
        records = [name for name in archive.namelist() if name.endswith(".json")]
    assert len(records) == 6, "a dense run, three cells of Table 1 and two that lost filters"


def test_what_goes_wrong_in_one_check_is_a_line_and_the_others_go_on(capsys, monkeypatch):
    monkeypatch.setattr(smoke.Smoke, "steps", lambda checks, name: 1 / (name != "DST"))
    arguments = [
        part for key, value in {**TINY, "training_share": 0.02}.items() for part in ("--set", f"{key}={value}")
    ]
    assert cli.main(measure.app, ["smoke", "--device", "cpu", *arguments]) == 1
    lines = capsys.readouterr().out.splitlines()
    (failed,) = (line for line in lines if "FAILED" in line)
    assert failed.startswith("steps of DST: FAILED: ZeroDivisionError: ")
    assert lines[-1].startswith("resuming: the same weights")


# --- the graph ---------------------------------------------------------------------------------------------------


def test_a_whole_step_that_the_host_only_starts_trains_as_eager_steps_do():
    recipe, _ = load_problem("cifar10", {**TINY, "dataset": "noise", "training_share": 0.05})
    made = {name: graph.make(name, recipe, usable_device("cpu")) for name in (graph.EAGER, graph.GRAPH)}
    (eager, eager_steps), (whole, whole_steps) = made.values()
    losses = [graph.losses(run, steps) for run, steps in made.values()]
    assert torch.allclose(*losses, rtol=1e-5)
    assert len(set(losses[0].tolist())) == graph.CHECKED
    for _ in range(2 * graph.BATCHES):  # into the next chunks
        next(eager_steps)
        next(whole_steps)
    for one, other in zip(eager.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert whole.method.masks.sparsity == pytest.approx(0.9, abs=1e-3)
    assert all((weight[mask == 0] == 0).all() for weight, mask in zip(*masked(whole), strict=True))


def masked(run):
    return run.method.masks.weights, run.method.masks.tensors


def test_the_losses_that_are_compared_tell_a_loop_that_trains_otherwise(monkeypatch):
    """The momentum of the warm-up that stays is the kind of mistake that a graph invites."""
    recipe, _ = load_problem("cifar10", {**TINY, "dataset": "noise", "training_share": 0.05})
    expected = graph.losses(*graph.make(graph.EAGER, recipe, usable_device("cpu")))
    monkeypatch.setattr(graph.WholeStep, "_back_to", lambda step, start: step.run.step.sums.reset())
    values = graph.losses(*graph.make(graph.GRAPH, recipe, usable_device("cpu")))
    assert graph._difference(values, expected) > graph.TOLERANCE["fp32"]


# --- what is taken along -----------------------------------------------------------------------------------------


def wheels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of the names and versions that are fetched, in a folder that pip takes them from."""
    folder.mkdir()
    for name in gpu_pack.MISSING:
        plain, version = name.replace("-", "_"), gpu_pack.metadata.version(name)
        with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{plain}/__init__.py", "")
            about = f"{plain}-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def test_a_pack_holds_the_suite_the_packages_and_the_images_and_the_plan_starts_from_it(tmp_path, capsys, monkeypatch):
    wheels(tmp_path / "wheels", monkeypatch)
    (tmp_path / "images.tar.xz").write_bytes(b"images")
    arguments = ["gpu", "--pack", str(tmp_path / "pack"), "--data", str(tmp_path / "images.tar.xz")]
    assert cli.main(measure.app, arguments) == 0
    said = capsys.readouterr().out
    assert "PYTHONPATH=../packages python3 -m benchmark.measure gpu" in said
    assert "--data ../images.tar.xz" in said
    parts = {path.name for path in (tmp_path / "pack").iterdir()}
    assert parts == {"suite", "packages", "images.tar.xz"}
    assert {"pydantic", "torch_pruning"} <= {path.name for path in (tmp_path / "pack" / "packages").iterdir()}
    help_of = [sys.executable, "-m", "benchmark.measure", "gpu", "--help"]
    place = tmp_path / "pack" / "suite"
    done = subprocess.run(help_of, cwd=place, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"--resume" in done.stdout


def test_a_pack_that_cannot_be_made_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert cli.main(measure.app, ["gpu", "--pack", str(tmp_path / "pack")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--pack: pip cannot fetch pydantic==" in line
    wheels(tmp_path / "wheels", monkeypatch)
    monkeypatch.setattr(gpu_pack, "MOST_BYTES", 1000)
    assert cli.main(measure.app, ["gpu", "--pack", str(tmp_path / "pack")]) == 2
    assert "more than 0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]
