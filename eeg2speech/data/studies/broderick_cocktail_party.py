"""Cocktail Party (Broderick et al. 2018, Dryad 10.5061/dryad.070jc) as it is downloaded, with settings of one's own.

The two studies of the published protocol, ``cocktail-party-published`` and ``-corrected``, fix every step; this one
goes the way of all studies of real data, and leaves the choice that matters most to whoever prepares it: **who attended
to which story** (``attention``). The package's README says one thing, a note of unknown authorship beside published
analysis code another, and they differ for 16 of 33 people: there is no default. Files, flipped matrices, missing runs:
``cocktail_party_files``.

``cocktail-party-envelopes`` reads the envelopes that the package has (``Stimuli/Envelopes/20000/20000_M_env.mat``,
``envelope`` [T, 1] at 128 Hz) in place of the sound, which may not be a part of it.

A file in another subject's folder, two files of a run, or a subject beyond 33, whom no table knows, are refused. So is
a sound of two channels, which could be both stories, one in each ear, and a run whose speech is missing. EEG and speech
of a run that differ by more than a second are told, by the EEG of the first subject who has the run.

What is not certain:

- That the EEG is in microvolt (``unit``). A run whose median sensor varies by less than 0.1 or more than 100,000
  microvolt is refused.
- The ear. The README has "20000" in the left ear and "Journey" in the right one, with the subjects that heard them.
  Under the correction it is wrong about 16 people, and whether about the story or about the ear is not said: their ear
  is left open there.
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
    ATTENTION,
    EEG_RATE,
    STORIES,
    RawFiles,
    attended_story,
    envelope_blocks,
    first_of_each,
    other_story,
    ranges,
    require_speech,
    run_blocks,
    run_files,
    run_samples,
    story_path,
    uneven,
)
from eeg2speech.data.studies.cocktail_party_runs import RUNS, recording_name
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

SUBJECTS = 33
EARS = {"20000": "left", "Journey": "right"}
VERSION = 2
FACTS = StudyFacts(
    name="cocktail-party",
    title="Cocktail Party (Broderick et al. 2018): two stories at once, 128 sensors",
    licence="CC0 1.0",
    citation="Broderick, Anderson, Di Liberto, Crosse, Lalor 2018, Current Biology 28:803; data: Dryad",
    doi="10.5061/dryad.070jc",
    how_to_get="download the archive from Dryad, then `eeg2speech prepare cocktail-party --root FOLDER --set "
    "attention=readme` (or correction); the wav files of both stories go to Stimuli/Full_Audio, if they are not there",
    note="real EEG, real speech; two stories at once, one in each ear",
    audio_rate=16_000,
    eeg_rate=EEG_RATE,
    known_problems=(
        "a person attends one story in all runs: who listens tells which talker is the target",
        "two tables of who attended which story differ for 16 of 33 people: `attention` has to be chosen",
        "whether the package has the sound is not certain: cocktail-party-envelopes does without",
        "subject 6 is stored the other way round and lacks a run",
    ),
    splits=(
        "`published`: runs 27, 11, 1, 14 and 24 of everybody are test, 22 and 29 valid",
        "leave one trial out, for linear decoders",
    ),
)
FEATURES = replace(
    FACTS,
    name="cocktail-party-envelopes",
    title="Cocktail Party (Broderick et al. 2018), envelopes of its authors",
    how_to_get="download the archive from Dryad, then `eeg2speech prepare cocktail-party-envelopes --root FOLDER --set "
    "attention=readme` (or correction)",
    note="real EEG, envelopes of real speech; two stories at once, one in each ear",
    audio_rate=EEG_RATE,
    stimuli="envelope",
)


@dataclass(frozen=True)
class CocktailPartySteps(UnitSteps):
    """Settings of this study.

    Args:
        attention: who attended to which story, by the package's ``readme`` or by its unverified ``correction``. It has
            to be chosen.
        reference: the mean of both mastoids unless told.
        left_out: numbers of subjects that are not used, with commas. Published code leaves out 6.
    """

    reference: Literal["average", "electrodes", "none"] = "electrodes"
    attention: Literal["", "readme", "correction"] = ""
    left_out: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = [each.strip() for each in self.left_out.split(",")] if self.left_out else []
        # isdecimal alone lets digits of other scripts through, isascii alone everything else.
        if not all(each.isascii() and each.isdecimal() and 1 <= int(each) <= SUBJECTS for each in numbers):
            raise BadInput("settings", "left_out", f"numbers from 1 to {SUBJECTS} with commas", repr(self.left_out))

    @property
    def without(self) -> tuple[int, ...]:
        """Numbers of the subjects left out."""
        return tuple(int(each) for each in self.left_out.split(",") if each.strip())


@dataclass(frozen=True)
class EnvelopeSteps(CocktailPartySteps):
    """As ``CocktailPartySteps``, for the envelopes, at their own rate."""

    audio_rate: int = EEG_RATE


def cocktail_party() -> RawStudy[CocktailPartySteps]:
    """The study with sound."""
    return RawStudy(FACTS, CocktailPartySteps, source, VERSION)


def cocktail_party_envelopes() -> RawStudy[EnvelopeSteps]:
    """The study with envelopes."""
    return RawStudy(FEATURES, EnvelopeSteps, source_of_envelopes, VERSION)


def source(root: Path, steps: CocktailPartySteps) -> Source:
    """A recording for each run that is there, with the sound of both stories.

    Raises:
        BadInput: ``attention`` is not chosen; no files, or some that should not be there; no sound (envelopes may be
            there), or not that of all runs.
    """
    home, runs = _found(root, steps)
    if not any((home / "Stimuli" / "Full_Audio").glob("*/*.wav")):
        first = story_path(home, STORIES[0], 1).relative_to(home)
        expected = f"{first} and the other runs (or the study cocktail-party-envelopes)"
        raise BadInput(home, "sound", expected, "no wav file in Stimuli/Full_Audio")
    return _source(runs, steps, lambda story, run: story_path(home, story, run), _mono)


def source_of_envelopes(root: Path, steps: CocktailPartySteps) -> Source:
    """As ``source``, with the envelopes that the package has."""
    home, runs = _found(root, steps)
    folder = home / "Stimuli" / "Envelopes"
    return _source(runs, steps, lambda story, run: folder / story / f"{story}_{run}_env.mat", _envelope)


Runs = dict[int, dict[int, Path]]
"""Files of EEG by subject and run."""


def _found(root: Path, steps: CocktailPartySteps) -> tuple[Path, Runs]:
    """The study's folder, and its runs without the subjects left out."""
    if steps.attention not in ATTENTION:
        choice = "--set attention=readme or --set attention=correction"
        expected = f"{choice}: two tables of who attended to which story differ for 16 of 33 people; none is verified"
        raise BadInput("settings of cocktail-party", "attention", expected, "none chosen")
    home = RawFiles.find(root).root
    found = run_files(home / "EEG", SUBJECTS, RUNS)
    used = {subject: runs for subject, runs in found.items() if subject not in steps.without}
    if not used:
        raise BadInput("settings of cocktail-party", "left_out", "somebody who is not left out", repr(steps.left_out))
    return home, used


def _source(
    runs: Runs, steps: CocktailPartySteps, speech: Callable[[str, int], Path], reader: Callable[[Path], Blocks]
) -> Source:
    numbers = sorted({run for found in runs.values() for run in found})
    heard = {run: {story: _speech(story, run, speech(story, run), reader) for story in STORIES} for run in numbers}
    require_speech(path for both in heard.values() for each in both.values() for path in each.files)
    items = tuple(
        Item(recording_name(subject, run), f"Subject{subject:02d}", (path,), partial(_takes, *made))
        for subject, found in runs.items()
        for run, path in found.items()
        for made in ((path, steps, subject, run, heard[run]),)
    )
    return Source(montage("biosemi128"), items, ("M1", "M2"), _missing(runs, steps), _notes(runs, heard))


def _missing(runs: Runs, steps: CocktailPartySteps) -> tuple[str, ...]:
    gaps = {subject: sorted({*range(1, RUNS + 1)} - {*found}) for subject, found in runs.items()}
    told = [f"Subject{subject}: {ranges(gone)}" for subject, gone in gaps.items() if gone]
    people = sorted({*range(1, SUBJECTS + 1)} - {*runs} - {*steps.without})
    missing = [f"runs without a file: {'; '.join(told)}"] if told else []
    return (*missing, *([f"no subject {ranges(people)}"] if people else []))


def _notes(runs: Runs, heard: dict[int, dict[str, Speech]]) -> tuple[str, ...]:
    """Of a run, whose speech is the same for all, the EEG of one subject: headers of all take seconds to read."""
    spoken = {run: [each.open() for each in both.values()] for run, both in heard.items()}
    return uneven(
        {
            path.stem: [run_samples(path) / EEG_RATE, *(each.samples / each.rate for each in spoken[run])]
            for run, path in first_of_each(runs).items()
        }
    )


def _takes(path: Path, steps: CocktailPartySteps, subject: int, run: int, heard: dict[str, Speech]) -> Iterator[Take]:
    assert steps.attention
    attended = attended_story(subject, steps.attention)
    # The README's ear is that of the README's story.
    ear = EARS[attended] if attended == attended_story(subject, "readme") else ""
    eeg = run_blocks(path, steps.unit)
    yield Take(recording_name(subject, run), eeg, heard[attended], heard[other_story(attended)], ear=ear)


def _speech(story: str, run: int, path: Path, reader: Callable[[Path], Blocks]) -> Speech:
    return Speech(f"{story}_{run}", partial(reader, path), (path,), story, "en", f"{story}, run {run}", story)


def _mono(path: Path) -> Blocks:
    """A story's sound. Raises BadInput for more than one channel: a mean of both ears would be both stories."""
    import soundfile

    blocks = SoundBlocks(path)
    channels = soundfile.info(path).channels
    if channels != 1:
        raise BadInput(path, "channels", "one, the story alone", f"{channels}, which could be both stories")
    return blocks


def _envelope(path: Path) -> Blocks:
    return envelope_blocks(path, "envelope")
