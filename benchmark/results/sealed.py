"""Sealed files: one line of JSON (schema version, owner, SHA-256 of the payload), then the payload, such as tensors.

Imports no torch, so that planning can check the dense weights that a sweep would start from.
"""

from __future__ import annotations

import hashlib
import json

SCHEMA = 1


class BadCheckpoint(Exception):
    """A sealed file that cannot be used. The message says why, and follows a file name."""


def seal(owner: str, payload: bytes, made_by: str) -> tuple[bytes, str]:
    """(bytes of a sealed file, SHA-256 of `payload`). owner: what the file belongs to. made_by: code and versions."""
    checksum = hashlib.sha256(payload).hexdigest()
    head = json.dumps({"schema": SCHEMA, "owner": owner, "made_by": made_by, "sha256": checksum}).encode()
    return head + b"\n" + payload, checksum


def unseal(content: bytes, owner: str, made_by: str | None = None) -> tuple[bytes, str]:
    """(payload, its SHA-256), checked. made_by: refuse a file that others wrote. Raises BadCheckpoint."""
    head, _, payload = content.partition(b"\n")
    try:
        header = json.loads(head)
        schema, stored_owner, checksum = header["schema"], header["owner"], header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadCheckpoint("is not a checkpoint of this suite") from None
    if schema != SCHEMA:
        raise BadCheckpoint(f"has schema version {schema!r}; this version of the suite reads {SCHEMA}")
    if stored_owner != owner:
        raise BadCheckpoint(f"belongs to another cell, {stored_owner}")
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise BadCheckpoint("does not match its checksum: it was truncated or changed after it was written")
    if made_by is not None and header.get("made_by") != made_by:
        raise BadCheckpoint("was written by other code or library versions, which may train differently")
    return payload, checksum
