"""Older records brought up to date from what lies beside them: intervals as they are made now, the audit's verdict.

Scores are never touched, nor anything that a run measured. What is computed from the scores is computed again, and the
verdict is taken from the audit of exactly the record's data and split, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eeg2speech.records.audits import audit_of
from eeg2speech.records.intervals import METHOD
from eeg2speech.records.schema import Record
from eeg2speech.records.store import RecordStore
from eeg2speech.records.verify import recomputed

if TYPE_CHECKING:
    import pandas as pd


def renewed(record: Record, scores: pd.DataFrame, root: Path) -> Record:
    """The record with metrics of today's making, and the verdict of its split's audit below ``root``."""
    audit = audit_of(root, record)
    update = {
        "metrics": {name: recomputed(scores, name, result) for name, result in record.metrics.items()},
        "interval_method": METHOD,
    }
    return record.model_copy(update=update | ({"audit": audit.verdict} if audit else {}))


def renew_all(root: Path, audits: Path | None = None) -> Iterator[Path]:
    """Renew every record below ``root`` in place; yields the paths of those that changed.

    ``audits`` is the folder with the audits, ``root`` unless told.
    """
    store = RecordStore(root)
    for record in store.read_all():
        scores = store.scores(record)
        new = renewed(record, scores, audits or root)
        if new != record:
            store.write(new, scores)
            yield store.path(record.unit)
