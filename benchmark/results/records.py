"""The format of a record on disk: one JSON object, sealed with a schema version and a checksum.

    {"schema": 1, "sha256": "<of the next line's bytes>", "record":
    {"id": ..., "cell": {...}, "accuracy": {...}, ...}
    }

The file is plain JSON. The checksum is over bytes, so that checking it needs no parsing. A compact file holds one
sealed record a line (`encode_line`). docs/record.md describes the fields of a record; `recording.py` makes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic_core import from_json

SCHEMA = 1
HEAD = re.compile(rb'\{"schema": %d, "sha256": "([0-9a-f]*)", ' % SCHEMA)
Record = dict[str, Any]

CIRCUMSTANCES = ("provenance", "seconds", "images_per_second")
"""Fields that may differ between two runs of a cell on one machine; all others must be bit-identical."""

TARGET_MARGIN = 0.001
"""A sparsity this close to the target has reached it: training may leave further weights at zero by chance."""


KINDS: dict[str, type] = {
    **{"id": str, "status": str, "cell": dict, "seconds": dict, "provenance": dict, "iterations": dict, "macs": dict},
    **{"sparsity": dict, "history": dict, "learning_rate": dict, "cycles": list, "remarks": list},
}
"""What fields are made of; readers rely on it."""
NEEDED = ("id", "cell", "seconds", "provenance")
"""The others may be missing or null."""
NAMES: dict[type, str] = {dict: "object", list: "list", str: "text"}


class BadRecord(Exception):
    """A record that cannot be used. The message says why, and follows a file name."""


class OtherSchema(BadRecord):
    """A record of another version of the suite. It may be whole, so no unattended process sets it aside."""


def encode(record: Record) -> bytes:
    """The bytes of a record file. ValueError for NaN or infinity, which JSON cannot hold: a record says `null`."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _head(body) + b"\n" + body + b"\n}\n"


def encode_line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _head(body) + body + b"}\n"


def _head(body: bytes) -> bytes:
    return b'{"schema": %d, "sha256": "%s", "record":' % (SCHEMA, hashlib.sha256(body).hexdigest().encode())


def body_of(content: bytes) -> bytes:
    """The bytes of the record inside a sealed one, checked. Raises BadRecord."""
    head, separator, rest = content.partition(b'"record":')
    if not separator or not content.endswith(b"}\n"):
        raise BadRecord("is truncated or not a record")
    seal = HEAD.fullmatch(head)
    if not seal:
        raise _foreign(head)
    body = rest[:-2].strip(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != seal[1]:
        raise BadRecord("does not match its checksum: it was truncated or changed after it was written")
    return body


def _foreign(head: bytes) -> BadRecord:
    """What is wrong with a head that this version does not write."""
    try:
        schema = json.loads(head.rstrip(b", ") + b"}")["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return BadRecord("is not a record of this suite")
    if schema == SCHEMA:
        return BadRecord("is not a record of this suite")
    return OtherSchema(f"has schema version {schema!r}; this version of the suite reads {SCHEMA}")


def decode(content: bytes) -> Record:
    """Raises BadRecord."""
    body = body_of(content)
    try:
        try:
            record = from_json(body)  # three times as fast as json
        except ValueError:
            record = json.loads(body)  # which reads the half of a surrogate pair that a file name may hold
    except (ValueError, RecursionError):
        raise BadRecord("is not a record of this suite") from None
    if not isinstance(record, dict):
        raise BadRecord("is not a record of this suite")
    for key, kind in KINDS.items():
        if not isinstance(record.get(key), kind) and (key in NEEDED or record.get(key) is not None):
            raise BadRecord(f"is not a record of this suite: its {key} is no {NAMES[kind]}")
    layers = (record.get("sparsity") or {}).get("layers") or {}
    parts = {
        "provenance.versions": ([record["provenance"].get("versions") or {}], dict),
        "cycles": (record.get("cycles") or [], dict),
        "sparsity.layers": (layers.values() if isinstance(layers, dict) else [layers], dict),
        "history": ((record.get("history") or {}).values(), list),
    }
    for key, (values, kind) in parts.items():
        if not all(isinstance(value, kind) for value in values):
            raise BadRecord(f"is not a record of this suite: its {key} is not made of {NAMES[kind]}s")
    return record


def result(record: Record) -> Record:
    """The part of a record that repeats exactly.

    Without the cell: the id stands for it, and a later version of the suite may write more defaults into a recipe.
    """
    return {key: value for key, value in record.items() if key not in (*CIRCUMSTANCES, "cell")}
