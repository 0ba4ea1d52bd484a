"""One row per record, columns as in analysis.frames: for spreadsheets, pandas and everything else."""

from __future__ import annotations

import io

from analysis.render.sheet import Sheet


def write_csv(sheet: Sheet) -> str:
    return str(sheet.records.to_csv(index=False, lineterminator="\n"))


def write_parquet(sheet: Sheet) -> bytes:
    stream = io.BytesIO()
    sheet.records.to_parquet(stream, engine="pyarrow", index=False)
    return stream.getvalue()
