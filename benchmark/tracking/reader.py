"""Read what W&B wrote on disk: the `run-ID.wandb` files of offline runs (online runs keep one, too).

    for path in run_files(Path("results/runs/wandb")):
        run = read_run(path)
        run.name, run.config["method"], run.summary["accuracy/final/test"], run.history[-1]["train_loss"]

The format: a header of 7 bytes (":W&B", the number 0xBEE1 and a version), then a LevelDB log
(github.com/google/leveldb/blob/main/doc/log_format.md): blocks of 32 KB, each a sequence of fragments of
checksum (4 bytes), length (2 bytes), kind (1 byte) and data. Unlike LevelDB's, the checksum is a plain CRC-32. One or
more fragments make one protobuf message, `Record` of wandb/proto/wandb_internal.proto. Where W&B keeps a value twice,
the later one counts.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<4sHB")
FRAGMENT = struct.Struct("<IHB")
IDENTITY, MAGIC = b":W&B", 0xBEE1
BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class BadRunFile(Exception):
    """A file that is not, or not wholly, a W&B run; the message says why, in words that follow a file name."""


@dataclass
class LoggedRun:
    """One run as W&B holds it.

    Args:
        path: of the file.
        id: that W&B knows the run by.
        name: that people see.
        entity: user or team.
        project: of the entity.
        group: SWEEP/PROBLEM.
        job_type: "dense", "retraining" or "method".
        tags: method, schedule and sparsity.
        config: nested as logged.
        history: one row per `log` call, with W&B's own `_step`, `_runtime` and `_timestamp`.
        summary: nested as logged.
        step_metrics: metric name (or glob) to the metric on its x axis, None if it is an x axis itself.
        exit_code: None if the run was not finished.
        problem: why reading stopped early; None if all was read.
    """

    path: Path
    id: str = ""
    name: str = ""
    entity: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str | None] = field(default_factory=dict)
    exit_code: int | None = None
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the run was finished, successfully, and wholly written."""
        return self.exit_code == 0 and self.problem is None

    def rows(self) -> list[dict[str, Any]]:
        """The history without W&B's own columns."""
        return [{key: value for key, value in row.items() if not key.startswith("_")} for row in self.history]


def run_files(folder: Path) -> list[Path]:
    """The run files anywhere under `folder`, in the order in which the runs started."""
    return sorted(folder.rglob("run-*.wandb"), key=lambda path: (path.parent.name, path.name))


def read_run(path: Path) -> LoggedRun:
    """The run in a `.wandb` file. A file that ends early gives what it has, and says so in `problem`.

    Raises BadRunFile for a file that is none, OSError for one that cannot be read.
    """
    # Imported here: it loads all of wandb, which takes half a second.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]
    run = LoggedRun(path)
    try:
        for message in messages(path.read_bytes()):
            record = new_record()
            record.ParseFromString(message)
            _apply(run, record)
    except (BadRunFile, DecodeError, ValueError) as error:
        if not run.id:
            raise BadRunFile(str(error)) from None
        run.problem = str(error)
    if not run.id:
        raise BadRunFile("holds no run: it was not written to the disk before its process ended")
    return run


def messages(content: bytes) -> Iterator[bytes]:
    """The messages of a run file, put together from their fragments. Raises BadRunFile where the file ends early."""
    if len(content) < HEADER.size or HEADER.unpack_from(content)[:2] != (IDENTITY, MAGIC):
        raise BadRunFile("is not a W&B run file")
    message: bytes | None = None
    for kind, data in _fragments(content):
        if (kind in (FULL, FIRST)) != (message is None):
            raise BadRunFile("has fragments in the wrong order")
        message = (message or b"") + data
        if kind in (FULL, LAST):
            yield message
            message = None
    if message is not None:
        raise BadRunFile("ends within a message")


def _fragments(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = HEADER.size
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < FRAGMENT.size:  # a block's rest too short for a fragment is padding
            position += left
            continue
        start = position + FRAGMENT.size
        if start > len(content):
            raise BadRunFile("ends within a message")
        checksum, length, kind = FRAGMENT.unpack_from(content, position)
        data = content[start : start + length]
        if len(data) < length:
            raise BadRunFile("ends within a message")
        if not FULL <= kind <= LAST or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise BadRunFile(f"is damaged at byte {position}")
        yield kind, data
        position = start + length


def _apply(run: LoggedRun, record: Any) -> None:
    """Bring `run` up to date with one protobuf Record; kinds that hold nothing of ours (telemetry, ...) pass."""
    kind = record.WhichOneof("record_type")
    if kind == "run":
        message = record.run
        run.id, run.name = message.run_id, message.display_name
        run.entity, run.project = message.entity, message.project
        run.group, run.job_type, run.tags = message.run_group, message.job_type, tuple(message.tags)
        _update(run.config, message.config)
        _update(run.summary, message.summary)
    elif kind == "config":
        _update(run.config, record.config)
    elif kind == "summary":
        _update(run.summary, record.summary)
    elif kind == "history":
        row: dict[str, Any] = {}
        for item in record.history.item:
            _set(row, _keys(item), _value(item))
        run.history.append(row)
    elif kind == "metric":
        run.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric or None
    elif kind == "exit":
        run.exit_code = record.exit.exit_code


def _update(target: dict[str, Any], changes: Any) -> None:
    for item in changes.update:
        keys = _keys(item)
        if keys[0] != "_wandb":  # W&B's own bookkeeping
            _set(target, keys, json.loads(item.value_json))
    for item in changes.remove:
        *folders, last = _keys(item)
        for key in folders:
            target = target.get(key, {})
        target.pop(last, None)


def _keys(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]


def _value(item: Any) -> Any:
    if item.value_json:
        return json.loads(item.value_json)
    typed = next((descriptor.name for descriptor, _ in item.ListFields() if "key" not in descriptor.name), None)
    if typed is None or typed == "none":
        return None
    return json.loads(item.json) if typed == "json" else getattr(item, typed)


def _set(target: dict[str, Any], keys: list[str], value: Any) -> None:
    *folders, last = keys
    for key in folders:
        inner = target.get(key)
        target[key] = inner if isinstance(inner, dict) else {}
        target = target[key]
    target[last] = value
