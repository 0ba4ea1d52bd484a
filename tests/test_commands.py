"""Every command in a process of its own; the other tests run most of theirs in the one that they are in."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import make_report, make_tables
from benchmark import cli, status, sweep
from tests.conftest import ROOT, assert_one_line_refusal

STARTED_BY_HAND = re.compile(r'^if __name__ == "__main__":\n    sys.exit\(', re.MULTILINE)
FILES = [path for folder in ("benchmark", "analysis") for path in sorted((ROOT / folder).rglob("*.py"))]
COMMANDS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in FILES
    if STARTED_BY_HAND.search(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_refuses_an_option_that_it_does_not_have_in_one_line(module: str):
    done = subprocess.run([sys.executable, "-m", module, "--colour"], cwd=ROOT, capture_output=True, text=True)
    assert_one_line_refusal(done, "--colour")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("app", "arguments", "refusal"),
    [
        (make_tables.app, ["--output", ""], "the argument after --output is empty"),
        (status.app, ["table1", "--results="], "--results= has no value"),
        (make_report.app, ["--from-wandb", ""], "the argument after --from-wandb is empty"),
        (status.app, [""], "the first argument is empty"),
    ],
)
def test_an_argument_that_a_shell_left_empty_is_not_the_current_folder(app, arguments, refusal: str, capsys):
    assert cli.main(app, arguments) == 2
    assert capsys.readouterr().err == f"error: {refusal}\n"


def printed_sweeps() -> list[str]:
    """Sweep commands of README and docs, in their code blocks, without those for files and machines of the reader's."""
    theirs = re.compile(r"\b(mine|DIR|FILE|turning|wmt16|futures|slurm)\b|~/")
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text().replace("\\\n", " ")
        found += [
            line.partition("#")[0].strip() for line in re.findall(r"^    python -m (benchmark\.sweep .*)$", text, re.M)
        ]
    return sorted({line for line in found if not theirs.search(line)})


def test_the_pages_print_sweeps():
    assert len(printed_sweeps()) > 5


@pytest.mark.parametrize("command", printed_sweeps())
def test_a_sweep_that_the_pages_print_can_be_planned(command: str, tmp_path: Path, capsys):
    _, *arguments = shlex.split(command)
    if "--results" in arguments:  # what lies there is the reader's
        place = arguments.index("--results")
        del arguments[place : place + 2]
    arguments += ["--results", str(tmp_path)]
    assert cli.main(sweep.app, arguments if "--dry-run" in arguments else [*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().err == ""


def test_these_are_all_commands():
    assert {"benchmark.sweep", "benchmark.status", "benchmark.measure", "analysis.make_tables"} < set(COMMANDS)


def test_a_module_named_analysis_in_the_current_folder_is_not_taken_for_the_suite_s(tmp_path: Path):
    (tmp_path / "analysis.py").write_text("raise SystemExit('mine')")
    small = ["--set", "epochs=1", "--set", "milestones=[]", "--set", "warmup_epochs=0", "--tracking", "off"]
    one = ["--seeds", "1", "--only", "sparsity=0.9,budget=11.11%,schedule=FT", "--results", "runs"]
    command = [sys.executable, "-m", "benchmark.sweep", "table1", *small, *one]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Test accuracy of the final epoch" in done.stdout
