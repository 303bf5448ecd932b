"""Some columns of many records' scores, without a frame for each: what tables of thousands of records are made from.

Records of one split are about the same segments. They are held once, and the scores beside them as plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.records.intervals import IDENTITY

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Segments:
    """Which segments the rows are about: the ``IDENTITY`` columns."""

    table: pa.Table
    pages: bytes = b""
    """What a file that starts with these columns starts with, up to their end."""

    @cached_property
    def subjects(self) -> NDArray[Any]:
        """Subject of each row, [n]."""
        return self._texts("subject")

    @cached_property
    def pairs(self) -> NDArray[Any]:
        """Stimulus pair of each row, [n]."""
        return self._texts("pair")

    def _texts(self, name: str) -> NDArray[Any]:
        return np.asarray(self.table[name].to_pylist(), dtype=str)


@dataclass(frozen=True)
class Columns:
    """Scores of one record, [n] by metric, and the segments that they are about."""

    segments: Segments
    scores: Mapping[str, Floats]


def read_columns(where: object, content: bytes, metrics: Sequence[str], known: Segments | None = None) -> Columns:
    """Some metrics of the scores in ``content``. Their segments are ``known`` itself where they are the same.

    Raises:
        BadInput: naming ``where``, if it is not Parquet or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        pages = _pages(file.metadata, content)
        # The same pages hold the same rows: nearly all files of a split start alike.
        alike = known is not None and pages != b"" and pages == known.pages
        wanted = [*metrics] if alike else [*IDENTITY, *metrics]
        # One thread: a file is so small that to share it out takes longer than to read it.
        table = file.read(wanted, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(where, "content", "a Parquet file", f"{len(content)} bytes ({error})") from error
    if missing := sorted(set(wanted) - set(table.column_names)):
        raise BadInput(where, "columns", f"{', '.join(missing)} among them", f"{sorted(table.column_names)}")
    scores = {name: _floats(table[name]) for name in metrics}
    if known is not None and (alike or table.select(IDENTITY).equals(known.table)):
        return Columns(known, scores)
    return Columns(Segments(table.select(IDENTITY), pages), scores)


def _floats(column: pa.ChunkedArray) -> Floats:
    """Its numbers, NaN where there is none. pyarrow's own way to them imports pandas, which takes as long as thousands
    of columns."""
    if column.null_count:
        return np.array(column.to_pylist(), np.float64)
    chunks = [np.from_dlpack(chunk).astype(np.float64, copy=False) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0), *chunks])


def _pages(metadata: pq.FileMetaData, content: bytes) -> bytes:
    """The bytes of the ``IDENTITY`` columns; none unless they come first, in one group of rows of a usual kind."""
    if metadata.num_row_groups != 1 or metadata.num_columns <= len(IDENTITY):
        return b""
    group = metadata.row_group(0)
    if tuple(metadata.schema.names[: len(IDENTITY)]) != IDENTITY:
        return b""
    following = group.column(len(IDENTITY))
    first = following.dictionary_page_offset if following.has_dictionary_page else following.data_page_offset
    rows: bytes = group.num_rows.to_bytes(8, "big")
    return content[: int(first)] + rows
