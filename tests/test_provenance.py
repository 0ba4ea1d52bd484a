"""The commit in a record is that of the suite, whatever git is told and wherever the suite lies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmark.results import provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make folders of `tmp_path` repositories with a commit each, which is returned."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def make(name: str, *options: str, tracked: Sequence[str] = ("benchmark/cells.py",)) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "file").write_text(name)
        (folder / "benchmark").mkdir(exist_ok=True)
        (folder / "benchmark" / "cells.py").touch()
        author = ("-c", "user.name=somebody", "-c", "user.email=somebody@nowhere")
        for command in (["init", "-q", *options], ["add", "file", *tracked], [*author, "commit", "-qm", name]):
            subprocess.run(["git", *command], cwd=folder, check=True)
        return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()

    return make


def commit(monkeypatch: pytest.MonkeyPatch, root: Path) -> tuple[str | None, bool | None]:
    monkeypatch.setattr(provenance, "ROOT", root)
    return provenance.commit.__wrapped__()


@needs_git
def test_a_record_names_the_suites_own_commit_whatever_git_variables_say(repositories, tmp_path: Path, monkeypatch):
    suite, other = repositories("suite"), repositories("other")
    assert suite != other
    for name, value in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", ""), ("GIT_INDEX_FILE", ".git/index")):
        monkeypatch.setenv(name, str(tmp_path / "other" / value))
        assert commit(monkeypatch, tmp_path / "suite") == (suite, False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "suite" / "file").write_text("changed")
    (tmp_path / "suite" / os.fsdecode(b"new\xff")).write_text("not tracked")
    assert commit(monkeypatch, tmp_path / "suite") == (suite, True)


@needs_git
def test_a_copy_inside_of_another_repository_has_no_commit(repositories, tmp_path: Path, monkeypatch):
    repositories("other")
    copy = tmp_path / "other" / "suite"
    copy.mkdir()
    assert commit(monkeypatch, copy) == (None, None)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(copy))
    assert commit(monkeypatch, copy) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert commit(monkeypatch, copy) == (None, None), "there is no git"


@needs_git
def test_a_copy_at_the_top_of_somebody_s_repository_has_no_commit(repositories, tmp_path: Path, monkeypatch):
    repositories("mine", tracked=())
    assert commit(monkeypatch, tmp_path / "mine") == (None, None)


@needs_git
def test_a_bare_repository_or_somebody_elses_has_no_commit(repositories, tmp_path: Path, monkeypatch):
    repositories("suite")
    suite = tmp_path / "suite"
    subprocess.run(["git", "config", "core.bare", "true"], cwd=suite, check=True)
    assert commit(monkeypatch, suite) == (None, None)
    subprocess.run(["git", "config", "core.bare", "false"], cwd=suite, check=True)
    assert commit(monkeypatch, suite)[0]
    if os.getuid() == 0:
        for path in (suite, suite / ".git"):
            os.chown(path, 12345, 12345)
        refused = subprocess.run(["git", "status"], cwd=suite, capture_output=True, check=False).returncode
        assert (commit(monkeypatch, suite) == (None, None)) == bool(refused), "git calls its ownership dubious"


@needs_git
def test_nothing_that_a_repository_names_is_run_for_its_commit(repositories, tmp_path: Path, monkeypatch):
    head, suite, trace = repositories("suite"), tmp_path / "suite", tmp_path / "was run"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    script.chmod(0o755)
    (suite / ".git" / "hooks").mkdir(exist_ok=True)
    shutil.copy(script, suite / ".git" / "hooks" / "post-index-change")
    for key, value in (("core.fsmonitor", str(script)), ("core.pager", str(script)), ("alias.status", f"!{script}")):
        subprocess.run(["git", "config", key, value], cwd=suite, check=True)
    os.utime(suite / "file", (0, 0))  # git would note in its index that the file has not changed
    assert commit(monkeypatch, suite) == (head, False)
    assert not trace.exists()


def test_every_room_that_what_decides_results_imports_decides_them_too_or_is_known_not_to():
    """Loss and metric of a task, for one: a checkpoint of other code is not gone on with."""
    exempt = {"cli", "environment", "errors", "imports", "launch", "planning", "results", "streams", "yaml_files"}
    here = provenance.ROOT / "benchmark"
    files = [
        path for name in provenance.DECIDING for path in (*(here / name).rglob("*.py"), here / name) if path.is_file()
    ]
    imported = {
        room for path in files for room in re.findall(r"^ *from benchmark\.(\w+)", path.read_text(), re.MULTILINE)
    }
    assert imported - exempt <= {name.removesuffix(".py") for name in provenance.DECIDING}
    assert "tasks" in imported
