"""Alice in Wonderland (Brennan & Hale 2019): people listen to a chapter, in twelve segments; 60 sensors, 500 Hz.

::

    S01.mat ... S49.mat                                   release 1 (10.7302/Z29C6VNH): FieldTrip's struct `raw`
    S01.vhdr .eeg .vmrk ...                               release 2 (10.7302/746w-g237): BrainVision
    proc/SNN.mat, or timelock-preprocessing/SNN.mat       `proc`: where words are in the EEG, bad channels; 42 people
    audio/DownTheRabbitHoleFinal_SoundFile1..12.wav       16 bit, mono, 44.1 kHz
    AliceChapterOne-EEG.csv                               2129 words: Segment, onset and offset in its sound, Order

The folder itself or the one that holds it may be named; ``audio`` and ``proc`` may lie in a folder of their own name.

Where a segment begins in the EEG follows from its words: ``proc.trl`` has the first sample of each word's epoch, the
table the word's place in the sound. Each word gives an estimate, and the median of a segment's words is taken.

Traps:

- An epoch begins 0.3 s before its word (``offset`` is -150). Code that goes with published results took the epoch's
  first sample for the word, so that speech lies 0.3 s early in its EEG: ``onset=epoch`` does the same.
- MATLAB counts samples from 1, and the authors' script rounds a word's place up to a sample; both are undone.
- Rows of ``trl`` and of the table belong together by ``Order`` and not by position: where people have fewer rows they
  differ. ``join=row`` goes by position, for files without ``Order``, and wants as many rows.
- Sound began 60 ms (segment 1) or 50 ms (others) after its trigger; ``trl`` has that in it, and nothing is added here.
- Triggers of S26, S34, S35 and S36 are not in order (say the authors): segments then overlap. See ``triggers``.
  Triggers that are off but leave segments one after the other cannot be seen here.
- A list of one bad channel is text, "12", and no list of "1" and "2".
- Word may hold the byte 0x1A for an apostrophe, and the column Trigger may be missing: columns are found by name.

What was decided: bad are the channels of ``impedence.bads`` and those of ``rejections.badchans``, as in the authors'
script (``bad_lists``); the latter should hold the former. VEOG, AUD and Aux5 are left out. The reference of the files
is channel 29, which they do not have; the authors used the mean of 25 and 29.

What is not certain: whether the script that made the published ``trl`` rounded up as the later one does (if it did not,
speech is 1 ms early); that ``trl`` has the delays of 60 and 50 ms in it.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import Array, ArrayBlocks, Blocks, SoundBlocks
from eeg2speech.data.preparation.matlab import elements, field, matlab, number, only, text
from eeg2speech.data.preparation.mne_blocks import MneBlocks
from eeg2speech.data.preparation.montages import placed
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.cocktail_party_files import ranges
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

EEG_RATE, SEGMENTS, WORDS = 500, 12, 2129
SENSORS = tuple(str(k) for k in range(1, 62) if k != 29)
TABLE = "AliceChapterOne-EEG.csv"
SOUND = "DownTheRabbitHoleFinal_SoundFile{}.wav"
WITH_PROC = frozenset(range(1, 50)) - {28, 29, 31, 33, 46, 47, 49}
SUBJECTS = {
    "paper": frozenset({1, 3, 4, 5, 6, 8, *range(10, 23), 25, 26, *range(34, 43), 44, 45, 48}),
    "brainmagick": WITH_PROC - {2, 24, 26, 27, 30, 32, 34, 35, 36},
    "all": WITH_PROC,
}
"""Lists of people by number: 33, 33 (29 of them the same), 42."""
UNITS = {"uV": 1.0, "\u00b5V": 1.0, "\u03bcV": 1.0, "mV": 1e3, "V": 1e6}
"""Microvolt in one of each; there are two characters for micro."""
KEYS = ("order", "segment")
"""Columns of `trl` that tell which word a row is."""
PROC = ("proc", "timelock-preprocessing")
MOST_OFF = 0.1
"""Part of a segment's words that may lie elsewhere than the rest say before its start is in doubt."""
OVERLAP = 0.1
"""Seconds by which a segment may begin before the last word of the one before has ended."""
FARTHEST = 1e9
"""Largest sample that is believed, 23 days."""
FACTS = StudyFacts(
    name="brennan2019",
    title="Alice in Wonderland (Brennan & Hale 2019): an audiobook, 60 sensors",
    licence="CC BY 4.0",
    citation="Brennan, Hale 2019, PLoS ONE 14(1): e0207741; data: Brennan 2018, University of Michigan (Deep Blue)",
    doi="10.7302/Z29C6VNH",
    how_to_get=(
        "Download all files of https://doi.org/10.7302/Z29C6VNH (or release 2, https://doi.org/10.7302/746w-g237; both "
        "may ask for Globus) into one folder, archives included, then `eeg2speech prepare brennan2019 --root FOLDER`"
    ),
    note="real EEG, real speech; one talker, a chapter of an audiobook in English",
    audio_rate=16_000,
    eeg_rate=128,
    known_problems=(
        "published code takes the beginning of epochs for words, and speech lies 0.3 s early in its EEG; not here",
        "two lists of 33 people are in use, 29 of them the same: `subjects`",
        "triggers of S26, S34, S35 and S36 are not in order: left out and told, unless triggers=keep",
        "twelve minutes and one talker: retrieval among segments, not among people",
        "everybody hears the same sound: a split by person shares all of it",
    ),
    splits=("sentences of 6 s and more by a hash, 70 % train, 10 % valid, 20 % test (Defossez et al. 2023)",),
)
STORY = "Alice's Adventures in Wonderland, chapter 1"


@dataclass(frozen=True)
class Brennan2019Steps(Steps):
    """Settings of this study.

    Args:
        subjects: those of the ``paper``, those of ``brainmagick``, or ``all`` that have a file in ``proc``.
        release: of the EEG, ``v1`` (MATLAB) or ``v2`` (BrainVision); has to be told where a folder holds both.
        onset: what a row of ``trl`` tells, the ``word``, or, 0.3 s early, the ``epoch`` as if it were the word.
        join: rows of ``trl`` and of the table of words, by ``order`` or by ``row``.
        tolerance: seconds that a word may lie elsewhere than its segment's others say.
        triggers: what is done with people whose segments overlap, or of which more than a tenth of a segment's words
            are beyond the tolerance: ``leave_out`` and tell, ``keep`` and tell, or ``refuse``.
        bad_lists: which of the authors' lists of bad channels are believed.
    """

    subjects: Literal["paper", "brainmagick", "all"] = "paper"
    release: Literal["", "v1", "v2"] = ""
    onset: Literal["word", "epoch"] = "word"
    join: Literal["order", "row"] = "order"
    tolerance: float = 0.01
    triggers: Literal["leave_out", "keep", "refuse"] = "leave_out"
    bad_lists: Literal["both", "impedence", "rejections", "none"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < float("inf"):
            raise BadInput("settings", "tolerance", "seconds, more than 0", self.tolerance)


def brennan2019() -> RawStudy[Brennan2019Steps]:
    """The study."""
    return RawStudy(FACTS, Brennan2019Steps, source)


def source(root: Path, steps: Brennan2019Steps) -> Source:
    """An item for each person that has EEG and a file in ``proc``. Of these files, ``proc`` and the table are read.

    Raises:
        BadInput: a folder without EEG, ``proc``, sound or the table of words; both releases and none chosen; a file of
            ``proc`` or a table that cannot be used; nobody left.
    """
    files = _Files.find(root, steps.release)
    words = _Words.read(files.table)
    people = [_Person.read(k, files.proc[k], words, steps) for k in files.both if k in files.wanted(steps.subjects)]
    doubtful = [each for each in people if each.doubts and steps.triggers != "keep"]
    if doubtful and steps.triggers == "refuse":
        raise BadInput(doubtful[0].path, "proc.trl", "segments one after the other", "; ".join(doubtful[0].doubts))
    items = tuple(_item(each, files, words) for each in people if each not in doubtful and each.starts)
    missing = [*files.missing(steps.subjects), *words.missing, *(text for each in people for text in each.missing)]
    missing += [f"{each.name} is left out: {'; '.join(each.doubts)}" for each in doubtful]
    if not items:
        raise BadInput(files.home, "people", f"at least one with EEG and proc ({steps.subjects})", "; ".join(missing))
    kept = [f"{each.name}: {text}" for each in people if each not in doubtful for text in each.doubts]
    notes = [*files.notes(steps.subjects), *kept, *(text for each in people for text in each.notes)]
    return Source(placed(SENSORS, "easycap-M10", files.home), items, (), tuple(missing), tuple(notes))


def _item(person: _Person, files: _Files, words: _Words) -> Item:
    own = (*files.recording(person.number), person.path, files.table)
    return Item(person.name, person.name, own, partial(_takes, person, files, words))


def _takes(person: _Person, files: _Files, words: _Words) -> Iterator[Take]:
    """Segments of a person, in their order; all share the EEG, which is opened with the first."""
    path = files.eeg[person.number]
    eeg = _fieldtrip(path) if files.release == "v1" else _brainvision(path)
    if eeg.samples <= person.last:
        expected = f"more than {person.last} samples, for {person.path} has a word there"
        raise BadInput(path, "length", expected, eeg.samples)
    for segment, start in person.starts.items():
        sound = files.audio / SOUND.format(segment)
        about = ("narrator", "en", f"segment {segment}", STORY)
        speech = Speech(f"SoundFile{segment}", partial(_sound, sound, words.ends[segment]), (sound,), *about)
        yield Take(f"{person.name}_{segment:02d}", eeg, speech, start=start / EEG_RATE, bad=person.bad)


def _sound(path: Path, end: float) -> Blocks:
    """A segment's sound, in which all its words have to be. Raises BadInput."""
    blocks = SoundBlocks(path)
    if blocks.samples / blocks.rate < end - OVERLAP:
        expected = f"{end:.3f} s, where the last word ends"
        raise BadInput(path, "length", expected, f"{blocks.samples / blocks.rate:.3f} s")
    return blocks


def _names(numbers: Iterable[int]) -> str:
    return ", ".join(f"S{number:02d}" for number in sorted(numbers))


@dataclass(frozen=True)
class _Files:
    """Files of the study: EEG and ``proc`` by people's numbers, the folder of the sound, the table of words."""

    home: Path
    release: str
    eeg: dict[int, Path]
    proc: dict[int, Path]
    audio: Path
    table: Path

    @classmethod
    def find(cls, root: Path, release: str) -> _Files:
        """Raises BadInput for what is missing altogether, and for two releases."""
        home = _home(root)
        bases = [home] if home == root else [home, root]
        release = _release(home, release)
        eeg = _numbered(home, ".mat" if release == "v1" else ".vhdr")
        return cls(home, release, eeg, _numbered(_proc(bases), ".mat"), _audio(bases), _table(bases))

    @property
    def both(self) -> list[int]:
        """People with EEG and a file in ``proc``."""
        return sorted(self.eeg.keys() & self.proc.keys())

    def wanted(self, subjects: str) -> frozenset[int]:
        """People on a list."""
        return SUBJECTS[subjects] if subjects != "all" else frozenset(self.eeg) | frozenset(self.proc) | WITH_PROC

    def recording(self, number: int) -> tuple[Path, ...]:
        """Files of a person's EEG: of BrainVision header, samples and markers, where they bear its name."""
        path = self.eeg[number]
        others = [path.with_suffix(suffix) for suffix in (".eeg", ".vmrk") if self.release == "v2"]
        return (path, *(each for each in others if each.is_file()))

    def missing(self, subjects: str) -> Iterator[str]:
        """In words."""
        wanted = self.wanted(subjects)
        if gone := (wanted & WITH_PROC) - self.eeg.keys():
            yield f"no EEG of {_names(gone)}"
        if gone := (wanted & WITH_PROC | self.eeg.keys()) - self.proc.keys():
            yield f"no file in proc of {_names(gone)}, without which nobody knows what was heard when"
        absent = [k for k in range(1, SEGMENTS + 1) if not (self.audio / SOUND.format(k)).is_file()]
        if absent:
            yield f"audio: no {SOUND.format('N')} for N = {ranges(absent)}"

    def notes(self, subjects: str) -> Iterator[str]:
        """In words: who is there and not taken."""
        if others := {*self.both} - self.wanted(subjects):
            yield f"subjects={subjects} leaves out {_names(others)}"


def _home(root: Path) -> Path:
    """The folder with the EEG."""
    found = [each for each in [root, *_folders(root)] if _numbered(each) and each.name not in PROC]
    if not found:
        raise BadInput(root, "files", "S01.mat or S01.vhdr and others, here or one folder below", "none")
    if len(found) > 1 and root not in found:
        raise BadInput(root, "files", "EEG in one folder", ", ".join(each.name for each in found))
    return found[0]


def _folders(folder: Path) -> list[Path]:
    """Folders in it, by name, without what macOS adds."""
    if not folder.is_dir():
        return []
    hidden = ("__MACOSX", ".")
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(hidden))


def _numbered(folder: Path, *kinds: str) -> dict[int, Path]:
    """Files SNN of some kinds, by number."""
    if not folder.is_dir():
        return {}
    kinds = kinds or (".mat", ".vhdr")
    named = ((re.fullmatch(r"S(\d\d)", path.stem), path) for path in folder.iterdir() if path.suffix in kinds)
    return dict(sorted((int(name[1]), path) for name, path in named if name and path.is_file()))


def _release(home: Path, wanted: str) -> str:
    found = [name for name, kind in (("v1", ".mat"), ("v2", ".vhdr")) if _numbered(home, kind)]
    if wanted and wanted not in found:
        raise BadInput(home, "release", f"files of {wanted}", f"those of {', '.join(found)}")
    if not wanted and len(found) > 1:
        raise BadInput(home, "release", "--set release=v1 (SNN.mat) or v2 (SNN.vhdr)", "both, and none chosen")
    return wanted or found[0]


def _proc(bases: Sequence[Path]) -> Path:
    outer = [base / name for base in bases for name in PROC]
    for place in [*outer, *(inner for each in outer for inner in _folders(each))]:
        if _numbered(place, ".mat"):
            return place
    expected = "SNN.mat in proc or in timelock-preprocessing (unpack proc.zip)"
    raise BadInput(bases[0], "proc", expected, "none")


def _audio(bases: Sequence[Path]) -> Path:
    for place in [base / name for base in bases for name in ("audio", "audio/audio", ".")]:
        if any((place / SOUND.format(k)).is_file() for k in range(1, SEGMENTS + 1)):
            return place
    raise BadInput(bases[0], "audio", f"audio/{SOUND.format(1)} to {SEGMENTS} (unpack audio.zip)", "none")


def _table(bases: Sequence[Path]) -> Path:
    for base in bases:
        if (base / TABLE).is_file():
            return base / TABLE
    raise BadInput(bases[0], "table of words", TABLE, "no such file")


@dataclass(frozen=True)
class _Words:
    """The table of words: of each row its Order, its segment, and its onset in the segment's sound in seconds;
    ``ends`` are seconds at which the last word of each segment ends."""

    path: Path
    order: NDArray[np.int64]
    segment: NDArray[np.int64]
    onset: NDArray[np.float64]
    ends: Mapping[int, float]

    @classmethod
    def read(cls, path: Path) -> _Words:
        """Raises BadInput: no such columns, cells that are no numbers, segments or places that there are not."""
        rows = _cells(path)
        order, segment = (_whole_column(path, rows, name) for name in ("Order", "Segment"))
        onset, offset = (_column(path, rows, name) for name in ("onset", "offset"))
        _require_rows(path, "Segment", (segment >= 1) & (segment <= SEGMENTS), f"1 to {SEGMENTS}", segment)
        _require_rows(path, "onset", (onset > -1) & (onset < 1e6), "seconds in a sound", onset)
        _require_rows(path, "offset", (offset >= 0) & (offset < 1e6), "seconds in a sound", offset)
        _, first = np.unique(order, return_index=True)
        once = np.isin(np.arange(len(order)), first)
        _require_rows(path, "Order", once & (order >= 1), "numbers from 1, each once", order)
        ends = {int(k): float(offset[segment == k].max()) for k in np.unique(segment)}
        return cls(path, order, segment, onset, ends)

    @property
    def missing(self) -> Iterator[str]:
        """In words."""
        if len(self.order) < WORDS:
            yield f"{self.path.name}: {len(self.order)} of {WORDS} words"
        if gone := sorted({*range(1, SEGMENTS + 1)} - self.ends.keys()):
            yield f"{self.path.name}: no words of segments {ranges(gone)}"


def _cells(path: Path) -> list[dict[str, str]]:
    # Latin-1: any byte is a character of it, and words are not looked at.
    content = path.read_bytes().decode("latin-1").removeprefix("\u00ef\u00bb\u00bf")
    try:
        head, *rows = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row]
    except (csv.Error, ValueError) as error:
        raise BadInput(path, "content", "a table with commas and a row of names", error) from error
    for place, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise BadInput(path, f"row {place}", f"{len(head)} cells", len(row))
    names = [name.strip() for name in head]
    for name in ("Order", "Segment", "onset", "offset"):
        if names.count(name) != 1:
            raise BadInput(path, "columns", f"{name!r}, once", ", ".join(names))
    if not rows:
        raise BadInput(path, "words", "at least one", "none")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _column(path: Path, rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float64]:
    made = np.empty(len(rows))
    for place, row in enumerate(rows):
        try:
            made[place] = float(row[name].replace("_", "?"))  # Python reads 1_0 as 10
        except ValueError as error:
            raise BadInput(path, f"{name} of row {place + 1}", "a number", repr(row[name])) from error
    _require_rows(path, name, np.isfinite(made), "finite numbers", made)
    return made


def _whole_column(path: Path, rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.int64]:
    found = _column(path, rows, name)
    _require_rows(path, name, (found == np.rint(found)) & (np.abs(found) < FARTHEST), "whole numbers", found)
    return found.astype(np.int64)


def _require_rows(path: Path, name: str, good: NDArray[np.bool_], expected: str, found: NDArray[Any]) -> None:
    """Refuse the first row that is not good."""
    if not good.all():
        row = int(np.argmin(good))
        raise BadInput(path, f"{name} of row {row + 1}", expected, f"{found[row]:g}")


@dataclass(frozen=True)
class _Person:
    """What a file of ``proc`` tells: ``starts`` of segments in samples of the EEG (of which the first is 0; may lie
    between two), bad channels, the ``last`` sample that is a word's, and, in words, what is ``missing``, what was
    decided, and why the triggers are in doubt."""

    number: int
    path: Path
    starts: Mapping[int, float]
    bad: tuple[str, ...]
    last: int
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the files are named."""
        return f"S{self.number:02d}"

    @classmethod
    def read(cls, number: int, path: Path, words: _Words, steps: Brennan2019Steps) -> _Person:
        """Raises BadInput for a file that is not of ``proc``, and rows that do not belong to the table of words."""
        proc = matlab(path, ("proc",))["proc"]
        trl = _Trl.read(path, proc)
        rows = trl.rows(words, steps.join)
        segment, estimates = words.segment[rows], trl.estimates(words.onset[rows], steps.onset)
        found = {int(k): float(np.median(estimates[segment == k])) for k in np.unique(segment)}
        off = np.abs(estimates - [found[int(k)] for k in segment]) / EEG_RATE
        doubts = [*_scattered(segment, off, steps.tolerance), *_overlapping(found, words.ends)]
        bad, lists = _bad(path, proc, steps.bad_lists)
        name = f"S{number:02d}"
        told = [*_told(off, steps.tolerance), *lists, *_contradictions(path, proc, name, len(rows))]
        missing, notes = (
            tuple(f"{name}: {text}" for text in texts) for texts in (_gone(found, len(rows), words), told)
        )
        starts = {k: start for k, start in found.items() if round(start) >= 0}
        return cls(number, path, starts, bad, trl.last, missing, notes, tuple(doubts))


def _gone(found: Mapping[int, float], count: int, words: _Words) -> Iterator[str]:
    if count < len(words.order):
        yield f"proc.trl has {count} of {len(words.order)} words"
    if gone := sorted(words.ends.keys() - found.keys()):
        yield f"no words of segments {ranges(gone)}"
    for k, start in found.items():
        if round(start) < 0:
            yield f"no segment {k}: it begins {-start / EEG_RATE:.3f} s before the EEG"


def _scattered(segment: NDArray[np.int64], off: NDArray[np.float64], tolerance: float) -> Iterator[str]:
    """Segments whose words contradict each other."""
    for k in np.unique(segment):
        far = off[segment == k] > tolerance
        if far.mean() > MOST_OFF:
            yield f"{far.sum()} of {len(far)} words of segment {k} lie elsewhere than the others say"


def _overlapping(found: Mapping[int, float], ends: Mapping[int, float]) -> Iterator[str]:
    """Segments that begin before the one before has ended."""
    known = sorted(found)
    for before, after in zip(known, known[1:], strict=False):
        gap = (found[after] - found[before]) / EEG_RATE - ends[before]
        if gap < -OVERLAP:
            yield f"segment {after} begins {-gap:.3f} s before the end of segment {before}"


def _told(off: NDArray[np.float64], tolerance: float) -> Iterator[str]:
    if count := int((off > tolerance).sum()):
        yield f"{count} of {len(off)} words lie elsewhere than their segment's others say, by {off.max():.3f} s at most"


def _contradictions(path: Path, proc: Any, name: str, rows: int) -> Iterator[str]:
    """What else a file says of itself. Raises BadInput for one that is another person's."""
    if (given := _optional(path, proc, "subject")) is not None:
        found = text(path, given, "proc.subject")
        if found != name and re.fullmatch(r"S\d\d", found):
            raise BadInput(path, "proc.subject", f"{name}, as the file is named", found)
        if found != name:
            yield f"proc.subject is {found!r}"
    if (given := _optional(path, proc, "tot_trials")) is not None:
        total = number(path, given, "proc.tot_trials")
        if total != rows:
            yield f"proc.tot_trials is {total:g}, and proc.trl has {rows} rows"


@dataclass(frozen=True)
class _Trl:
    """FieldTrip's matrix of epochs, a row a word: first sample (the file's first is 1), samples from the word to it
    (negative), and, by Order and segment, which word it is, where the file says."""

    path: Path
    start: NDArray[np.float64]
    offset: NDArray[np.float64]
    order: NDArray[np.float64] | None
    segment: NDArray[np.float64] | None

    @classmethod
    def read(cls, path: Path, proc: Any) -> _Trl:
        """Raises BadInput for another shape than its names of columns, and numbers that are not whole."""
        matrix = np.asarray(only(path, field(path, proc, "trl"), "proc.trl"))
        names = _list(path, field(path, proc, "varnames"), "proc.varnames")
        if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "iuf":
            raise BadInput(path, "proc.trl", "numbers [words, columns]", f"{matrix.dtype} {list(matrix.shape)}")
        if matrix.shape[1] < 3 or len(names) not in (matrix.shape[1] - 3, matrix.shape[1]):
            expected = f"3 and {len(names)} more columns, as proc.varnames has names"
            raise BadInput(path, "proc.trl", expected, list(matrix.shape))
        # Some files may have names of the first three columns too.
        names = [*[""] * (matrix.shape[1] - len(names)), *(name.casefold() for name in names)]
        for name in KEYS:
            if names[3:].count(name) > 1:
                raise BadInput(path, "proc.varnames", f"{name!r} once", ", ".join(names))
        known = {name: _samples(path, matrix[:, k], name) for k, name in enumerate(names) if k > 2 and name in KEYS}
        start, offset = (_samples(path, matrix[:, k], name) for k, name in ((0, "start"), (2, "offset")))
        return cls(path, start, offset, known.get("order"), known.get("segment"))

    @property
    def last(self) -> int:
        """The sample of the last word; the file's first is 0."""
        return int(np.max(self.start - 1 - self.offset))

    def estimates(self, onset: NDArray[np.float64], by: str) -> NDArray[np.float64]:
        """Where the sound that has the words at ``onset`` seconds begins, by each of them: samples, the first is 0."""
        if by == "epoch":
            return self.start - onset * EEG_RATE
        rounded_up = [math.ceil(each * EEG_RATE) for each in onset]
        return self.start - 1 - self.offset - np.array(rounded_up, np.float64)

    def rows(self, words: _Words, join: str) -> NDArray[np.intp]:
        """The row of the table for each of its own. Raises BadInput when there is none, or it is of another segment."""
        found = self._by_row(words) if join == "row" else self._by_order(words)
        if self.segment is not None:
            same = self.segment == words.segment[found]
            _require_rows(self.path, "proc.trl: segment", same, f"that of {words.path.name}", self.segment)
        return found

    def _by_row(self, words: _Words) -> NDArray[np.intp]:
        if len(self.start) != len(words.order):
            expected = f"{len(words.order)} rows, as {words.path.name} has (or --set join=order)"
            raise BadInput(self.path, "proc.trl", expected, len(self.start))
        return np.arange(len(self.start))

    def _by_order(self, words: _Words) -> NDArray[np.intp]:
        if self.order is None:
            raise BadInput(self.path, "proc.varnames", "Order (or --set join=row)", "no column of that name")
        known = np.isin(self.order, words.order)
        _require_rows(self.path, "proc.trl: Order", known, f"one of {words.path.name}", self.order)
        _, first = np.unique(self.order, return_index=True)
        once = np.isin(np.arange(len(self.order)), first)
        _require_rows(self.path, "proc.trl: Order", once, "a word used once", self.order)
        sorting = np.argsort(words.order)
        return np.asarray(sorting[np.searchsorted(words.order, self.order, sorter=sorting)])


def _samples(path: Path, column: NDArray[Any], name: str) -> NDArray[np.float64]:
    """A column of whole numbers. Raises BadInput."""
    found = column.astype(np.float64)
    good = np.abs(found) < FARTHEST  # not so of what is no number
    _require_rows(path, f"proc.trl: {name}", good & (found == np.rint(found)), "whole numbers", found)
    return found


def _bad(path: Path, proc: Any, lists: str) -> tuple[tuple[str, ...], list[str]]:
    """Sensors that the authors found bad, and what there is to tell of their lists. Raises BadInput."""
    found, told = set[str](), list[str]()
    for kind, name in (("impedence", "impedence.bads"), ("rejections", "rejections.badchans")):
        if lists not in ("both", kind):
            continue
        value = _optional(path, proc, name)
        if value is None:
            told.append(f"no proc.{name}")
        else:
            found |= {*_list(path, value, f"proc.{name}")} - {""}
    others = sorted(found - {*SENSORS})
    told += [f"bad channels that are no sensors: {', '.join(others)}"] if others else []
    return tuple(name for name in SENSORS if name in found), told


def _list(path: Path, value: Any, label: str) -> list[str]:
    """Texts of a cell or of rows of characters; one text is a list of one, and an empty matrix of none."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        # A cell may be empty, or hold one cell with all of it.
        inner = elements(path, value, label) if isinstance(value, np.ndarray) else [value]
        nested = len(inner) == 1 and isinstance(inner[0], np.ndarray) and inner[0].dtype.kind == "O"
        return _list(path, inner[0], label) if nested else [text(path, each, label) for each in inner]
    if array.dtype.kind == "U":
        return [str(each).strip() for each in array.reshape(-1)]
    if array.size:
        raise BadInput(path, label, "texts", f"{array.dtype} {list(array.shape)}")
    return []


def _optional(path: Path, struct: Any, name: str) -> Any:
    """A field, or None where there is none."""
    try:
        return field(path, struct, name)
    except BadInput:
        return None


def _brainvision(path: Path) -> Blocks:
    """EEG [60, T] of release 2. Raises BadInput."""
    blocks = MneBlocks(path, SENSORS)
    if blocks.rate != EEG_RATE:
        raise BadInput(path, "rate", f"{EEG_RATE} Hz", f"{blocks.rate:g} Hz")
    return blocks


def _fieldtrip(path: Path) -> Blocks:
    """EEG [60, T] of release 1.

    Raises:
        BadInput: a file that is not FieldTrip's, another rate, channels that are missing, units that are no volts,
            more than one stretch of EEG; and, as they are read, samples that are not finite.
    """
    raw = matlab(path, ("raw",))["raw"]
    for name in ("hdr.Fs", "fsample"):
        _require_number(path, raw, name, EEG_RATE)
    names = _list(path, field(path, raw, "label"), "raw.label")
    trial = np.asarray(only(path, field(path, raw, "trial"), "raw.trial"))
    if trial.ndim != 2 or trial.dtype.kind not in "iuf" or len(trial) != len(names) or not trial.size:
        raise BadInput(path, "raw.trial", f"numbers [{len(names)}, samples]", f"{trial.dtype} {list(trial.shape)}")
    _require_one_stretch(path, raw, trial.shape[1])
    picks = [_once(path, names, name) for name in SENSORS]
    consecutive = picks == [*range(picks[0], picks[0] + len(picks))]
    eeg = trial[picks[0] : picks[0] + len(picks)] if consecutive else trial[picks]
    return _Finite(eeg, EEG_RATE, path, _unit(path, raw))


class _Finite(ArrayBlocks):
    """Refuses samples that are read and not finite; beyond the segments there may be some."""

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin], microvolt. Raises BadInput."""
        block = super().read(begin, end)
        if not np.isfinite(block).all():
            raise BadInput(self.where, "raw.trial", "finite samples", "NaN or infinite ones")
        return block


def _require_one_stretch(path: Path, raw: Any, count: int) -> None:
    """What a file says of its length, where it does, has to be so: else words lie elsewhere."""
    for name, expected in (("hdr.nSamples", count), ("hdr.nSamplesPre", 0), ("hdr.nTrials", 1)):
        if _optional(path, raw, name) is not None:
            _require_number(path, raw, name, expected)
    if (given := _optional(path, raw, "sampleinfo")) is not None:
        found = np.asarray(only(path, given, "raw.sampleinfo"))
        if found.dtype.kind not in "iuf" or found.reshape(-1).tolist() != [1, count]:
            raise BadInput(path, "raw.sampleinfo", [1, count], found.reshape(-1)[:4].tolist())
    if (given := _optional(path, raw, "time")) is not None:
        time = np.asarray(only(path, given, "raw.time")).reshape(-1)
        straight = time.dtype.kind in "iuf" and time.size == count
        if not straight or not np.max(np.abs(time - np.arange(count) / EEG_RATE)) < 0.5 / EEG_RATE:
            raise BadInput(path, "raw.time", f"{count} samples from 0 s on, at {EEG_RATE} Hz", "others")


def _require_number(path: Path, raw: Any, name: str, expected: float) -> None:
    found = number(path, field(path, raw, name, "raw"), f"raw.{name}")
    if found != expected:
        raise BadInput(path, f"raw.{name}", expected, f"{found:g}")


def _once(path: Path, names: Sequence[str], name: str) -> int:
    if names.count(name) != 1:
        expected = f"{len(SENSORS)} sensors, {SENSORS[0]} to {SENSORS[-1]} without 29"
        raise BadInput(path, "raw.label", expected, f"{names.count(name)} of the name {name!r}")
    return names.index(name)


def _unit(path: Path, raw: Any) -> float:
    """Microvolt of one unit of the sensors, which have to have the same."""
    names = _list(path, field(path, raw, "hdr.label"), "raw.hdr.label")
    units = _list(path, field(path, raw, "hdr.chanunit"), "raw.hdr.chanunit")
    if len(units) != len(names):
        raise BadInput(path, "raw.hdr.chanunit", f"{len(names)}, as raw.hdr.label has", len(units))
    found = {unit for name, unit in zip(names, units, strict=True) if name in SENSORS}
    if len(found) != 1 or not found <= UNITS.keys():
        raise BadInput(path, "raw.hdr.chanunit", "one unit of all sensors, uV", ", ".join(sorted(found)) or "none")
    return UNITS[found.pop()]
