"""The command that measures selections: what it prints; how fast anything is depends on the machine."""

from __future__ import annotations

import re

import pytest

from benchmark import cli
from benchmark.measure.selection import app


def test_it_measures_sizes_and_a_networks_own_tensors_and_counts_mismatches(capsys):
    arguments = ["--size", "1e5", "--one-shot-size", "1e5", "--model", "resnet20", "--rounds", "2"]
    assert cli.main(app, arguments) == 0
    shown = capsys.readouterr().out
    for label in ("0.1 M", "resnet20"):
        for ours in ("cold", "warm", "warm, from the vector"):
            assert re.search(rf"{re.escape(label)} +│ {ours} +│ +\d+\.\d\d │ +\d+\.\d\d │ torch.kthvalue", shown)
    assert "0.1 M: 100000 weights in 55 tensors, 0 mismatches" in shown
    assert "resnet20: 268336 weights in 20 tensors, 0 mismatches" in shown
    assert "one-shot at 0.1 M: 0 masks differ" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet21"], ["--model 'resnet21'", "resnet20"]),
        (["--clock", "sun"], ["--clock sun", "processor"]),
        (["--rounds", "0"], ["--rounds 0"]),
        (["--size", "many"], ["--size 'many'", "0.85e6"]),
        (["--sparsity", "1"], ["--sparsity 1"]),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, arguments: list[str], words: list[str]):
    assert cli.main(app, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)
