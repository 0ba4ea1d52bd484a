"""Markers in the results folder: which cells have a W&B run, and where it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.results import atomic
from benchmark.results.store import Store
from benchmark.tracking.runs import Published


def marker_path(store: Store, cell_id: str) -> Path:
    return store.file("published", cell_id, ".json")


def read_marker(store: Store, cell_id: str) -> dict[str, Any] | None:
    """What is known of a cell's W&B run; None if it was not published, or the marker is unreadable."""
    try:
        marker = json.loads(marker_path(store, cell_id).read_bytes())
        return marker if marker["id"] == cell_id and marker["mode"] in ("online", "offline") else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_marker(store: Store, cell_id: str, published: Published, again: bool = False) -> None:
    """The first one counts, but an online run takes the place of an offline one, and with `again` any of its kind."""
    marker = {"id": cell_id, **asdict(published), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    path, content = marker_path(store, cell_id), json.dumps(marker, indent=1).encode() + b"\n"
    if atomic.create_file(path, content):
        return
    before = read_marker(store, cell_id)
    if before is None or published.mode == "online" or (again and before["mode"] == "offline"):
        atomic.replace_file(path, content)


def is_published(store: Store, cell_id: str, mode: str) -> bool:
    """Whether a run needs no publishing in `mode`: an offline run still does when the server can be reached."""
    marker = read_marker(store, cell_id)
    return marker is not None and (mode == "offline" or marker["mode"] == "online")


def without_marker(store: Store, cell_ids: Iterable[str]) -> list[str]:
    """Those of `cell_ids` that were never published in any mode, by listing alone."""
    marked = {path.stem for path in (store.path / "published").glob("*/*.json")}
    return [name for name in cell_ids if name not in marked]


def unpublished(store: Store, mode: str) -> list[str]:
    """Ids of the records that need publishing in `mode`, sorted; "again" is all. Reads markers, no records."""
    if mode == "again":
        return sorted(store.ids())
    return sorted(name for name in store.ids() if not is_published(store, name, mode))
