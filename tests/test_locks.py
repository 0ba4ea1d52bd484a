"""Locks between sweeps that share a results folder: one holder at a time, whatever the order of events."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path

import pytest

from benchmark.results import atomic, locks
from benchmark.results.locks import Locks
from tests.conftest import wait_for

GONE = 2**22 + 1
"""A process number that Linux never gives out."""


def lock_file(base: Path, generation: int, **holder: object) -> Path:
    path = base.with_name(f"{base.name}.{generation}")
    path.write_text(json.dumps(holder))
    return path


def a_dead_lock(base: Path) -> Path:
    """A lock of this machine whose process is gone."""
    lock = Locks().take(base)
    assert lock is not None
    holder = json.loads(lock.path.read_text())
    lock.release()
    return lock_file(base, 0, **{**holder, "pid": GONE})


def test_a_lock_that_changed_hands_twice_since_it_looked_dead_is_left_alone(tmp_path: Path):
    base = tmp_path / "cell"
    a_dead_lock(base)
    holders = []

    class Slow(Locks):
        def _stale(self, path: Path, version: tuple[int, int]) -> bool:
            dead = super()._stale(path, version)
            between = Locks().take(base)
            assert between is not None
            between.release()
            holders.append(Locks().take(base))
            return dead

    assert Slow().take(base) is None
    assert holders[0].path.exists()
    assert Locks().take(base) is None
    assert [path.name for path in tmp_path.iterdir()] == [holders[0].path.name]


def test_a_lock_made_after_a_listing_that_missed_a_newer_one_is_given_back(tmp_path: Path, monkeypatch):
    base = tmp_path / "cell"
    lock_file(base, 1, machine="elsewhere", pid=1, started="1")
    seen = iter([[]])
    listdir = os.listdir
    monkeypatch.setattr("benchmark.results.locks.os.listdir", lambda folder: next(seen, None) or listdir(folder))
    assert Locks().take(base) is None
    assert [path.name for path in tmp_path.iterdir()] == ["cell.1"]


def test_releasing_leaves_the_lock_of_whoever_took_over(tmp_path: Path):
    base = tmp_path / "cell"
    lock = Locks().take(base)
    assert lock is not None
    lock.path.unlink()
    other = Locks().take(base)
    assert other is not None
    assert other.path == lock.path
    lock.release()
    assert other.path.exists()


def test_a_machine_of_the_same_name_is_judged_by_its_heartbeat(tmp_path: Path):
    base = tmp_path / "cell"
    host = socket.gethostname()
    lock_file(base, 0, host=host, machine=f"{host} another-boot", pid=GONE, started="1")
    assert Locks(stale_seconds=60).take(base) is None


def test_a_holder_whom_proc_does_not_show_is_judged_by_its_heartbeat(tmp_path: Path, monkeypatch):
    """hidepid: /proc has no entry for the processes of others, and a signal says that one is there."""

    def forbid(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    base = tmp_path / "lock"
    lock_file(base, 1, machine=locks._machine(), pid=GONE, started="1")
    monkeypatch.setattr(locks.os, "kill", forbid)
    assert Locks().take(base) is None
    monkeypatch.undo()
    assert Locks().take(base) is not None


@pytest.mark.parametrize("seconds", [10**9, -(10**9)])
def test_a_clock_set_wrong_neither_frees_nor_keeps_a_lock(tmp_path: Path, seconds: int):
    base = tmp_path / "cell"
    path = lock_file(base, 0, machine="elsewhere", pid=1, started="1")
    locks = Locks(stale_seconds=0.2)
    for beat in range(4):  # alive: the time stamps of its heartbeats make no sense here, but change
        os.utime(path, (time.time() + seconds + beat,) * 2)
        assert locks.take(base) is None
        time.sleep(0.15)
    time.sleep(0.2)
    assert locks.take(base) is not None


def test_the_heartbeat_outlives_a_file_server_that_is_away_for_a_moment(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmark.results.locks.HEARTBEAT_SECONDS", 0.02)
    utime, calls = os.utime, []

    def away(path: Path) -> None:
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        utime(path)

    monkeypatch.setattr("benchmark.results.locks.os.utime", away)
    lock = Locks().take(tmp_path / "cell")
    assert lock is not None
    before = lock.path.stat().st_mtime_ns
    wait_for(lambda: lock.path.stat().st_mtime_ns > before)
    lock.release()


def test_foreign_files_between_the_locks_do_no_harm(tmp_path: Path):
    (tmp_path / "cell.notes").write_text("")
    (tmp_path / "cell.1.bak").write_text("")
    assert Locks().take(tmp_path / "cell") is not None


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
