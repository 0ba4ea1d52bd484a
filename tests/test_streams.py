"""Output that is full, closed, cut off or of few characters: training goes on, the exit code tells, nothing traces."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import make_figures, make_report, make_tables
from benchmark import cli, export, publish, status, streams, sweep
from benchmark.planning.grid import load_sweep
from benchmark.results.store import Store
from tests.conftest import ROOT
from tests.table1_records import by_rank, fill, table1_records

REFERENCE = str(ROOT / "results" / "reference")
TINY = ("--seeds", "1", "--only", "schedule=FT,sparsity=0.9,budget=5.55%", "--tracking", "off", "--workers", "1")
TINY += ("--set", "epochs=2", "--set", "milestones=[1]", "--set", "warmup_epochs=0")
LOST = "error: stdout cannot be written"
COMMANDS = {
    "status": (status.app, "table1 --results LIVE"),
    "status --watch": (status.app, "table1 --results LIVE --watch"),
    "dry run": (sweep.app, "table1 --dry-run --cells --results LIVE"),
    "publish": (publish.app, "table2 --mode offline --results LIVE"),
    "export": (export.app, "table1 --seeds 1 --results LIVE --output FOLDER"),
    "tables": (make_tables.app, f"table1 --problem cifar10 --results {REFERENCE}"),
    "table files": (make_tables.app, "table1 --results LIVE --output FOLDER"),
    "figures": (make_figures.app, "budget --format svg --results LIVE --output FOLDER"),
    "report": (make_report.app, "--results LIVE --output FOLDER/report.html"),
    "help": (sweep.app, "--help"),
}


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    fill(folder, table1_records(by_rank, load_sweep("table1").problem, seeds=(0,)))
    return folder


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Make files, or None for closed, this process's own stdout and stderr; returns where stderr is by default."""

    def use(stdout: str | int | None, stderr: str | None = str(tmp_path / "stderr"), encoding: str = "utf-8") -> Path:
        for name, path in (("stdout", stdout), ("stderr", stderr)):
            stream = None if path is None else open(path, "w", encoding=encoding)  # noqa: SIM115
            monkeypatch.setattr(sys, name, stream)
            monkeypatch.setattr(sys, f"__{name}__", stream)
        return tmp_path / "stderr"

    return use


def run(name: str, live: Path, folder: Path) -> int:
    app, text = COMMANDS[name]
    return cli.main(app, text.replace("LIVE", str(live)).replace("FOLDER", str(folder)).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_whose_output_is_lost_says_so_in_one_line(outputs, live: Path, tmp_path: Path, name: str):
    stderr = outputs("/dev/full")
    assert run(name, live, tmp_path) == 2
    (line,) = stderr.read_text().splitlines()
    assert line == f"{LOST} (No space left on device); what was to be read there is lost"
    assert bool({path.name for path in tmp_path.iterdir()} - {"stderr"}) == ("FOLDER" in COMMANDS[name][1])


def test_closed_outputs_trace_no_more_than_full_ones(outputs, live: Path, tmp_path: Path):
    stderr, stdout = outputs(None), tmp_path / "stdout"
    assert run("status", live, tmp_path) == 2
    assert stderr.read_text().startswith(f"{LOST} (it is closed)")
    for lost in (None, "/dev/full"):
        outputs(lost, lost)
        assert run("status", live, tmp_path) == 2
        outputs(str(stdout), lost)
        assert run("status", live, tmp_path) == 0, "there was nothing to say on stderr"
        assert "54 " in stdout.read_text()
        assert cli.main(sweep.app, ["no such sweep"]) == 2


def test_a_sweep_whose_log_is_on_a_full_disk_trains_every_cell(tmp_path: Path):
    """The real thing: its workers and the command that prints the table have the same outputs."""
    command = [sys.executable, "-m", "benchmark.sweep", "table1", *TINY, "--results", str(tmp_path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(LOST)
    assert len(Store(tmp_path).ids()) == 2


def test_a_sweep_with_nothing_but_closed_files_trains_every_cell(tmp_path: Path):
    """Else the first files that it opens would take their places, and get what libraries print."""
    command = [sys.executable, "-m", "benchmark.sweep", "table1", *TINY, "--results", str(tmp_path)]
    shell = 'exec "$@" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", shell, "sh", *command], cwd=ROOT, check=False).returncode == 2
    assert len(list(Store(tmp_path).records())) == 2


@pytest.mark.parametrize(("needed", "code"), [(True, streams.NOBODY_LISTENS), (False, 0)])
def test_a_reader_that_has_gone_ends_what_only_prints(outputs, needed: bool, code: int):
    reader, writer = os.pipe()
    os.close(reader)
    stderr = outputs(writer)
    output = streams.Output(needed)
    with pytest.raises(streams.OutputLost) if needed else contextlib.nullcontext():
        for _ in range(100_000):
            print("a line")
    assert output.settle(0) == code
    assert output.settle(1) == 1, "what went wrong besides counts more"
    assert stderr.read_text() == ""


def test_a_pipe_that_does_not_wait_loses_nothing(outputs):
    reader, writer = os.pipe()
    outputs(writer)
    os.set_blocking(writer, False)
    text = "0123456789" * 30_000
    found: list[str] = []
    with open(reader) as source:
        listener = threading.Thread(target=lambda: found.append(source.read()))
        output = streams.Output()
        listener.start()
        print(text, end="")
        code = output.settle(0)
        sys.__stdout__.close()  # for the listener
        listener.join()
    assert (code, found) == (0, [text])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_stdout_does_not_have_are_question_marks(outputs, live: Path, tmp_path: Path, encoding: str):
    stderr = outputs(str(tmp_path / "stdout"), encoding=encoding)
    assert run("tables", live, tmp_path) == 0
    assert "Table 1: retraining schedules" in (tmp_path / "stdout").read_text(encoding)
    print("\udcff", "–", "±")
    sys.stdout.flush()
    assert (tmp_path / "stdout").read_text(encoding).splitlines()[-1] == f"? ? {'?' if encoding == 'ascii' else '±'}"
    assert stderr.read_text() == ""


def test_nothing_moves_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch):
    for name, value in (("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1"), ("TTY_INTERACTIVE", "1")):
        monkeypatch.setenv(name, value)
    assert not streams.make_console().is_interactive
