"""Cocktail Party (Broderick et al. 2018, Dryad 10.5061/dryad.070jc) as it is downloaded, with settings of one's own.

The two studies of the published protocol, ``cocktail-party-published`` and ``-corrected``, fix every step; this one
goes the way of all studies of real data, and leaves the choice that matters most to whoever prepares it: **who attended
to which story** (``attention``). The package's README says one thing, a note of unknown authorship beside published
analysis code another, and they differ for 16 of 33 people: there is no default. Files, flipped matrices, missing runs:
``cocktail_party_files``.

``cocktail-party-envelopes`` reads the envelopes that the package has (``Stimuli/Envelopes/20000/20000_M_env.mat``,
``envelope`` [T, 1] at 128 Hz) in place of the sound, which may not be a part of it.

What is not certain: that the EEG is in microvolt (``unit``). The README has 20000 in the left ear and Journey in the
right one; that both were in the ear that it says is taken from there under either table.
"""

from __future__ import annotations

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
from eeg2speech.data.studies.cocktail_party_files import (
    ATTENTION,
    EEG_RATE,
    STORIES,
    RawFiles,
    attended_story,
    eeg_path,
    other_story,
    story_path,
)
from eeg2speech.data.studies.cocktail_party_runs import recording_name
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

EARS = {"20000": "left", "Journey": "right"}
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
class CocktailPartySteps(Steps):
    """Settings of this study.

    Args:
        attention: who attended to which story, by the package's ``readme`` or by its unverified ``correction``. It has
            to be chosen.
        reference: the mean of both mastoids unless told.
        unit: microvolt of one unit of the files.
        left_out: numbers of subjects that are not used, with commas. Published code leaves out 6.
    """

    reference: Literal["average", "electrodes", "none"] = "electrodes"
    attention: Literal["", "readme", "correction"] = ""
    unit: float = 1.0
    left_out: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.unit < float("inf"):
            raise BadInput("settings", "unit", "microvolt of one unit, more than 0", self.unit)
        if not all(each.strip().isdigit() for each in self.left_out.split(",") if self.left_out):
            raise BadInput("settings", "left_out", "numbers with commas", repr(self.left_out))

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
    return RawStudy(FACTS, CocktailPartySteps, source)


def cocktail_party_envelopes() -> RawStudy[EnvelopeSteps]:
    """The study with envelopes."""
    return RawStudy(FEATURES, EnvelopeSteps, source_of_envelopes)


def source(root: Path, steps: CocktailPartySteps) -> Source:
    """A recording for each run that is there, with the sound of both stories.

    Raises:
        BadInput: ``attention`` is not chosen; no files; no sound (envelopes may be there).
    """
    raw = _files(root, steps)
    first = next(run for runs in raw.runs.values() for run in runs)
    path = story_path(raw.root, STORIES[0], first)
    if not path.parent.parent.is_dir():
        expected = f"{path.relative_to(raw.root)} and the other runs (or the study cocktail-party-envelopes)"
        raise BadInput(raw.root, "sound", expected, "no folder Stimuli/Full_Audio")
    return _source(raw, steps, lambda story, run: _opening(SoundBlocks, story_path(raw.root, story, run)))


def source_of_envelopes(root: Path, steps: CocktailPartySteps) -> Source:
    """As ``source``, with the envelopes that the package has."""
    raw = _files(root, steps)
    folder = raw.root / "Stimuli" / "Envelopes"
    return _source(raw, steps, lambda story, run: _opening(_envelope, folder / story / f"{story}_{run}_env.mat"))


def _opening(reader: Callable[[Path], Blocks], path: Path) -> tuple[Path, Callable[[], Blocks]]:
    return path, partial(reader, path)


Open = Callable[[str, int], tuple[Path, Callable[[], Blocks]]]
"""The file of a story in a run, and what opens it."""


def _files(root: Path, steps: CocktailPartySteps) -> RawFiles:
    if steps.attention not in ATTENTION:
        choice = "--set attention=readme or --set attention=correction"
        expected = f"{choice}: two tables of who attended to which story differ for 16 of 33 people; none is verified"
        raise BadInput("settings of cocktail-party", "attention", expected, "none chosen")
    return RawFiles.find(root, steps.without)


def _source(raw: RawFiles, steps: CocktailPartySteps, speech: Open) -> Source:
    items = tuple(
        Item(recording_name(subject, run), f"Subject{subject:02d}", (eeg_path(raw.root, subject, run),), take)
        for subject, runs in raw.runs.items()
        for run in runs
        for take in (partial(_takes, raw, steps, speech, subject, run),)
    )
    gone = [f"runs without a file: {'; '.join(raw.missing)}"] if raw.missing else []
    return Source(montage("biosemi128"), items, ("M1", "M2"), tuple(gone))


def _takes(raw: RawFiles, steps: CocktailPartySteps, speech: Open, subject: int, run: int) -> Iterator[Take]:
    assert steps.attention
    attended = attended_story(subject, steps.attention)
    heard = {story: _speech(story, run, *speech(story, run)) for story in STORIES}
    name = recording_name(subject, run)
    eeg = ArrayBlocks(raw.unfiltered(subject, run), EEG_RATE, eeg_path(raw.root, subject, run), steps.unit)
    yield Take(name, eeg, heard[attended], heard[other_story(attended)], ear=EARS[attended])


def _speech(story: str, run: int, path: Path, opened: Callable[[], Blocks]) -> Speech:
    return Speech(f"{story}_{run}", opened, (path,), story, "en", f"{story}, run {run}", story)


def _envelope(path: Path) -> Blocks:
    return ArrayBlocks(np.asarray(rows(path, matlab(path, ("envelope",))["envelope"], "envelope", 1)), EEG_RATE, path)
