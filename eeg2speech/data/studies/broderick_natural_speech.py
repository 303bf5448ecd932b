"""Natural Speech (Broderick et al. 2018, Dryad 10.5061/dryad.070jc): 19 people listen to an audiobook, 20 runs each.

::

    EEG/SubjectN/SubjectN_RunM.mat          eegData [T, 128] single, mastoids [T, 2], fs = 128; about 180 s
    Stimuli/Envelopes/audioM_128Hz.mat      env [T, 1] at 128 Hz: the study natural-speech-envelopes
    private/audioM.wav                      the sound, which is not published: the study natural-speech

The folder ``Natural Speech`` itself or the one that holds it may be named. Sound is looked for in ``private``, beside
that folder or in it, in ``Stimuli/Audio`` and in ``Stimuli``. EEG and sound of a run begin together. Matrices may be
stored the other way round and runs may be missing, as in the Cocktail Party data of the same package: the first are
turned, the second told. Words (``Stimuli/Text/RunM.mat``) and alignments are not read: no task needs them.

A file in another subject's folder, two files of a run, or a subject beyond 19 are refused, and so is a run whose speech
is missing. EEG and speech of a run that differ by more than a second are told, by the EEG of the first subject who has
the run. Of sound with two channels the mean is taken.

What is not certain: that the EEG is in microvolt (``unit``). A run whose median sensor varies by less than 0.1 or more
than 100,000 microvolt is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from eeg2speech.data.preparation.blocks import Blocks, SoundBlocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import UnitSteps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.cocktail_party_files import (
    EEG_RATE,
    envelope_blocks,
    first_of_each,
    ranges,
    require_speech,
    run_blocks,
    run_files,
    run_samples,
    uneven,
)
from eeg2speech.data.studies.cocktail_party_runs import recording_name
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
class NaturalSpeechSteps(UnitSteps):
    """Settings of this study.

    Args:
        reference: the mean of both mastoids unless told.
    """

    reference: Literal["average", "electrodes", "none"] = "electrodes"


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
    """A recording for each run that is there, with its sound.

    Raises:
        BadInput: no files, or some that should not be there; no sound (envelopes may be there), or not that of all
            runs.
    """
    home = _home(root)
    folder = next((home / name for name in HOMES if any((home / name).glob("audio*.wav"))), None)
    if folder is None:
        expected = "audio1.wav to audio20.wav in `private` (or the study natural-speech-envelopes)"
        raise BadInput(home, "sound", expected, "none: it is not published")
    return _source(home, steps, lambda run: folder.resolve() / f"audio{run}.wav", SoundBlocks)


def source_of_envelopes(root: Path, steps: NaturalSpeechSteps) -> Source:
    """As ``source``, with the envelopes that the package has."""
    home = _home(root)
    folder = home / "Stimuli" / "Envelopes"
    return _source(home, steps, lambda run: folder / f"audio{run}_128Hz.mat", _envelope)


Runs = dict[int, dict[int, Path]]
"""Files of EEG by subject and run."""


def _home(root: Path) -> Path:
    inner = root / "Natural Speech"
    home = inner if inner.is_dir() else root
    if not (home / "EEG").is_dir():
        expected = "a folder with EEG and Stimuli in it, or one with Natural Speech"
        raise BadInput(root, "files", expected, "no folder EEG")
    return home


def _source(
    home: Path, steps: NaturalSpeechSteps, speech: Callable[[int], Path], reader: Callable[[Path], Blocks]
) -> Source:
    runs = run_files(home / "EEG", SUBJECTS, RUNS)
    numbers = sorted({run for found in runs.values() for run in found})
    heard = {run: _speech(run, speech(run), reader) for run in numbers}
    require_speech(path for each in heard.values() for path in each.files)
    items = tuple(
        Item(name, f"Subject{subject:02d}", (path,), partial(_takes, name, path, steps, heard[run]))
        for subject, found in runs.items()
        for run, path in found.items()
        for name in (recording_name(subject, run),)
    )
    return Source(montage("biosemi128"), items, ("M1", "M2"), _missing(runs), _notes(runs, heard))


def _missing(runs: Runs) -> tuple[str, ...]:
    gaps = {subject: sorted({*range(1, RUNS + 1)} - {*found}) for subject, found in runs.items()}
    told = [f"Subject{subject}: no run {ranges(gone)}" for subject, gone in gaps.items() if gone]
    people = sorted({*range(1, SUBJECTS + 1)} - {*runs})
    return (*told, *([f"no subject {ranges(people)}"] if people else []))


def _notes(runs: Runs, heard: dict[int, Speech]) -> tuple[str, ...]:
    """Of a run, whose speech is the same for all, the EEG of one subject: headers of all take seconds to read."""
    spoken = {run: each.open() for run, each in heard.items()}
    return uneven(
        {
            path.stem: (run_samples(path) / EEG_RATE, spoken[run].samples / spoken[run].rate)
            for run, path in first_of_each(runs).items()
        }
    )


def _takes(name: str, path: Path, steps: NaturalSpeechSteps, heard: Speech) -> Iterator[Take]:
    yield Take(name, run_blocks(path, steps.unit), heard)


def _speech(run: int, path: Path, reader: Callable[[Path], Blocks]) -> Speech:
    return Speech(f"audio{run}", partial(reader, path), (path,), "narrator", "en", f"run {run}", "audiobook")


def _envelope(path: Path) -> Blocks:
    return envelope_blocks(path, "env")
