"""The measuring command: what it prints; how fast anything is depends on the machine and is tested nowhere."""

from __future__ import annotations

import re

from tests.conftest import assert_one_line_refusal


def test_it_prints_the_loop_over_a_bare_loop(command):
    finished = command("benchmark.throughput", "--repeats", "2", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"resnet8 on digits.* loop over bare \d\.\d+ \(quartiles .*\d+ images/s", finished.stdout)


def test_it_prints_a_line_a_method_beside_the_published_ratio(command):
    finished = command("benchmark.throughput", "--methods", "BIMP,DNW,CS", "--repeats", "1", "--iterations", "2")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["BIMP", "DNW", "CS"]
    assert "published 0.36 of BIMP" in lines[1]
    assert "published" not in lines[2], "CS is not in the published table"


def test_unknown_methods_and_baselines_are_named(command):
    assert_one_line_refusal(command("benchmark.throughput", "--methods", "XYZ"), "--methods XYZ", "DNW")
    assert_one_line_refusal(command("benchmark.throughput", "--against", "XYZ"), "--against XYZ", "research")
