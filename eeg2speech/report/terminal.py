"""The short tables that a run prints when it ends."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table as RichTable

from eeg2speech.records import RecordStore
from eeg2speech.report.compare import Comparison
from eeg2speech.report.results import read_groups
from eeg2speech.report.sections import ranked_table
from eeg2speech.report.tables import Table

COLUMNS = (
    *("rank", "system", "SI-SDR", "PESQ-WB", "ESTOI", "selection accuracy"),
    *("top-1", "top-10", "median rank among candidates", "match among 2", "attention accuracy"),
    *("mel correlation", "mel top-10", "envelope correlation", "mel-cepstral distortion", "noise-cue drop", "uses EEG"),
)
"""Headers, without their units, that are worth their width in a terminal."""


def summary(store: RecordStore, width: int = 130) -> str:
    """The ranked table of every group of records, as text."""
    console = Console(file=io.StringIO(), width=width)
    for group in read_groups(store):
        console.print(f"\n{group.key.title}: {group.first.study.data_note}")
        console.print(_narrow(ranked_table(Comparison(store, group, 2000))))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def _narrow(table: Table) -> RichTable:
    plain = [name.partition(" (")[0] for name in table.header]
    kept = [plain.index(name) for name in COLUMNS if name in plain]
    rich = RichTable(*(table.header[k] for k in kept), box=None, pad_edge=False)
    for row in table.rows:
        rich.add_row(*(row[k] for k in kept))
    return rich
