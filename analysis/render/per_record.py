"""One row per record, columns as in analysis.frames: for spreadsheets, pandas and everything else."""

from __future__ import annotations

import io

import pandas as pd

from analysis.render.sheet import Sheet
from benchmark.metric import ACCURACY


def _frame(sheet: Sheet) -> pd.DataFrame:
    """With the name of the metric behind the other columns where it is not accuracy; values are as in the records."""
    return sheet.records if sheet.metric == ACCURACY else sheet.records.assign(metric=sheet.metric.name)


def write_csv(sheet: Sheet) -> str:
    return str(_frame(sheet).to_csv(index=False, lineterminator="\n"))


def write_parquet(sheet: Sheet) -> bytes:
    stream = io.BytesIO()
    _frame(sheet).to_parquet(stream, engine="pyarrow", index=False)
    return stream.getvalue()
