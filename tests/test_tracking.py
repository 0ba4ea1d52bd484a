"""W&B is a projection of the records, complete and exact, and whatever it does costs no cell anything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cells import Budget, Cell, Problem
from benchmark.measure.publishing import made_up_record
from benchmark.results.locks import Locks
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.tracking.markers import read_marker, unpublished, write_marker
from benchmark.tracking.publisher import Publisher, Summary
from benchmark.tracking.reader import BadRunFile, LoggedRun, read_run, run_files
from benchmark.tracking.runs import Published, Settings, _wait_until_written, job_type, tags
from tests.conftest import PATIENCE, ROOT, below, wait_for
from tests.forked import publishing_processes
from tests.wandb_server import BAD_ADDRESSES, KEY, Server, forget_account, hanging

GROUP = "table1/made-up"
LONG = {name: PATIENCE for name in ("init_timeout", "finish_timeout", "answer_timeout")}


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    forget_account(monkeypatch, tmp_path)
    with publishing_processes():
        yield


@pytest.fixture
def _started(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the process itself."""
    monkeypatch.setattr("benchmark.tracking.publisher.subprocess", subprocess)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open_for_writing(tmp_path / "runs")


def settings(store: Store, mode: Any = "auto", **values: Any) -> Settings:
    return Settings(store.path, mode, **{**LONG, "niceness": 0, **values})


def online(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", url)


def publish(records: list[Record], store: Store, how: Settings) -> Summary:
    """Publish beside a sweep that must not notice: no call may raise."""
    publisher = Publisher(how)
    for record in records:
        publisher.add(store.commit(record)["id"], GROUP)
    return publisher.close(PATIENCE)


def runs_on_disk(folder: Path) -> list[LoggedRun]:
    """The complete ones, the latest of each id."""
    runs: dict[str, LoggedRun] = {}
    for path in run_files(folder):
        with contextlib.suppress(BadRunFile):
            if (run := read_run(path)).complete:
                runs.pop(run.id, None)
                runs[run.id] = run
    return list(runs.values())


def assert_holds(run: Any, record: Record) -> None:
    """`run` (name, config, rows, summary) says all that `record` does."""
    cell, provenance = record["cell"], record["provenance"]
    recipe = {key: value for key, value in cell["problem"].items() if key != "name"}
    assert run.config == {
        "cell": record["id"],
        "schema": 1,
        "problem": cell["problem"]["name"],
        "method": cell["method"],
        "schedule": cell["schedule"],
        "sparsity": cell["sparsity"],
        "budget": cell["budget"],
        "seed": cell["seed"],
        **({"hyperparameters": cell["hyperparameters"]} if cell["hyperparameters"] else {}),
        "recipe": recipe,
        "parent": record["parent"],
        "provenance": provenance,
    }
    columns = record["history"]
    assert len(run.rows()) == len(columns["epoch"])
    for number, row in enumerate(run.rows()):
        assert row == {key: values[number] for key, values in columns.items() if values[number] is not None}
    for key, value in {
        "status": record["status"],
        "accuracy/final/test": record["accuracy"]["final"]["test"],
        "accuracy/final/validation": record["accuracy"]["final"]["validation"],
        "loss/final/test": record["loss"]["final"]["test"],
        "sparsity/prunable": record["sparsity"]["prunable"],
        "macs/speedup": record["macs"]["speedup"],
        "images_per_second": record["images_per_second"],
        "seconds/total": record["seconds"]["total"],
        "iterations/total": record["iterations"]["total"],
        "iterations/per_epoch": record["iterations"]["per_epoch"],
        "learning_rate/peak": record["learning_rate"]["peak"],
        "learning_rate/sha256": record["learning_rate"]["sha256"],
    }.items():
        assert run.summary[key] == value, key
    for key in ("d", "d1", "d2"):
        assert run.summary.get(key) == (record["cycles"][-1][key] if record["cycles"] else None)
    assert run.summary.get("per_cycle", []) == record["cycles"]
    layers = record["sparsity"].get("layers", {})
    assert run.summary.get("per_layer", []) == [{"layer": name, **told} for name, told in layers.items()]


def dense_record() -> Record:
    record = made_up_record(0)
    cell = Cell.dense(Problem.model_validate(record["cell"]["problem"]), 0)
    final = {"final": record["accuracy"]["final"]}
    return record | {
        "id": cell.id,
        "cell": cell.to_json(),
        "parent": None,
        "accuracy": final,
        "loss": final,
        "cycles": [],
        "sparsity": {**record["sparsity"], "target": None, "prunable": 0.0},
    }


def method_record() -> Record:
    record = made_up_record(3)
    problem = Problem.model_validate(record["cell"]["problem"])
    cell = Cell(problem, "GMP", 3, sparsity=0.9, hyperparameters=(("steps", 20),))
    history = {key: list(values) for key, values in record["history"].items()}
    history["train_loss"][5] = None  # was not finite
    more = {"id": cell.id, "cell": cell.to_json(), "status": "collapsed", "remarks": ["about chance", "zero"]}
    return record | more | {"history": history}


# What W&B holds


def test_wandbs_own_files_say_what_the_records_say(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"RUN_ID": "other", "TAGS": "other", "NAME": "other", "RESUME": "must", "SWEEP_ID": "s", "MODE": "online"}
    for name, value in others.items():  # variables meant for other runs
        monkeypatch.setenv(f"WANDB_{name}", value)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("WANDB_DIR", str(elsewhere))
    expected = {
        "retraining": (made_up_record(1), ("IMP", "ALLR", "s0.9")),
        "dense": (dense_record(), ("dense",)),
        "method": (method_record(), ("GMP", "s0.9")),
    }
    records = [record for record, _ in expected.values()]
    assert publish(records, store, settings(store, "offline", project="p", entity="e")).offline == 3
    runs = {run.job_type: run for run in runs_on_disk(elsewhere)}
    assert set(runs) == set(expected)
    assert run_files(store.path) == []
    for kind, (record, labels) in expected.items():
        run = runs[kind]
        assert_holds(run, record)
        assert (run.id, run.name, run.group, run.tags) == (record["id"][-12:], record["id"], GROUP, labels)
        assert (run.project, run.entity) == ("p", "e")
        assert run.step_metrics == {"epoch": None, "*": "epoch"}
        assert run.summary.get("remarks") == ("; ".join(record["remarks"]) or None)


def test_a_server_receives_what_the_record_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [made_up_record(seed) for seed in range(3)]
    with Server().serving() as server:
        online(monkeypatch, server.url)
        summary = publish(records, store, settings(store))
    assert (summary.published, summary.offline, summary.left) == (3, 0, 0)
    assert "3 runs published" in summary.message
    assert unpublished(store, "online") == []
    by_name = {run.variables["displayName"]: run for run in server.runs.values()}
    for record in records:
        run = by_name[record["id"]]
        assert_holds(run, record)
        assert run.finished
        assert (run.variables["groupName"], run.variables["jobType"]) == (GROUP, "retraining")
        assert run.variables["tags"] == ["IMP", "ALLR", "s0.9"]
        assert run.variables["host"] is None
        assert run.variables["repo"] is None


def test_real_cells_have_job_types_and_tags_that_wandb_accepts() -> None:
    record = made_up_record(0)
    cell = Cell(Problem.model_validate(record["cell"]["problem"]), "IMP", 0, "x" * 100, 1 / 3, Budget.parse("10ep"))
    long = record | {"id": cell.id, "cell": cell.to_json()}
    assert job_type(long) == "retraining"
    assert all(1 <= len(tag) <= 64 for tag in tags(long))


# Once and only once


def test_a_cell_is_published_once_however_often_it_is_added(store: Store) -> None:
    records = [made_up_record(seed) for seed in range(3)]
    first = publish([*records, *records], store, settings(store, "offline"))
    assert (first.offline, first.left) == (3, 0)
    again = publish(records, store, settings(store, "offline"))
    assert again == Summary(0, 0, 0, "")
    assert len(run_files(store.path)) == 3
    marker = read_marker(store, records[0]["id"])
    assert marker is not None
    assert (marker["mode"], marker["group"]) == ("offline", GROUP)
    assert (store.path / marker["folder"]).is_dir()
    assert set(marker) == {"id", "run_id", "mode", "entity", "project", "group", "url", "folder", "time"}


def test_what_counts_as_published_is_on_the_disk(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmark.measure.publishing import made_up_record; "
        "from benchmark.tracking.runs import Settings, publish_record; from benchmark.tracking.reader import read_run\n"
        "for seed in range(10):\n"
        "    run = publish_record(made_up_record(seed), 'g', Settings(Path(sys.argv[1])), 'offline')\n"
        "    assert read_run(Path(sys.argv[1], run.folder, f'run-{run.run_id}.wandb')).complete"
    )
    subprocess.run([sys.executable, "-c", code, str(store.path)], cwd=ROOT, timeout=60, check=True)


def test_a_run_that_is_not_written_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.tracking.runs.WRITTEN_SECONDS", 0.05)
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b":W&B\xe1\xbe\x00")  # what a full disk leaves
    with pytest.raises(OSError, match="not written"):
        _wait_until_written(path)


def test_two_sweeps_on_one_store_publish_each_cell_once(store: Store) -> None:
    records = [made_up_record(seed) for seed in range(12)]
    for record in records:
        store.commit(record)
    both = [Publisher(settings(store, "offline")) for _ in range(2)]
    for record in records:
        for publisher in both:
            publisher.add(record["id"], GROUP)
    summaries = [publisher.close(PATIENCE) for publisher in both]
    assert sum(summary.offline for summary in summaries) == 12
    assert sum(summary.left for summary in summaries) == 0
    assert len(run_files(store.path)) == 12


def test_what_another_process_publishes_is_waited_for_before_the_publisher_is_closed(store: Store) -> None:
    """`benchmark.publish` shows how many are left and closes at the end: what is locked must not be left until then."""
    name = store.commit(made_up_record(0))["id"]
    lock = Locks().take(store.file("publishing", name))
    publisher = Publisher(settings(store, "offline"))
    publisher.add(name, GROUP)
    wait_for(lambda: publisher._jobs.empty())
    assert publisher.pending == 1
    lock.release()
    wait_for(lambda: publisher.pending == 0)
    assert publisher.close(PATIENCE).offline == 1


def test_an_unreadable_marker_counts_as_none(store: Store) -> None:
    ids = [store.commit(made_up_record(seed))["id"] for seed in range(3)]
    published = Published("x", "offline", "", "", "", "", "")
    for cell_id in ids:
        write_marker(store, cell_id, published)
    assert unpublished(store, "offline") == []
    store.file("published", ids[1], ".json").write_text('{"id"')
    assert unpublished(store, "offline") == [ids[1]]
    write_marker(store, ids[1], published)
    assert unpublished(store, "offline") == []


def test_an_online_run_takes_the_place_of_an_offline_one_and_not_the_other_way_round(store: Store) -> None:
    cell_id = store.commit(made_up_record(0))["id"]
    for mode, left in (("offline", [cell_id]), ("online", []), ("offline", [])):
        write_marker(store, cell_id, Published("x", mode, "", "", "", "", ""))
        assert unpublished(store, "online") == left


# Modes


def test_off_leaves_no_trace(store: Store) -> None:
    assert publish([made_up_record(0)], store, settings(store, "off")) == Summary(0, 0, 0, "")
    assert {path.name for path in store.path.iterdir()} <= {"records", ".writable"}


def test_wandb_mode_disabled_turns_auto_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert publish([made_up_record(0)], store, settings(store)) == Summary(0, 0, 0, "")


def test_without_a_key_auto_stays_offline_and_says_how_to_go_on(store: Store) -> None:
    summary = publish([made_up_record(0)], store, settings(store))
    assert (summary.published, summary.offline) == (0, 1)
    for text in ("no W&B key", "wandb login", f"python -m benchmark.publish --results {store.path}"):
        assert text in summary.message
    assert "\n" not in summary.message


def test_a_key_in_netrc_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server().serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        Path(os.environ["NETRC"]).write_text(
            f"machine {server.url.removeprefix('http://')}\n  login user\n  password {KEY}\n"
        )
        assert publish([made_up_record(0)], store, settings(store)).published == 1


# Faults


@pytest.fixture(params=list(BAD_ADDRESSES))
def bad_address(request: pytest.FixtureRequest) -> Iterator[str]:
    with BAD_ADDRESSES[request.param]() as url:
        yield url


def test_a_bad_server_costs_nothing_and_loses_nothing(
    bad_address: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    online(monkeypatch, bad_address)
    records = [made_up_record(0)]
    summary = publish(records, store, settings(store, init_timeout=1.0, finish_timeout=1.0))
    assert (summary.published, summary.offline, summary.left) == (0, 1, 0)
    assert "1 run kept offline" in summary.message
    assert f"python -m benchmark.publish --results {store.path}" in summary.message
    names = {run.name: run for run in runs_on_disk(store.path)}
    for record in records:
        assert_holds(names[record["id"]], record)
    assert unpublished(store, "online") == [records[0]["id"]]
    for path in store.path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in summary.message


def test_a_server_that_is_gone_is_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(upload_status=403).serving() as server:
        online(monkeypatch, server.url)
        summary = publish([made_up_record(seed) for seed in range(8)], store, settings(store))
    assert (summary.published, summary.offline) == (0, 8)
    assert len(server.created) == 2


def test_a_server_that_comes_back_is_used_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(upload_status=403).serving() as server:
        online(monkeypatch, server.url)
        publisher = Publisher(settings(store, retry=0.0))
        for seed in range(2):
            publisher.add(store.commit(made_up_record(seed))["id"], GROUP)
        wait_for(lambda: publisher.pending == 0)
        server.upload_status = 200
        publisher.add(store.commit(made_up_record(2))["id"], GROUP)
        summary = publisher.close(PATIENCE)
    assert (summary.published, summary.offline) == (1, 2)


@pytest.mark.usefixtures("_started")
def test_close_waits_no_longer_than_it_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging() as url:
        online(monkeypatch, url)
        publisher = Publisher(settings(store, init_timeout=PATIENCE))
        for seed in range(3):
            publisher.add(store.commit(made_up_record(seed))["id"], GROUP)
        assert publisher.pending == 3, "adding waited for the server"
        wait_for(children)
        summary = publisher.close(0.5)  # and not the minute that the server may take
    assert (summary.published, summary.offline, summary.left) == (0, 0, 3)
    assert "3 not published" in summary.message
    assert children() == []


@pytest.mark.usefixtures("_started")
def test_a_publishing_process_that_stops_answering_is_replaced(store: Store) -> None:
    publisher = Publisher(settings(store, "offline"))
    publisher.add(store.commit(made_up_record(0))["id"], GROUP)
    wait_for(lambda: publisher.pending == 0)
    (child,) = children()
    os.kill(child, signal.SIGSTOP)
    for seed, patience in ((1, 0.0), (2, PATIENCE)):
        publisher.settings = replace(publisher.settings, answer_timeout=patience)
        publisher.add(store.commit(made_up_record(seed))["id"], GROUP)
        wait_for(lambda: publisher.pending == 0)
    summary = publisher.close(PATIENCE)
    assert (summary.offline, summary.left) == (2, 1)
    assert "did not answer" in summary.message


@pytest.mark.usefixtures("_started")
def test_ctrl_c_does_not_end_the_publishing_process(store: Store) -> None:
    publisher = Publisher(settings(store, "offline"))
    publisher.add(store.commit(made_up_record(0))["id"], GROUP)
    wait_for(lambda: publisher.pending == 0)
    (child,) = children()
    for number in (signal.SIGINT, signal.SIGUSR2):
        os.kill(child, number)
    publisher.add(store.commit(made_up_record(1))["id"], GROUP)
    wait_for(lambda: publisher.pending == 0)
    assert children() == [child]
    assert publisher.close(PATIENCE).offline == 2
    assert children() == []


@pytest.mark.usefixtures("_started")
def test_a_wandb_that_cannot_be_imported_is_reported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    tried = tmp_path / "tried"
    (tmp_path / "broken" / "wandb.py").write_text(
        f"open({str(tried)!r}, 'a').write('x')\nraise ImportError('half installed')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    summary = publish([made_up_record(seed) for seed in range(4)], store, settings(store, "offline"))
    assert (summary.offline, summary.left) == (0, 4)
    assert "half installed" in summary.message
    assert len(tried.read_text()) <= 2


def test_a_record_that_cannot_be_read_is_left_and_named(store: Store) -> None:
    bad, good = made_up_record(0), made_up_record(1)
    store.commit(bad)
    store.record_path(bad["id"]).write_bytes(b"{")
    publisher = Publisher(settings(store, "offline"))
    publisher.add(bad["id"], GROUP)
    publisher.add(store.commit(good)["id"], GROUP)
    summary = publisher.close(PATIENCE)
    assert (summary.offline, summary.left) == (1, 1)
    assert bad["id"] in summary.message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_a_killed_sweep_leaves_no_process_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = store.commit(made_up_record(0))["id"]
    code = (
        "import sys, time; from pathlib import Path; from benchmark.tracking.publisher import Publisher; "
        "from benchmark.tracking.runs import Settings; "
        "Publisher(Settings(Path(sys.argv[1]), init_timeout=60)).add(sys.argv[2], 'g'); time.sleep(60)"
    )
    with hanging() as url:
        online(monkeypatch, url)
        sweep = subprocess.Popen([sys.executable, "-c", code, str(store.path), identity], cwd=ROOT)
        try:
            wait_for(lambda: any((store.path / "wandb").glob("run-*")))
            started = dict(below(sweep.pid))
            assert any("wandb-core" in command for command in started.values())
        finally:
            sweep.kill()
            sweep.wait()
        wait_for(lambda: not any(alive(pid) for pid in started))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children() -> list[int]:
    """The publishing processes of this one that are not forked."""
    return [pid for pid, command in below(os.getpid()) if "-m benchmark.tracking.process" in command and alive(pid)]
