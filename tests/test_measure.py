"""The measuring commands run and print what they should; how fast anything is depends on the machine and is tested
nowhere."""

from __future__ import annotations

import re

import pytest

from benchmark import cli
from benchmark.measure.__main__ import app
from benchmark.measure.memory import measure
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


def test_an_option_that_changes_nothing_is_refused(capsys):
    assert cli.main(app, ["option", "precision=fp32"]) == 2
    assert "the recipe of digits already" in capsys.readouterr().err


def test_the_time_of_cells_is_told_apart(capsys):
    short = ("--set", "epochs=2", "--set", "milestones=[]", "--set", "warmup_epochs=0")
    lines = printed(capsys, "cells", *short, "--count", "1").splitlines()
    whole, *parts = (float(re.search(r"(\d+) \(", line)[1]) for line in lines[:4])
    assert whole == pytest.approx(sum(parts), abs=2)
    assert "of 1 cells" in lines[4]


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
    lines = printed(capsys, "streaming", "--images", "8", "--most", "1", "--repeats", "1").splitlines()
    assert re.search(rf"pillow, 1 loader processes: {NUMBER} images/s", lines[-2])
    assert re.search(r"2470 images/s need \d+\.\d such cores", lines[-1])
    assert pick_decoder("pillow") is decode_with_pillow


def test_start_up_is_measured(capsys):
    lines = printed(capsys, "startup", "--repeats", "1").splitlines()
    assert [line.split(":")[0] for line in lines] == ["--help", "table1 --dry-run"]
