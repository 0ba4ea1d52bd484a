"""Records on disk: whole or not there, first writer wins, and nothing unreadable passes for a result."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cells import Cell
from benchmark.errors import UserError
from benchmark.planning.finished import FinishedCells
from benchmark.planning.grid import load_sweep
from benchmark.results.locks import Locks
from benchmark.results.records import BadRecord, OtherSchema, decode, encode
from benchmark.results.store import Store, read_compact, write_compact

CELLS = load_sweep("table1").cells


def a_record(cell: Cell = CELLS[0], accuracy: float = 0.5) -> dict:
    circumstances = {"seconds": {"total": 1}, "provenance": {}}
    score = {"accuracy": {"final": {"test": accuracy}}}
    return {"schema": 1, "id": cell.id, "cell": cell.to_json(), **score, **circumstances}


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path):
    store = Store(tmp_path)
    store.commit(a_record())
    assert store.read(CELLS[0].id) == a_record()
    assert store.has(CELLS[0].id)
    assert not store.has(CELLS[1].id)
    assert json.loads(store.record_path(CELLS[0].id).read_text())["record"] == a_record()


def test_the_first_of_two_results_counts_and_the_second_is_kept_and_reported(tmp_path: Path):
    store = Store(tmp_path)
    store.commit(a_record(accuracy=0.5))
    assert store.commit(a_record(accuracy=0.6)) == a_record(accuracy=0.5)
    assert store.read(CELLS[0].id) == a_record(accuracy=0.5)
    assert len(store.problems) == 1
    assert len(list((tmp_path / "set-aside").iterdir())) == 1


def test_the_same_result_twice_is_no_problem(tmp_path: Path):
    store = Store(tmp_path)
    store.commit(a_record())
    store.commit({**a_record(), "seconds": {"total": 2}})
    assert store.problems == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seconds", None, "its seconds is no object"),
        ("provenance", 5, "its provenance is no object"),
        ("provenance", {"versions": 5}, "its provenance.versions is not made of objects"),
        ("cell", [], "its cell is no object"),
        ("id", 5, "its id is no text"),
        ("history", "x", "its history is no object"),
        ("cycles", [1], "its cycles is not made of objects"),
        ("remarks", "x", "its remarks is no list"),
    ],
)
def test_a_sealed_record_of_another_make_is_named_with_what_does_not_fit(tmp_path: Path, key: str, value, words: str):
    store = Store(tmp_path)
    path = store.record_path(CELLS[0].id)
    path.parent.mkdir(parents=True)
    path.write_bytes(encode({**a_record(), key: value}))
    assert store.read(CELLS[0].id) is None
    assert store.problems == [f"{path} is not a record of this suite: {words}"]


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty; delete it"), (b"\xff", "cannot be read")])
def test_a_damaged_pin_is_named_and_is_no_other_data(tmp_path: Path, content: bytes, words: str):
    store = Store(tmp_path)
    assert (store.pin("data", "a"), store.pin("data", "b")) == ("a", "a")
    store.file("pins", "data").write_bytes(content)
    with pytest.raises(UserError, match=f"pins/.*/data {words}"):
        store.pin("data", "a")


def test_a_record_that_nobody_may_read_may_be_whole(tmp_path: Path, monkeypatch):
    store = Store(tmp_path)
    store.commit(a_record())

    def refuse(path: Path | str, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("benchmark.results.store.open", refuse, raising=False)  # root may read everything
    for repair in (False, True):
        with pytest.raises(UserError) as refusal:
            FinishedCells(CELLS[:1], store).refuse_damaged(repair)
        assert str(refusal.value) == f"{store.record_path(CELLS[0].id)} cannot be read (Permission denied)"
    assert store.record_path(CELLS[0].id).exists()


@pytest.mark.parametrize(
    "head", [b'{"schema": 2, "xxh3": "ab", ', b'{"schema":2,"sha256":"ab",', b'{"schema": "2b", "sha256": "ab", ']
)
def test_a_record_of_a_later_version_is_not_taken_for_a_damaged_one(head: bytes):
    with pytest.raises(OtherSchema, match="schema version"):
        decode(head + b'"record":{}}\n')


def test_a_text_with_half_a_surrogate_pair_comes_back_as_it_was():
    record = {**a_record(), "remarks": ["caf\udce9.png"]}
    assert decode(encode(record)) == record


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(position: int, bit: int):
    content = bytearray(encode(a_record()))
    content[position % len(content)] ^= 1 << bit
    with contextlib.suppress(BadRecord):
        assert decode(bytes(content)) == a_record()  # white space of the envelope, which carries nothing


@given(length=st.integers(0, 10**6))
def test_any_truncation_is_noticed(length: int):
    content = encode(a_record())
    with pytest.raises(BadRecord):
        decode(content[: length % len(content)])


def test_unreadable_and_foreign_files_are_reported_and_not_used(tmp_path: Path):
    store = Store(tmp_path)
    store.commit(a_record(CELLS[0]))
    for cell, content in [
        (CELLS[1], encode(a_record(CELLS[1]))[:-20]),
        (CELLS[2], b"{}"),
        (CELLS[3], encode(a_record(CELLS[4]))),
        (CELLS[5], encode(a_record(CELLS[5])).replace(b'"schema": 1', b'"schema": 99')),
    ]:
        path = store.record_path(cell.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert [record["id"] for record in store.records()] == [CELLS[0].id]
    text = "\n".join(store.problems)
    for words in ("truncated", "not a record", "another cell", "schema version 99"):
        assert words in text


def test_failures_are_kept_beside_and_the_latest_is_shown_until_the_cell_is_done(tmp_path: Path):
    store = Store(tmp_path)
    store.add_failure(CELLS[0].id, "exception", "first")
    store.add_failure(CELLS[0].id, "exception", "second")
    assert [(f["message"], f["attempt"]) for f in store.failures()] == [("second", 2)]
    store.commit(a_record())
    assert store.failures() == []


def test_a_compact_file_holds_the_same_records(tmp_path: Path):
    records = [a_record(cell) for cell in CELLS[:5]]
    write_compact(tmp_path / "all.jsonl", reversed(records))
    assert sorted(r["id"] for r in records) == [r["id"] for r in read_compact(tmp_path / "all.jsonl")]
    path = tmp_path / "all.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.9", 1))
    with pytest.raises(UserError, match=r"line 1.*checksum"):
        list(read_compact(path))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        Store.open_for_writing(tmp_path / "file")


def _take(base: Path, gate, results, over) -> None:
    locks = Locks(stale_seconds=0.0)
    gate.wait()
    lock = locks.take(base)
    results.put(lock is not None)
    over.wait()  # of a process that is gone another would take it


def test_of_many_that_lock_a_cell_at_once_one_gets_it(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    for race in range(5):
        gate, results, over = context.Event(), context.Queue(), context.Event()
        told = (tmp_path / f"cell{race}", gate, results, over)
        racers = [context.Process(target=_take, args=told) for _ in range(6)]
        for racer in racers:
            racer.start()
        gate.set()
        assert sorted(results.get() for _ in racers) == [False] * 5 + [True]
        over.set()
        for racer in racers:
            racer.join()


def test_a_lock_of_a_process_that_is_gone_is_taken_over_and_a_released_one_is_free(tmp_path: Path):
    base = tmp_path / "cell"
    context = multiprocessing.get_context("fork")
    gone = context.Process(target=lambda: (Locks().take(base), os._exit(9)))
    gone.start()
    gone.join()
    lock = Locks().take(base)
    assert lock is not None
    assert Locks().take(base) is None
    lock.release()
    assert Locks().take(base) is not None


def test_a_lock_of_another_machine_expires_only_after_its_heartbeat_stood_still(tmp_path: Path):
    base = tmp_path / "cell"
    other = tmp_path / "cell.0"
    other.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    os.utime(other, (10**9, 10**9))  # long ago by our clock, which says nothing about a machine with another clock
    locks = Locks(stale_seconds=0.2)
    assert locks.take(base) is None
    time.sleep(0.3)
    os.utime(other)
    assert locks.take(base) is None
    time.sleep(0.3)
    assert locks.take(base) is not None


@pytest.mark.parametrize("change", [{"history": {"loss": 5}}, {"sparsity": {"layers": {"a": "0"}}}])
def test_parts_of_a_record_that_readers_go_through_are_looked_at(change: dict):
    with pytest.raises(BadRecord, match="is not made of"):
        decode(encode(a_record() | change))


def test_a_failure_without_a_cause_is_no_failure_report(tmp_path: Path):
    store = Store(tmp_path)
    path = store.file("failures", "a-cell", ".1.json")
    path.parent.mkdir(parents=True)
    path.write_text('{"id": "a-cell", "attempt": 1}')
    assert store.failures() == []
    assert "is not a failure report of this suite" in store.problems[0]
