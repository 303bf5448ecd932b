"""KU Leuven auditory attention (Das, Francart, Bertrand 2019, Zenodo 10.5281/zenodo.4004271), from the files.

::

    S1.mat ... S16.mat                                   trials: cell {1x20} of structs, 64 channels, 128 Hz
    stimuli/part{1-4}_track{1,2}_{dry,hrtf}.wav          44.1 kHz, about six minutes
    stimuli/rep_part{1-4}_track{1,2}_{dry,hrtf}.wav      the first two minutes again, for experiment 3

The folder itself or the one that holds it may be named. Of a trial are read: ``RawData.EegData`` [T, 64],
``FileHeader.SampleRate``, ``TrialID``, ``stimuli`` {left, right}, ``attended_ear``, ``attended_track``, and, where they
are there, ``RawData.Channels``, ``FileHeader.Channels(i).Label`` and ``subject``. EEG and sound begin together.

Traps:

- The tracks swap ears between trials: the attended file is that of the attended ear, ``stimuli{1}`` the left one.
- Trials name the file that was played, dry or through head-related transfer functions (hrtf). The authors compute
  envelopes of the dry one whatever was played, and so does this: see ``KuLeuvenSteps.audio``.
- Experiments 1 and 2 have the same sounds, experiment 3 repeats two minutes of them three times in other files. Both
  tracks of a part have its story, so that a split by story keeps all of it together; others do not.
- EEG that ``preprocess_data.m`` has written, at another rate and without its high frequencies, is refused.

What is not certain: that the EEG is in microvolt (``unit``); that its channels are in BioSemi's order where a file has
no names of them (``channels``); that the talker of a track is the same in all parts, as the store says, and that no
story goes on from one part to the next; whether hrtf files are stereo (of stereo the mean is taken). The EEG has been
high-passed at 0.5 Hz by the authors, therefore it is not again: ``high_pass`` is 0 unless told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import ArrayBlocks, SoundBlocks
from eeg2speech.data.preparation.matlab import elements, field, matlab, number, rows, text, variables, whole
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import UnitSteps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

EEG_RATE, SUBJECTS, TRIALS, PARTS, TRACKS = 128, 16, 20, 4, 2
EARS = ("left", "right")
FACTS = StudyFacts(
    name="ku-leuven",
    title="KU Leuven auditory attention detection",
    licence="CC BY-NC 4.0 or CC BY-NC-SA 4.0: sources differ, the record at the DOI says which",
    citation="Das, Francart, Bertrand (2019). Auditory Attention Detection Dataset KULeuven. Zenodo",
    doi="10.5281/zenodo.4004271",
    how_to_get=(
        "Download S1.mat to S16.mat and stimuli.zip from https://doi.org/10.5281/zenodo.4004271 into one folder, then "
        "`eeg2speech prepare ku-leuven --root FOLDER`"
    ),
    note="real EEG, real speech; two Dutch stories at a time, one attended",
    audio_rate=16_000,
    eeg_rate=EEG_RATE,
    known_problems=(
        "no control of the eyes: gaze may tell the attended ear (say the authors)",
        "experiment 3 repeats two minutes of experiment 1 three times, in files of other names: split by story",
        "experiment 1 attends to track 1, experiment 2 to track 2 of the same parts: a split by trial shares speech",
        "the sound is low-passed at 4 kHz",
        "by default the store has the dry sound of all trials; half of them were played through HRTFs",
    ),
    splits=("leave one story out", "leave one subject out", "leave one trial out; random windows are invalid"),
)


@dataclass(frozen=True)
class KuLeuvenSteps(UnitSteps):
    """Settings of this study.

    Args:
        high_pass: none: the authors have high-passed the files at 0.5 Hz.
        audio: ``dry``, the clean speech, as the authors use it, or ``as_heard``, the file that the trial names: of an
            hrtf file with two channels the mean.
        attended: what says who was attended, the ``ear`` or the ``track``. Unless it is told both have to agree.
        channels: the order of the EEG's columns: by the ``labels`` of the file where it has them, BioSemi's where not,
            or BioSemi's ``order`` whatever the file says.
    """

    high_pass: float = 0.0
    audio: Literal["dry", "as_heard"] = "dry"
    attended: Literal["", "ear", "track"] = ""
    channels: Literal["labels", "order"] = "labels"


def ku_leuven() -> RawStudy[KuLeuvenSteps]:
    """The study."""
    return RawStudy(FACTS, KuLeuvenSteps, source)


def source(root: Path, steps: KuLeuvenSteps) -> Source:
    """The study's files in a folder: an item for each subject, whose file is read when its takes are asked for.

    Raises:
        BadInput: a folder without the files of subjects, or with two sets of them; one that MATLAB's reader refuses.
    """
    home, files = _subjects(root)
    sounds = _Sounds.find(root, home)
    items = tuple(_item(number, path, sounds, steps) for number, path in files.items())
    missing = [*_missing_subjects(files), *_missing_trials(files.values()), *sounds.missing(steps.audio)]
    return Source(montage("biosemi64"), items, missing=tuple(missing))


def _item(number: int, path: Path, sounds: _Sounds, steps: KuLeuvenSteps) -> Item:
    return Item(f"S{number}", f"S{number}", (path,), partial(_takes, path, number, sounds, steps))


def _subjects(root: Path) -> tuple[Path, dict[int, Path]]:
    """The folder with the subjects' files, and these by number."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    found = {folder: files for folder in folders if (files := _numbered(folder))}
    if not found:
        raise BadInput(root, "files", "S1.mat to S16.mat, here or one folder below", "none")
    if len(found) > 1 and root not in found:
        raise BadInput(root, "files", "S1.mat to S16.mat in one folder", ", ".join(each.name for each in found))
    return next(iter(found.items()))


def _numbered(folder: Path) -> dict[int, Path]:
    named = ((re.fullmatch(r"S([1-9][0-9]?)\.mat", path.name), path) for path in folder.iterdir() if path.is_file())
    return dict(sorted((int(name[1]), path) for name, path in named if name))


def _missing_subjects(files: Iterable[int]) -> list[str]:
    gone = sorted({*range(1, SUBJECTS + 1)} - {*files})
    return [f"no file of {', '.join(f'S{number}' for number in gone)}"] if gone else []


def _missing_trials(files: Iterable[Path]) -> Iterator[str]:
    """Told from the files' headers."""
    for path in files:
        shapes = variables(path)
        if "trials" not in shapes:
            raise BadInput(path, "variables", "trials", ", ".join(shapes) or "none")
        count = int(np.prod(shapes["trials"], dtype=object))
        if count < TRIALS:
            yield f"{path.stem}: {count} of {TRIALS} trials"


@dataclass(frozen=True)
class _Name:
    """What the name of a stimulus says: ``rep_part1_track2_hrtf.wav``."""

    again: str
    part: int
    track: int
    kind: str

    @property
    def title(self) -> str:
        """Without how it was rendered."""
        return f"{self.again}part{self.part}_track{self.track}"

    def file(self, audio: str) -> str:
        """Of the sound that is wanted."""
        return f"{self.title}_{'dry' if audio == 'dry' else self.kind}.wav"


def _name(path: Path, value: Any, label: str) -> _Name:
    given = text(path, value, label)
    found = re.fullmatch(r"(rep_)?part([1-9][0-9]?)_track([1-9])_(dry|hrtf)(?:\.wav)?", given, re.IGNORECASE)
    if found is None:
        raise BadInput(path, label, "(rep_)partN_trackM_dry.wav or _hrtf.wav", repr(given))
    again, part, track, kind = found.groups(default="")
    return _Name(again.casefold(), int(part), int(track), kind.casefold())


@dataclass(frozen=True)
class _Sounds:
    """The folder of the stimuli, and its files by their names in lower case."""

    folder: Path
    files: dict[str, Path]

    @classmethod
    def find(cls, *homes: Path) -> _Sounds:
        """The first folder ``stimuli`` with sounds in it; where there is none, the one that should be there."""
        inner = [home / name for home in homes for name in ("stimuli", "Stimuli", "stimuli/stimuli", ".")]
        for folder in filter(Path.is_dir, inner):
            if files := {path.name.casefold(): path for path in sorted(folder.iterdir()) if _is_sound(path)}:
                return cls(folder, files)
        return cls(homes[-1] / "stimuli", {})

    def speech(self, name: _Name, audio: str) -> Speech:
        """A stimulus, opened later."""
        file = name.file(audio)
        path = self.files.get(file.casefold(), self.folder / file)
        about = (f"track{name.track}", "nl", name.title, f"part{name.part}")
        return Speech(Path(file).stem, partial(SoundBlocks, path), (path,), *about)

    def missing(self, audio: str) -> Iterator[str]:
        """Sounds of the whole study that are not there, in words."""
        kinds = ("dry",) if audio == "dry" else ("dry", "hrtf")
        names = [
            _Name(again, part, track, kind).file("as_heard")
            for again in ("", "rep_")
            for part in range(1, PARTS + 1)
            for track in range(1, TRACKS + 1)
            for kind in kinds
        ]
        if gone := [name for name in names if name not in self.files]:
            yield f"stimuli: no {', '.join(gone)}"


def _is_sound(path: Path) -> bool:
    return path.suffix.casefold() == ".wav" and path.is_file() and not path.name.startswith(".")


def _takes(path: Path, subject: int, sounds: _Sounds, steps: KuLeuvenSteps) -> Iterator[Take]:
    """Trials of a subject in the file's order; each is let go of when the next is asked for."""
    waiting = elements(path, matlab(path, ("trials",)).pop("trials"), "trials")[::-1]
    count, known = len(waiting), set[str]()
    while waiting:
        label = f"trials{{{count - len(waiting) + 1}}}"
        take = _take(_Trial(path, waiting.pop(), label), subject, sounds, steps)
        if take.id in known:
            raise BadInput(path, f"{label}.TrialID", "a number used once", take.id)
        known.add(take.id)
        yield take


def _take(trial: _Trial, subject: int, sounds: _Sounds, steps: KuLeuvenSteps) -> Take:
    trial.require_subject(subject)
    names = trial.names()
    ear = trial.attended(names, steps.attended)
    if steps.audio == "as_heard":
        trial.require_condition(names)
    eeg = ArrayBlocks(trial.eeg(steps.channels), trial.rate(), f"{trial.path}: {trial.label}", steps.unit)
    heard = [sounds.speech(name, steps.audio) for name in names]
    return Take(f"S{subject}_{trial.id():02d}", eeg, heard[ear], heard[1 - ear], ear=EARS[ear])


@dataclass(frozen=True)
class _Trial:
    """A struct of the cell ``trials``; ``label`` names it in refusals. All that is read of it raises BadInput."""

    path: Path
    struct: Any
    label: str

    def get(self, name: str) -> Any:
        """A field that has to be there."""
        return field(self.path, self.struct, name, self.label)

    def find(self, name: str) -> Any:
        """A field, or None."""
        try:
            return self.get(name)
        except BadInput:
            return None

    def refusal(self, name: str, expected: object, found: object) -> BadInput:
        """Of a field."""
        return BadInput(self.path, f"{self.label}.{name}", expected, found)

    def text(self, name: str) -> str:
        """A field that is text."""
        return text(self.path, self.get(name), f"{self.label}.{name}")

    def id(self) -> int:
        """The trial's number."""
        found = whole(self.path, self.get("TrialID"), f"{self.label}.TrialID")
        if not 1 <= found <= 999:
            raise self.refusal("TrialID", "1 to 999", found)
        return found

    def rate(self) -> int:
        """Hz of the EEG."""
        found = number(self.path, self.get("FileHeader.SampleRate"), f"{self.label}.FileHeader.SampleRate")
        if found != EEG_RATE:
            raise self.refusal("FileHeader.SampleRate", f"{EEG_RATE} Hz, as published", f"{found:g} Hz")
        return EEG_RATE

    def require_subject(self, number: int) -> None:
        """The file's name and its content have to agree."""
        if self.find("subject") is not None and self.text("subject").casefold() != f"s{number}":
            raise self.refusal("subject", f"S{number}, as the file is named", self.text("subject"))

    def names(self) -> tuple[_Name, _Name]:
        """What was played at the left ear and at the right."""
        label = f"{self.label}.stimuli"
        found = elements(self.path, self.get("stimuli"), label)
        if len(found) != 2:
            raise self.refusal("stimuli", "two files, the left ear's and the right's", len(found))
        left, right = (_name(self.path, each, label) for each in found)
        if left.title == right.title:
            raise self.refusal("stimuli", "two talkers", f"{left.title} at both ears")
        return left, right

    def attended(self, names: tuple[_Name, _Name], by: str) -> int:
        """The attended ear, 0 left."""
        ear = self._ear() if by != "track" else None
        track = self._ear_of_track(names) if by != "ear" else None
        if ear is not None and track is not None and ear != track:
            expected = f"the track at the {EARS[ear]} ear, {names[ear].track} (or --set attended=ear or track)"
            raise self.refusal("attended_track", expected, names[track].track)
        return next(each for each in (ear, track) if each is not None)

    def _ear(self) -> int:
        found = self.text("attended_ear")
        if found.upper() not in ("L", "R"):
            raise self.refusal("attended_ear", "L or R", repr(found))
        return "LR".index(found.upper())

    def _ear_of_track(self, names: tuple[_Name, _Name]) -> int:
        track = whole(self.path, self.get("attended_track"), f"{self.label}.attended_track")
        tracks = [name.track for name in names]
        if tracks.count(track) != 1:
            hint = f"one of those played, {tracks[0]} and {tracks[1]} (or --set attended=ear)"
            raise self.refusal("attended_track", hint, track)
        return tracks.index(track)

    def require_condition(self, names: tuple[_Name, _Name]) -> None:
        """What was heard has to be what the files are named after."""
        condition = self.text("condition").casefold()
        kinds = sorted({name.kind for name in names})
        if kinds != [condition]:
            raise self.refusal("condition", f"that of the stimuli, {' and '.join(kinds)}", repr(condition))

    def eeg(self, channels: str) -> NDArray[np.floating]:
        """EEG [64, T] in the file's unit, in BioSemi's order, as the file has it: single precision stays single."""
        wanted = montage("biosemi64").names
        found = rows(self.path, self.get("RawData.EegData"), f"{self.label}.RawData.EegData", len(wanted))
        self._require_columns(len(wanted))
        labels = self._labels(len(wanted)) if channels == "labels" else []
        order = self._order(labels, wanted) if labels else list(range(len(wanted)))
        return found if order == sorted(order) else found[order]

    def _require_columns(self, count: int) -> None:
        given = np.asarray(self.find("RawData.Channels"))
        if given.dtype.kind in "iuf" and given.size and given.ravel().tolist() != list(range(1, count + 1)):
            raise self.refusal("RawData.Channels", f"1 to {count}", f"{given.dtype} {list(given.shape)} of others")

    def _labels(self, count: int) -> list[str]:
        """Names of the columns; none where the file has none."""
        header = self.find("FileHeader.Channels")
        found = [] if header is None else elements(self.path, header, f"{self.label}.FileHeader.Channels")
        label = f"{self.label}.FileHeader.Channels"
        named = [_Trial(self.path, each, label).find("Label") for each in found[:count]]
        labels = [text(self.path, each, f"{label}.Label") for each in named if each is not None]
        return labels if any(labels) else []

    def _order(self, labels: Sequence[str], wanted: Sequence[str]) -> list[int]:
        """Columns in BioSemi's order, by their names in the ten-twenty system or by BioSemi's own, A1 to B32."""
        own = [f"{bank}{k}" for bank in "AB" for k in range(1, 33)]
        given = [label.casefold() for label in labels]
        for names in (wanted, own):
            if sorted(given) == sorted(name.casefold() for name in names):
                return [given.index(name.casefold()) for name in names]
        expected = f"the {len(wanted)} of BioSemi's cap (or --set channels=order, to go by the order of the columns)"
        raise self.refusal("FileHeader.Channels.Label", expected, ", ".join(labels))
