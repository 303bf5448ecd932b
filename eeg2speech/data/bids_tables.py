"""Tables of a BIDS data set that holds a store: their columns, how they are written and read."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eeg2speech.data.types import Index, Stimulus
from eeg2speech.errors import BadInput

KEY = "EEG2Speech"
"""Where in ``dataset_description.json`` lies what BIDS has no place for."""
FORMAT = 1
TASK, SPACE = "listening", "CapTrak"
MISSING = "n/a"
BLOCK = 1 << 16
"""Samples that are written or read at a time."""
EVENTS = {
    "onset": "",
    "duration": "",
    "trial_type": "Whether one talker was heard or two",
    "trial": "Name of the trial",
    "stim_file": "File in the folder stimuli of what was attended",
    "attended": "Stimulus that was attended, as in stimuli/stimuli.tsv",
    "unattended": "Stimulus that was heard beside it",
    "ear": "Where the attended one was heard",
    "part": "Part of the authors' own split",
    "place": "Place of the trial in the list of all",
}
STIMULI = {
    "stimulus": "Name of the stimulus: a hash of its samples",
    "stim_file": "File in this folder",
    "speaker": "Who speaks",
    "language": "Language that is spoken",
    "title": "What is said",
    "story": "The book or talk that it is a part of",
    "rate": "Samples a second",
    "samples": "Number of samples",
    "bands": "Number of bands of a feature, 0 of sound",
}
SCANS = {
    "recording": "Name of the recording in the store",
    "samples": "Number of samples",
    "content_hash": "First 16 hex digits of SHA-256 over shape, type and samples",
    "place": "Place of the recording in the list of all",
}


def sound_name(stimulus: Stimulus) -> str:
    """A stimulus's file in the folder ``stimuli``."""
    return f"{stimulus.id}.{'npy' if stimulus.bands else 'wav'}"


def digest(index: Index) -> str:
    """Name of all that tables, facts and settings say, and through hashes of all signals."""
    return hashlib.sha256(json.dumps(asdict(index), sort_keys=True).encode()).hexdigest()[:16]


def write_table(path: Path, about: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table, and beside it what its columns mean, as far as BIDS does not say it itself."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(about)
        writer.writerows([_cell(row[name]) for name in about] for row in rows)
    told = {name: {"Description": meaning} for name, meaning in about.items() if meaning}
    if told:
        write_json(path.with_suffix(".json"), told)


def _cell(value: object) -> str:
    if value is None or value == "" or value != value:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value)


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """JSON as people read it."""
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def quiet() -> Iterator[None]:
    """MNE warns of what is as it should be here, such as a header without dates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def table(path: Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table, which has at least the ``wanted`` columns. Raises BadInput."""
    if not path.is_file():
        raise BadInput(path, "file", "a table", "no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file, delimiter="\t", strict=True) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(path, "content", "a table", f"a file that is damaged ({error})") from error
    header = lines[0] if lines else []
    for name in wanted:
        if header.count(name) != 1:
            raise BadInput(path, "columns", f"{name}, once", ", ".join(header) or "none")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise BadInput(path, f"row {number}", f"{len(header)} columns", len(line))
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def text(cell: str) -> str:
    """What a cell says, where nothing is no text."""
    return "" if cell == MISSING else cell


def number(path: Path, row: dict[str, str], name: str, missing: float | None = None) -> float:
    """A number as it was written, an integer as one. Raises BadInput."""
    if row[name] == MISSING and missing is not None:
        return missing
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", row[name]) or len(row[name]) > 32:
        raise BadInput(path, name, "a number", repr(row[name]))
    return int(row[name]) if row[name].lstrip("-").isdigit() else float(row[name])


def whole(path: Path, row: dict[str, str], name: str) -> int:
    """A whole number of 0 or more. Raises BadInput."""
    if not re.fullmatch(r"[0-9]{1,15}", row[name]):
        raise BadInput(path, name, "a whole number", repr(row[name]))
    return int(row[name])
