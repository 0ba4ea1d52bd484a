"""The measuring commands run and print what they should; how fast anything is depends on the machine and is tested
nowhere."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
import torch

from benchmark import cli
from benchmark.errors import UserError
from benchmark.measure.__main__ import app
from benchmark.measure.common import Crew
from benchmark.measure.memory import measure
from benchmark.problems.fits import has_dali
from benchmark.problems.streaming import decode_with_pillow, pick_decoder

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
        (["cells", "--set", "image_size=9"], "image_size 9 does not fit dataset digits, whose images have 8"),
        (["memory", "--model", "nope"], "model 'nope' is unknown: one of resnet8"),
        (["memory", "--workers", "100000"], "--workers"),
        (["packed", "--iterations", "9" * 20], "--iterations"),
        (["packed", "--repeats", "9" * 20], "--repeats"),
        (["packed", "--set", "model=nope", "--count", "1"], "model 'nope' is unknown: one of resnet8"),
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


def _dies(connection: Connection, number: Any) -> None:
    """The second that comes here; the first is at work for long."""
    with number.get_lock():
        first, number.value = number.value, 0
    if first:
        time.sleep(600)
    os._exit(3)


def _fails(connection: Connection, number: Any) -> None:
    raise ValueError("of no use")


@pytest.mark.parametrize(("work", "words"), [(_dies, "exit code 3"), (_fails, "ValueError: of no use")])
def test_a_measured_process_that_dies_or_fails_ends_the_measurement_and_the_others(work, words: str, capfd):
    context = multiprocessing.get_context("spawn")
    first = context.Value("i", 1)  # kept here: it goes with its last name in the process that made it
    crew = Crew(context, 2, work, first)
    assert wait(crew.connections, 60), "an end of a pipe that stays open elsewhere would leave this waiting for ever"
    with pytest.raises(UserError, match=words):
        crew.receive()
    crew.end()
    assert not any(process.is_alive() for process in crew.processes)
    assert "Traceback" not in capfd.readouterr().err


def test_the_help_has_a_line_of_its_own_for_every_measurement(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "79")
    out = printed(capsys, "--help")
    assert "..." not in out.replace("[ARGS]...", "")
    for name in ("option", "cells", "packed", "memory", "streaming", "startup"):
        assert re.search(rf"^  {name} +\S", out, re.M)


def test_the_time_of_cells_is_told_apart(capsys):
    short = ("--set", "epochs=2", "--set", "milestones=[]", "--set", "warmup_epochs=0")
    lines = printed(capsys, "cells", *short, "--count", "1").splitlines()
    whole, *parts = (float(re.search(r"(\d+) \(", line)[1]) for line in lines[:4])
    assert whole == pytest.approx(sum(parts), abs=2)
    assert "of 1 cells" in lines[4]


@pytest.mark.long
def test_packed_processes_are_compared_with_unmanaged_ones(capsys):
    small = ("--set", "model=resnet8", "--set", "width=2", "--set", "batch_size=4")
    out = printed(capsys, "packed", *small, "--iterations", "1", "--repeats", "1")
    assert re.search(rf"resnet8 bf16, 2 processes .*: {NUMBER} images/s .*; ratio {NUMBER}", out)


def test_workers_share_the_images_in_memory():
    """A copy in each would be private to it."""
    found = measure(3000, "resnet8", 2, 1)
    assert len(found) == 2
    for worker in found:
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
