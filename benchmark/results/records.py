"""The form of a record on disk: an envelope of schema version and checksum around one JSON object.

    {"schema": 1, "sha256": "<of the next line's bytes>", "record":
    {"id": ..., "cell": {...}, "accuracy": {...}, ...}
    }

The file is plain JSON, and the checksum is over bytes, so that checking it needs no parsing. A compact file holds
one envelope a line (`encode_line`). What a record holds is described in docs/record.md and made by `worker.py`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SCHEMA = 1
Record = dict[str, Any]

CIRCUMSTANCES = ("provenance", "seconds", "images_per_second")
"""What may differ between two runs of one cell on one machine; everything else must be bit-identical."""

TARGET_MARGIN = 0.001
"""A sparsity within this of the target has reached it: a weight that training happened to leave at zero is no miss."""


class BadRecord(Exception):
    """A record that cannot be used; the message says why, in words that follow a file name."""


class OtherSchema(BadRecord):
    """A record of another version of the suite, which may be whole: nothing that runs unattended moves it."""


def encode(record: Record) -> bytes:
    """Raises ValueError for NaN or infinity, which JSON cannot hold: a record says `null` where there is no number."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _head(body) + b"\n" + body + b"\n}\n"


def encode_line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return _head(body) + body + b"}\n"


def _head(body: bytes) -> bytes:
    return b'{"schema": %d, "sha256": "%s", "record":' % (SCHEMA, hashlib.sha256(body).hexdigest().encode())


def body_of(content: bytes) -> bytes:
    """The checked bytes of the record inside an envelope. Raises BadRecord."""
    head, separator, rest = content.partition(b'"record":')
    if not separator or not content.endswith(b"}\n"):
        raise BadRecord("is truncated or not a record")
    try:
        envelope = json.loads(head.rstrip(b", ") + b"}")
        schema, checksum = envelope["schema"], envelope["sha256"]
    except (ValueError, KeyError, TypeError):
        raise BadRecord("is not a record of this suite") from None
    if schema != SCHEMA:
        raise OtherSchema(f"has schema version {schema!r}; this version of the suite reads {SCHEMA}")
    body = rest[:-2].strip(b"\n")
    if hashlib.sha256(body).hexdigest() != checksum:
        raise BadRecord("does not match its checksum: it was truncated or changed after it was written")
    return body


def decode(content: bytes) -> Record:
    """Raises BadRecord."""
    record = json.loads(body_of(content))
    if not isinstance(record, dict) or "id" not in record or "cell" not in record:
        raise BadRecord("is not a record of this suite")
    return record


def result(record: Record) -> Record:
    """The part of a record that repeats exactly.

    The cell is left out, since the id stands for it, and a recipe written by a later version may spell out more
    defaults.
    """
    return {key: value for key, value in record.items() if key not in (*CIRCUMSTANCES, "cell")}
