"""The table of trials of a folder with one's own data: read, checked, and its problems told all at once.

One line a trial, the names of the columns in the first line::

    subject,eeg,start,attended,unattended
    S01,eeg/S01.edf,12.5,speech/a.wav,speech/b.wav

Decisions:

- The separator is what stands between the names of the columns: a comma, a semicolon or a tab.
- Numbers have a decimal point. A decimal comma is refused: "1,500" may be either.
- Lines that begin with ``#``, and lines without a word, are left out. A cell does not go on in the next line.
- UTF-8, with or without a byte order mark, any line ends. Spaces around a cell are left out.
- Names of columns in any case and order; an unknown one is refused, for it may be an optional one with a slip in it.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eeg2speech.data.eeg_files import UNITS
from eeg2speech.data.store import NAME
from eeg2speech.errors import BadInput, unknown_name

REQUIRED = ("subject", "eeg", "start", "attended")
TOLD = 10
"""Problems that a refusal tells; of the others their number."""
LARGEST = 1 << 26
"""Bytes of a table: a million lines."""
LONGEST = 100
"""Characters of a name: names become names of files."""
EARS, PARTS = ("left", "right"), ("train", "valid", "test")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Row:
    """A line of the table: a trial.

    Files are paths as they can be opened, ``start`` and ``duration`` seconds, rates Hz. What is not told is empty or
    None. ``line`` is its number in the file.
    """

    line: int
    subject: str
    eeg: Path
    start: float
    attended: Path
    unattended: Path | None = None
    id: str = ""
    duration: float | None = None
    ear: str = ""
    part: str = ""
    speaker_attended: str = ""
    speaker_unattended: str = ""
    story_attended: str = ""
    story_unattended: str = ""
    language: str = ""
    eeg_rate: float | None = None
    eeg_unit: str = ""
    feature_rate: float | None = None

    @property
    def heard(self) -> tuple[Heard, ...]:
        """What was heard, the attended one first."""
        roles = ("attended",) if self.unattended is None else ("attended", "unattended")
        return tuple(Heard(getattr(self, role), role, self) for role in roles)


@dataclass(frozen=True)
class Heard:
    """A sound, or its features, of a trial."""

    path: Path
    role: str
    row: Row

    @property
    def told(self) -> dict[str, object]:
        """What the table says of it, by column."""
        columns = (f"speaker_{self.role}", f"story_{self.role}", "language", "feature_rate")
        return {column: getattr(self.row, column) for column in columns}


COLUMNS = tuple(each.name for each in fields(Row) if each.name != "line")


@dataclass
class Table:
    """Trials in the order of the file, and what is wrong with it; a line with a problem is not among the trials."""

    path: Path
    rows: list[Row]
    problems: list[BadInput]

    def refuse(self, row: Row, column: str, expected: object, found: object) -> None:
        """Add a problem of a line."""
        self.problems.append(BadInput(place(self.path, row.line), column, expected, found))

    def sort(self) -> None:
        """Problems in the order of the lines."""
        self.problems.sort(key=_line)


def place(path: Path, line: int) -> str:
    """Where in a table."""
    return f"{path}, line {line}"


def told(path: Path, problems: Sequence[BadInput]) -> BadInput:
    """One refusal for many."""
    if len(problems) == 1:
        return problems[0]
    lines = [str(problem) for problem in problems[:TOLD]]
    rest = [f"and {len(problems) - TOLD} more"] if len(problems) > TOLD else []
    return BadInput(path, "trials", "no problem", "\n  ".join([f"{len(problems)}:", *lines, *rest]))


def read_table(path: Path, home: Path, outside: bool = False) -> Table:
    """The table at ``path``; its paths are relative to ``home`` and stay in it, unless ``outside``.

    Whether files are there is looked at, not what is in them.

    Raises:
        BadInput: a file that cannot be read as a table at all. What is wrong with a line is in ``problems``.
    """
    cells = _cells(path)
    names, lines = _header(path, cells.lines), cells.lines[1:]
    table = Table(path, [], cells.problems)
    for line, texts in lines:
        before = len(table.problems)
        row = _Reader(path, home, outside, line, table.problems).row(names, texts)
        if row is not None and len(table.problems) == before:
            table.rows.append(row)
    if not lines and not table.problems:
        table.problems.append(BadInput(path, "trials", "a line for each trial below the names of the columns", "none"))
    _check_across(table)
    table.sort()
    return table


def _line(problem: BadInput) -> int:
    found = re.search(r", line ([0-9]+)$", problem.where)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class _Cells:
    """Lines that say something, by number, in cells; and those that are not cells."""

    lines: list[tuple[int, list[str]]]
    problems: list[BadInput]


def _cells(path: Path) -> _Cells:
    lines = [(number, line) for number, line in _lines(path) if not line.lstrip(' "').startswith("#")]
    first = next((line for _, line in lines if line.strip(' \t,;"')), "")
    separator = max(",;\t", key=first.count)
    found = _Cells([], [])
    for number, line in lines:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True), [])]
        except csv.Error as error:
            # Without columns there is nothing to tell of the lines below.
            problem = BadInput(place(path, number), "cells", "quotes that are closed in their line", error)
            if not found.lines:
                raise problem from error
            found.problems.append(problem)
            continue
        if any(cells):
            found.lines.append((number, cells))
    if not found.lines:
        raise BadInput(path, "columns", f"a line with their names: {', '.join(REQUIRED)}, ...", "an empty table")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines by number, from 1."""
    text = _text(path)
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        odd = [character for character in line if character != "\t" and (ord(character) < 32 or character == "\x7f")]
        if odd:
            raise BadInput(place(path, number), "text", "letters, digits and signs", f"the byte {ord(odd[0]):#04x}")
        yield number, line


def _text(path: Path) -> str:
    if not path.is_file():
        hint = "no such file (`eeg2speech template FOLDER` writes one to fill in)"
        raise BadInput(path, "file", "the table of trials, a CSV file", hint)
    if path.stat().st_size > LARGEST:
        raise BadInput(path, "size", f"at most {LARGEST} bytes", path.stat().st_size)
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(path, "file", "one that can be read", error.strerror or error) from error
    except UnicodeDecodeError as error:
        # UnicodeDecodeError counts from behind the byte order mark.
        line = error.object[: error.start].count(b"\n") + 1
        hint = f"the byte {error.object[error.start]:#04x} (save it as CSV UTF-8)"
        raise BadInput(place(path, line), "text", "UTF-8", hint) from error


def _header(path: Path, lines: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Names of the columns, each known, none twice; empty ones at the end, as spreadsheets write them."""
    line, cells = lines[0]
    where, names = place(path, line), [cell.casefold() for cell in cells]
    while names and not names[-1]:
        names.pop()
    problems: list[BadInput] = []
    for number, name in enumerate(names, 1):
        if not name:
            problems.append(BadInput(where, f"column {number}", "a name", "none"))
        elif name not in COLUMNS:
            problems.append(unknown_name(where, "column", name, COLUMNS))
        elif name in names[: number - 1]:
            problems.append(BadInput(where, f"column {name!r}", "a name used once", "a second column of that name"))
    gone = [name for name in REQUIRED if name not in names]
    if gone:
        expected = f"{', '.join(REQUIRED)} at least, separated by commas"
        problems.append(BadInput(where, "columns", expected, f"no {', '.join(gone)}"))
    if problems:
        raise told(path, problems)
    return names


class _Reader:
    """Makes a row of the cells of a line; what is wrong goes to ``problems``."""

    def __init__(self, path: Path, home: Path, outside: bool, line: int, problems: list[BadInput]) -> None:
        self.where, self.home, self.outside, self.line = place(path, line), home, outside, line
        self.problems = problems
        self.cells: dict[str, str] = {}

    def row(self, names: Sequence[str], texts: Sequence[str]) -> Row | None:
        """A row; None where there are too few or too many cells, or one of the first four cannot be had."""
        if len(texts) < len(names) or any(texts[len(names) :]):
            hint = " (a decimal comma, or a name with a comma and without quotes?)" if len(texts) > len(names) else ""
            self.refuse("cells", f"{len(names)}, one a column", f"{len(texts)}{hint}")
            return None
        self.cells = dict(zip(names, texts, strict=False))
        subject, eeg = self.name("subject"), self.file("eeg")
        start, attended = self.number("start"), self.file("attended")
        other = self.unattended(attended)
        optional = self.optional()
        if eeg is None or attended is None or start is None or not subject:
            return None
        return Row(self.line, subject, eeg, start, attended, other, **optional)

    def unattended(self, attended: Path | None) -> Path | None:
        """The other sound, where there is one."""
        found = self.file("unattended") if self.text("unattended") else None
        if found is not None and found == attended:
            self.refuse("unattended", "another sound than the attended one, or none", repr(self.text("unattended")))
        for column in ("speaker_unattended", "story_unattended"):
            if self.text(column) and not self.text("unattended"):
                self.refuse(column, "none, for there is no unattended", repr(self.text(column)))
        return found

    def optional(self) -> dict[str, Any]:
        """Cells of the other columns, by column."""
        named = [column for column in COLUMNS if column.startswith(("speaker_", "story_", "language"))]
        found: dict[str, Any] = {column: self.name(column) for column in named}
        found |= {column: self.number(column, 1.0, 1e6) for column in ("eeg_rate", "feature_rate")}
        found |= {"ear": self.choice("ear", EARS), "part": self.choice("part", PARTS)}
        found |= {"id": self.trial(), "eeg_unit": self.unit(), "duration": self.number("duration")}
        if found["duration"] == 0:
            self.refuse("duration", "more than 0 s, or none", repr(self.text("duration")))
        return found

    def refuse(self, column: str, expected: object, found: object) -> None:
        """Note a problem."""
        self.problems.append(BadInput(self.where, column, expected, found))

    def text(self, column: str) -> str:
        """A cell; empty where there is no such column."""
        return self.cells.get(column, "")

    def name(self, column: str) -> str:
        """Text, not too long; of a column that has to be there not empty."""
        found = self.text(column)
        if column in REQUIRED and not found:
            self.refuse(column, "a name", "none")
        if len(found) > LONGEST:
            self.refuse(column, f"at most {LONGEST} characters", len(found))
        return found

    def trial(self) -> str:
        """Name of the trial, that can be a file's; empty where none is given."""
        found = self.name("id")
        if found and not NAME.fullmatch(found):
            expected = "a name of letters, digits and _ . + -, the first a letter or digit"
            self.refuse("id", expected, repr(found))
        return found

    def choice(self, column: str, known: Sequence[str]) -> str:
        """One of a few words, or none."""
        found = self.text(column).casefold()
        if found and found not in known:
            self.problems.append(unknown_name(self.where, column, self.text(column), known))
        return found

    def unit(self) -> str:
        """One of the units, or none. Two characters look like mu: the micro sign and the Greek letter."""
        found = self.text("eeg_unit").replace("\u00b5", "u").replace("\u03bc", "u")
        if found and found not in UNITS:
            self.problems.append(unknown_name(self.where, "eeg_unit", found, UNITS))
        return found

    def number(self, column: str, least: float = 0.0, most: float = math.inf) -> float | None:
        """A finite number from ``least`` to ``most``; None where there is none."""
        text = self.text(column)
        if not text and column not in REQUIRED:
            return None
        limits = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        expected = f"{'seconds' if most == math.inf else 'Hz'}, {limits}, with a decimal point"
        # float() takes more for numbers: nan, 1_000, digits of other scripts.
        found = float(text) if NUMBER.fullmatch(text) else math.nan
        if not least <= found <= most or math.isinf(found):
            hint = " (a decimal comma?)" if NUMBER.fullmatch(text.replace(",", ".")) and "," in text else ""
            self.refuse(column, expected, f"{text!r}{hint}" if text else "none")
            return None
        return found

    def file(self, column: str) -> Path | None:
        """A file that is there."""
        text = self.text(column)
        if not text:
            self.refuse(column, "a file", "none")
            return None
        # By the words of the path, not through links: a folder may well be made of links to other places.
        path = Path(os.path.normpath(self.home / text))
        if not self.outside and not path.is_relative_to(self.home):
            expected = f"a path below {self.home} (or set outside=true)"
            self.refuse(column, expected, repr(text))
            return None
        try:
            there = path.exists()
        except (OSError, ValueError):  # names too long for a file system
            there = False
        if not there or path == self.home:
            hint = " (use / between folders)" if "\\" in text else _nearest(path)
            self.refuse(column, f"a file below {self.home}", f"no {text!r}{hint}")
            return None
        return path


def _nearest(path: Path) -> str:
    """A file beside, whose name differs by case or blanks alone."""
    try:
        beside = [each.name for each in path.parent.iterdir() if each.name.casefold() == path.name.casefold()]
    except (OSError, ValueError):
        return ""
    return f" (there is {beside[0]!r})" if beside else ""


def _check_across(table: Table) -> None:
    """What has to agree between lines: of an EEG file, of a sound, and that no trial is given twice."""
    once, same = _Seen(table), _Seen(table)
    for row in table.rows:
        once.require_new(row, "start", (row.eeg, row.start), f"{row.start:g} s in {row.eeg.name}")
        if row.id:
            # As file systems have it that do not tell case.
            once.require_new(row, "id", row.id.casefold(), repr(row.id))
        for column in ("subject", "eeg_rate", "eeg_unit"):
            same.require_same(row, column, (column, row.eeg), getattr(row, column))
        for heard in row.heard:
            for column, value in heard.told.items():
                # One sound has one speaker, whoever attended to it.
                same.require_same(row, column, (column.partition("_")[0], heard.path), value)


class _Seen:
    """What earlier lines had."""

    def __init__(self, table: Table) -> None:
        self.table, self.first = table, dict[object, tuple[Row, object]]()

    def require_new(self, row: Row, column: str, key: object, shown: str) -> None:
        """Refuse a second line of the key."""
        before, _ = self.first.setdefault((column, key), (row, None))
        if before is not row:
            self.table.refuse(row, column, "a trial given once", f"{shown}, as in line {before.line}")

    def require_same(self, row: Row, column: str, key: tuple[str, Path], value: object) -> None:
        """Refuse another value than the first line of the key has."""
        before, known = self.first.setdefault(key, (row, value))
        if known != value:
            expected = f"{_shown(known)}, as in line {before.line} for {key[1].name}"
            self.table.refuse(row, column, expected, _shown(value))


def _shown(value: object) -> str:
    return repr(value) if value not in ("", None) else "none"


TEMPLATE = "trials.csv"
README = "README.txt"
_TABLE = """\
# Trials of this folder: one line each. Lines that begin with # are left out: delete them or leave them.
# README.txt says what the columns mean. Replace the four trials below by your own.
subject,eeg,start,attended,unattended,duration,ear,part,speaker_attended,speaker_unattended,story_attended,\
story_unattended,language
# Two listeners with two trials each. The second listener attends to what the first did not.
S01,eeg/S01.edf,10.0,speech/a1.wav,speech/b1.wav,60,left,train,Anna,Ben,story A,story B,en
S01,eeg/S01.edf,75.5,speech/a2.wav,speech/b2.wav,60,left,test,Anna,Ben,story A,story B,en
S02,eeg/S02.edf,12.0,speech/b1.wav,speech/a1.wav,60,right,train,Ben,Anna,story B,story A,en
S02,eeg/S02.edf,78.25,speech/b2.wav,speech/a2.wav,60,right,test,Ben,Anna,story B,story A,en
"""
_README = """\
A folder with your own EEG and speech
=====================================

1. Put the EEG files and the speech files into this folder, or into folders in it.
2. Fill in trials.csv, one line a trial. Any program for tables does: save it as CSV UTF-8.
3. eeg2speech check-folder FOLDER        tells what is wrong with it
4. eeg2speech prepare folder --root FOLDER
5. eeg2speech run SUITE                  with the folder of the store as the study

Columns that have to be there
-----------------------------
subject      who listened
eeg          EEG file, by its path in this folder: EDF, BDF, BrainVision (.vhdr), FIF, EEGLAB (.set) and what else MNE
             reads, or numbers [channels, samples] in .npy or HDF5
start        when the speech begins, in seconds into the EEG file, with a decimal point
attended     the sound that was attended: WAV or FLAC with one channel, beginning with the trial;
             for the studies folder-envelopes and folder-mels features instead: .npy [bands, samples]

Columns that may be there
-------------------------
unattended           the other sound; empty where there was none
id                   name of the trial, used once
duration             seconds; as long as EEG and sounds last where it is empty
ear                  left or right: where the attended sound was heard
part                 train, valid or test, for the split "given"
speaker_attended, speaker_unattended     who speaks
story_attended, story_unattended         which book or talk it is a part of, for the split "story"
language             of the speech, such as en
eeg_rate             samples a second, for .npy and HDF5
eeg_unit             V, mV or uV, for .npy and HDF5
feature_rate         samples a second of the features

Give the same sound by the same file in all its trials: it is by this that a split keeps test speech out of training.

Settings (eeg2speech prepare folder --root FOLDER --set NAME=VALUE)
------------------------------------------------------------------
montage=easycap-M1         where sensors are, if the EEG files do not say: a template of MNE
channels=Fz,Cz,Pz          names of the rows of .npy files; channels=montage if they are in the template's order
references=M1,M2           channels that are reference electrodes (with reference=electrodes)
exclude=EXG3,EXG4          channels that are no sensors
sensors=common             take the channels that all EEG files have, if they differ
stereo=left                the channel of sounds that have two: left, right or mean
outside=true               paths may lead out of the folder
title=..., licence=...     for tables and records
"""


def template(home: Path) -> dict[Path, str]:
    """Files to begin with, and what is in them: a table with examples and a text that explains it."""
    return {home / TEMPLATE: _TABLE, home / README: _README}


def write_template(home: Path) -> list[Path]:
    """Write what a folder of one's own data begins with; returns the files. The folder is made if need be.

    Raises:
        BadInput: one of the files is there already, or the folder cannot be written to.
    """
    files = template(Path(home))
    for path in files:
        if path.exists():
            raise BadInput(path, "file", "none of that name, for it would be overwritten", "a file")
    try:
        Path(home).mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(home, "folder", "one that can be written to", error.strerror or error) from error
    return list(files)
