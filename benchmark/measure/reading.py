"""How long it takes to read records into Table 1. Imports no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from analysis.make_tables import make_sheets
from benchmark.measure.synthetic import fill
from benchmark.measure.timing import timed
from benchmark.results.store import Store


def read_into_table(records: int, folder: Path | None) -> Iterator[str]:
    """Lines about a synthetic store, made in `folder` and deleted, and about reading it as make_tables does."""
    with tempfile.TemporaryDirectory(prefix="synthetic-results-", dir=folder) as path:
        size = fill(Store(Path(path) / "runs"), records)
        yield f"synthetic store of {records} records, {size / 1e6:.0f} MB, {size / records / 1e3:.1f} kB each"
        seconds, sheets = timed(lambda: make_sheets(["table1"], Path(path)))
        n = max(entry.n or 0 for row in sheets[0].tables[0].rows for entry in row.entries)
        yield f"read into Table 1 (up to {n} seeds an entry) in {seconds}: {records / seconds.wall:.0f} records/s"
