"""The fault-injection suite in a short form (`make faults` is the long one), and what it cannot do to a whole sweep."""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import CannotGoOn, UserError
from benchmark.launch.serving import one_line
from benchmark.planning.finished import FinishedCells
from benchmark.results.redaction import RedactedStream, redact
from benchmark.results.store import Store
from benchmark.worker import ParentMissing, Worker
from tests.faults import cells, damage, disk, kills
from tests.faults.damage import OPTIONS, Bench
from tests.faults.harness import IMP_GRID, Row, compare, untouched, write_sweep

SEED = 0


def assert_nothing_lost(rows: Iterable[Row]) -> None:
    for row in rows:
        assert row.tries, row.fault
        assert (row.lost, row.doubled, row.wrong) == (0, 0, 0), "\n".join([row.fault, *row.notes])


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("damage"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep") / "sweep.yaml", [IMP_GRID], seeds=1)


@pytest.fixture(scope="module")
def reference(sweep: Path) -> dict[str, Any]:
    return untouched(sweep, sweep.parent / "untouched")


@pytest.mark.long
@pytest.mark.parametrize(("victim", "count"), [("worker", 3), ("everything", 1)])
def test_kills_at_random_moments_change_no_bit(sweep: Path, reference: dict[str, Any], tmp_path: Path, victim, count):
    row = Row(victim)
    kills.kill_rounds(row, victim, count, sweep, reference, tmp_path, str(SEED))
    assert_nothing_lost([row])


def test_damaged_and_foreign_checkpoints_are_refused_in_a_line_and_the_run_ends_as_ever(bench: Bench):
    assert_nothing_lost(damage.damaged_checkpoints(bench, random.Random(SEED), 1))


def test_damaged_records_and_weights_are_named_and_trained_again(bench: Bench):
    assert_nothing_lost(damage.damaged_results(bench, random.Random(SEED), 1))


def test_a_cell_that_raises_aborts_or_hangs_fails_alone_and_shows_no_secret(tmp_path: Path):
    assert_nothing_lost(cells.failing_cells(tmp_path))


@pytest.mark.long
def test_workers_that_cannot_start_cost_one_message(tmp_path: Path):
    assert_nothing_lost([cells.workers_that_cannot_start(tmp_path)])


@pytest.mark.long
def test_a_folder_closed_in_mid_run_stops_the_sweep_and_it_goes_on_later(sweep: Path, reference, tmp_path: Path):
    row = Row("closed")
    disk.closed(row, sweep, reference, tmp_path, random.Random(SEED))
    assert_nothing_lost([row])


@pytest.mark.long
def test_a_disk_filled_to_the_last_byte_stops_the_sweep_and_it_goes_on_later(sweep: Path, reference, tmp_path: Path):
    if not disk.can_mount():
        pytest.skip("only root can mount a small tmpfs")
    row = Row("full")
    disk.full(row, "size=150k", sweep, reference, tmp_path)
    assert_nothing_lost([row])


# What finished cells do not share


def change(store: Store, cell_id: str, **values: Any) -> None:
    record = store.read(cell_id)
    assert record is not None
    store.record_path(cell_id).unlink()
    store.commit({**record, **values})


def test_cells_trained_by_other_code_or_on_other_data_or_weights_are_reported_and_not_trained_silently(bench: Bench):
    store = bench.finished()
    assert FinishedCells(bench.cells, store).mixtures() == []
    dense, first, second, third = (cell.id for cell in bench.cells)
    read = {name: store.read(name) or {} for name in (first, second, third)}
    change(store, first, provenance={**read[first]["provenance"], "code": "older"})
    change(store, second, provenance={**read[second]["provenance"], "data": "another"})
    change(store, third, parent={"id": dense, "weights_sha256": "gone"})
    lines = FinishedCells(bench.cells, store).mixtures()
    assert len(lines) == 3
    for line, words in zip(lines, ["1 of 4 finished cells were trained by other code", "another", third], strict=True):
        assert words in line
        assert "\n" not in line


def test_data_that_changed_since_the_folder_was_begun_stop_the_sweep(bench: Bench):
    store = bench.store()
    store.pin(f"data-{bench.cells[0].problem.identity}", "0123456789abcdef")
    with pytest.raises(CannotGoOn, match=r"data changed.*0123456789abcdef"):
        Worker(store, OPTIONS).run(bench.cells[0])
    assert store.ids() == set()


def test_a_worker_that_meets_an_unreadable_record_sets_it_aside_trains_again_and_says_so(bench: Bench):
    store = bench.finished()
    cell = bench.cells[1]
    path = store.record_path(cell.id)
    half = path.read_bytes()[:1000]
    path.write_bytes(half)
    worker = Worker(store, OPTIONS)
    assert [worker.run(one) for one in bench.cells] == ["already done", "done", *["already done"] * 2]
    row = Row("an unreadable record", tries=1)
    compare(row, store.path, bench.untouched)
    assert_nothing_lost([row])
    (aside,) = store.unreadable()
    assert aside.read_bytes() == half
    assert (store.read(cell.id) or {})["provenance"]["set_aside"] == str(aside)
    (line,) = FinishedCells(bench.cells, store).mixtures()
    assert line == f"1 records that nothing could read were set aside, see {aside.parent}"


def test_a_worker_leaves_the_record_of_another_version_of_the_suite_where_it_is(bench: Bench):
    store = bench.finished()
    path = store.record_path(bench.cells[1].id)
    other = path.read_bytes().replace(b'"schema": 1', b'"schema": 2', 1)
    path.write_bytes(other)
    with pytest.raises(UserError, match=r"schema version 2.*--repair"):
        Worker(store, OPTIONS).run(bench.cells[1])
    assert path.read_bytes() == other


def test_a_cell_whose_dense_record_nothing_can_read_fails_and_names_the_file(bench: Bench):
    store = bench.finished()
    dense, cell = bench.cells[:2]
    store.record_path(cell.id).unlink()
    store.record_path(dense.id).write_bytes(b"")
    with pytest.raises(ParentMissing, match=rf"{store.record_path(dense.id)} is truncated.*--repair"):
        Worker(store, OPTIONS).run(cell)
    assert store.record_path(dense.id).exists()


def test_a_cell_that_somebody_else_finished_meanwhile_is_no_failure(bench: Bench):
    store, done = bench.store(), bench.finished()

    def finish_it(iteration: int, values: dict[str, float]) -> None:
        store.commit(done.read(bench.cells[0].id) or {})
        raise OSError("its checkpoints were cleared away")

    assert Worker(store, OPTIONS).run(bench.cells[0], finish_it) == "already done"
    assert not list(store.path.glob("claims/*/*"))


def test_what_killed_runs_left_is_cleared_away_and_what_is_in_use_stays(bench: Bench, tmp_path: Path):
    store = Store.open_for_writing(tmp_path)
    done, running = (cell.id for cell in bench.cells[:2])
    store.commit({"schema": 1, "id": done, "cell": {}, "seconds": {}, "provenance": {}})
    for name in (done, running):
        store.file("checkpoints", name).mkdir(parents=True)
        store.file("claims", name, ".0").parent.mkdir(parents=True, exist_ok=True)
        store.file("claims", name, ".0").write_text("{}")
    old, new = (store.file("records", running).parent / f".{age}.tmp" for age in ("old", "new"))
    for path in (old, new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 10**6,) * 2)
    store.tidy()
    left = {
        path.name
        for path in tmp_path.rglob("*")
        if path.suffix == ".tmp" or path.parent.parent.name in ("checkpoints", "claims")
    }
    assert left == {running, f"{running}.0", ".new.tmp"}


# Secrets and odd texts


def test_no_secret_of_the_environment_is_written(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("SOME_API_KEY", "secret-value-1")
    monkeypatch.setenv("KEYBOARD", "layout-of-keys")
    assert redact("a secret-value-1, layout-of-keys") == "a [SOME_API_KEY], layout-of-keys"
    store = Store(tmp_path)
    store.add_failure("x-000000000000", "exception", "secret-value-1", "trace secret-value-1", "log secret-value-1")
    store.commit(
        {
            "schema": 1,
            "id": "x-000000000001",
            "cell": {},
            "seconds": {},
            "provenance": {},
            "remarks": ["said secret-value-1"],
        }
    )
    contents = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json"))
    assert b"secret-value-1" not in contents
    assert contents.count(b"[SOME_API_KEY]") == 4


def test_a_secret_printed_in_pieces_is_hidden_in_the_log(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret-value-1")
    file = io.StringIO()
    stream = RedactedStream(file)
    for piece in ("key: secret-", "val", "ue-1\nnext ", "secret-value-1"):
        print(piece, end="", file=stream)
    stream.close_line()
    assert file.getvalue() == "key: [SOME_API_KEY]\nnext [SOME_API_KEY]\n"


def test_a_message_of_somebodys_code_becomes_one_line_that_any_terminal_can_show():
    assert one_line("a\n b\t\x1b[31m\udcff") == "a b ?[31m?"
    assert len(one_line("x" * 10**6)) == 1000
    json.dumps(one_line("\udcff")).encode()
