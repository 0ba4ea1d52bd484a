"""`--tracking live`: W&B shows long cells while they train, exactly, and a bad server costs them nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.cells import Cell
from benchmark.launch.events import Epoch, Failed, Finished, Started
from benchmark.launch.publishing import Publishing
from benchmark.measure.publishing import made_up_record
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.tracking.live import log_path, read
from benchmark.tracking.markers import unpublished
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.reader import run_files
from benchmark.tracking.runs import Settings, history_of, run_id
from tests.conftest import PATIENCE, assert_one_line_refusal, wait_for
from tests.forked import publishing_processes
from tests.test_tracking import LONG
from tests.wandb_server import KEY, Server, forget_account, hanging, refusing

GROUP = "table1/made-up"
RECORD = made_up_record(0, epochs=6)
CELL = Cell.from_json(RECORD["cell"])
ROWS = history_of(RECORD)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    forget_account(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")  # whole seconds; else 15
    with publishing_processes():
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open_for_writing(tmp_path / "runs")


def live(store: Store, **values: Any) -> Publisher:
    return Publisher(Settings(store.path, "live", **{**LONG, "live_after": 0.0, "niceness": 0, **values}))


def follow(publisher: Publisher, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        publisher.follow(CELL, GROUP, row)


def finish(publisher: Publisher, store: Store) -> Record:
    store.commit(RECORD)
    publisher.add(RECORD["id"], GROUP)
    return RECORD


def test_what_a_pool_tells_of_is_published_and_passed_on(store: Store) -> None:
    publishing = Publishing(Settings(store.path, "live"), "table1", "made-up")
    events = [
        Started(CELL),
        Epoch(CELL, 17, ROWS[0]),
        Epoch(CELL, 34, ROWS[1]),
        Failed(CELL, "hang", "no sign of life"),
    ]
    assert list(publishing.listen(events)) == events
    assert read(store, CELL.id) == ROWS[:2]
    assert publishing.close(0) == "", "a cell that is not finished is none to publish"
    store.commit(RECORD)
    assert list(publishing.listen([Finished(CELL, trained_here=True)]))
    assert "1 not published" in publishing.close(0)


def test_a_running_cell_is_shown_and_its_own_run_takes_the_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server().serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        publisher = live(store)
        follow(publisher, ROWS[:4])
        wait_for(lambda: server.runs and server.runs[run_id(RECORD)].history)
        run = server.runs[run_id(RECORD)]
        assert run.rows() == ROWS[:4]
        assert (run.variables["displayName"], run.variables["groupName"]) == (RECORD["id"], GROUP)
        assert run.config["method"] == "IMP"
        assert "accuracy/final/test" not in run.summary
        follow(publisher, ROWS[4:])
        finish(publisher, store)
        summary = publisher.close(PATIENCE)
    assert (summary.published, summary.offline, summary.left) == (1, 0, 0)
    assert set(server.runs) == {run_id(RECORD)}
    final = server.runs[run_id(RECORD)]
    assert final is not run
    assert final.rows() == ROWS
    assert final.summary["accuracy/final/test"] == RECORD["accuracy"]["final"]["test"]
    assert not log_path(store, RECORD["id"]).exists()
    assert unpublished(store, "online") == []


def test_a_cell_that_goes_on_elsewhere_shows_its_whole_curve_and_no_epoch_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server().serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        first = live(store)
        follow(first, ROWS[:3])
        wait_for(lambda: server.runs)
        first.close(PATIENCE)
        first_run = server.runs[run_id(RECORD)]
        assert first_run.rows() == ROWS[:3]
        with open(log_path(store, RECORD["id"]), "a") as log:
            log.write('{"iteration": 4')  # killed in mid-line
            log.write("\n")
        second = live(store)
        follow(second, ROWS[1:5])  # from a checkpoint after the first epoch
        wait_for(lambda: server.runs[run_id(RECORD)] is not first_run)
        second.close(PATIENCE)
    assert server.runs[run_id(RECORD)].rows() == ROWS[:5]
    assert read(store, RECORD["id"]) == ROWS[:5]


def test_a_short_cell_is_not_shown_before_it_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server().serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        publisher = live(store, live_after=60.0)
        follow(publisher, ROWS)
        finish(publisher, store)
        assert publisher.close(PATIENCE).published == 1
    assert server.created == [run_id(RECORD)]


@pytest.mark.parametrize("kind", ["refuses", "hangs", "dies in mid-run"])
def test_a_bad_server_delays_and_loses_nothing(kind: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def play(url: str) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        publisher = live(store, init_timeout=1.0, finish_timeout=1.0)
        follow(publisher, ROWS[:4])
        follow(publisher, ROWS[4:])
        assert read(store, RECORD["id"]) == ROWS
        finish(publisher, store)
        summary = publisher.close(PATIENCE)
        assert (summary.published, summary.offline, summary.left) == (0, 1, 0)
        assert "python -m benchmark.publish" in summary.message

    if kind == "refuses":
        play(refusing())
    elif kind == "hangs":
        with hanging() as url:
            play(url)
    else:
        with Server(dies=True).serving() as server:
            play(server.url)
    assert unpublished(store, "online") == [RECORD["id"]]


def test_without_a_key_nothing_is_shown_and_the_finished_cell_is_kept_offline(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    publisher = live(store)
    follow(publisher, ROWS)
    finish(publisher, store)
    summary = publisher.close(PATIENCE)
    assert (summary.published, summary.offline, summary.left) == (0, 1, 0)
    assert "no W&B key" in summary.message


def test_a_job_without_a_key_keeps_nothing_but_the_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    publisher = Publisher(Settings(store.path, "auto", fallback=False))
    finish(publisher, store)
    summary = publisher.close(PATIENCE)
    assert (summary.published, summary.offline, summary.left) == (0, 0, 1)
    assert "no W&B key" in summary.message
    assert run_files(store.path) == []
    assert unpublished(store, "offline") == [RECORD["id"]]


def test_live_is_for_sweeps_and_not_for_publishing_afterwards(command, tmp_path: Path) -> None:
    assert_one_line_refusal(command("benchmark.publish", "--mode", "live", "--results", str(tmp_path)), "--mode live")
    refused = command("benchmark.sweep", "table1", "--tracking", "alive", "--results", str(tmp_path))
    assert_one_line_refusal(refused, "--tracking alive", "live")
