"""The measuring command: what it prints; how fast anything is depends on the machine and is tested nowhere."""

from __future__ import annotations

import csv
import re
from importlib.resources import files

import pytest

from benchmark.method_costs import PUBLISHED, SPARSITY, Steps, draw
from tests.conftest import assert_one_line_refusal
from tests.method_runs import DATA, PROBLEM


def test_it_prints_the_loop_over_a_bare_loop(command):
    finished = command("benchmark.throughput", "--repeats", "2", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"resnet8 on digits.* loop over bare \d\.\d+ \(quartiles .*\d+ images/s", finished.stdout)


def test_it_prints_a_line_a_method_beside_the_published_ratio(command):
    finished = command("benchmark.throughput", "--methods", "BIMP,DNW,CS", "--repeats", "2", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    heading, dense, *lines = finished.stdout.splitlines()
    assert "batch 64, fp32, cpu, 1 thread; medians (quartiles) of 2 turns of 2 iterations" in heading
    assert re.match(r"dense training: \d+ images/s, data loading excluded", dense)
    ratio = r"\d\.\d{3} \(\d\.\d{3} to \d\.\d{3}\)"
    assert [line.split()[0] for line in lines] == ["BIMP", "DNW", "CS"]
    assert all(re.search(rf"{ratio}  by processor time {ratio}  over BIMP \d\.\d\d", line) for line in lines)
    assert "(published 0.36)" in lines[1]
    assert "published" not in lines[2], "CS is not in the published table"


def test_the_published_ratios_are_those_of_the_published_table():
    with (files("analysis") / "published" / "table2.csv").open(encoding="utf-8") as file:
        assert {row["method"]: int(row["images_per_second"]) for row in csv.DictReader(file)} == PUBLISHED


def test_steps_of_a_method_are_those_of_its_last_epoch():
    """BIMP's have masks; DPF's select every 16 iterations at the final sparsity."""
    batches = draw(DATA, 20)
    assert [len(labels) for _, labels in batches] == [64] * 8
    for method in ("BIMP", "GMP", "DPF", "DNW"):
        steps = Steps(method, PROBLEM, DATA, batches)
        steps(17)
        assert steps.run.method.masks.sparsity == pytest.approx(SPARSITY, abs=1e-4)
    assert not Steps("dense", PROBLEM, DATA, batches).run.method.masks.sparsity


def test_it_measures_large_images_without_a_data_set(command):
    arguments = ["--synthetic", "--model", "resnet8", "--set", "image_size=64", "--set", "batch_size=2"]
    finished = command("benchmark.throughput", *arguments, "--methods", "GMP", "--repeats", "1", "--iterations", "1")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("resnet8 on noise, 64 px, batch 2")


def test_it_prints_what_a_step_of_dst_takes_beside_a_plain_one(command):
    finished = command("benchmark.throughput", "--against", "plain-dst", "--repeats", "1", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    _, own, whole = finished.stdout.splitlines()
    assert re.search(r"without the network's forward and backward: \d+\.\d+ .*plain \d+\.\d+ ms, ours \d", own)
    assert whole.startswith("whole step, network included: ")


def test_unknown_methods_and_baselines_are_named(command):
    assert_one_line_refusal(command("benchmark.throughput", "--methods", "XYZ"), "--methods XYZ", "DNW")
    assert_one_line_refusal(command("benchmark.throughput", "--against", "XYZ"), "--against XYZ", "research")
