"""The folder of SparrKULee: its recordings, and what their tables of events say was heard."""

from __future__ import annotations

import csv
import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eeg2speech.errors import BadInput

TABLE, RESULTS = 1 << 20, 1 << 26
"""Bytes of a table and of a file of results that are read; real ones have a thousandth of it."""
RUN = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)_eeg\.bdf(?:\.gz)?")
QUIET = 100.0
"""Decibel that the authors take where a file of results has no SNR: there was no noise."""


@dataclass(frozen=True)
class Run:
    """A file of EEG; ``stem`` is its name without ``_eeg.bdf.gz``."""

    path: Path
    stem: str
    subject: str

    def beside(self, ending: str) -> Path:
        """A file that goes with it."""
        return self.path.with_name(f"{self.stem}_{ending}")


@dataclass(frozen=True)
class Event:
    """A row of a table: ``onset`` and ``duration`` in seconds of the EEG, files below ``stimuli``; empty or None where
    the table says n/a or has no such column."""

    onset: float
    duration: float | None
    stimulus: str
    trigger: str
    noise: str
    video: str
    snr: float | None


def home(root: Path) -> Path:
    """The folder with the subjects, here or one folder below. Raises BadInput for none, or two."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    found = [folder for folder in folders if any(folder.glob("sub-*/"))]
    # Derivatives are by subjects too.
    found = found[:1] if root in found else found
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise BadInput(root, "files", "sub-001, sub-002, ... and stimuli, here or in one folder below", names)
    return found[0]


def runs(folder: Path) -> list[Run]:
    """All recordings, in order of their names, numbers by size. Raises BadInput for one that is there twice."""
    paths = [*folder.glob("sub-*/eeg/*_eeg.bdf*"), *folder.glob("sub-*/ses-*/eeg/*_eeg.bdf*")]
    found: dict[str, Run] = {}
    for path in sorted(paths):
        name = RUN.fullmatch(path.name)
        if name is None:
            continue
        run = Run(path, name[1] + name[2], name[1])
        if run.stem in found:
            raise BadInput(folder, f"recording {run.stem}", "one file", f"{found[run.stem].path} and {path}")
        found[run.stem] = run
    if not found:
        raise BadInput(folder, "files", "sub-*/ses-*/eeg/*_eeg.bdf.gz", "none")
    return sorted(found.values(), key=lambda run: natural(run.stem))


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key: ``run-2`` before ``run-10``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def events(path: Path) -> list[Event]:
    """Rows of a table. Raises BadInput: no table, columns that are missing, values that cannot be."""
    return [_event(path, number, row) for number, row in enumerate(_rows(path), 2)]


def snr(path: Path) -> float:
    """Decibel, from a file of results (.apr); ``QUIET`` where it has none. Raises BadInput for one that is damaged."""
    if path.stat().st_size > RESULTS:
        raise BadInput(path, "length", f"at most {RESULTS} bytes", path.stat().st_size)
    content = path.read_bytes()
    # Entities can make much out of little.
    if b"<!ENTITY" in content:
        raise BadInput(path, "content", "XML without entities of its own", "<!ENTITY")
    try:
        tree = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise BadInput(path, "content", "XML", error) from error
    found = [_number(path, "SNR", text) for text in _told(tree)]
    return found[-1] if found else QUIET


def _told(tree: ET.Element) -> Iterator[str]:
    """Texts of the entries named SNR, by a child or an attribute ``description``."""
    for interactive in tree.iter("interactive"):
        for entry in interactive.iter("entry"):
            named = entry.findtext("description") or entry.get("description") or ""
            if named.strip() == "SNR" and (value := entry.findtext("new_value")) is not None:
                yield value


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows by the names of the columns."""
    if path.stat().st_size > TABLE:
        raise BadInput(path, "length", f"at most {TABLE} bytes", path.stat().st_size)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(path, "content", "a table, tabs between columns, UTF-8", error) from error
    names, *rows = [[each.strip() for each in line] for line in lines if any(each.strip() for each in line)] or [[]]
    for name in ("onset", "stim_file"):
        if names.count(name) != 1:
            raise BadInput(path, "columns", f"one named {name}", ", ".join(names) or "none")
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise BadInput(path, f"line {number}", f"{len(names)} columns", len(row))
        yield dict(zip(names, row, strict=True))


def _event(path: Path, line: int, row: dict[str, str]) -> Event:
    def told(column: str) -> str:
        value = row.get(column, "")
        return "" if value.casefold() in ("n/a", "nan") else value

    def number(column: str) -> float | None:
        return _number(path, f"line {line}: {column}", told(column)) if told(column) else None

    onset, duration = number("onset"), number("duration")
    if onset is None or onset < 0:
        raise BadInput(path, f"line {line}: onset", "seconds, 0 or more", row["onset"])
    if duration is not None and duration <= 0:
        raise BadInput(path, f"line {line}: duration", "more than 0 s, or n/a", row["duration"])
    stimulus, trigger, noise, video = (
        _inside(path, line, f"{each}_file", told(f"{each}_file")) for each in ("stim", "trigger", "noise", "video")
    )
    return Event(onset, duration, stimulus, trigger, noise, video, number("snr"))


def _number(path: Path, field: str, text: str) -> float:
    try:
        # Python takes digits of all scripts, and underscores between them.
        value = float(text) if re.fullmatch(r"[-+.0-9eE\s]+", text) else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) < 1e6:
        raise BadInput(path, field, "a number", repr(text))
    return value


def _inside(path: Path, line: int, column: str, name: str) -> str:
    """A name below the folder ``stimuli``; others are refused."""
    parts = PurePosixPath(name).parts
    strange = "\\" in name or ":" in name or not name.isprintable()
    if name and (strange or name.startswith("/") or ".." in parts or not parts):
        raise BadInput(path, f"line {line}: {column}", "a file below the folder stimuli", repr(name))
    return "/".join(parts)
