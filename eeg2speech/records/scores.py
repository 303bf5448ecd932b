"""Per-segment scores: a row a segment, and a column and a reason a metric.

Columns: segment (int), subject, trial, pair (the stimulus pair), attended, unattended (stimulus ids; unattended is null
where there is no second talker), start and duration (seconds); then per metric ``<metric>`` (float64, NaN where it
failed) and ``<metric>_reason`` (text exactly where it failed). The same scores give the same Parquet bytes, with one
version of pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2speech.errors import BadInput
from eeg2speech.records.intervals import IDENTITY

if TYPE_CHECKING:
    import pandas as pd

REASON = "_reason"
TEXT = ("subject", "trial", "pair", "attended", "unattended")
NULLABLE = ("unattended",)
SECONDS = ("start", "duration")


def check_scores(where: object, scores: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Raises BadInput, naming ``where`` and the column, unless ``scores`` is as the module's docstring says."""
    names = sorted(metrics)
    expected = [*IDENTITY, *(column for name in names for column in (name, name + REASON))]
    if sorted(scores.columns) != sorted(expected):
        missing, more = sorted({*expected} - {*scores.columns}), sorted({*scores.columns} - {*expected})
        raise BadInput(where, "columns", "those of the metrics and no other", f"{missing} missing, {more} too many")
    if scores["segment"].duplicated().any():
        raise BadInput(where, "segment", "a row a segment", f"{int(scores['segment'].duplicated().sum())} repeated")
    for column in ("segment", *TEXT, *SECONDS):
        if column not in NULLABLE and scores[column].isna().any():
            raise BadInput(where, column, "a value in every row", f"{int(scores[column].isna().sum())} missing")
    for name in names:
        _check_metric(where, name, scores[name].to_numpy(np.float64), scores[name + REASON].isna().to_numpy())


def _check_metric(where: object, name: str, values: np.ndarray[Any, Any], without_reason: np.ndarray[Any, Any]) -> None:
    if np.isinf(values).any():
        raise BadInput(where, name, "finite, or NaN with a reason", f"{int(np.isinf(values).sum())} infinite")
    odd = int((np.isnan(values) == without_reason).sum())
    if odd:
        raise BadInput(where, name + REASON, "a reason exactly where the score is NaN", f"{odd} rows otherwise")


def to_parquet(scores: pd.DataFrame) -> bytes:
    """The scores as Parquet: sorted by segment, columns in a fixed order, no pandas metadata (it holds versions)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metrics = sorted(set(scores.columns) - {*IDENTITY} - {name for name in scores.columns if name.endswith(REASON)})
    columns = [*IDENTITY, *(column for name in metrics for column in (name, name + REASON))]
    ordered = scores.sort_values("segment", kind="stable")
    arrays = {column: _array(pa, column, ordered[column]) for column in columns}
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def _array(pa: Any, column: str, values: pd.Series[Any]) -> Any:
    if column in TEXT or column.endswith(REASON):
        texts = [None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]
        return pa.array(texts, pa.string())
    if column == "segment":
        return pa.array(values.to_numpy(np.int64), pa.int64())
    numbers = values.to_numpy(np.float64)
    # One NaN: others differ in their bits and so in the file's bytes.
    return pa.array(np.where(np.isnan(numbers), np.nan, numbers), pa.float64())


def from_parquet(where: object, content: bytes) -> pd.DataFrame:
    """The scores in ``content``. Raises BadInput naming ``where`` if it is not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame: pd.DataFrame = pq.ParquetFile(io.BytesIO(content)).read().to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(where, "content", "a Parquet file", f"{len(content)} bytes ({error})") from error
    return frame
