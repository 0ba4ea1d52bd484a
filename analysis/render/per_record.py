"""One row per record, columns as in analysis.frames: for spreadsheets, pandas and everything else."""

from __future__ import annotations

import io

from analysis.render.sheet import Sheet
from benchmark.errors import UserError


def write_csv(sheet: Sheet) -> str:
    return str(sheet.records.to_csv(index=False, lineterminator="\n"))


def write_parquet(sheet: Sheet) -> bytes:
    """Raises UserError where pyarrow, which is no dependency of ours, is not installed."""
    stream = io.BytesIO()
    try:
        sheet.records.to_parquet(stream, engine="pyarrow", index=False)
    except ImportError:
        raise UserError("--format parquet needs pyarrow: `pip install pyarrow`, or take --format records") from None
    return stream.getvalue()
