"""`python -m benchmark.publish`: what was left behind is published, once, with exit codes that scripts can rely on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.cells import Budget, Cell
from benchmark.measure.publishing import made_up_record
from benchmark.planning.grid import SWEEPS, load_sweep, sweep_names
from benchmark.publish import _coordinates, _grouped, _sweeps, app
from benchmark.results.records import Record
from benchmark.results.store import Store
from benchmark.tracking.markers import read_marker, unpublished, write_marker
from benchmark.tracking.runs import Published
from tests.conftest import assert_one_line_refusal
from tests.test_tracking import runs_on_disk
from tests.wandb_server import KEY, Server, forget_account, refusing

Publish = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open_for_writing(tmp_path / "runs")


@pytest.fixture
def publish(
    command: Publish, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command on `store`, with no account but what is passed as variables."""
    forget_account(monkeypatch, tmp_path)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        arguments = ("--results", str(store.path), *arguments)
        return command("benchmark.publish", *arguments, **{"WANDB_MODE": "online", **variables})

    return run


def record_of(cell: Cell) -> Record:
    record = made_up_record(cell.seed)
    parent = None if cell.is_dense else {"id": Cell.dense(cell.problem, cell.seed).id, "weights_sha256": "0" * 64}
    return record | {"id": cell.id, "cell": cell.to_json(), "parent": parent}


def test_what_is_left_is_published_once(publish: Publish, store: Store) -> None:
    for seed in range(3):
        store.commit(made_up_record(seed))
    first = publish("--project", "ours")
    assert first.returncode == 0, first.stderr
    assert "3 runs kept offline" in first.stdout
    assert len(first.stdout.strip().splitlines()) == 1
    second = publish()
    assert second.returncode == 0
    for words in ("3 of 3 records", "kept offline only", "no W&B key", "`wandb login`"):
        assert words in second.stdout
    assert len(list((store.path / "wandb").glob("offline-run-*"))) == 3
    again = publish("--again")
    assert again.returncode == 0
    assert len(list((store.path / "wandb").glob("offline-run-*"))) == 6
    assert len(runs_on_disk(store.path)) == 3


def test_offline_runs_go_online_as_soon_as_there_is_a_server(publish: Publish, store: Store) -> None:
    ids = [store.commit(made_up_record(seed))["id"] for seed in range(3)]
    assert publish().returncode == 0
    gone = publish("--patience", "0.5", WANDB_API_KEY=KEY, WANDB_BASE_URL=refusing())
    assert gone.returncode == 1
    assert "3 not published" in gone.stdout
    with Server().serving() as server:
        there = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url}
        sent = publish("--project", "mine", "--entity", "us", "--per-minute", "6000", **there)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert "3 runs published" in sent.stdout
        assert "nothing to do: all 3 records" in (done := publish(**there)).stdout
        assert done.returncode == 0
    assert sorted(server.created) == sorted(name[-12:] for name in ids)
    for run in server.runs.values():
        assert (run.variables["project"], run.variables["entity"]) == ("mine", "us")
        assert run.finished
    assert unpublished(store, "online") == []


def test_groups_are_sweep_and_problem(store: Store) -> None:
    cell = load_sweep("table1", seeds=1).cells[0]
    dense, lonely = Cell.dense(cell.problem, 0), Cell.dense(cell.problem, 1)
    other = Cell(cell.problem, "IMP", 0, "ALLR", 0.123, Budget.parse("1%"))
    ids = [store.commit(record_of(one))["id"] for one in (cell, dense, lonely, other)]
    one_sweep = dict.fromkeys((cell.id, dense.id, lonely.id), "table1/digits")
    assert _grouped(ids, store, "table1", _sweeps(["table1"])) == one_sweep
    assert _grouped(ids[:2], store, "table2", _sweeps(["table2"])) == {}
    groups = _grouped(ids, store, None, _sweeps(["table1", "table2"]))
    assert groups[cell.id] == "table1/digits"
    assert groups[other.id] == "other/digits"
    assert groups[lonely.id] == "dense/digits"


def test_a_cell_of_several_sweeps_is_in_the_group_of_the_one_that_is_there(store: Store, tmp_path: Path) -> None:
    sweeps = _sweeps(sweep_names())
    table1 = [store.commit(record_of(cell))["id"] for cell in load_sweep("table1", seeds=1).cells]
    assert set(_grouped(table1, store, None, sweeps).values()) == {"table1/digits"}
    wide = Store.open_for_writing(tmp_path / "wide")
    ids = [wide.commit(record_of(cell))["id"] for cell in load_sweep("figure1_wide", seeds=1).cells]
    assert set(_grouped(ids, wide, None, sweeps).values()) == {"figure1_wide/digits"}
    (tmp_path / "mine.yaml").write_text((SWEEPS / "table1.yaml").read_text())
    own = str(tmp_path / "mine.yaml")
    assert set(_grouped(table1, store, own, _sweeps([own])).values()) == {"mine/digits"}


def test_only_the_records_of_the_sweep_count(publish: Publish, store: Store) -> None:
    cells = load_sweep("table1", seeds=1).cells[:2]
    for cell in (*cells, Cell.dense(cells[0].problem, 0)):
        store.commit(record_of(cell))
    none = publish("table2")
    assert (none.returncode, "there are no records of table2" in none.stdout) == (0, True)
    assert "3 runs kept offline" in publish("table1").stdout
    store.commit(record_of(Cell(cells[0].problem, "IMP", 0, "ALLR", 0.123, Budget.parse("1%"))))
    assert "3 of 3 records of table1" in publish("table1").stdout
    assert "1 run kept offline" in (rest := publish().stdout)
    assert "4 of 4 records" in rest


def test_a_folder_that_is_no_store_is_refused_untouched(publish: Publish, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert_one_line_refusal(publish("--results", str(other)), f"--results {other}", "records/")
    assert list(other.iterdir()) == []


def test_an_unreadable_record_is_left_and_named(publish: Publish, store: Store) -> None:
    ids = [store.commit(made_up_record(seed))["id"] for seed in range(2)]
    path = store.record_path(ids[0])
    path.write_bytes(path.read_bytes()[:100])
    finished = publish()
    assert finished.returncode == 1
    assert str(path) in finished.stderr
    assert "1 run kept offline" in finished.stdout
    assert "1 not published" in finished.stdout
    assert read_marker(store, ids[0]) is None
    assert read_marker(store, ids[1]) is not None


def test_bad_input_is_one_line(publish: Publish, store: Store, tmp_path: Path) -> None:
    store.commit(made_up_record(0))
    missing = str(tmp_path / "nowhere")
    assert_one_line_refusal(publish("--results", missing), "--results", missing)
    assert_one_line_refusal(publish("--mode", "sometimes"), "--mode", "sometimes", "offline")
    assert_one_line_refusal(publish("--mode", "online"), "no W&B key", "wandb login", "WANDB_API_KEY")
    assert_one_line_refusal(publish("--mode", "online", WANDB_API_KEY="short"), "--mode online", "40")
    assert_one_line_refusal(publish("table9"), "table9", "table1")
    assert_one_line_refusal(publish("--mode", "auto", WANDB_MODE="disabled"), "WANDB_MODE", "--mode online")
    assert_one_line_refusal(publish("--project", "a/b"), "--project", "a/b")
    assert unpublished(store, "offline") != []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--per-minute", "nan"),
        ("--per-minute", "inf"),
        ("--per-minute", "0"),
        ("--patience", "nan"),
        ("--patience", "inf"),
        ("--patience", "-1"),
    ],
)
def test_a_number_that_cannot_be_is_refused(publish: Publish, option: str, value: str) -> None:
    assert_one_line_refusal(publish(option, value), option, value)


def test_the_measuring_command_says_what_a_cell_costs(command: Publish) -> None:
    finished = command("benchmark.measure", "publishing", "--count", "3")
    assert finished.returncode == 0, finished.stderr
    assert re.match(r"\d\.\d+ s per cell offline \(3 cells of 30 epochs, 0 left\)", finished.stdout)


def test_what_is_left_of_a_sweep_goes_into_the_group_of_what_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where what is left could be another sweep's."""
    forget_account(monkeypatch, tmp_path)
    also_wide = _sweeps(["figure1_wide"])["figure1_wide"]
    cells = load_sweep("figure1", seeds=1).cells
    left = [cell.id for cell in cells if _coordinates(cell.to_json()) in also_wide][:5]
    for cell in cells:
        store.commit(record_of(cell))
        if cell.id not in left:
            write_marker(store, cell.id, Published(cell.id, "offline", "", "ours", "figure1/digits", "", ""))
    sent: dict[str, str] = {}
    monkeypatch.setattr("benchmark.publish._send", lambda publisher, todo: sent.update(todo) or publisher.close())
    cli.main(app, ["--results", str(store.path), "--mode", "offline"])
    assert sent == dict.fromkeys(left, "figure1/digits")


def test_a_record_with_a_cell_of_another_shape_hinders_no_other(publish: Publish, store: Store) -> None:
    strange = made_up_record(0)
    del strange["cell"]["hyperparameters"]
    store.commit(strange)
    store.commit(made_up_record(1))
    done = publish("--mode", "offline")
    assert "Traceback" not in done.stderr
    assert "kept offline" in done.stdout


def test_the_command_that_is_shown_can_be_copied(
    publish: Publish, store: Store, command: Publish, tmp_path: Path
) -> None:
    there = Store.open_for_writing(tmp_path / "#runs of mine")
    there.commit(made_up_record(0))
    done = command("benchmark.publish", "--results", str(there.path), "--mode", "offline", WANDB_MODE="offline")
    assert f"--results '{there.path}'`" in done.stdout
