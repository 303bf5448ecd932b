"""The files that the table of a folder names: headers read and compared, sensors found, recordings made of them."""

from __future__ import annotations

import filecmp
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from eeg2speech.data.preparation.blocks import Blocks
from eeg2speech.data.preparation.cleaning import margin
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.resampling import ratio
from eeg2speech.data.preparation.source import Item, Speech, Take
from eeg2speech.data.studies.folder_signals import (
    EegHeader,
    eeg_blocks,
    eeg_header,
    feature_blocks,
    named,
    sound_blocks,
)
from eeg2speech.data.studies.folder_table import Heard, Row, Table, place, read_table
from eeg2speech.data.types import Sensors
from eeg2speech.errors import BadInput, unknown_name

if TYPE_CHECKING:
    from eeg2speech.data.studies.folder import FolderSteps

Kind = Literal["audio", "envelope", "mel"]
T = TypeVar("T")
LONGEST = 100
"""Characters of the name of a recording."""
SHOWN = 5
"""Names that a sentence tells."""
TOLERANCE = 0.1
"""Seconds of speech of which nobody is told that they are left out."""


def kind_of(root: Path, steps: FolderSteps) -> Kind:
    """What is kept of the speech, by the first sound: an array of one band is an envelope. Raises BadInput where there
    is no table."""
    path = table_path(root, steps)
    heard = [row.attended for row in read_table(path, path.parent, steps.outside).rows]
    if not heard or heard[0].suffix.casefold() != ".npy":
        return "audio"
    try:
        feature_blocks(heard[0], 1.0, mel=True)
    except BadInput:
        return "envelope"
    return "mel"


def table_path(root: Path, steps: FolderSteps) -> Path:
    """Where the table is, in the folder or one below; or where it should be. Raises BadInput where there is no
    folder."""
    home = Path(os.path.abspath(root))
    if not home.is_dir():
        raise BadInput(root, "folder", "a folder with a table of trials", "no such folder")
    if not steps.trials or Path(steps.trials).name != steps.trials:
        raise BadInput("settings", "trials", "the name of a file in the folder", repr(steps.trials))
    below = [each / steps.trials for each in sorted(home.iterdir()) if each.is_dir()]
    below = [each for each in below if each.is_file()]
    return home / steps.trials if (home / steps.trials).is_file() or len(below) != 1 else below[0]


@dataclass(frozen=True)
class Length:
    """What is kept of a sound: not the sound, for it may keep a file open."""

    rate: float
    channels: int
    seconds: float


@dataclass
class FolderFiles:
    """A folder as far as it can be read; what is wrong is added to the problems of the table."""

    table: Table
    steps: FolderSteps
    kind: Kind
    headers: dict[Path, EegHeader] = field(default_factory=dict)
    sounds: dict[Path, Length] = field(default_factory=dict)
    sensors: Sensors = field(default_factory=lambda: Sensors((), ()))
    references: tuple[str, ...] = ()
    ids: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, steps: FolderSteps, kind: Kind) -> FolderFiles:
        """Read the table and all headers. Raises BadInput where there is no table, or a template is unknown."""
        path = table_path(root, steps)
        found = cls(read_table(path, path.parent, steps.outside), steps, kind)
        found._read_headers()
        found._find_sensors()
        found._name_items()
        for row in found.table.rows:
            found._check_trial(row)
        found._check_speech()
        found.table.sort()
        return found

    def items(self) -> Iterator[Item]:
        """A recording for each EEG file, in the table's order."""
        for path, rows in self._by_file().items():
            header = self.headers[path]
            yield Item(self.ids[path], rows[0].subject, header.files, partial(self._takes, rows))

    def notes(self) -> Iterator[str]:
        """What is not as one might expect, in words."""
        yield from self._overlaps()
        yield from self._cut()
        for what, rates in (
            ("EEG files", [header.rate for header in self.headers.values()]),
            ("sounds", [sound.rate for sound in self.sounds.values()]),
        ):
            if len(set(rates)) > 1:
                yield f"{what} of {len(set(rates))} rates: {_some([f'{rate:g} Hz' for rate in sorted(set(rates))])}"
        if gone := self._left_out():
            yield f"channels that not all EEG files have, left out: {_some(gone)}"

    def _by_file(self) -> dict[Path, list[Row]]:
        found: dict[Path, list[Row]] = {}
        for row in self.table.rows:
            found.setdefault(row.eeg, []).append(row)
        return found

    def _takes(self, rows: Sequence[Row]) -> Iterator[Take]:
        header = self.headers[rows[0].eeg]
        own = {name.casefold(): name for name in header.names or ()}
        eeg = eeg_blocks(header, [own[name.casefold()] for name in (*self.sensors.names, *self.references)])
        for number, row in enumerate(rows, 1):
            speech = [self._speech(heard) for heard in row.heard]
            about = (row.start, row.duration, row.ear, row.part)
            yield Take(self._trial(row, number), eeg, speech[0], speech[1] if len(speech) > 1 else None, *about)

    def _trial(self, row: Row, number: int) -> str:
        return row.id or f"{self.ids[row.eeg]}-{number}"

    def _speech(self, heard: Heard) -> Speech:
        speaker, story, language, _ = map(str, heard.told.values())
        key = os.path.relpath(heard.path, self.table.path.parent)
        opened = partial(_opened, heard, self.kind, self.steps.stereo)
        return Speech(Path(key).as_posix(), opened, (heard.path,), speaker, language, heard.path.stem, story)

    def _read_headers(self) -> None:
        """Of each EEG file and each sound, once."""
        names, done = self._given_names(), set[tuple[str, Path]]()
        for row in self.table.rows:
            if ("eeg", row.eeg) not in done and (header := self._tried(row, "eeg", partial(_header, row, names))):
                self.headers[row.eeg] = header
            for heard in row.heard:
                measured = partial(_measured, heard, self.kind, self.steps.stereo)
                if ("sound", heard.path) not in done and (sound := self._tried(row, heard.role, measured)):
                    self.sounds[heard.path] = sound
            done |= {("eeg", row.eeg), *(("sound", heard.path) for heard in row.heard)}

    def _given_names(self) -> tuple[str, ...]:
        if self.steps.channels != "montage":
            return _names(self.steps.channels)
        if not self.steps.montage:
            raise BadInput("settings", "montage", "the template whose order the channels have", "none")
        return template(self.steps.montage).names

    def _tried(self, row: Row, column: str, read: Callable[[], T]) -> T | None:
        """What is read, or None and a problem of a line."""
        try:
            return read()
        except BadInput as error:
            self._refuse(row, f"{column}: {error.where}: {error.field}", error.expected, error.found)
            return None

    def _refuse(self, row: Row, column: str, expected: object, found: object) -> None:
        self.table.problems.append(BadInput(place(self.table.path, row.line), column, expected, found))

    def _find_sensors(self) -> None:
        """Channels that all files have, and where they are."""
        left_out = {name.casefold() for name in _names(self.steps.exclude)}
        own = {path: _unlike(header, left_out) for path, header in self.headers.items()}
        if not own:
            return
        first, names = next(iter(own.items()))
        self._check_named(own, left_out)
        for path, others in own.items():
            if self.steps.sensors == "same" and others.keys() != names.keys():
                hint = f"those of {first.name} (or set exclude=..., or sensors=common)"
                self._refuse(self._by_file()[path][0], f"eeg: {path}: channels", hint, _difference(names, others))
        references = [name.casefold() for name in _names(self.steps.references)]
        shared = [key for key in names if all(key in others for others in own.values())]
        self.references = tuple(names[key] for key in references if key in names)
        kept = [names[key] for key in shared if key not in references]
        try:
            self.sensors = self._placed(self.headers[first], kept)
        except BadInput as error:
            self.table.problems.append(error)

    def _check_named(self, own: dict[Path, dict[str, str]], left_out: set[str]) -> None:
        """What the settings name is there."""
        every = {name.casefold() for header in self.headers.values() for name in header.names or ()}
        for name in sorted(left_out - every):
            self.table.problems.append(unknown_name("settings", "exclude", name, every))
        for name in _names(self.steps.references):
            for path, names in own.items():
                if name.casefold() not in names:
                    where = f"settings: references: {path}"
                    self.table.problems.append(unknown_name(where, "channel", name, names.values()))
        for path, header in self.headers.items():
            counts = Counter(name.casefold() for name in header.names or ())
            if twice := [name for name, count in counts.items() if count > 1 and name not in left_out]:
                found = f"{_some(twice)} more than once"
                self._refuse(self._by_file()[path][0], f"eeg: {path}: channels", "names used once", found)

    def _placed(self, header: EegHeader, names: Sequence[str]) -> Sensors:
        """Sensors with the places that the template or the file gives them. Raises BadInput where one has none."""
        if not names:
            raise BadInput(header.path, "EEG channels", "one that all files have, not a reference", "none")
        found, known = "the file", header.places
        if self.steps.montage:
            own = template(self.steps.montage)
            places = {name.casefold(): place for name, place in zip(own.names, own.positions, strict=True)}
            known = {name: places[name.casefold()] for name in names if name.casefold() in places}
            found = f"the template {self.steps.montage}"
        if gone := [name for name in names if name not in known]:
            expected = "known (set montage=easycap-M1, biosemi64 or another template of MNE, or exclude=...)"
            raise BadInput(header.path, "places of sensors", expected, f"none in {found} of {_some(gone)}")
        return Sensors(tuple(names), tuple(known[name] for name in names))

    def _left_out(self) -> list[str]:
        """Channels that only some files have."""
        kept = {name.casefold() for name in (*self.sensors.names, *_names(self.steps.exclude), *self.references)}
        names = [name for header in self.headers.values() for name in header.names or ()]
        return [*dict.fromkeys(name for name in names if name.casefold() not in kept)]

    def _name_items(self) -> None:
        """Names of recordings, by their files; and that names of trials are used once."""
        home = self.table.path.parent
        stems = Counter(_plain(path.stem).casefold() for path in self._by_file())
        used, trials = set[str](), dict[str, int]()
        for path, rows in self._by_file().items():
            short = _plain(path.stem)
            name = short if stems[short.casefold()] == 1 else _plain(os.path.relpath(path.with_suffix(""), home))
            self.ids[path] = next(each for each in _numbered(name) if each.casefold() not in used)
            used.add(self.ids[path].casefold())
            for number, row in enumerate(rows, 1):
                before = trials.setdefault(self._trial(row, number).casefold(), row.line)
                if before != row.line:
                    found = f"{self._trial(row, number)!r}, as in line {before}"
                    self._refuse(row, "id", "a name used once", found)

    def _check_trial(self, row: Row) -> None:
        """Whether it lies within EEG and sounds."""
        if (header := self.headers.get(row.eeg)) is None:
            return
        if round(row.start * header.rate) >= header.samples:
            self._refuse(row, "start", f"before the EEG's end, {header.seconds:.3f} s", f"{row.start:g} s")
            return
        lengths = [("the EEG", header.seconds - row.start, header.rate)]
        lengths += [(f"the {h.role} sound", s.seconds, s.rate) for h, s in self._heard(row)]
        for what, seconds, rate in lengths:
            if row.duration is not None and row.duration > seconds + 0.5 / rate:
                expected = f"at most {seconds:.3f} s, as {what} lasts from the start on"
                self._refuse(row, "duration", expected, f"{row.duration:g} s")
        self._check_margin(row, header, min(row.duration or math.inf, *(seconds for _, seconds, _ in lengths)))

    def _check_margin(self, row: Row, header: EegHeader, seconds: float) -> None:
        """Whether there is EEG enough for the filters, counted as the preparation does."""
        rate, wide = self.steps.eeg_rate, margin(self.steps)
        origin, factor = round(row.start * header.rate), ratio(header.rate, rate)
        lasts = min(int(seconds * rate + 1e-6), int((header.samples - origin) * factor))
        before = min(wide, int(origin * rate / header.rate))
        after = min(wide, int((header.samples - origin) * factor) - lasts)
        if lasts < 1 or before + lasts + after < 2 * wide + 1:
            expected = f"EEG of {(2 * wide + 1) / rate:.3f} s with what is around it, for the filters"
            found = f"{(before + lasts + after) / rate:.3f} s"
            self._refuse(row, "duration", f"{expected} (or set high_pass=0)", found)

    def _heard(self, row: Row) -> list[tuple[Heard, Length]]:
        """Sounds of a trial that could be read."""
        return [(heard, self.sounds[heard.path]) for heard in row.heard if heard.path in self.sounds]

    def _check_speech(self) -> None:
        """That sounds differ, and that features have as many bands everywhere."""
        seen = set[tuple[Path, ...]]()
        for row in self.table.rows:
            heard = self._heard(row)
            for each, sound in heard:
                first, known = next(iter(self.sounds.items()))
                if sound.channels != known.channels:
                    self._refuse(row, each.role, f"{known.channels} bands, as {first.name} has", sound.channels)
            pair = tuple(sorted(each.path for each, _ in heard))
            if len(pair) == 2 and pair not in seen and _alike(*pair):
                self._refuse(row, "unattended", "another sound than the attended one", f"a copy of {pair[0].name}")
            seen |= {pair} if len(pair) == 2 else set()

    def _overlaps(self) -> Iterator[str]:
        """Stretches of EEG that are in two trials."""
        for path, rows in self._by_file().items():
            last: tuple[float, int] | None = None
            found: list[str] = []
            for row in sorted(rows, key=lambda row: row.start):
                if last is not None and row.start < last[0] - 1e-6:
                    found.append(f"{last[0] - row.start:.3f} s of line {last[1]} in line {row.line}")
                last = max(last or (0.0, 0), (row.start + self._lasts(row), row.line))
            if found:
                yield f"trials of {path.name} overlap, so a split may have the same EEG on both sides: {_some(found)}"

    def _lasts(self, row: Row) -> float:
        lengths = [self.headers[row.eeg].seconds - row.start, *(s.seconds for _, s in self._heard(row))]
        return min([*lengths, *([row.duration] if row.duration is not None else [])])

    def _cut(self) -> Iterator[str]:
        """Speech that goes on when the trial has ended, unless a duration says so."""
        found: list[str] = []
        for row in self.table.rows:
            longest = max(sound.seconds for _, sound in self._heard(row))
            if row.duration is None and longest - self._lasts(row) > TOLERANCE:
                found.append(f"line {row.line} by {longest - self._lasts(row):.3f} s")
        if found:
            yield f"speech that is longer than its trial, for EEG or the other sound ends before: {_some(found)}"


def template(name: str) -> Sensors:
    """A template of MNE by name; an unknown one is refused with the nearest."""
    import mne

    try:
        with warnings.catch_warnings():
            # Names that MNE has given up for others, such as standard_1020, are still right.
            warnings.simplefilter("ignore")
            return montage(name)
    except Exception as error:  # what MNE raises differs between its versions
        raise unknown_name("settings", "montage", name, mne.channels.get_builtin_montages()) from error


def _header(row: Row, names: Sequence[str]) -> EegHeader:
    return named(eeg_header(row.eeg, row.eeg_rate, row.eeg_unit), names)


def _opened(heard: Heard, kind: Kind, stereo: str) -> Blocks:
    if kind == "audio":
        return sound_blocks(heard.path, stereo)
    return feature_blocks(heard.path, heard.row.feature_rate, kind == "mel")


def _measured(heard: Heard, kind: Kind, stereo: str) -> Length:
    blocks = _opened(heard, kind, stereo)
    return Length(blocks.rate, blocks.channels, blocks.samples / blocks.rate)


def _unlike(header: EegHeader, left_out: set[str]) -> dict[str, str]:
    """Names of channels by what tells them apart, without those left out."""
    keys = {name.casefold(): name for name in header.names or ()}
    return {key: name for key, name in keys.items() if key not in left_out}


def _difference(expected: dict[str, str], found: dict[str, str]) -> str:
    gone = [name for key, name in expected.items() if key not in found]
    more = [name for key, name in found.items() if key not in expected]
    words = [f"no {_some(gone)}"] if gone else []
    return "; ".join([*words, *([f"{_some(more)} too"] if more else [])])


def _names(text: str) -> tuple[str, ...]:
    """Names of a setting that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _plain(text: str) -> str:
    """A name that can be a file's, of any text."""
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:LONGEST] or "eeg"


def _numbered(name: str) -> Iterator[str]:
    """The name, then with a number behind it."""
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _alike(one: Path, other: Path) -> bool:
    """Whether two files have the same content."""
    return one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)
