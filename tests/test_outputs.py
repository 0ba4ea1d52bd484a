"""Files that a user asked for: whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis import make_figures, make_report, make_tables
from benchmark import checkpoint, cli
from benchmark.results.atomic import write_output
from tests.conftest import ROOT
from tests.table1_records import by_rank, fill, table1_records


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What a full disk or a quota does to a process, for this one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("command", "arguments", "output"),
    [
        (make_report, (), "report.html"),
        (make_tables, ("table1", "--format", "html"), "."),
        (make_figures, ("budget", "--format", "svg"), "."),
    ],
)
def test_a_disk_that_is_full_leaves_the_file_that_was_there(tmp_path: Path, capsys, command, arguments, output: str):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    place = tmp_path / "out" / output
    options = [*arguments, "--results", str(tmp_path), "--output", str(place)]
    assert cli.main(command.app, options) in (0, None)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert before
    capsys.readouterr()
    with no_file_above(1000):
        assert cli.main(command.app, options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --output {place}")
    assert line.endswith(": cannot write there (File too large)")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_link_is_followed_and_a_pipe_written_into(tmp_path: Path):
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").chmod(0o640)
    write_output(tmp_path / "link", "new", "--out")
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_output(tmp_path / "pipe", b"through", "--out")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_standard_output_is_a_place_to_write_to(tmp_path: Path):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    command = [sys.executable, "-m", "analysis.make_report", "--results", str(tmp_path), "--output", "/dev/stdout"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"<!doctype html>")


def test_a_folder_is_no_file_to_write(tmp_path: Path, capsys):
    fill(tmp_path / "runs", table1_records(by_rank, seeds=(0,)))
    for app, option, *others in (
        (make_report.app, "--output", "--results", str(tmp_path)),
        (checkpoint.app, "--out", "dense", "--results", str(tmp_path / "runs")),
    ):
        assert cli.main(app, [*others, option, str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"error: {option} {tmp_path}: it is a folder; write a file\n"
