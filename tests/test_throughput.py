"""The measuring command: what it prints; how fast anything is depends on the machine and is tested nowhere."""

from __future__ import annotations

import re

import pytest
import torch

from benchmark import cli
from benchmark.measure.method_costs import SPARSITY, Steps, draw
from benchmark.throughput import app
from tests.method_runs import DATA

RATIO = r"\d+\.\d{3} \(\d+\.\d{3} to \d+\.\d{3}\)"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert cli.main(app, arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_it_prints_the_loop_over_a_bare_loop(command):
    finished = command("benchmark.throughput", "--repeats", "2", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    heading, line = finished.stdout.splitlines()
    assert re.match(r"resnet8 on digits.*medians \(quartiles\) of 2 turns of 2 iterations", heading)
    assert re.fullmatch(rf"loop over bare {RATIO}; \d+ images/s", line)


@pytest.mark.parametrize(
    ("against", "words"),
    [
        ("research", "step over a research script's"),
        ("null", "step over a research script's, next to no network,"),
        ("pillow", "batches over torchvision's"),
    ],
)
def test_it_compares_with_a_research_script_s_loop_and_batches(capsys, against: str, words: str):
    _, line = printed(capsys, "--against", against, "--repeats", "1", "--iterations", "1")
    assert re.fullmatch(rf"{words} {RATIO}; \d+ images/s", line)


def test_it_prints_a_line_a_method_beside_the_published_ratio(capsys):
    heading, dense, *lines = printed(capsys, "--methods", "BIMP,DNW,CS", "--repeats", "2", "--iterations", "2")
    assert "batch 64, fp32, cpu, 1 thread; medians (quartiles) of 2 turns of 2 iterations" in heading
    assert re.match(r"dense training: \d+ images/s, data loading excluded", dense)
    assert [line.split()[0] for line in lines] == ["BIMP", "DNW", "CS"]
    assert all(re.search(rf"{RATIO}  by processor time {RATIO}  over BIMP \d\.\d\d", line) for line in lines)
    assert "(published 0.36)" in lines[1]
    assert "published" not in lines[2], "CS is not in the published table"


def test_steps_of_a_method_are_those_of_its_last_epoch():
    """BIMP's have masks; DPF's select every 16 iterations at the final sparsity."""
    batches = draw(DATA, 20)
    assert [len(labels) for _, labels in batches] == [64] * 8
    for method in ("BIMP", "GMP", "DPF", "DNW"):
        steps = Steps(method, DATA, batches)
        steps(17)
        assert steps.run.method.masks.sparsity == pytest.approx(SPARSITY, abs=1e-4)
    assert not Steps("dense", DATA, batches).run.method.masks.sparsity


def test_it_measures_large_images_without_a_data_set(capsys):
    arguments = ["--synthetic", "--model", "resnet8", "--set", "image_size=64", "--set", "batch_size=2"]
    heading, *_ = printed(capsys, *arguments, "--methods", "GMP", "--repeats", "1", "--iterations", "1")
    assert heading.startswith("resnet8 on noise, 3x64x64, batch 2")


def test_it_prints_what_a_step_of_dst_takes_beside_a_plain_one(capsys):
    _, part, whole = printed(capsys, "--against", "plain-dst", "--repeats", "1", "--iterations", "2")
    assert re.search(r"without the network's forward and backward: \d+\.\d+ .*plain \d+\.\d+ ms, the suite's \d", part)
    assert whole.startswith("whole step, network included: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "XYZ"], ["--methods XYZ", "DNW"]),
        (["--against", "XYZ"], ["--against XYZ", "research"]),
        (["--methods", "GSM", "--against", "research"], ["--methods GSM --against research", "give one"]),
        (["--device", "foo"], ["--device foo: one of auto, cpu, cuda, mps"]),
        (["--device", "cuda"], ["--device cuda: ", "auto and cpu work"]),
        (["--device", "mps"], ["--device mps: ", "auto and cpu work"]),
        (["--set", "precision=tf32"], ["precision tf32 is for NVIDIA GPUs, not cpu"]),
        (["--threads", "100000"], ["--threads", "1024"]),
        (["--iterations", "9" * 20], ["--iterations", "1000000"]),
        (["--repeats", "9" * 20], ["--repeats", "10000"]),
        (["--set", "image_size=9"], ["image_size 9 does not fit dataset digits"]),
        (["--set", "image_size=4"], ["image_size 4 does not fit dataset digits"]),
        (["--set", "channels=3"], ["channels 3 does not fit dataset digits"]),
        (["--set", "loader=dali"], ["loader dali", "it needs resized_crop"]),
        (["--set", "classes=3"], ["classes 3 is below the 10 of dataset digits"]),
        (["--problem", "cifar10", "--data", "nowhere"], ["--data nowhere: cifar10", "the sweep's --download fetches"]),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, monkeypatch, arguments: list[str], words: list[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.main(app, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in ("error: ", *words):
        assert word in line
