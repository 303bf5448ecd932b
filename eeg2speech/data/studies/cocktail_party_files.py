"""Raw files of the Cocktail Party data (Broderick et al. 2018, Dryad 10.5061/dryad.070jc), as they lie on a disk.

::

    EEG/SubjectN/SubjectN_RunM.mat      eegData [T, 128] single, mastoids [T, 2], fs = 128; N 1 to 33, M 1 to 30
    Stimuli/Full_Audio/20000/20000_M.wav, Stimuli/Full_Audio/Journey/Journey_M.wav      mono, 44.1 kHz

The folder ``Cocktail Party`` itself or the one that holds it may be named. Some matrices are stored the other way round
(128 x T), and some runs are missing: the first are turned, the second told. The EEG is taken for microvolts, which the
files do not say. Whether the Dryad package holds ``Full_Audio`` is not certain; published code reads it from there.

Who listened to which story: the package's README says that subjects 1 to 17 heard "20000" and the others "Journey"; a
note of unknown authorship that goes with published analysis code has another table. They differ for 16 of 33 subjects,
and neither has been verified here: see ``ATTENTION``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.matlab import matlab, number, rows, variables
from eeg2speech.data.studies.cocktail_party_runs import RUNS, recording_name
from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput, unknown_name

VARIABLE = "EEG2SPEECH_COCKTAIL_PARTY"
"""The environment variable that names the folder of the raw files."""
RAW_RATE, EEG_RATE, CHANNELS = 44_100, 128, 128
STORIES = ("20000", "Journey")
BAND_HZ = (0.1, 45.0)
"""Band of the published preparation, there by EEGLAB's filters, here by a Butterworth of order 2, forth and back."""
PLAUSIBLE_UV = (0.1, 1e5)
"""Standard deviation of the median sensor in a run, in microvolt. Wide, for drifts of an amplifier for direct current;
volts taken for microvolt are below, microvolt taken for volts above. Millivolts may pass."""
UNEVEN_SECONDS = 1.0
"""Difference between EEG and speech that is told."""

Attention = Literal["readme", "correction"]
ATTENTION: dict[Attention, frozenset[int]] = {
    "readme": frozenset(range(1, 18)),
    "correction": frozenset({3, 6, 7, 8, 9, 10, 13, 15, 17, 18, 19, 21, 24, 25, 27, 31, 32}),
}
"""Subjects who listened to "20000", by who says so; all others to "Journey"."""


def attended_story(subject: int, attention: Attention) -> str:
    """The story a subject listened to, by one of the tables."""
    return STORIES[0] if subject in ATTENTION[attention] else STORIES[1]


def other_story(story: str) -> str:
    """The story that ran beside."""
    return STORIES[1 - STORIES.index(story)]


def eeg_path(root: Path, subject: int, run: int) -> Path:
    """Where a run's EEG lies."""
    return root / "EEG" / f"Subject{subject}" / f"{recording_name(subject, run)}.mat"


def story_path(root: Path, story: str, run: int) -> Path:
    """Where a run's part of a story lies."""
    return root / "Stimuli" / "Full_Audio" / story / f"{story}_{run}.wav"


@dataclass(frozen=True)
class RawFiles:
    """The raw files under ``root`` (the folder with ``EEG`` and ``Stimuli``), without the subjects ``left_out``."""

    root: Path
    left_out: tuple[int, ...] = ()

    @classmethod
    def find(cls, folder: Path | None = None, left_out: tuple[int, ...] = ()) -> RawFiles:
        """The files in ``folder``, or where the environment variable says.

        Raises:
            BadInput: neither is given, or there is no folder ``EEG`` in it.
        """
        given = str(folder or os.environ.get(VARIABLE, ""))
        if not given:
            expected = f"the folder of the raw files in the environment variable {VARIABLE}"
            raise BadInput("Cocktail Party", VARIABLE, expected, "a variable that is not set")
        root = Path(given)
        inner = root / "Cocktail Party"
        root = inner if inner.is_dir() else root
        if not (root / "EEG").is_dir():
            raise BadInput(root, VARIABLE, "a folder with EEG and Stimuli in it", "no folder EEG")
        return cls(root, left_out)

    @cached_property
    def runs(self) -> dict[int, tuple[int, ...]]:
        """Runs that are there of each subject, both by number. Raises BadInput when there is none at all."""
        found: dict[int, list[int]] = {}
        for path in (self.root / "EEG").glob("Subject*/Subject*_Run*.mat"):
            # Published code writes files of its own beside them, as Subject1_Run2_data.mat: these are others'.
            name = re.fullmatch(r"Subject(\d+)_Run(\d+)", path.stem)
            if name is None:
                continue
            subject, run = int(name[1]), int(name[2])
            if not 1 <= run <= RUNS:
                raise BadInput(path, "run", f"1 to {RUNS}", run)
            if subject not in self.left_out:
                found.setdefault(subject, []).append(run)
        if not found:
            raise BadInput(self.root / "EEG", "files", "SubjectN/SubjectN_RunM.mat", "none")
        return {subject: tuple(sorted(found[subject])) for subject in sorted(found)}

    @property
    def missing(self) -> list[str]:
        """Runs of the subjects found that are not there, in words: one entry a subject."""
        gaps = {subject: sorted(set(range(1, RUNS + 1)) - set(runs)) for subject, runs in self.runs.items()}
        return [f"Subject{subject}: {ranges(runs)}" for subject, runs in gaps.items() if runs]

    def eeg(self, subject: int, run: int) -> Samples:
        """EEG [128, T] in microvolt at 128 Hz: against the mean of both mastoids, without its mean, 0.1 to 45 Hz.

        Raises:
            BadInput: no such file, one that MATLAB's reader refuses, another rate, another number of channels, or
                samples that are not finite.
        """
        raw = self.unfiltered(subject, run)
        referenced = raw[:CHANNELS] - raw[CHANNELS:].mean(axis=0)
        sos = signal.butter(2, BAND_HZ, "band", fs=EEG_RATE, output="sos")
        filtered = signal.sosfiltfilt(sos, referenced - referenced.mean(axis=1, keepdims=True), axis=1)
        return np.ascontiguousarray(filtered, dtype=np.float32)

    def unfiltered(self, subject: int, run: int) -> NDArray[np.float64]:
        """EEG as it was recorded, [130, T]: the sensors, then both mastoids. Raises BadInput as ``eeg`` does."""
        return run_eeg(eeg_path(self.root, subject, run))

    def eeg_samples(self, subject: int, run: int) -> int:
        """Samples of EEG in a run, without reading them."""
        return run_samples(eeg_path(self.root, subject, run))

    def sound_samples(self, name: str, run: int) -> int:
        """Samples of sound in a run's part of a story, without reading them."""
        import soundfile

        path = story_path(self.root, name, run)
        return int(soundfile.info(path).frames) if path.is_file() else len(self.story(name, run))

    def story(self, name: str, run: int) -> NDArray[np.float64]:
        """A run's part of a story, [T] in [-1, 1] at 44.1 kHz.

        Raises:
            BadInput: no such file, one that is no sound, another rate, or more than one channel.
        """
        import soundfile

        path = story_path(self.root, name, run)
        if not path.is_file():
            hint = "no such file (it may not be part of the Dryad package: ask its authors)"
            raise BadInput(path, "file", "the story as it was played, a wav of 44.1 kHz", hint)
        try:
            audio, rate = soundfile.read(path, dtype="float64")
        except soundfile.SoundFileError as error:
            raise BadInput(path, "content", "a wav file", error) from error
        if rate != RAW_RATE:
            raise BadInput(path, "rate", f"{RAW_RATE} Hz", f"{rate} Hz")
        if audio.ndim != 1:
            raise BadInput(path, "channels", "one", audio.shape[1])
        found: NDArray[np.float64] = audio
        return found


def run_eeg(path: Path) -> NDArray[np.float64]:
    """EEG of a run as it was recorded, [130, T] in the file's unit: 128 sensors, then both mastoids.

    Raises:
        BadInput: no such file, one that is no MATLAB file, another rate, another number of channels, mastoids of
            another length, or samples that are not finite.
    """
    content = matlab(path, ("eegData", "mastoids", "fs"))
    rate = number(path, content["fs"], "fs")
    if rate != EEG_RATE:
        raise BadInput(path, "fs", f"{EEG_RATE} Hz", f"{rate:g} Hz")
    eeg = rows(path, content["eegData"], "eegData", CHANNELS)
    mastoids = rows(path, content["mastoids"], "mastoids", 2)
    if eeg.shape[1] != mastoids.shape[1]:
        raise BadInput(path, "mastoids", f"{eeg.shape[1]} samples, as in eegData", mastoids.shape[1])
    return np.concatenate([eeg, mastoids]).astype(np.float64)


def run_samples(path: Path) -> int:
    """Samples of EEG in a run's file, without reading them. Raises BadInput for another number of channels."""
    shape = variables(path).get("eegData", ())
    if CHANNELS not in shape:
        raise BadInput(path, "eegData", f"[samples, {CHANNELS}], or [{CHANNELS}, samples]", list(shape))
    return int(shape[0] if shape[1] == CHANNELS else shape[1])


def run_blocks(path: Path, unit: float) -> ArrayBlocks:
    """EEG of a run, [130, T] in microvolt, when one unit of the file is ``unit`` microvolt.

    Raises:
        BadInput: as ``run_eeg``; a median sensor that varies by less or more than ``PLAUSIBLE_UV``.
    """
    eeg = run_eeg(path)
    with np.errstate(over="ignore", invalid="ignore"):
        typical = float(np.median(eeg[:CHANNELS].std(axis=1))) * unit
    low, high = PLAUSIBLE_UV
    if not low <= typical <= high:
        expected = f"a median sensor that varies by {low:g} to {high:g} microvolt (unit=1e6 if the file is in volts)"
        raise BadInput(path, "eegData", expected, f"{typical:.3g}, with unit={unit:g}")
    return ArrayBlocks(eeg, EEG_RATE, path, unit)


def envelope_blocks(path: Path, variable: str) -> ArrayBlocks:
    """An envelope [1, T] at 128 Hz. Raises BadInput: no such variable, no vector, or ``fsEnv`` of another rate."""
    told = [name for name in variables(path) if name == "fsEnv"]
    content = matlab(path, (variable, *told))
    for name in told:
        if (rate := number(path, content[name], name)) != EEG_RATE:
            raise BadInput(path, name, f"{EEG_RATE} Hz", f"{rate:g} Hz")
    return ArrayBlocks(rows(path, content[variable], variable, 1), EEG_RATE, path)


def run_files(folder: Path, subjects: int, runs: int) -> dict[int, dict[int, Path]]:
    """Files ``SubjectN/SubjectN_RunM.mat`` in ``folder`` by subject and run, in the order of both numbers.

    Raises:
        BadInput: none; a subject or a run of a number that the study does not have; one that lies in the folder of
            another subject; two files of the same run.
    """
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(folder.glob("Subject*/Subject*_Run*.mat")):
        # Published code writes files of its own beside them, as Subject1_Run2_data.mat: these are others'.
        name = re.fullmatch(r"Subject(\d+)_Run(\d+)", path.stem, re.ASCII)
        if name is None:
            continue
        subject, run = int(name[1]), int(name[2])
        for field, value, most in (("subject", subject, subjects), ("run", run, runs)):
            if not 1 <= value <= most:
                raise BadInput(path, field, f"1 to {most}", value)
        if path.parent.name != f"Subject{name[1]}":
            raise BadInput(path, "folder", f"Subject{name[1]}", path.parent.name)
        if run in found.setdefault(subject, {}):
            raise BadInput(path, "run", "one file", f"another one, {found[subject][run].name}")
        found[subject][run] = path
    if not found:
        raise BadInput(folder, "files", "SubjectN/SubjectN_RunM.mat", "none")
    return {subject: dict(sorted(found[subject].items())) for subject in sorted(found)}


def first_of_each(runs: Mapping[int, Mapping[int, Path]]) -> dict[int, Path]:
    """Of each run, by number, the file of the first subject who has it."""
    found: dict[int, Path] = {}
    for files in runs.values():
        found = {**files, **found}
    return dict(sorted(found.items()))


def require_speech(paths: Iterable[Path]) -> None:
    """Refuse runs without their speech, before any is prepared."""
    gone = [path for path in dict.fromkeys(paths) if not path.is_file()]
    if gone:
        found = f"no such file ({len(gone)} files are missing)"
        raise BadInput(gone[0], "file", "the speech of every run that has EEG", found)


def uneven(seconds: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """A sentence on the runs whose EEG and speech do not last equally long, from how long each lasts, EEG first."""
    told = [
        f"{name} ({', '.join(f'{each:.1f}' for each in lasting)} s)"
        for name, lasting in seconds.items()
        if max(lasting) - min(lasting) > UNEVEN_SECONDS
    ]
    others = f", and {len(told) - 5} others" if len(told) > 5 else ""
    what = f"EEG and speech differ by more than {UNEVEN_SECONDS:g} s, and the shorter one ends the trial"
    return (f"{what}: {'; '.join(told[:5])}{others}",) if told else ()


def require_table(attention: str) -> None:
    """Refuse a table of attention that nobody knows."""
    if attention not in ATTENTION:
        raise unknown_name("Cocktail Party", "attention", attention, ATTENTION)


def ranges(numbers: Iterable[int]) -> str:
    """``1-3, 7`` for 1, 2, 3 and 7."""
    found: list[list[int]] = []
    for each in numbers:
        if found and each == found[-1][1] + 1:
            found[-1][1] = each
        else:
            found.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
