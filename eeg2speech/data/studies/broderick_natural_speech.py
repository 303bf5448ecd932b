"""Natural Speech (Broderick et al. 2018, Dryad 10.5061/dryad.070jc): 19 people listen to an audiobook, 20 runs each.

::

    EEG/SubjectN/SubjectN_RunM.mat          eegData [T, 128] single, mastoids [T, 2], fs = 128; about 180 s
    Stimuli/Envelopes/audioM_128Hz.mat      env [T, 1] at 128 Hz: the study natural-speech-envelopes
    private/audioM.wav                      the sound, which is not published: the study natural-speech

The folder ``Natural Speech`` itself or the one that holds it may be named. Sound is looked for in ``private``, beside
that folder or in it, in ``Stimuli/Audio`` and in ``Stimuli``. EEG and sound of a run begin together. Matrices may be
stored the other way round and runs may be missing, as in the Cocktail Party data of the same package: the first are
turned, the second told. Words (``Stimuli/Text/RunM.mat``) and alignments are not read: no task needs them.

What is not certain: that the EEG is in microvolt (``unit``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from eeg2speech.data.preparation.blocks import ArrayBlocks, Blocks, SoundBlocks
from eeg2speech.data.preparation.matlab import matlab, rows
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.cocktail_party_files import EEG_RATE, ranges, run_eeg
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

SUBJECTS, RUNS = 19, 20
HOMES = ("private", "../private", "Stimuli/Audio", "Stimuli")
"""Where the sound may be."""
FACTS = StudyFacts(
    name="natural-speech",
    title="Natural Speech (Broderick et al. 2018): an audiobook, 128 sensors",
    licence="CC0 1.0 (EEG); the sound is not published",
    citation="Broderick, Anderson, Di Liberto, Crosse, Lalor 2018, Current Biology 28:803; data: Dryad",
    doi="10.5061/dryad.070jc",
    how_to_get="download the archive from Dryad; ask its authors for the sound, audio1.wav to audio20.wav, and put it "
    "into `private`; then `eeg2speech prepare natural-speech --root FOLDER`",
    note="real EEG, real speech; one talker, an audiobook in English",
    audio_rate=16_000,
    eeg_rate=EEG_RATE,
    known_problems=(
        "the sound is not a part of the package: natural-speech-envelopes does without",
        "EEG and sound of run 15 are said to be misaligned near 170 s",
        "one talker reads everything: retrieval among segments, not among people",
    ),
    splits=("blocks of sentences of 6 s and more by a hash, 70 % train, 10 % valid, 20 % test (Defossez et al. 2023)",),
)
FEATURES = replace(
    FACTS,
    name="natural-speech-envelopes",
    title="Natural Speech (Broderick et al. 2018), envelopes of its authors",
    licence="CC0 1.0",
    how_to_get="download the archive from Dryad, then `eeg2speech prepare natural-speech-envelopes --root FOLDER`",
    note="real EEG, envelopes of real speech; one talker, an audiobook in English",
    audio_rate=EEG_RATE,
    known_problems=FACTS.known_problems[1:],
    stimuli="envelope",
)


@dataclass(frozen=True)
class NaturalSpeechSteps(Steps):
    """Settings of this study.

    Args:
        reference: the mean of both mastoids unless told.
        unit: microvolt of one unit of the files.
    """

    reference: Literal["average", "electrodes", "none"] = "electrodes"
    unit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.unit < float("inf"):
            raise BadInput("settings", "unit", "microvolt of one unit, more than 0", self.unit)


@dataclass(frozen=True)
class EnvelopeSteps(NaturalSpeechSteps):
    """As ``NaturalSpeechSteps``, for the envelopes, at their own rate."""

    audio_rate: int = EEG_RATE


def natural_speech() -> RawStudy[NaturalSpeechSteps]:
    """The study with sound."""
    return RawStudy(FACTS, NaturalSpeechSteps, source)


def natural_speech_envelopes() -> RawStudy[EnvelopeSteps]:
    """The study with envelopes."""
    return RawStudy(FEATURES, EnvelopeSteps, source_of_envelopes)


def source(root: Path, steps: NaturalSpeechSteps) -> Source:
    """A recording for each run that is there, with its sound. Raises BadInput: no files, no sound at all."""
    home = _home(root)
    folder = next((home / name for name in HOMES if any((home / name).glob("audio*.wav"))), None)
    if folder is None:
        expected = "audio1.wav to audio20.wav in `private` (or the study natural-speech-envelopes)"
        raise BadInput(home, "sound", expected, "none: it is not published")
    return _source(home, steps, lambda run: (p := folder.resolve() / f"audio{run}.wav", partial(SoundBlocks, p)))


def source_of_envelopes(root: Path, steps: NaturalSpeechSteps) -> Source:
    """A recording for each run that is there, with its envelope. Raises BadInput: no files."""
    home = _home(root)
    folder = home / "Stimuli" / "Envelopes"
    return _source(home, steps, lambda run: (p := folder / f"audio{run}_128Hz.mat", partial(_envelope, p)))


Open = Callable[[int], tuple[Path, Callable[[], Blocks]]]
"""The file of a run's speech, and what opens it."""


def _home(root: Path) -> Path:
    inner = root / "Natural Speech"
    home = inner if inner.is_dir() else root
    if not (home / "EEG").is_dir():
        raise BadInput(
            root, "files", "a folder with EEG and Stimuli in it, or one with Natural Speech", "no folder EEG"
        )
    return home


def _source(home: Path, steps: NaturalSpeechSteps, speech: Open) -> Source:
    runs = _runs(home)
    items = [
        Item(path.stem, f"Subject{subject:02d}", (path,), partial(_takes, path, steps, speech, run))
        for subject, found in runs.items()
        for run, path in found.items()
    ]
    gaps = {subject: sorted({*range(1, RUNS + 1)} - {*found}) for subject, found in runs.items()}
    missing = [f"Subject{subject}: no run {ranges(gone)}" for subject, gone in gaps.items() if gone]
    people = sorted({*range(1, SUBJECTS + 1)} - {*runs})
    missing += [f"no subject {ranges(people)}"] if people else []
    return Source(montage("biosemi128"), tuple(items), ("M1", "M2"), tuple(missing))


def _runs(home: Path) -> dict[int, dict[int, Path]]:
    """Files by subject and run, both in order. Raises BadInput for none, or a run that there should not be."""
    found: dict[int, dict[int, Path]] = {}
    for path in (home / "EEG").glob("Subject*/Subject*_Run*.mat"):
        name = re.fullmatch(r"Subject([1-9]\d?)_Run([1-9]\d?)", path.stem)
        if name is None:
            continue
        if int(name[2]) > RUNS:
            raise BadInput(path, "run", f"1 to {RUNS}", name[2])
        found.setdefault(int(name[1]), {})[int(name[2])] = path
    if not found:
        raise BadInput(home / "EEG", "files", "SubjectN/SubjectN_RunM.mat", "none")
    return {subject: dict(sorted(found[subject].items())) for subject in sorted(found)}


def _takes(path: Path, steps: NaturalSpeechSteps, speech: Open, run: int) -> Iterator[Take]:
    file, opened = speech(run)
    heard = Speech(f"audio{run}", opened, (file,), "narrator", "en", f"run {run}", "audiobook")
    yield Take(path.stem, ArrayBlocks(run_eeg(path), EEG_RATE, path, steps.unit), heard)


def _envelope(path: Path) -> Blocks:
    return ArrayBlocks(np.asarray(rows(path, matlab(path, ("env",))["env"], "env", 1)), EEG_RATE, path)
