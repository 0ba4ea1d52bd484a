"""A results folder: records, failures, weights and checkpoints, as plain files that several machines may share.

    records/<ab>/<cell id>.json          done: the first writer wins, never overwritten
    failures/<ab>/<cell id>.<n>.json     attempt n failed: cause, message, traceback, end of the log
    weights/<ab>/<cell id>.pt            final weights of runs that others start from
    checkpoints/<ab>/<cell id>/          where an unfinished run goes on
    claims/<ab>/<cell id>.<generation>   who is training it now
    set-aside/                           unreadable files, kept for a look
<ab> are the first two characters of the cell's hash, so that no folder grows long. Imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark import atomic
from benchmark.cells import HASH_LENGTH
from benchmark.errors import UserError
from benchmark.records import BadRecord, Record, body_of, decode, encode, encode_line, result


class Store:
    """Everything that is kept in one results folder. Methods that write create folders as needed."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.problems: list[str] = []

    @classmethod
    def open_for_writing(cls, path: Path | str) -> Store:
        """A store that can be written to. Raises UserError if the folder cannot be made or written."""
        store = cls(path)
        try:
            store.path.mkdir(parents=True, exist_ok=True)
            atomic.replace_file(store.path / ".writable", b"")
        except OSError as error:
            raise UserError(f"--results {path}: cannot write there ({error.strerror or error})") from None
        return store

    def file(self, kind: str, cell_id: str, suffix: str = "") -> Path:
        return self.path / kind / cell_id[-HASH_LENGTH:][:2] / (cell_id + suffix)

    # Records

    def record_path(self, cell_id: str) -> Path:
        return self.file("records", cell_id, ".json")

    def has(self, cell_id: str) -> bool:
        return self.record_path(cell_id).exists()

    def read(self, cell_id: str) -> Record | None:
        """The record, or None if there is none or it cannot be used (then `problems` says why)."""
        return self._read_file(self.record_path(cell_id))

    def commit(self, record: Record) -> Record:
        """Store `record` and return the one that counts: an earlier one of the same cell stays.

        A second result that differs from the first is kept in set-aside/ and reported, since equal cells must have
        equal results.
        """
        path = self.record_path(record["id"])
        if atomic.create_file(path, encode(record)):
            return record
        first = self.read(record["id"])
        if first is None:
            raise UserError(f"{path} exists and cannot be used; run the sweep with --repair to set it aside")
        if result(first) != result(record):
            other = self.path / "set-aside" / f"{record['id']}.{os.getpid()}.second-result.json"
            atomic.replace_file(other, encode(record))
            self.problems.append(f"{other} differs from the record that was stored first; the first one counts")
        return first

    def ids(self) -> set[str]:
        """Ids of the cells that have a record file, by listing alone."""
        return {path.stem for path in self._list("records", ".json")}

    def records(self) -> Iterator[Record]:
        """Every usable record, in the order of their ids; `problems` names the others."""
        for path in sorted(self._list("records", ".json"), key=lambda path: path.name):
            record = self._read_file(path)
            if record is not None:
                yield record

    def damaged(self, cell_ids: Iterable[str]) -> list[tuple[Path, str]]:
        """The records among `cell_ids` that exist but cannot be used, with the reason. Checks checksums alone."""
        found = []
        for cell_id in cell_ids:
            path = self.record_path(cell_id)
            try:
                body_of(path.read_bytes())
            except BadRecord as error:
                found.append((path, str(error)))
        return found

    def set_aside(self, path: Path) -> Path:
        """Move a file that cannot be used out of the way, keeping it."""
        folder = self.path / "set-aside"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        path.rename(target)
        return target

    # Failures

    def add_failure(self, cell_id: str, cause: str, message: str, traceback: str = "", log: str = "") -> None:
        """Keep what went wrong beside the records; the next run of the same command tries the cell again."""
        failure = {
            "id": cell_id,
            "cause": cause,
            "message": message,
            "traceback": traceback,
            "log": log,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        attempt = 1
        while not atomic.create_file(
            self.file("failures", cell_id, f".{attempt}.json"),
            json.dumps({**failure, "attempt": attempt}, indent=1).encode(),
        ):
            attempt += 1

    def failures(self) -> list[dict[str, Any]]:
        """The latest failure of every cell that has failed and has no record."""
        latest: dict[str, dict[str, Any]] = {}
        done = self.ids()
        for path in self._list("failures", ".json"):
            try:
                failure = json.loads(path.read_bytes())
                if failure["id"] not in done and failure["attempt"] >= latest.get(failure["id"], failure)["attempt"]:
                    latest[failure["id"]] = failure
            except (ValueError, KeyError, TypeError):
                self.problems.append(f"{path} is not a failure report of this suite")
        return sorted(latest.values(), key=lambda failure: failure["id"])

    def _list(self, kind: str, suffix: str) -> Iterator[Path]:
        try:
            shards = [entry.path for entry in os.scandir(self.path / kind) if entry.is_dir()]
        except FileNotFoundError:
            return
        for shard in shards:
            for entry in os.scandir(shard):
                if entry.name.endswith(suffix) and not entry.name.startswith("."):
                    yield Path(entry.path)

    def _read_file(self, path: Path) -> Record | None:
        try:
            record = decode(path.read_bytes())
            if record["id"] != path.stem:
                raise BadRecord(f"holds the record of another cell, {record['id']}")
            return record
        except FileNotFoundError:
            return None
        except (BadRecord, OSError) as error:
            self.problems.append(f"{path} {error}")
            return None


def read_compact(path: Path, problems: list[str] | None = None) -> Iterator[Record]:
    """Records of a compact file, one a line. Unusable lines go to `problems`, or raise UserError without it."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decode(line)
            except BadRecord as error:
                if problems is None:
                    raise UserError(f"{path} line {number}: the record {error}") from None
                problems.append(f"{path} line {number}: the record {error}")


def write_compact(path: Path, records: Iterable[Record]) -> None:
    """One file of records, sorted by cell id, to commit and to share."""
    ordered = sorted(records, key=lambda record: record["id"])
    atomic.replace_file(path, b"".join(encode_line(record) for record in ordered))
