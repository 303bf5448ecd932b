"""The HDF5 windows on which NeuroCodec, BASEN and M3ANet are trained, made of the Cocktail Party data by their script.

::

    {eegs,noisy,clean,unattended,subjects}_{train,val,test}.h5      one data set each, "<file>=" (or without the "=")

    eegs_                (N, 256 k, C)       float64    128 Hz, C electrodes, 128 as published
    noisy_, clean_,      (N, 87552 k, 1)     float32    44.1 kHz; clean_ is the attended talker
    unattended_          or (N, 88200 k, 1)
    subjects_            (N,)                int64      1 to 33, as in the raw files

k is 1 for rows of 2 s, 10 for 20 s and 30 for 60 s. The files lie in one folder, or in its folders ``train``, ``val``
and ``test``; that folder itself may be named, or one above it (``Normalized``) if there is but one such folder in it.
Nothing of this can be downloaded: ``preprocessed_to_h5_new.py`` makes it, or this package's ``write_hdf5``.

Traps:

- **The drift.** The script cuts a run of 60 s into rows of 256 samples of EEG, 2 s, and of 87,552 samples of sound,
  1.98531 s. Row i of a run pairs sound with EEG that is 14.7 i ms later, 0.43 s at the end of a run. Which row of its
  run a row was is not stored, so that this cannot be undone; ``cocktail-party-corrected``, made from the raw files, has
  none of it. Rows of 88,200 samples, U-BESD's, do not drift. A trial is as long as EEG and sound both last.
- **The unit of the EEG.** The script divides by the largest magnitude in ``eegs_train``; NeuroCodec reads volts from
  files of the same names. The largest magnitude decides (``LEVELS``): up to 0.01 are volts, about 1 is normalised, 50
  and more are microvolt; whatever lies between is refused. ``eeg_unit`` says otherwise.
- Sounds have gains of their own, and ``noisy`` is none of their sum: it is not used, the suite mixes anew. Where it is
  there its rows have to be as many.
- Rows are permuted within a part; run, story and place in the run are lost. A sound that several subjects heard is
  the same bytes, and is stored once.
- Other numbers of electrodes than 128 ("reduced" copies) come without their names: ``sensors`` has to name them.

What is not certain: which talker was attended is decided by the files: ``clean`` is "20000" for subjects up to 17,
"Journey" for others, by the script's table, which another table contradicts for 16 of 33 people. Speakers are named by
the same table. That 128 electrodes are in BioSemi's order, A1 to D32, is not said in the files (``sensors``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from eeg2speech.data.preparation.blocks import Array
from eeg2speech.data.preparation.hdf5file import DataSet, data_sets
from eeg2speech.data.preparation.montages import montage, placed
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Reference, Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.cocktail_party_files import CHANNELS, EEG_RATE, RAW_RATE, attended_story, other_story
from eeg2speech.data.types import Sensors, StudyFacts
from eeg2speech.errors import BadInput

NEEDED, KINDS = ("eegs", "clean", "subjects"), ("eegs", "noisy", "clean", "unattended", "subjects")
PARTS = {"train": "train", "val": "valid", "test": "test"}
"""Parts as files have them, and as a store has them."""
RUNS = {"train": 23, "val": 2, "test": 5}
"""Runs of each subject in a part."""
SUBJECTS, LEFT_OUT = 33, 6
"""Subjects are 1 to 33; the script leaves one out."""
ROW_EEG, ROW_SOUND, ROW_NO_DRIFT, ROWS = 256, 87_552, 88_200, 30
"""Samples of 2 s of EEG; of the sound beside it, as most copies have it and as U-BESD's have it; rows in a run."""
DEPTH = 6
"""Folders in each other in which files are looked for."""
BLOCK = 1 << 25
"""Bytes that are read at a time."""

Unit = Literal["auto", "V", "uV", "normalised"]
LEVELS: dict[Unit, tuple[float, float]] = {"V": (1e-7, 1e-2), "normalised": (0.1, 10.0), "uV": (50.0, 1e6)}
"""Largest magnitudes by which a unit is told: of EEG that is filtered, and cleaned as published."""
WORDS = {"V": "volts", "uV": "microvolt", "normalised": "normalised, without a unit"}
LARGEST_EEG, LARGEST_SOUND = 1e6, 1e3
"""Microvolt, and full scales, that no amplifier and no gain gives: a damaged file has them."""

FACTS = StudyFacts(
    name="neurocodec-hdf5",
    title="Cocktail Party as HDF5 windows of 2 s (NeuroCodec, BASEN, M3ANet)",
    licence="CC0 1.0 (the data; the code that makes the files states none)",
    citation="Broderick, Anderson, Di Liberto, Crosse, Lalor 2018, Current Biology 28:803; windows: NeuroCodec, BASEN",
    doi="10.5061/dryad.070jc",
    how_to_get=(
        "Not a download: make the 15 files {eegs,noisy,clean,unattended,subjects}_{train,val,test}.h5 from the "
        "Cocktail Party data (Dryad 10.5061/dryad.070jc) with NeuroCodec's preprocessed_to_h5_new.py, then "
        "`eeg2speech prepare neurocodec-hdf5 --root FOLDER`"
    ),
    note="real EEG, real speech; two English stories at once, one attended; windows as published, drift included",
    audio_rate=16_000,
    eeg_rate=EEG_RATE,
    known_problems=(
        "rows of 87,552 samples: sound and EEG drift apart by 14.7 ms a row, 0.43 s at the end of a run; the place in "
        "the run is not stored, so it cannot be undone (cocktail-party-corrected has no drift)",
        "a person attends one story in all runs: who listens tells which talker is the target",
        "who attended which story follows the README's table; another table differs for 16 of 33 people",
        "run and story are not stored: parts as published are by run, with all subjects in each",
        "attended and unattended sound have gains of their own, and other ones than the mixture in the files",
        "windows of 2 s are shorter than the filters: set high_pass and low_pass with rows of 20 s alone",
        "normalised EEG has no unit: its microvolts are a convention (normalised_to)",
    ),
    splits=("as published: runs 1, 11, 14, 24, 27 are tested, 22 and 29 valid, all subjects in each part",),
)


@dataclass(frozen=True)
class NeurocodecHdf5Steps(Steps):
    """Settings of this study.

    Args:
        high_pass: none: the authors' band is 0.1 to 45 Hz, and 2 s are too short for another.
        reference: none: the authors' reference is the mean of the mastoids.
        eeg_unit: of the EEG: V, uV or normalised; ``auto`` decides by the largest magnitude.
        normalised_to: microvolt that 1 becomes in normalised EEG: a convention, for its unit is lost.
        sensors: names of the electrodes in the files' order, of BioSemi's 128, as ``A1,A2,B7``; needed where they are
            not 128.
    """

    high_pass: float = 0.0
    reference: Reference = "none"
    eeg_unit: Unit = "auto"
    normalised_to: float = 100.0
    sensors: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.normalised_to <= LARGEST_EEG:
            raise BadInput("settings", "normalised_to", f"microvolt, up to {LARGEST_EEG:g}", self.normalised_to)


def neurocodec_hdf5() -> RawStudy[NeurocodecHdf5Steps]:
    """The study."""
    return RawStudy(FACTS, NeurocodecHdf5Steps, source)


def source(root: Path, steps: NeurocodecHdf5Steps) -> Source:
    """The windows in a folder: an item for each part and subject, a take for each row.

    The EEG is read once to find its unit, unless ``eeg_unit`` tells it.

    Raises:
        BadInput: no folder with such files, or several; a file that is missing or damaged, or has another shape than
            the others ask for; EEG of no known unit; electrodes without names.
    """
    home, files = _found(root)
    parts = [_Part.read(name, files[name]) for name in PARTS if name in files]
    sensors = _sensors(parts, steps.sensors)
    unit, told = _unit(parts, steps)
    scale = {"V": 1e6, "uV": 1.0, "normalised": steps.normalised_to}[unit]
    items = tuple(item for part in parts for item in part.items(scale))
    notes = (told, *_notes(home, parts))
    return Source(sensors, items, missing=tuple(_missing(parts)), notes=notes)


Files = dict[str, Path]
"""By kind."""


def _found(root: Path) -> tuple[Path, dict[str, Files]]:
    """The folder with the files, and these by part."""
    folders = _folders(root) if root.is_dir() else {}
    if not folders:
        raise BadInput(root, "files", "eegs_train.h5, clean_train.h5, subjects_train.h5 and so on", "none")
    if root not in folders and len(folders) > 1:
        names = ", ".join(str(folder.relative_to(root)) for folder in folders)
        raise BadInput(root, "files", "one folder with the HDF5 files: name the one that is meant", names)
    return (root, folders[root]) if root in folders else next(iter(folders.items()))


def _folders(root: Path) -> dict[Path, dict[str, Files]]:
    """By folder, part and kind; what lies in folders named after parts counts as lying in the one that holds them."""
    found = dict[Path, dict[str, Files]]()
    for name, below, files in os.walk(root):
        folder = Path(name)
        home = folder.parent if folder != root and folder.name in (*PARTS, "valid") else folder
        for path in (folder / file for file in sorted(files)):
            named = re.fullmatch(rf"({'|'.join(KINDS)})_({'|'.join(PARTS)})\.h5", path.name)
            if named is not None and path.is_file():
                kinds = found.setdefault(home, {}).setdefault(named[2], {})
                if named[1] in kinds:
                    raise BadInput(home, path.name, "one file of that name", f"{kinds[named[1]]} and {path}")
                kinds[named[1]] = path
        below[:] = sorted(below) if len(folder.relative_to(root).parts) < DEPTH else []
    return found


def _data_set(path: Path) -> DataSet:
    """The one that the file is named after, else the only one."""
    found = data_sets(path)
    for key in (f"{path.stem}=", path.stem):
        if key in found:
            return found[key]
    if len(found) != 1:
        raise BadInput(path, "content", f"one data set, {path.stem}=", ", ".join(found) or "none")
    return next(iter(found.values()))


@dataclass(frozen=True)
class _Part:
    """The rows of ``train``, ``val`` or ``test``: data sets by kind, and whose rows they are."""

    name: str
    data: Mapping[str, DataSet]
    subjects: Array

    @classmethod
    def read(cls, name: str, files: Files) -> _Part:
        """Of files whose headers agree; the subjects are read."""
        for kind in NEEDED:
            if kind not in files:
                path = next(iter(files.values())).parent / f"{kind}_{name}.h5"
                raise BadInput(
                    path, "file", f"{', '.join(NEEDED)} of each part, for nothing else tells it", "no such file"
                )
        data = {kind: _data_set(files[kind]) for kind in KINDS if kind in files}
        _require_shapes(data)
        return cls(name, data, _subjects(data["subjects"]))

    @property
    def electrodes(self) -> int:
        """C."""
        return self.data["eegs"].shape[2]

    @property
    def pieces(self) -> int:
        """Of 2 s in a row."""
        return self.data["eegs"].shape[1] // ROW_EEG

    @property
    def sound(self) -> int:
        """Samples of sound in a row."""
        return self.data["clean"].shape[1]

    def items(self, scale: float) -> Iterator[Item]:
        """An item for each subject."""
        files = tuple(data.path for kind, data in self.data.items() if kind != "noisy")
        for subject in np.unique(self.subjects).tolist():
            takes = partial(self._takes, subject, scale)
            yield Item(f"{PARTS[self.name]}-S{subject:02d}", f"S{subject:02d}", files, takes)

    def _takes(self, subject: int, scale: float) -> Iterator[Take]:
        attended = attended_story(subject, "readme")
        for row in np.flatnonzero(self.subjects == subject).tolist():
            eeg = _Row(self.data["eegs"], row, EEG_RATE, LARGEST_EEG, scale)
            clean = self._speech("clean", row, attended)
            other = self._speech("unattended", row, other_story(attended)) if "unattended" in self.data else None
            part = PARTS[self.name]
            yield Take(f"{part}-S{subject:02d}-{row:05d}", eeg, clean, other, part=part)

    def _speech(self, kind: str, row: int, speaker: str) -> Speech:
        blocks = _Row(self.data[kind], row, RAW_RATE, LARGEST_SOUND)
        digest = hashlib.sha256(self.data[kind].rows(row, row + 1).tobytes()).hexdigest()[:32]
        # No files here: a hash of the whole file for each row of it. The item names them.
        return Speech(f"{kind}-{digest}", lambda: blocks, speaker=speaker, language="en")


@dataclass(frozen=True)
class _Row:
    """A row [N, C] as blocks [C, N]. Raises BadInput for what is not finite, or beyond ``largest`` once scaled."""

    data: DataSet
    row: int
    rate: float
    largest: float
    scale: float = 1.0

    @property
    def channels(self) -> int:
        """C."""
        return self.data.shape[2]

    @property
    def samples(self) -> int:
        """N."""
        return self.data.shape[1]

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin], scaled."""
        found = self.data.part(self.row, begin, end)
        block = found.astype(found.dtype.newbyteorder("=")).T
        _require_magnitude(_largest(block), self.largest / self.scale, f"{self.data.path}: row {self.row}")
        scaled: Array = block if self.scale == 1.0 else block * self.scale
        return scaled


def _largest(block: Array) -> float:
    """Magnitude; NaN where there is one in it."""
    return float(max(block.max(initial=0.0), -block.min(initial=0.0)))


def _require_magnitude(found: float, largest: float, where: object) -> None:
    # Of NaN it is not true either.
    if not found <= largest:
        raise BadInput(where, "samples", f"finite ones, up to {largest:g}", f"{found:g}")


def _require_shapes(data: Mapping[str, DataSet]) -> None:
    """As many rows in all files, rows of as many seconds, numbers of the kind that each should have."""
    eeg = data["eegs"]
    _require(eeg, "f", len(eeg.shape) == 3 and eeg.shape[1] % ROW_EEG == 0, f"(rows, {ROW_EEG} k, electrodes)")
    _require(eeg, "f", eeg.shape[1] <= ROW_EEG * ROWS and eeg.shape[2] <= CHANNELS, f"k to {ROWS}, electrodes to 128")
    rows, pieces = eeg.shape[0], eeg.shape[1] // ROW_EEG
    lengths = [pieces * length for length in (ROW_SOUND, ROW_NO_DRIFT)]
    clean = data["clean"]
    shapes = [(rows, length, 1) for length in lengths]
    _require(
        clean, "f", clean.shape in shapes, f"{_plain(shapes[0])} or {_plain(shapes[1])}, as {eeg.path.name} asks for"
    )
    for kind in ("noisy", "unattended"):
        if kind in data:
            _require(data[kind], "f", data[kind].shape == clean.shape, f"{_plain(clean.shape)}, as {clean.path.name}")
    _require(data["subjects"], "iu", data["subjects"].shape == (rows,), f"({rows}), whole numbers")


def _require(data: DataSet, kinds: str, right: bool, expected: str) -> None:
    if not right or data.dtype.kind not in kinds:
        raise BadInput(data.path, "shape", expected, f"{data.dtype.name} {_plain(data.shape)}")


def _plain(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _subjects(data: DataSet) -> Array:
    found = data.rows(0, data.shape[0])
    wrong = np.flatnonzero((found < 1) | (found > SUBJECTS))
    if len(wrong):
        where = f"{data.path}: row {wrong[0]}"
        raise BadInput(where, "subject", f"1 to {SUBJECTS}, as in the raw files", found[wrong[0]])
    return found


def _sensors(parts: Sequence[_Part], given: str) -> Sensors:
    where, count = parts[0].data["eegs"].path, parts[0].electrodes
    for part in parts[1:]:
        if part.electrodes != count:
            raise BadInput(part.data["eegs"].path, "electrodes", f"{count}, as {where.name}", part.electrodes)
    names = [name.strip() for name in given.split(",")] if given.strip() else []
    if not names and count != CHANNELS:
        expected = f"{CHANNELS}, or the names of the {count} in order: --set sensors=A1,A2,... (of BioSemi's 128)"
        raise BadInput(where, "electrodes", expected, f"{count} without names")
    found = placed(names, "biosemi128", "settings: sensors") if names else montage("biosemi128")
    if len(found) != count or len({*found.names}) != count:
        raise BadInput("settings", "sensors", f"{count} different names, as {where.name} has electrodes", given)
    return found


def _unit(parts: Sequence[_Part], steps: NeurocodecHdf5Steps) -> tuple[Unit, str]:
    """The EEG's unit, and the sentence that tells it."""
    if steps.eeg_unit != "auto":
        return steps.eeg_unit, f"EEG is {_in_words(steps.eeg_unit, steps)}, as set"
    # What was normalised has its 1 in train; other parts may go beyond.
    asked = [part.data["eegs"] for part in parts if part.name == "train"] or [part.data["eegs"] for part in parts]
    largest, names = max(map(_largest_of, asked)), " and ".join(data.path.name for data in asked)
    for unit, (low, high) in LEVELS.items():
        if low <= largest <= high:
            return unit, f"EEG is {_in_words(unit, steps)}: the largest magnitude in {names} is {largest:.4g}"
    expected = "; ".join(f"{WORDS[unit]} {low:g} to {high:g}" for unit, (low, high) in LEVELS.items())
    hint = "or set eeg_unit=V, uV or normalised"
    raise BadInput(asked[0].path, "EEG's largest magnitude", f"{expected} ({hint})", f"{largest:.4g}")


def _in_words(unit: Unit, steps: NeurocodecHdf5Steps) -> str:
    convention = f", 1 taken for {steps.normalised_to:g} microvolt" if unit == "normalised" else ""
    return f"{WORDS[unit]}{convention}"


def _largest_of(data: DataSet) -> float:
    """Magnitude in all rows."""
    size = data.shape[1] * data.shape[2] * data.dtype.itemsize
    count = max(BLOCK // size, 1)
    largest = 0.0
    for begin in range(0, data.shape[0], count):
        end = min(begin + count, data.shape[0])
        found = _largest(data.rows(begin, end))
        _require_magnitude(found, LARGEST_EEG, f"{data.path}: rows {begin} to {end - 1}")
        largest = max(largest, found)
    return largest


def _notes(home: Path, parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if "unattended" not in part.data:
            yield f"{part.name}: no unattended_{part.name}.h5: its trials have the attended talker alone"
        if part.sound == ROW_SOUND * part.pieces:
            seconds = f"{part.sound / RAW_RATE:.5f} s of sound beside {2 * part.pieces} s of EEG"
            yield f"{part.name}: rows have {seconds}: they drift apart within a run, and it cannot be undone"
    if "fbc" in home.parts:
        yield "the folder is named fbc: what its files call EEG is a measure of coupling made of it"


def _missing(parts: Sequence[_Part]) -> Iterator[str]:
    for name in PARTS:
        if name not in {part.name for part in parts}:
            yield f"no files of {name}"
    for part in parts:
        whole = (SUBJECTS - 1) * RUNS[part.name] * ROWS // part.pieces
        if len(part.subjects) < whole:
            yield f"{part.name}: {len(part.subjects)} of up to {whole} rows"
    there = {int(subject) for part in parts for subject in np.unique(part.subjects)}
    if gone := sorted({*range(1, SUBJECTS + 1)} - there - {LEFT_OUT}):
        yield f"no rows of subject {', '.join(map(str, gone))}"
