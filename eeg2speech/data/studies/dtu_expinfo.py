"""Who heard what in the trials of DTU's recordings: the table ``expinfo``, exported from MATLAB.

A table can be read by MATLAB alone: in the published ``S1.mat`` it is a closed object. Taken in its place, the first
that is there, for subject 1::

    S1_expinfo.mat         expinfo: a struct of columns (table2struct with "ToScalar", true) or an array of structs;
                           or the columns as variables
    S1_expinfo.csv, S1.csv columns by name, as writetable writes them; comma, semicolon or tab
    S1.mat                 if its expinfo has been saved as a struct
    expinfo_prepro_S1.mat  expinfo_prepro: the trials with two talkers only, if it is no table either

Columns, of which the others are not looked at::

    wavfile_male, wavfile_female   names of the sounds, empty for a talker who was silent
    attend_mf                      1 the man was attended, 2 the woman
    attend_lr                      1 the left ear was attended, 2 the right; may be missing
    trigger                        number that the recording has at the trial's onset; may be missing
    n_speakers                     1 or 2; where it is missing, as many as there are sounds
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eeg2speech.data.preparation.matfile import Struct
from eeg2speech.data.preparation.matlab import elements, field, matlab, only, variables
from eeg2speech.errors import BadInput

REQUIRED = ("wavfile_male", "wavfile_female", "attend_mf")
OPTIONAL = ("attend_lr", "trigger", "n_speakers")
EARS = {1: "left", 2: "right"}
VOICES = {"male": "aske", "female": "marianne"}
"""With what the names of their sounds begin."""
EXPORT = "for k = 1:18, f = sprintf('S%d', k); s = load([f '.mat'], 'expinfo'); writetable(s.expinfo, [f '.csv']); end"
"""Run by MATLAB in the folder of the recordings."""
LARGEST = 1 << 20
"""Bytes of a table of 70 lines."""
NOTHING = ("", "nan", "[]", "<missing>", "<undefined>")
"""What an empty cell becomes on its way out of MATLAB, in lower case."""


@dataclass(frozen=True)
class Row:
    """A trial. ``number`` is its line, from 1; with one talker only, nothing but ``trigger`` is told of it."""

    number: int
    talkers: int
    trigger: int | None
    attended: str = ""
    male: str = ""
    female: str = ""
    ear: str = ""

    @property
    def sounds(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Name of the sound and sex of its talker, the attended one first."""
        both = (self.male, "male"), (self.female, "female")
        return both if self.attended == "male" else both[::-1]


def found(subject: int, path: Path, files: Mapping[str, Path]) -> Path | None:
    """The file that has the table of a subject whose recording is ``path``; ``files`` are by name in lower case."""
    exported = [f"s{subject}_expinfo.mat", f"s{subject}_expinfo.csv", f"s{subject}.csv"]
    for each in (files.get(name) for name in exported):
        if each is not None:
            return each
    prepared = files.get(f"expinfo_prepro_s{subject}.mat")
    for each, name in ((path, "expinfo"), (prepared, "expinfo_prepro")):
        # A closed object has no shape.
        if each is not None and variables(each).get(name):
            return each
    return None


def read(path: Path) -> tuple[Row, ...]:
    """All trials of a subject, in order.

    Raises:
        BadInput: a file that is no table, or a table still; a column that is missing, or longer than another; a cell
            that has another value than the module tells.
    """
    columns = _of_csv(path) if path.suffix.casefold() == ".csv" else _of_matlab(path)
    count = len(columns[REQUIRED[0]])
    for name, cells in columns.items():
        if len(cells) != count or not count:
            raise BadInput(path, f"expinfo.{name}", f"{count} rows" if count else "at least one row", len(cells))
    return tuple(_row(path, k + 1, {name: cells[k] for name, cells in columns.items()}) for k in range(count))


def columns_of(path: Path, value: Any, names: Sequence[str], label: str) -> dict[str, list[str]]:
    """Columns of a struct of columns, or of an array of structs with a cell each, as text. Raises BadInput."""
    structs = elements(path, value, label)
    if len(structs) == 1:
        return {name: _cells(path, field(path, structs[0], name, label), f"{label}.{name}") for name in names}
    return {
        name: [_cell(path, field(path, each, name, label), f"{label}.{name}") for each in structs] for name in names
    }


def whole_number(where: object, text: str, label: str) -> int:
    """Of a cell. Raises BadInput."""
    try:
        value = float(text)
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise BadInput(where, label, "a whole number", repr(text))


def _cells(path: Path, value: Any, label: str) -> list[str]:
    """A column: a cell, rows of characters, or a vector of numbers."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return [_cell(path, each, label) for each in elements(path, value, label)]
    if array.dtype.kind not in "Uiufb" or array.size != max(array.shape, default=1):
        raise BadInput(path, label, "a column of text or numbers", f"{array.dtype} {list(array.shape)}")
    return [_shown(each) for each in array.reshape(-1)]


def _cell(path: Path, value: Any, label: str) -> str:
    array = np.asarray(value)
    if not array.size:
        return ""
    array = np.asarray(only(path, value, label))
    if array.dtype.kind not in "Uiufb" or array.size > 1:
        raise BadInput(path, label, "text or a number in each cell", f"{array.dtype} {list(array.shape)}")
    return _shown(array.reshape(-1)[0]) if array.size else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return "" if value.strip().casefold() in NOTHING else value.strip()
    number = float(value)
    return "" if number != number else f"{number:.0f}" if number.is_integer() else repr(number)


def _of_matlab(path: Path) -> dict[str, list[str]]:
    shapes = variables(path)
    name = next((each for each in ("expinfo", "expinfo_prepro") if each in shapes), "")
    if name and not shapes[name]:
        raise BadInput(path, name, f"a struct or a CSV file. In MATLAB: {EXPORT}", "a table, which MATLAB alone reads")
    if not name and not {*REQUIRED} <= {*shapes}:
        raise BadInput(path, "variables", f"expinfo, or its columns {', '.join(REQUIRED)}", ", ".join(shapes) or "none")
    wanted = [each for each in (*REQUIRED, *OPTIONAL) if each in shapes]
    table = matlab(path, (name,))[name] if name else Struct(matlab(path, wanted))
    first = next(iter(elements(path, table, name)), None)
    fields = getattr(only(path, first, name), "_fieldnames", [])
    return columns_of(path, table, _present(path, fields), name or "expinfo")


def _present(path: Path, names: Sequence[str]) -> list[str]:
    """Those of the columns that are there, the required ones always."""
    for name in REQUIRED:
        if name not in names:
            raise BadInput(path, f"expinfo.{name}", "a column of this name", ", ".join(names) or "none")
    return [*REQUIRED, *(name for name in OPTIONAL if name in names)]


def _of_csv(path: Path) -> dict[str, list[str]]:
    lines = list(_lines(path))
    if not lines:
        raise BadInput(path, "columns", f"a line with their names: {', '.join(REQUIRED)}, ...", "an empty file")
    names = [name.casefold() for name in lines[0]]
    kept = _present(path, names)
    for name in kept:
        if names.count(name) > 1:
            raise BadInput(path, f"expinfo.{name}", "one column of this name", names.count(name))
    for k, cells in enumerate(lines[1:], 1):
        if len(cells) != len(names):
            raise BadInput(path, f"row {k}", f"{len(names)} cells, as there are columns", len(cells))
    return {name: [_shown(cells[names.index(name)]) for cells in lines[1:]] for name in kept}


def _lines(path: Path) -> Iterator[list[str]]:
    if path.stat().st_size > LARGEST:
        raise BadInput(path, "size", f"at most {LARGEST} bytes", path.stat().st_size)
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(path, "text", "UTF-8", error.reason) from error
    lines = [line for line in content.splitlines() if line.strip()]
    separator = max(",;\t", key=lines[0].count) if lines else ","
    try:
        yield from ([cell.strip() for cell in cells] for cells in csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        raise BadInput(path, "text", "comma-separated values", error) from error


def _row(path: Path, number: int, cells: Mapping[str, str]) -> Row:
    where = f"{path}, row {number}"
    talkers = _talkers(where, cells)
    trigger = whole_number(where, cells["trigger"], "trigger") if cells.get("trigger") else None
    if talkers == 1:
        return Row(number, 1, trigger)
    male, female = (_sound(where, cells, sex) for sex in VOICES)
    if male == female:
        raise BadInput(where, "wavfile_female", "another file than wavfile_male", repr(female))
    attended = _one_of(where, cells, "attend_mf", {1: "male", 2: "female"})
    ear = _one_of(where, cells, "attend_lr", EARS) if cells.get("attend_lr") else ""
    return Row(number, 2, trigger, attended, male, female, ear)


def _talkers(where: str, cells: Mapping[str, str]) -> int:
    """How many there are; a row that says two has to name both."""
    named = sum(bool(cells[f"wavfile_{sex}"]) for sex in VOICES)
    told = whole_number(where, cells["n_speakers"], "n_speakers") if cells.get("n_speakers") else named
    if told not in (1, 2):
        raise BadInput(where, "n_speakers" if cells.get("n_speakers") else "wavfile_male", "one or two talkers", told)
    return told


def _sound(where: str, cells: Mapping[str, str], sex: str) -> str:
    """The name of a sound. Raises BadInput for one that is a path, or begins with the other talker's name."""
    label = f"wavfile_{sex}"
    name = cells[label]
    if not re.fullmatch(r"\w[\w.+ -]*\.wav", name, re.IGNORECASE | re.ASCII):
        raise BadInput(where, label, "the name of a wav file", repr(name))
    other = next(voice for each, voice in VOICES.items() if each != sex)
    if name.casefold().startswith(other):
        raise BadInput(where, label, f"a sound of {VOICES[sex]}, as in {VOICES[sex]}_story4_trial_8.wav", repr(name))
    return name


def _one_of(where: str, cells: Mapping[str, str], label: str, known: Mapping[int, str]) -> str:
    value = whole_number(where, cells[label], label)
    if value not in known:
        raise BadInput(where, label, " or ".join(f"{n} ({name})" for n, name in known.items()), value)
    return known[value]
