"""Reading W&B's run files: real ones, also cut short or damaged at any place."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.measure.publishing import made_up_record
from benchmark.results.store import Store
from benchmark.tracking.publisher import Publisher
from benchmark.tracking.reader import BadRunFile, LoggedRun, messages, read_run, run_files
from benchmark.tracking.runs import Settings, history_of

EPOCHS = 300


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that fills several blocks of 32 KB."""
    store = Store.open_for_writing(tmp_path_factory.mktemp("store"))
    publisher = Publisher(Settings(store.path, "offline"))
    publisher.add(store.commit(made_up_record(0, EPOCHS))["id"], "sweep/problem")
    assert publisher.close(60).offline == 1
    (path,) = run_files(store.path)
    return path


def test_all_rows_of_a_run_of_several_blocks_are_read(file: Path) -> None:
    assert file.stat().st_size > 3 * 32 * 1024
    run = read_run(file)
    assert run.complete
    assert run.rows() == history_of(made_up_record(0, EPOCHS))


def test_a_run_that_ends_early_gives_what_it_has_and_says_so(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    whole = read_run(file).rows()
    lengths = []
    for end in (*range(5000, len(content), 9973), 32768, 32768 + 3, 65536 - 2):
        cut = tmp_path / "run-cut.wandb"
        cut.write_bytes(content[:end])
        run = read_run(cut)
        assert not run.complete
        assert run.rows() == whole[: len(run.history)]
        lengths.append(len(run.history))
    assert max(lengths) > 200


def test_a_damaged_run_gives_what_stands_before_the_damage(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[50_000] ^= 1
    damaged = tmp_path / "run-damaged.wandb"
    damaged.write_bytes(content)
    run = read_run(damaged)
    assert run.problem is not None
    assert "damaged" in run.problem
    assert 0 < len(run.history) < EPOCHS


@pytest.mark.parametrize("content", [b"", b":W&B", b"some text that is no run file", b":W&B\xe1\xbe\x00"])
def test_what_is_no_run_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(content)
    with pytest.raises(BadRunFile):
        read_run(path)


def test_what_wandb_logs_later_takes_the_place_of_what_it_logged_before(file: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    from benchmark.tracking.reader import _apply

    run = LoggedRun(file)
    for nested, value in ((["a", "b"], "1"), (["a", "c"], "2"), (["a", "b"], "3")):
        record = wandb_internal_pb2.Record()
        record.summary.update.add(nested_key=nested, value_json=value)
        _apply(run, record)
    removal = wandb_internal_pb2.Record()
    removal.summary.remove.add(nested_key=["a", "c"])
    _apply(run, removal)
    assert run.summary == {"a": {"b": 3}}


def test_every_message_is_whole(file: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    numbers = []
    for message in messages(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        numbers.append(record.num)
    assert [number for number in numbers if number] == list(range(1, max(numbers) + 1))
