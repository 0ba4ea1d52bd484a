"""The measuring commands run and print what they should; how fast anything is depends on the machine and is tested
nowhere."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import sys
from multiprocessing.connection import wait

import pytest
import torch

from benchmark import cli
from benchmark.errors import UserError
from benchmark.measure.__main__ import app
from benchmark.measure.common import Crew
from benchmark.measure.memory import of_workers
from benchmark.measure.timing import Seconds, quartiles, spread, take_turns
from benchmark.problems.fits import has_dali
from benchmark.problems.streaming import decode_with_pillow, pick_decoder
from tests import crews
from tests.conftest import PATIENCE, ROOT

NUMBER = r"\d+(\.\d+)? \(\d+(\.\d+)? to \d+(\.\d+)?\)"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(app, arguments) == 0
    return capsys.readouterr().out


def test_an_option_s_gain_stands_beside_what_it_does_to_accuracy(capsys):
    short = ("--set", "epochs=1", "--set", "milestones=[]", "--set", "warmup_epochs=0", "--set", "width=4")
    out = printed(capsys, "option", "precision=bf16", *short, "--seeds", "1", "--repeats", "2", "--iterations", "1")
    assert re.search(rf"resnet8 on digits.*precision=bf16: {NUMBER} times the images/s", out)
    shown = re.search(r"seed 0: test accuracy ([\d.]+) % with it, ([\d.]+) % without, difference ([-+.\d]+)", out)
    assert shown is not None
    assert float(shown[3]) == pytest.approx(float(shown[1]) - float(shown[2]), abs=0.011)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["option", "precision=fp32"], "precision=fp32: that is the recipe of digits already"),
        (["option", "precision"], "SETTING precision: write KEY=VALUE"),
        (["option", "precision=bf16", "--device", "foo"], "--device foo: one of auto, cpu, cuda, mps"),
        (["option", "precision=bf16", "--device", "cuda"], "--device cuda: "),
        (["option", "precision=bf16", "--threads", "100000"], "--threads"),
        (["option", "precision=bf16", "--problem", "cifar10", "--data", "nowhere"], "the sweep's --download fetches"),
        (["cells", "--device", "foo"], "--device foo: one of auto, cpu, cuda, mps"),
        (["cells", "--device", "mps"], "--device mps: "),
        (["cells", "--set", "image_size=9"], "image_size 9 does not fit dataset digits, which has 8"),
        (["memory", "--model", "nope"], "model 'nope' is unknown: one of resnet8"),
        (["memory", "--device", "cuda"], "--device cuda: "),
        (["memory", "--workers", "100000"], "--workers"),
        (["packed", "--iterations", "9" * 20], "--iterations"),
        (["packed", "--repeats", "9" * 20], "--repeats"),
        (["packed", "--set", "model=nope", "--count", "1"], "model 'nope' is unknown: one of resnet8"),
        (["packed", "--set", "precision=tf32"], "precision tf32 is for NVIDIA GPUs"),
        (["packed", "--device", "mps"], "--device mps: "),
        (["selection", "--device", "foo"], "--device foo: one of auto, cpu, cuda, mps"),
        (["selection", "--device", "cuda"], "--device cuda: "),
        (["selection", "--model", "resnet21"], "model 'resnet21' is unknown: one of resnet8"),
        (["selection", "--clock", "sun"], "--clock sun: wall or processor"),
        (["selection", "--rounds", "0"], "--rounds"),
        (["selection", "--size", "many"], "--size 'many': numbers of weights such as 0.85e6"),
        (["selection", "--sparsity", "1"], "--sparsity 1"),
        (["selection", "--against", "median"], "--against median: some of kthvalue,sort,topk"),
        (["smoke", "--device", "cuda"], "--device cuda: "),
        (["smoke", "--set", "model=nope"], "model 'nope' is unknown: one of resnet8"),
        (["graph", "--device", "cuda"], "--device cuda: "),
        (["graph", "--loops", "fast"], "--loops fast: some of reduce-overhead,graph"),
        (["graph", "--model", "nope"], "model 'nope' is unknown: one of resnet8"),
        (["gpu"], "give --out FOLDER for the results, or --pack FOLDER"),
        (["gpu", "--out", "nowhere", "--pack", "nowhere"], "give --out FOLDER for the results, or --pack FOLDER"),
        (["gpu", "--out", "nowhere"], "--device cuda: "),
        (["gpu", "--out", "nowhere", "--device", "mps"], "--device mps: cuda, or cpu for a rehearsal"),
        (["gpu", "--out", "nowhere", "--device", "cpu", "--data", "nothing"], "--data nothing: there is no such"),
        (["gpu", "--out", "README.md", "--device", "cpu"], "--out README.md: it cannot be used (File exists)"),
        (["gpu", "--out", "nowhere", "--budget", "5"], "--budget"),
        (["gpu", "--pack", "tests"], "--pack tests: it exists"),
        (["gpu", "--pack", "nowhere", "--data", "nothing"], "--data nothing: an archive of the images"),
        (["library", "--model", "resnet21"], "model 'resnet21' is unknown: one of resnet8"),
        (["library", "--one-shot", "resnet21"], "model 'resnet21' is unknown: one of resnet8"),
        (["library", "--batch", "0"], "--batch"),
        (["planning", "--cells", "1"], "--cells"),
        (["overhead", "--results", "nowhere"], "--results nowhere: no such folder"),
        (["reading", "--records", "0"], "--records"),
        (["report", "--repeats", "0"], "--repeats"),
        (["report", "--folder", "nowhere"], "'nowhere' does not exist"),
        (["reading", "--folder", "pyproject.toml"], "'pyproject.toml' is a file"),
        (["streaming", "--needed", "nan"], "--needed nan: images/s, a number above 0"),
        (["streaming", "--needed", "0"], "--needed 0: "),
        (["streaming", "--needed", "-5"], "--needed -5: "),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capfd, monkeypatch, arguments: list[str], words: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.main(app, arguments) == 2
    out, error = capfd.readouterr()
    assert (out, len(error.splitlines())) == ("", 1)
    assert words in error


@pytest.mark.parametrize(("work", "words"), [(crews.dies, "exit code 3"), (crews.fails, "ValueError: of no use")])
def test_a_measured_process_that_dies_or_fails_ends_the_measurement_and_the_others(work, words: str, capfd):
    context = multiprocessing.get_context("spawn")
    first = context.Value("i", 1)  # kept here: it goes with its last name in the process that made it
    crew = Crew(context, 2, work, first)
    assert wait(crew.connections, PATIENCE), "an end of a pipe that stays open elsewhere leaves this waiting"
    with pytest.raises(UserError, match=words):
        crew.receive()
    crew.end()
    assert not any(process.is_alive() for process in crew.processes)
    assert "Traceback" not in capfd.readouterr().err


def test_the_help_has_a_line_of_its_own_for_every_measurement(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "79")
    out = printed(capsys, "--help")
    assert "..." not in out.replace("[ARGS]...", "")
    names = "option cells packed memory streaming startup selection graph smoke gpu library "
    names += "planning overhead reading report"
    for name in names.split():
        assert re.search(rf"^  {name} +\S", out, re.M)


def test_help_planning_and_reading_start_without_torch():
    program = (
        "import sys; import benchmark.throughput; from benchmark import cli; from benchmark.measure import __main__; "
        "from benchmark.measure import planning, reading; cli.main(__main__.app, ['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_nothing_is_built_on_what_measures():
    """So that a change here never says that finished cells were trained by other code."""
    files = [*(ROOT / "benchmark").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]
    importing = re.compile(r"^\s*(from|import) benchmark(\.| import )measure", re.M)
    users = {str(file.relative_to(ROOT)) for file in files if importing.search(file.read_text())}
    assert {name for name in users if not name.startswith("benchmark/measure/")} == {
        "benchmark/throughput.py",
        "benchmark/latency.py",
    }


def test_turns_rotate_between_two_looks_at_the_baseline_and_the_first_only_warms_up():
    calls: list[str] = []

    def contestant(name: str, *walls: float):
        left = iter(walls)

        def turn() -> Seconds:
            calls.append(name)
            return Seconds(next(left), 1.0)

        return turn

    others = {"one": contestant("one", 9, 2, 4), "two": contestant("two", 9, 8, 1)}
    turns = take_turns(contestant("base", 9, 9, 3, 5, 2, 6), others, 2)
    assert "".join(name[0] for name in calls) == "botb" + "btob" + "botb"
    assert turns.ratios("one") == [2.0, 1.0]
    assert turns.ratios("two") == [0.5, 4.0]
    assert turns.ratios("two", "processor") == [1.0, 1.0]


def test_a_median_stands_with_its_range_or_its_quartiles():
    assert spread([3, 1, 2, 10]) == "2.50 (1.00 to 10.00)"
    assert quartiles([1, 2, 3]) == "2.000 (1.500 to 2.500)"
    assert quartiles([2]) == "2.000 (2.000 to 2.000)"


def test_the_time_of_cells_is_told_apart(capsys):
    short = ("--set", "epochs=2", "--set", "milestones=[]", "--set", "warmup_epochs=0")
    lines = printed(capsys, "cells", *short, "--count", "1").splitlines()
    whole, *parts = (float(re.search(r"(\d+) \(", line)[1]) for line in lines[:4])
    assert whole == pytest.approx(sum(parts), abs=2)
    assert "of 1 cells" in lines[4]


@pytest.mark.long
def test_packed_processes_are_compared_with_unmanaged_ones(capsys):
    small = ("--set", "model=resnet8", "--set", "width=2", "--set", "batch_size=4", "--count", "1")
    out = printed(capsys, "packed", *small, "--iterations", "1", "--repeats", "1")
    assert re.search(rf"resnet8 bf16, 1 processes .*: {NUMBER} images/s .*; ratio {NUMBER}", out)


def test_workers_share_the_images_in_memory():
    """A copy in each would be private to it."""
    workers = of_workers(3000, "resnet8", 2, 1, "cpu")
    assert len(workers) == 2
    for worker in workers:
        assert worker.images == pytest.approx(3000 * 40 * 40 * 3 / 2**20, rel=0.01)
        assert worker.resident > 0.9 * worker.images
        assert worker.private < 0.1 * worker.images
        assert worker.peak > worker.images


def test_streaming_is_measured_by_decoder_and_number_of_processes(capsys):
    out = printed(capsys, "streaming", "--images", "8", "--most", "1", "--repeats", "1")
    assert re.search(rf"^pillow, 1 loader processes: {NUMBER} images/s$", out, re.M)
    assert re.search(r"^pillow: .* 2470 images/s need \d+\.\d such cores$", out, re.M)
    assert bool(re.search(rf"^dali, 1 threads: {NUMBER} images/s$", out, re.M)) == has_dali()
    assert pick_decoder("pillow") is decode_with_pillow


def test_start_up_is_measured(capsys):
    lines = printed(capsys, "startup", "--repeats", "1").splitlines()
    assert [line.split(":")[0] for line in lines] == ["--help", "table1 --dry-run"]


def test_a_selection_is_measured_for_sizes_and_for_a_network_s_own_weights_and_compared(capsys):
    short = ["--size", "1e5", "--model", "resnet20", "--rounds", "2", "--device", "cpu"]
    out = printed(capsys, "selection", *short)
    for label in ("0.1 M", "resnet20"):
        for variant in ("cold", "warm", "warm, from the vector"):
            assert re.search(rf"{re.escape(label)} +│ {variant} +│ +\d+\.\d\d │ +\d+\.\d\d │ torch.kthvalue", out)
    assert "0.1 M: 100000 weights in 55 tensors, 0 mismatches, 2 of 2 warm brackets held" in out
    assert "resnet20: 268336 weights in 20 tensors, 0 mismatches" in out


def test_the_library_is_measured_in_a_loop_and_over_torch_s_pruning(capsys):
    small = ("--model", "resnet8", "--batch", "4", "--one-shot", "resnet8")
    step, one_shot = printed(
        capsys, "library", *small, "--iterations", "1", "--repeats", "2", "--rounds", "2"
    ).splitlines()
    more = NUMBER.replace(r"\d+", r"-?\d+")
    assert re.search(
        rf"^resnet8, 3x32x32, batch 4, 1 thread.* takes {more} % more than without, by processor time {more} % more; ",
        step,
    )
    assert re.search(rf"optimizer.step\(\) {NUMBER} ms, sparse.step\(\) {NUMBER} ms, .* {NUMBER} % of the step$", step)
    assert re.search(
        rf"M weights.* sparsify {NUMBER} times as fast as global_unstructured, by processor time {NUMBER}, .*; 0 masks",
        one_shot,
    )


def test_planning_writing_and_status_of_many_cells_are_timed(capsys):
    seconds = r"\d+\.\d\d s \(\d+\.\d\d s of the processor\)"
    planned, written, status = printed(capsys, "planning", "--cells", "100").splitlines()
    assert re.fullmatch(rf"108 cells: planned in {seconds} as \d+ jobs in \d+ arrays", planned)
    assert re.fullmatch(rf"intent written in {seconds}", written)
    assert re.fullmatch(rf"status of 108 cells, 54 of them done: {seconds}", status)


def test_a_synthetic_report_is_made_and_nothing_is_left(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no browser
    out = printed(capsys, "report", "--records", "20", "--repeats", "1", "--folder", str(tmp_path))
    assert re.search(rf"^made in {NUMBER} s, of the processor {NUMBER} s$", out, re.M)
    assert "report of 20 records and 20 failures: " in out
    assert "not opened: " in out
    assert not list(tmp_path.iterdir())
