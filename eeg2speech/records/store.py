"""The store of records: one JSON file a unit of work, its scores in Parquet beside it.

``<root>/<protocol>-<version>/<study>/<split>-s<seed>/<system>-s<seed>/<control>.json`` and ``.parquet``. The scores are
written first, so the JSON file is there exactly when the unit is done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eeg2speech.errors import BadInput
from eeg2speech.records.files import content_hash, write_atomically
from eeg2speech.records.schema import SCHEMA_VERSION, Record, first_difference
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
        path = Path(path)
        record = _parse(path)
        place = self.path(record.unit)
        if place.resolve() != path.resolve():
            raise BadInput(path, "path", record.unit.record_path, _relative(path, self.root))
        _check_counts(path, record, self.scores(record))
        return record

    def scores(self, record: Record) -> pd.DataFrame:
        """Per-segment scores of ``record``, sorted by segment. Raises BadInput if the file is not the one recorded."""
        path = self.root / record.unit.folder / record.scores_file
        if not record.scores_file or not path.is_file():
            found = record.scores_file or "none"
            raise BadInput(self.path(record.unit), "scores_file", "a file beside the record", found)
        content = path.read_bytes()
        if content_hash(content) != record.scores_hash:
            raise BadInput(path, "scores_hash", record.scores_hash, content_hash(content))
        return from_parquet(path, content)

    def read_all(self) -> tuple[Record, ...]:
        """All records, sorted by their units."""
        paths = self.root.glob("*/*/*/*/*.json")
        records = (self.read(path) for path in paths if self._holds(path.relative_to(self.root).parts))
        return tuple(sorted(records, key=lambda record: record.unit))

    @staticmethod
    def _holds(parts: tuple[str, ...]) -> bool:
        """Whether a path below the root can be a record's."""
        return parts[0] != EXAMPLES and ABOUT_SPLITS.isdisjoint(parts)


def _to_json(record: Record) -> bytes:
    text = json.dumps(record.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def _parse(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(path, "file", "a record", "no such file") from error
    except ValueError as error:
        raise BadInput(path, "content", "a whole JSON document", f"{path.stat().st_size} bytes ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise BadInput(path, "schema_version", SCHEMA_VERSION, version)
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise BadInput(path, field, first["msg"], _shortened(first["input"])) from error


def _check_counts(path: Path, record: Record, scores: pd.DataFrame) -> None:
    for name, result in record.metrics.items():
        field = f"metrics.{name}"
        if name not in scores.columns:
            raise BadInput(path, field, "a column of the scores", f"{sorted(scores.columns)}")
        for count, found in (("n", scores[name].notna().sum()), ("n_failed", scores[name].isna().sum())):
            if getattr(result, count) != found:
                raise BadInput(path, f"{field}.{count}", f"{getattr(result, count)} rows of the scores", int(found))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _shortened(value: object, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."
