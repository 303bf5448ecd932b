"""The HDF5 windows of NeuroCodec, BASEN and M3ANet, made from the Cocktail Party data (Broderick et al. 2018).

::

    FOLDER/{eegs,clean,unattended,noisy,subjects}_{train,val,test}.h5         all in one folder, or
    FOLDER/train/..._train.h5, FOLDER/val/..., FOLDER/test/..._test.h5         a folder for each part

One data set a file, named after it with or without a literal ``=`` (``clean_train=``). Sound is [N, T, 1] at 44.1
kHz, EEG [N, M, C] at 128 Hz, time first; rows of all files belong together. Windows of 2 s have 87,552 or 88,200
samples of sound and 256 of EEG; those of 20 and 60 s ten and thirty times as many. Where there are several preparations
(``2s/fbc/new``, ``20s/eeg/new``), name the folder of one.

Traps:

- **The drift.** 87,552 samples last 1.98531 s, the EEG beside them 2 s, and both were cut from a minute one after the
  other: window i of it has its sound 14.7 ms times i too early against its EEG, up to 0.43 s. Which window of its
  minute a row is, is not stored, so this cannot be undone here: a trial is as long as both last. Rows of 88,200 samples
  have no drift. ``cocktail-party-corrected`` makes the same windows right.
- **The unit of the EEG is not stored.** The script that writes the files divides by the largest number of the training
  part; a reader of the files takes them for volts. The rule here (``eeg_unit`` overrides it, the store tells): of the
  training part's largest absolute number, up to 0.01 means volts, 0.5 to 1.0001 means divided by the largest, 1.5 to
  1e5 microvolt; anything else is refused. What was divided is multiplied by ``full_scale``, 100 microvolt: the numbers
  are then not microvolt, only of their size.
- Clean, unattended and noisy sound have gains of their own, not stored. The mixture is not read: the suite mixes anew.
- Who attended what follows the script, that is the README's table, which another one contradicts for 16 of 33 subjects.
- Story and run of a row are not stored: the same speech is known by its samples alone, and stands in rows of many
  subjects of a part. The parts are ``given``; no other split keeps speech apart for certain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from eeg2speech.data.preparation.blocks import ArrayBlocks, Blocks
from eeg2speech.data.preparation.montages import montage, placed
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.types import Sensors, StudyFacts
from eeg2speech.errors import BadInput

SOUND_RATE, EEG_RATE, CAP = 44_100, 128, 128
PARTS = {"train": "train", "val": "valid", "test": "test"}
"""Parts as the files are named, and as the suite names them."""
NEEDED, SOUNDS = ("eegs", "clean", "subjects"), ("clean", "unattended", "noisy")
WINDOWS = {length * times: 2 * times for length in (87_552, 88_200) for times in (1, 10, 30)}
"""Samples of sound in a window, and the seconds of EEG beside them."""
UNITS: dict[str, float] = {"V": 1e6, "uV": 1.0}
FACTS = StudyFacts(
    name="neurocodec-hdf5",
    title="Windows of the Cocktail Party data in HDF5, as NeuroCodec, BASEN and M3ANet read them",
    licence="CC0 1.0 (that of the Cocktail Party data)",
    citation="Broderick, Anderson, Di Liberto, Crosse, Lalor 2018, Current Biology 28:803; windows: BASEN",
    doi="10.5061/dryad.070jc",
    how_to_get="these files are not published: the scripts of BASEN, M3ANet or NeuroCodec make them from the Cocktail "
    "Party data; then `eeg2speech prepare neurocodec-hdf5 --root FOLDER`, the folder with the files",
    note="real EEG, real speech; windows as published code cuts them, errors included",
    audio_rate=16_000,
    eeg_rate=EEG_RATE,
    known_problems=(
        "sound and EEG drift apart by up to 0.43 s in windows of 87,552 samples, which cannot be undone",
        "the unit of the EEG is decided by its size",
        "a person attends one story in all runs: who listens tells which talker is the target",
        "who attended which story follows one of two tables that differ for 16 of 33 people",
        "the same speech is heard by many subjects in training and test alike, unless the split is `given`",
    ),
    splits=("`given`: runs 27, 11, 1, 14 and 24 of everybody are test, 22 and 29 valid",),
)


@dataclass(frozen=True)
class WindowSteps(Steps):
    """Settings of this study. The files have been filtered and referenced, so nothing of it is done again.

    Args:
        eeg_unit: ``V``, ``uV``, ``normalised``, or ``auto``: by the rule that the module states.
        full_scale: microvolt for 1, of EEG that was normalised.
        sensors: names of the EEG's columns, with commas, of BioSemi's cap of 128; needed where there are not 128.
    """

    high_pass: float = 0.0
    reference: Literal["average", "electrodes", "none"] = "none"
    eeg_unit: Literal["auto", "V", "uV", "normalised"] = "auto"
    full_scale: float = 100.0
    sensors: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.full_scale < float("inf"):
            raise BadInput("settings", "full_scale", "microvolt, more than 0", self.full_scale)


def neurocodec_hdf5() -> RawStudy[WindowSteps]:
    """The study."""
    return RawStudy(FACTS, WindowSteps, source)


def source(root: Path, steps: WindowSteps) -> Source:
    """The files in a folder: an item for each part and subject, a take for each row.

    Raises:
        BadInput: no files or too few, one that is not as the module says, files whose rows do not belong together.
    """
    parts = {name: _Part.find(root, name) for name in PARTS}
    there = {name: part for name, part in parts.items() if part is not None}
    if "train" not in there or "test" not in there:
        found = ", ".join(sorted(path.name for path in root.rglob("*.h5"))[:5]) if root.is_dir() else "no such folder"
        expected = "eegs_train.h5 and eegs_test.h5, in one folder or in train and test"
        raise BadInput(root, "files", expected, found or "none")
    for part in there.values():
        part.require_rows()
    sensors = _sensors(there["train"], steps)
    for part in there.values():
        if part.data("eegs").shape[2] != len(sensors):
            raise BadInput(part.path("eegs"), "columns", f"{len(sensors)}, as in training", part.data("eegs").shape[2])
    scale, note = _scale(there["train"], steps)
    items = [item for part in there.values() for item in _items(part, scale)]
    missing = [f"no files of the part {name!r}" for name in PARTS if name not in there]
    alone = [part.path("unattended").name for part in there.values() if not part.has("unattended")]
    missing += [f"no {name}: its trials have one talker" for name in alone]
    return Source(sensors, tuple(items), missing=tuple(missing), notes=(note,))


@dataclass
class _Part:
    """The files of a part in a folder."""

    folder: Path
    name: str

    @classmethod
    def find(cls, root: Path, name: str) -> _Part | None:
        """In the folder itself or in one named after the part; None where there is no EEG of it."""
        homes = [home for home in (root, root / name, root / PARTS[name]) if (home / f"eegs_{name}.h5").is_file()]
        if len({*homes}) > 1:
            raise BadInput(root, f"eegs_{name}.h5", "one", f"one in {' and one in '.join(map(str, homes))}")
        return cls(homes[0], name) if homes else None

    def path(self, kind: str) -> Path:
        """A file of the part."""
        return self.folder / f"{kind}_{self.name}.h5"

    def has(self, kind: str) -> bool:
        """Whether it is there."""
        return self.path(kind).is_file()

    def data(self, kind: str) -> _Data:
        """What a file holds."""
        return _Data.of(self.path(kind), kind)

    def require_rows(self) -> None:
        """Refuse files that are missing or do not belong together."""
        for kind in NEEDED:
            if not self.has(kind):
                raise BadInput(self.path(kind), "file", f"the {kind} of the part {self.name!r}", "no such file")
        count = self.data("eegs").shape[0]
        for kind in ("subjects", *SOUNDS):
            rows = self.data(kind).shape[0] if self.has(kind) else count
            if rows != count:
                raise BadInput(self.path(kind), "rows", f"{count}, as in {self.path('eegs').name}", rows)
        self._require_lengths()

    def _require_lengths(self) -> None:
        samples = self.data("eegs").shape[1]
        for kind in SOUNDS:
            if not self.has(kind):
                continue
            length = self.data(kind).shape[1]
            if WINDOWS.get(length, 0) * EEG_RATE != samples:
                known = ", ".join(f"{sound} beside {seconds * EEG_RATE}" for sound, seconds in WINDOWS.items())
                raise BadInput(self.path(kind), "samples beside those of EEG", known, f"{length} beside {samples}")

    @cached_property
    def subjects(self) -> list[int]:
        """The subject of each row."""
        data = self.data("subjects")
        numbers = data.read(0, data.shape[0]).reshape(-1)
        if not ((numbers >= 1) & (numbers <= 999) & (numbers == numbers.astype(np.int64))).all():
            found = sorted({*numbers.tolist()})[:5]
            raise BadInput(self.path("subjects"), "subjects", "whole numbers from 1 to 999", found)
        return [int(number) for number in numbers]


@dataclass(frozen=True)
class _Data:
    """The one data set of a file, read by rows."""

    path: Path
    key: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, kind: str) -> _Data:
        """What the file holds, from its header. Raises BadInput for another number of data sets, axes or kind."""
        with _open(path) as file:
            names = [name for name in file if isinstance(file.get(name), h5py.Dataset)]
            if len(names) != 1 or len(names) != len(file):
                raise BadInput(path, "content", f"one data set, {path.stem}= or {path.stem}", ", ".join(file) or "none")
            found: Any = file[names[0]]
            shape, kinds = tuple(map(int, found.shape)), "iuf" if kind == "subjects" else "f"
            expected = {"subjects": "[N]", "eegs": "[N, samples, electrodes]"}.get(kind, "[N, samples, 1]")
            axes = len(shape) == (1 if kind == "subjects" else 3) and 0 not in shape
            if not axes or (kind in SOUNDS and shape[2] != 1) or found.dtype.kind not in kinds:
                raise BadInput(path, names[0], f"numbers {expected}", f"{found.dtype} {list(shape)}")
            if found.nbytes > 2 * path.stat().st_size and found.compression is None:
                raise BadInput(path, names[0], "as many numbers as the file has room for", list(shape))
            return cls(path, names[0], shape)

    def read(self, begin: int, end: int) -> Any:
        """Rows ``begin`` to ``end``, finite. Raises BadInput."""
        with _open(self.path) as file:
            rows = np.asarray(file[self.key][begin:end])
        if not np.isfinite(rows).all():
            raise BadInput(self.path, f"rows {begin} to {end - 1}", "finite numbers", "NaN or infinite ones")
        return rows

    def row(self, number: int, scale: float) -> Blocks:
        """A row as a signal [C, T]."""
        rate = EEG_RATE if self.path.name.startswith("eegs") else SOUND_RATE
        return ArrayBlocks(self.read(number, number + 1)[0].T, rate, f"{self.path}: row {number}", scale)


class _open:
    """A file, whose reader's complaints become refusals."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = h5py.File(self.path, "r")
        except Exception as error:  # a damaged file comes out of the reader as nearly any error
            raise BadInput(self.path, "content", "an HDF5 file", str(error).partition("\n")[0]) from error
        return self.file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        if error is not None and isinstance(error, Exception) and not isinstance(error, BadInput):
            raise BadInput(self.path, "content", "a whole HDF5 file", str(error).partition("\n")[0]) from error


def _sensors(part: _Part, steps: WindowSteps) -> Sensors:
    columns, path = part.data("eegs").shape[2], part.path("eegs")
    if steps.sensors:
        names = [name.strip() for name in steps.sensors.split(",")]
        if len(names) != columns or len({name.casefold() for name in names}) != columns:
            raise BadInput("settings", "sensors", f"{columns} names, one for each column of {path.name}", len(names))
        return placed(names, "biosemi128", "setting sensors")
    if columns != CAP:
        expected = f"{CAP} electrodes, or --set sensors=A1,A2,... with the names of {columns} of BioSemi's cap of {CAP}"
        raise BadInput(path, "columns", expected, columns)
    return montage("biosemi128")


def _scale(part: _Part, steps: WindowSteps) -> tuple[float, str]:
    """Microvolt for one of the file's units, and how that was decided."""
    if steps.eeg_unit != "auto":
        return UNITS.get(steps.eeg_unit, steps.full_scale), f"EEG taken for {steps.eeg_unit}, as told"
    data = part.data("eegs")
    largest = max(float(np.abs(data.read(k, k + 1)).max()) for k in range(data.shape[0]))
    for unit, low, high in (("V", 0.0, 1e-2), ("normalised", 0.5, 1.0001), ("uV", 1.5, 1e5)):
        if low < largest <= high:
            return UNITS.get(unit, steps.full_scale), f"EEG taken for {unit}: its largest number is {largest:.3g}"
    rule = "up to 0.01 (volts), 0.5 to 1 (normalised), 1.5 to 1e5 (microvolt)"
    expected = f"{rule}, or --set eeg_unit=V, uV or normalised"
    raise BadInput(data.path, "largest number of the EEG", expected, f"{largest:g}")


def _items(part: _Part, scale: float) -> Iterator[Item]:
    kinds = [kind for kind in ("eegs", "subjects", "clean", "unattended") if part.has(kind)]
    files = tuple(part.path(kind) for kind in kinds)
    for subject in sorted({*part.subjects}):
        rows = [row for row, number in enumerate(part.subjects) if number == subject]
        name = f"{PARTS[part.name]}-S{subject:02d}"
        yield Item(name, f"Subject{subject:02d}", files, partial(_takes, part, rows, scale))


def _takes(part: _Part, rows: list[int], scale: float) -> Iterator[Take]:
    for row in rows:
        name, eeg = f"{PARTS[part.name]}-{row:05d}", part.data("eegs").row(row, scale)
        other = _speech(part, "unattended", row) if part.has("unattended") else None
        yield Take(name, eeg, _speech(part, "clean", row), other, part=PARTS[part.name])


def _speech(part: _Part, kind: str, row: int) -> Speech:
    """Known by its samples: the same window of a story stands in the rows of many subjects."""
    blocks = part.data(kind).row(row, 1.0)
    key = hashlib.sha256(np.ascontiguousarray(blocks.read(0, blocks.samples)).tobytes()).hexdigest()
    return Speech(key, lambda: blocks, (), title=f"{kind}, {part.name}, row {row}")
