"""The store of records: one JSON file a unit of work, its scores in Parquet beside it.

``<root>/<protocol>-<version>/<study>/<split>-s<seed>/<system>-s<seed>/<control>.json`` and ``.parquet``. The scores are
written first, so the JSON file is there exactly when the unit is done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from eeg2speech.errors import BadInput
from eeg2speech.records.columns import Columns, Segments, read_columns
from eeg2speech.records.files import content_hash, write_atomically
from eeg2speech.records.schema import SCHEMA_VERSION, Record, first_difference, refusal
from eeg2speech.records.scores import check_scores, from_parquet, to_parquet
from eeg2speech.records.unit import Unit

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "examples"
"""Folder beside the records with sound for the page; no record lies in it."""
ABOUT_SPLITS = frozenset({"audits", "manifests"})
"""Folders beside the records with what is known of their splits; no record lies in them."""


class RecordStore:
    """Records under ``root``. Every refusal is a BadInput that names the file and the field."""

    def __init__(self, root: Path | str) -> None:
        """Nothing is read or written before it is asked for."""
        self.root = Path(root)

    def path(self, unit: Unit) -> Path:
        """Where the record of ``unit`` lies once it is done."""
        return self.root / unit.record_path

    def done(self, unit: Unit, request: dict[str, Any] | None = None) -> bool:
        """Whether ``unit`` has its record. Raises BadInput if that is one of another ``request`` (Record.request)."""
        path = self.path(unit)
        if not path.exists():
            return False
        found = {} if request is None else self.read(path).request()
        field = first_difference(request or {}, found, sorted(request or {}))
        if request and field:
            raise BadInput(path, field, f"{request[field]} (or remove the record)", found.get(field))
        return True

    def write(self, record: Record, scores: pd.DataFrame) -> Record:
        """Store ``record`` and its ``scores``; returns the record with the name and the hash of the scores filled in.

        A record that is written anew is taken away first, so that a kill in between leaves no record with other scores.
        """
        path, unit = self.path(record.unit), record.unit
        check_scores(path, scores, record.metrics)
        _check_counts(path, record, scores)
        content = to_parquet(scores)
        full = record.model_copy(update={"scores_file": unit.scores_path.name, "scores_hash": content_hash(content)})
        path.unlink(missing_ok=True)
        write_atomically(self.root / unit.scores_path, content)
        write_atomically(path, _to_json(full))
        return full

    def read(self, path: Path | str) -> Record:
        """The record at ``path``, checked against the schema, its place in the store and its scores."""
        record = self._in_place(str(path))
        _check_counts(str(path), record, self.scores(record))
        return record

    def scores(self, record: Record) -> pd.DataFrame:
        """Per-segment scores of ``record``, sorted by segment. Raises BadInput if the file is not the one recorded."""
        return from_parquet(*self._scores_content(self._place(record), record))

    def columns(self, record: Record, metrics: Sequence[str], known: Segments | None = None) -> Columns:
        """Some metrics of those scores, counted as ``read`` does; segments are ``known`` where they are the same."""
        place = self._place(record)
        beside, content = self._scores_content(place, record)
        found = read_columns(beside, content, metrics, known)
        for name, values in found.scores.items():
            failed = int(np.count_nonzero(np.isnan(values)))
            _check_count(place, record, name, len(values) - failed, failed)
        return found

    def read_all(self, folder: str = "*/*/*", with_scores: bool = True) -> tuple[Record, ...]:
        """All records, or those of one of the ``folders``, sorted by their units.

        They are checked as by ``read`` but for one thing: that the scores are the file that is recorded is checked by
        its hash, and they are counted only when they are asked for. Not ``with_scores``, the hash is left to whoever
        asks for them, or to ``check_scores_of``: then no file is read twice.
        """
        records = tuple(sorted(map(self._in_place, self._paths(folder)), key=lambda record: record.unit))
        if with_scores:
            self.check_scores_of(records)
        return records

    def check_scores_of(self, records: Iterable[Record]) -> None:
        """Raises BadInput unless the scores of each are the file that is recorded."""
        for record in records:
            self._scores_content(self._place(record), record)

    def folders(self) -> dict[str, int]:
        """How many records lie in each ``<protocol>-<version>/<study>/<split>-s<seed>``: those that may be compared."""
        return Counter(path.rsplit("/", 2)[0] for path in self._relative_paths("*/*/*"))

    def _paths(self, folder: str) -> Iterator[str]:
        """Of all records in folders that match."""
        return (f"{self.root}/{path}" for path in self._relative_paths(folder))

    def _relative_paths(self, folder: str) -> Iterator[str]:
        """Their paths below the root. As text: to make thousands of path objects takes as long as to read the files."""
        found = glob(f"{folder}/*/*.json", root_dir=self.root)
        paths = (path if os.sep == "/" else path.replace(os.sep, "/") for path in found)
        return (path for path in paths if self._holds(path.split("/")))

    @staticmethod
    def _holds(parts: Sequence[str]) -> bool:
        """Whether a path below the root can be a record's."""
        return parts[0] != EXAMPLES and ABOUT_SPLITS.isdisjoint(parts)

    def _place(self, record: Record) -> str:
        """Where ``record`` lies."""
        return f"{self.root}/{record.unit.place}"

    def _in_place(self, path: str) -> Record:
        """The record at ``path``, checked against the schema and its place in the store."""
        record = _parse(path)
        place = self._place(record)
        # Most are where they should be by the letter; to follow links takes as long as to read the file.
        if place != path and os.path.realpath(place) != os.path.realpath(path):
            raise BadInput(path, "path", record.unit.place, _relative(Path(path), self.root))
        return record

    def _scores_content(self, path: str, record: Record) -> tuple[str, bytes]:
        """Path and bytes of the scores of the ``record`` at ``path``, which have to be those that are recorded."""
        beside = f"{path.rpartition('/')[0]}/{record.scores_file}"
        try:
            with open(beside, "rb") as file:
                content = file.read()
        except (FileNotFoundError, IsADirectoryError) as error:
            found = record.scores_file or "none"
            raise BadInput(path, "scores_file", "a file beside the record", found) from error
        if content_hash(content) != record.scores_hash:
            raise BadInput(beside, "scores_hash", record.scores_hash, content_hash(content))
        return beside, content


def _to_json(record: Record) -> bytes:
    text = json.dumps(record.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def _parse(path: str) -> Record:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise BadInput(path, "file", "a record", "no such file") from error
    try:
        # In one step, which takes half the time. What it refuses is looked at again, for what is to be said of it.
        record = Record.model_validate_json(text)
    except ValidationError:
        return _parse_closely(path, text)
    # A file has to say its version; a record that is made need not.
    return record if "schema_version" in record.model_fields_set else _parse_closely(path, text)


def _parse_closely(path: str, text: bytes) -> Record:
    """A record, or what keeps it from being one, the first thing first."""
    try:
        content = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise BadInput(path, "content", "a whole JSON document", f"{len(text)} bytes ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise BadInput(path, "schema_version", SCHEMA_VERSION, version)
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        raise refusal(path, error, "record") from error


def _check_counts(path: Path | str, record: Record, scores: pd.DataFrame) -> None:
    for name in record.metrics:
        if name not in scores.columns:
            raise BadInput(path, f"metrics.{name}", "a column of the scores", f"{sorted(scores.columns)}")
        _check_count(path, record, name, int(scores[name].notna().sum()), int(scores[name].isna().sum()))


def _check_count(path: Path | str, record: Record, name: str, n: int, n_failed: int) -> None:
    result = record.metrics[name]
    for count, found in (("n", n), ("n_failed", n_failed)):
        if getattr(result, count) != found:
            raise BadInput(path, f"metrics.{name}.{count}", f"{getattr(result, count)} rows of the scores", found)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
