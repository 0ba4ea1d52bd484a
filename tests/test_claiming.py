"""Claims between sweeps that share a results folder: one holder at a time, whatever the order of events."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path

import pytest

from benchmark.results import atomic
from benchmark.results.locks import Claims

GONE = 2**22 + 1
"""A process number that Linux never gives out."""


def claim_of(base: Path, generation: int, **holder: object) -> Path:
    path = base.with_name(f"{base.name}.{generation}")
    path.write_text(json.dumps(holder))
    return path


def a_dead_claim(base: Path) -> Path:
    """A claim of this machine whose process is gone."""
    claim = Claims().take(base)
    assert claim is not None
    holder = json.loads(claim.path.read_text())
    claim.release()
    return claim_of(base, 0, **{**holder, "pid": GONE})


def test_a_claim_that_changed_hands_twice_since_it_looked_dead_is_left_alone(tmp_path: Path):
    base = tmp_path / "cell"
    a_dead_claim(base)
    holders = []

    class Slow(Claims):
        def _abandoned(self, path: Path, mark: tuple[int, int]) -> bool:
            dead = super()._abandoned(path, mark)
            between = Claims().take(base)
            assert between is not None
            between.release()
            holders.append(Claims().take(base))
            return dead

    assert Slow().take(base) is None
    assert holders[0].path.exists()
    assert Claims().take(base) is None
    assert [path.name for path in tmp_path.iterdir()] == [holders[0].path.name]


def test_a_claim_made_after_a_listing_that_missed_a_newer_one_is_given_back(tmp_path: Path, monkeypatch):
    base = tmp_path / "cell"
    claim_of(base, 1, machine="elsewhere", pid=1, started="1")
    seen = iter([[]])
    listdir = os.listdir
    monkeypatch.setattr("benchmark.results.locks.os.listdir", lambda folder: next(seen, None) or listdir(folder))
    assert Claims().take(base) is None
    assert [path.name for path in tmp_path.iterdir()] == ["cell.1"]


def test_releasing_leaves_the_claim_of_whoever_took_over(tmp_path: Path):
    base = tmp_path / "cell"
    claim = Claims().take(base)
    assert claim is not None
    claim.path.unlink()
    other = Claims().take(base)
    assert other is not None
    assert other.path == claim.path
    claim.release()
    assert other.path.exists()


def test_a_machine_of_the_same_name_is_judged_by_its_heartbeat(tmp_path: Path):
    base = tmp_path / "cell"
    host = socket.gethostname()
    claim_of(base, 0, host=host, machine=f"{host} another-boot", pid=GONE, started="1")
    assert Claims(stale_seconds=60).take(base) is None


@pytest.mark.parametrize("seconds", [10**9, -(10**9)])
def test_a_clock_set_wrong_neither_frees_nor_keeps_a_claim(tmp_path: Path, seconds: int):
    base = tmp_path / "cell"
    path = claim_of(base, 0, machine="elsewhere", pid=1, started="1")
    claims = Claims(stale_seconds=0.2)
    for beat in range(4):  # alive: the time stamps of its heartbeats make no sense here, but change
        os.utime(path, (time.time() + seconds + beat,) * 2)
        assert claims.take(base) is None
        time.sleep(0.15)
    time.sleep(0.2)
    assert claims.take(base) is not None


def test_the_heartbeat_outlives_a_file_server_that_is_away_for_a_moment(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmark.results.locks.HEARTBEAT_SECONDS", 0.02)
    utime, calls = os.utime, []

    def away(path: Path) -> None:
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        utime(path)

    monkeypatch.setattr("benchmark.results.locks.os.utime", away)
    claim = Claims().take(tmp_path / "cell")
    assert claim is not None
    before = claim.path.stat().st_mtime_ns
    time.sleep(0.3)
    assert claim.path.stat().st_mtime_ns > before
    claim.release()


def test_foreign_files_between_the_claims_do_no_harm(tmp_path: Path):
    (tmp_path / "cell.notes").write_text("")
    (tmp_path / "cell.1.bak").write_text("")
    assert Claims().take(tmp_path / "cell") is not None


def test_a_link_that_was_made_though_the_server_said_it_exists_counts(tmp_path: Path, monkeypatch):
    link = os.link

    def answer_lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr("benchmark.results.atomic.os.link", answer_lost)
    assert atomic.create_file(tmp_path / "record", b"content")
    monkeypatch.setattr("benchmark.results.atomic.os.link", link)
    assert not atomic.create_file(tmp_path / "record", b"other")
    assert (tmp_path / "record").read_bytes() == b"content"


def test_a_write_that_fails_says_where_and_why_and_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("benchmark.results.atomic.os.fsync", full)
    for write in (atomic.create_file, atomic.replace_file):
        with pytest.raises(atomic.CannotWrite, match=r"folder/file cannot be written \(No space left on device\)"):
            write(tmp_path / "folder" / "file", b"content")
        assert list((tmp_path / "folder").iterdir()) == []
