"""A results folder: records, failures, weights and checkpoints, as plain files that several machines may share.

    records/<ab>/<cell id>.json          done: the first writer wins, never overwritten
    failures/<ab>/<cell id>.<n>.json     attempt n failed: cause, message, traceback, end of the log
    weights/<ab>/<cell id>.<hash>.pt     final weights of runs that others start from
    weights/<ab>/<cell id>.<hash>.safetensors    of all others, where --keep weights asks for them
    checkpoints/<ab>/<cell id>/          of an unfinished run
    claims/<ab>/<cell id>.<n>            lock of the process that trains it now
    pins/<ab>/<name>                     what must not change while the folder is used, such as the data's fingerprint
    live/<ab>/<cell id>.jsonl            epochs of a running cell, for W&B (tracking/live.py)
    published/<ab>/<cell id>.json        which W&B run shows it (publishing/ has the locks while that is made)
    set-aside/                           unreadable files, kept for inspection
<ab> are the first two characters of the cell's hash, so that no folder grows long. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.cells import HASH_LENGTH
from benchmark.environment import check_text
from benchmark.errors import CannotGoOn, UserError
from benchmark.results import atomic
from benchmark.results.records import BadRecord, OtherSchema, Record, decode, encode, encode_line, result
from benchmark.results.redaction import redact
from benchmark.results.sealed import BadCheckpoint, unseal

TEMPORARY_SECONDS = 24 * 3600.0
"""A temporary file older than this was left by a process that was killed."""


UNREADABLE = "cannot be read"
"""What is said of a record that may be whole, and begins the reason."""


class Store:
    """A results folder. Methods that write create folders as needed. problems: lines about files that were unusable."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.problems: list[str] = []

    @classmethod
    def open_for_writing(cls, path: Path | str) -> Store:
        """The store in a folder, made if need be. Raises UserError if it cannot be made or written."""
        store = cls(path)
        try:
            advice = "give a path that is, such as that of a symbolic link"
            check_text([str(store.path.absolute())], "--results", advice)
            store.path.mkdir(parents=True, exist_ok=True)
            atomic.replace_file(store.path / ".writable", b"yes\n")
        except (OSError, atomic.CannotWrite) as error:
            cause = error.__cause__ if isinstance(error, atomic.CannotWrite) else error
            raise UserError(f"--results {path}: cannot write there ({getattr(cause, 'strerror', cause)})") from None
        return store

    @classmethod
    def open_existing(cls, path: Path | str) -> Store:
        """The store in a folder that a sweep has written to. Writes nothing; raises UserError if there is none."""
        store = cls(path)
        if not store.path.is_dir():
            raise UserError(f"--results {path}: no such folder")
        if not any((store.path / name).exists() for name in ("records", "failures", "submissions", "claims", "pins")):
            raise UserError(f"--results {path}: no results folder: a sweep's has records/ in it")
        return store

    @property
    def given(self) -> Path:
        """The folder of weights that stand for dense runs (`--weights`)."""
        return self.path / "given"

    def file(self, kind: str, cell_id: str, suffix: str = "") -> Path:
        return self.path / kind / cell_id[-HASH_LENGTH:][:2] / (cell_id + suffix)

    # Records

    def record_path(self, cell_id: str) -> Path:
        return self.file("records", cell_id, ".json")

    def has(self, cell_id: str) -> bool:
        path = self.record_path(cell_id)
        try:
            return path.exists()
        except OSError as error:
            raise CannotGoOn(f"{path} cannot be read ({error.strerror})") from None

    def read(self, cell_id: str) -> Record | None:
        """The record, or None if there is none or it cannot be used (then `problems` says why)."""
        return self._read_file(self.record_path(cell_id))

    def commit(self, record: Record) -> Record:
        """Store `record`, unless the cell has one; returns the one that counts, which is the first.

        A second result that differs from the first is kept in set-aside/ and reported, since equal cells must have
        equal results.
        """
        path = self.record_path(record["id"])
        content = encode(_without_secrets(record))
        if atomic.create_file(path, content):
            return record
        first = self.read(record["id"])
        if first is None:
            raise UserError(f"{path} exists and cannot be used; run the sweep with --repair to set it aside")
        if result(first) != result(decode(content)):
            other = self.path / "set-aside" / f"{record['id']}.{uuid.uuid4().hex}.second-result.json"
            atomic.replace_file(other, content)
            self.problems.append(f"{other} differs from the record that was stored first; the first one counts")
        return first

    def ids(self) -> set[str]:
        """Ids of the cells that have a record file. Opens no file."""
        return {entry.name.removesuffix(".json") for entry in self._entries("records", ".json")}

    def records(self) -> Iterator[Record]:
        """Every usable record, sorted by id; `problems` names the others."""
        for entry in sorted(self._entries("records", ".json"), key=lambda entry: entry.name):
            record = self._read_file(entry.path)
            if record is not None:
                yield record

    def examine(self, cell_ids: Iterable[str]) -> Iterator[tuple[str, Record | None, str]]:
        """(id, record, "") of those among `cell_ids` that have one, and (id, None, reason) where it cannot be used."""
        for cell_id in cell_ids:
            outcome = self._look(cell_id)
            if isinstance(outcome, OSError):
                yield cell_id, None, f"{UNREADABLE} ({outcome.strerror})"
            elif isinstance(outcome, BadRecord):
                yield cell_id, None, str(outcome)
            elif outcome is not None:
                yield cell_id, outcome, ""

    def is_damaged(self, cell_id: str) -> bool:
        """Whether the cell has a record that nothing can read, which a worker sets aside and replaces.

        UserError if it may still be readable: by another version of the suite, or once the file can be opened.
        """
        path, error = self.record_path(cell_id), self._look(cell_id)
        if isinstance(error, OtherSchema):
            raise UserError(f"{path} {error}; the sweep's --repair sets it aside and trains the cell again")
        if isinstance(error, OSError):
            raise UserError(f"{path} {UNREADABLE} ({error.strerror})")
        return isinstance(error, BadRecord)

    def _look(self, cell_id: str) -> Record | BadRecord | OSError | None:
        """The cell's record, why it cannot be used, or None if there is none."""
        try:
            return _decode_file(self.record_path(cell_id))
        except FileNotFoundError:
            return None
        except (BadRecord, OSError) as error:
            return error

    def set_aside(self, path: Path) -> Path:
        """Move a file that cannot be used to set-aside/; returns its new path."""
        target = self.path / "set-aside" / f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.{uuid.uuid4().hex[:8]}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        except OSError as error:
            raise atomic.CannotWrite(target, error) from error
        return target

    def second_results(self) -> list[Path]:
        """Results that differed from the first record of their cell (see `commit`)."""
        return sorted((self.path / "set-aside").glob("*.second-result.json"))

    def unreadable(self) -> list[Path]:
        """Records that were set aside because nothing could read them."""
        return sorted((self.path / "set-aside").glob("*.json.*"))

    def pin(self, name: str, value: str) -> str:
        """Keep `value` under `name`, unless a value is kept already; returns the kept one. Raises UserError."""
        path = self.file("pins", name)
        try:
            if not path.exists() and atomic.create_file(path, value.encode()):
                return value
            kept = path.read_bytes().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({error})") from None
        if not kept:
            raise UserError(f"{path} is empty; delete it, and the data that are there now count")
        return kept

    def tidy(self) -> None:
        """Delete what killed processes left: locks and checkpoints of finished cells, old temporary files.

        Ages are measured by the clock of the file server, not by that of this machine.
        """
        done = self.ids()
        for lock in self._list("claims", ""):
            if lock.stem in done:
                lock.unlink(missing_ok=True)
        for checkpoints in self._list("checkpoints", ""):
            if checkpoints.name in done:
                shutil.rmtree(checkpoints, ignore_errors=True)
        for log in self._list("live", ".jsonl"):
            if log.stem in done:
                log.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            now = (self.path / ".writable").stat().st_mtime
            for kind in ("records", "failures", "weights", "trunks", "claims", "pins"):
                for temporary in (self.path / kind).glob("*/.*.tmp"):
                    if now - temporary.stat().st_mtime > TEMPORARY_SECONDS:
                        temporary.unlink(missing_ok=True)

    def weights_path(self, cell_id: str, checksum: str) -> Path:
        """Named after its content, so that of two runs that finish a cell at once each keeps its weights."""
        return self.file("weights", cell_id, f".{checksum[:HASH_LENGTH]}.pt")

    def kept_path(self, record: Record) -> Path:
        """Of the final weights of a cell that no other starts from, named after the hash of them in its record."""
        return self.file("weights", record["id"], f".{record['parameters_sha256']}.safetensors")

    def weights_problem(self, record: Record) -> str | None:
        """What is wrong with the weights of a dense record, None if nothing is."""
        checksum = record.get("weights_sha256", "")
        path = self.weights_path(record["id"], checksum)
        try:
            if unseal(path.read_bytes(), record["id"])[1] != checksum:
                return f"{path} does not hold the weights that the dense record names"
        except BadCheckpoint as error:
            return f"{path} {error}"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        return None

    # Failures

    def add_failure(self, cell_id: str, cause: str, message: str, traceback: str = "", log: str = "") -> None:
        """Keep a report of what went wrong. The next run of the same command tries the cell again."""
        failure = {
            "id": cell_id,
            "cause": cause,
            "message": redact(message),
            "traceback": redact(traceback),
            "log": redact(log),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
        }
        attempt = 1
        while not atomic.create_file(
            self.file("failures", cell_id, f".{attempt}.json"),
            json.dumps({**failure, "attempt": attempt}, indent=1).encode(),
        ):
            attempt += 1

    def failures(self) -> list[dict[str, Any]]:
        """The latest failure of every cell that has failed and has no record."""
        latest, done = self._latest(self._list("failures", ".json")), self.ids()
        return [latest[cell_id] for cell_id in sorted(latest) if cell_id not in done]

    def failure(self, cell_id: str) -> dict[str, Any] | None:
        """The latest failure of a cell, even if it has a record by now."""
        return self._latest(self.file("failures", cell_id).parent.glob(f"{cell_id}.*.json")).get(cell_id)

    def _latest(self, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
        """By cell, the failure of its latest attempt among these files."""
        latest: dict[str, dict[str, Any]] = {}
        for path in paths:
            try:
                failure = json.loads(path.read_bytes())
                if not all(isinstance(failure[key], str) for key in ("id", "cause", "message")):
                    raise TypeError(failure)
                if failure["attempt"] >= latest.get(failure["id"], failure)["attempt"]:
                    latest[failure["id"]] = failure
            except (ValueError, KeyError, TypeError, OSError, RecursionError):
                self.problems.append(f"{path} is not a failure report of this suite")
        return latest

    def _list(self, kind: str, suffix: str) -> Iterator[Path]:
        return (Path(entry.path) for entry in self._entries(kind, suffix))

    def _entries(self, kind: str, suffix: str) -> Iterator[os.DirEntry[str]]:
        try:
            shards = [entry.path for entry in os.scandir(self.path / kind) if entry.is_dir()]
        except FileNotFoundError:
            return
        except OSError as error:
            raise CannotGoOn(f"{self.path / kind} cannot be read ({error.strerror})") from None
        for shard in shards:
            for entry in _scan(shard):
                if entry.name.endswith(suffix) and not entry.name.startswith("."):
                    yield entry

    def _read_file(self, path: Path | str) -> Record | None:
        try:
            return _decode_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(f"{path} {UNREADABLE} ({error.strerror})")
        except BadRecord as error:
            self.problems.append(f"{path} {error}")
        return None


def _decode_file(path: Path | str) -> Record:
    with open(path, "rb") as file:
        record = decode(file.read())
    if record["id"] != os.path.basename(path).removesuffix(".json"):
        raise BadRecord(f"holds the record of another cell, {record['id']}")
    return record


def _scan(shard: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(shard))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CannotGoOn(f"{shard} cannot be read ({error.strerror})") from None


def _without_secrets(record: Record) -> Record:
    """The record with its remarks redacted: the only texts in it that code from outside may have written."""
    remarks = [redact(text) for text in record.get("remarks", [])]
    return {**record, "remarks": remarks} if remarks else record


def read_compact(path: Path, problems: list[str] | None = None) -> Iterator[Record]:
    """Records of a compact file, one a line. Unusable lines are added to `problems`; without it, UserError."""
    return (record for _, record in read_positions(path, problems))


def read_positions(path: Path, problems: list[str] | None = None) -> Iterator[tuple[int, Record]]:
    """The same as (position in bytes, record), for `read_at`."""
    position = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield position, decode(line)
            except BadRecord as error:
                if problems is None:
                    raise UserError(f"{path} line {number}: the record {error}") from None
                problems.append(f"{path} line {number}: the record {error}")
            position += len(line)


def read_at(path: Path, position: int) -> Record:
    """One record of a compact file. Raises BadRecord and OSError."""
    with open(path, "rb") as file:
        file.seek(position)
        return decode(file.readline())


def write_compact(path: Path, records: Iterable[Record]) -> None:
    """Write records into one file, sorted by cell id, to commit and to share."""
    ordered = sorted(records, key=lambda record: record["id"])
    atomic.replace_file(path, b"".join(encode_line(record) for record in ordered))
