"""Files that a user asked for: whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis import make_figures, make_report, make_tables
from benchmark import cli
from benchmark.results.atomic import write_output
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
    assert line == f"error: --output {place}: cannot write there (File too large)"
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_link_is_followed_and_a_pipe_written_into(tmp_path: Path):
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_output(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_output(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
