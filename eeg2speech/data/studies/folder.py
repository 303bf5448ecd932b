"""A folder with one's own data: EEG files, speech files, and one table of trials.

::

    FOLDER/trials.csv         one line a trial; `eeg2speech template FOLDER` writes one to fill in
    FOLDER/eeg/...            EEG that MNE reads (EDF, BDF, BrainVision, FIF, ...), or numbers in .npy or HDF5
    FOLDER/speech/...         WAV or FLAC, or features in .npy

Where the files lie in the folder is free: the table names them. Its columns are ``subject``, ``eeg``, ``start`` (when
the speech begins, seconds into the EEG file) and ``attended``; of which others there may be, see ``folder_table.Row``.
The folder itself or the one that holds it may be named.

Decisions:

- An EEG file is a recording; its trials are laid end to end in the table's order. A subject may have several files.
- A trial lasts as long as EEG and all of its sounds, or as its ``duration`` says, which has to lie within all of them.
- Sensors are the EEG channels that all files have, in the order of the first. Files that differ are refused, unless
  ``sensors=common``. Channels of one name, whatever its case, are one sensor.
- Places of sensors come from the first EEG file, or from the template that ``montage`` names, which goes first.
- Trials that overlap in one file are told, for a split may put the same EEG on both of its sides.
- Paths lead to below the folder, unless ``outside=true``. Sound of several channels is refused, unless ``stereo`` says
  what is to be done with it.

All problems of a folder are found and told together: ``check``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from eeg2speech.data.preparation.source import Source
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.folder_files import FolderFiles, Kind, kind_of
from eeg2speech.data.studies.folder_table import told, write_template
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

__all__ = ["FolderSteps", "check", "folder", "folder_envelopes", "folder_mels", "notes", "source", "write_template"]

FACTS = StudyFacts(
    name="folder",
    title="A folder with one's own data",
    licence="that of the data",
    citation="none: one's own data",
    doi="",
    how_to_get=(
        "`eeg2speech template FOLDER` writes a table of trials to fill in, `eeg2speech check-folder FOLDER` tells what "
        "is wrong with it, `eeg2speech prepare folder --root FOLDER` prepares it"
    ),
    note="one's own EEG and speech, as a table of trials says",
    audio_rate=16_000,
    eeg_rate=128,
    splits=("of the table's column part, if it has one",),
)


@dataclass(frozen=True)
class FolderSteps(Steps):
    """Settings of a folder.

    Args:
        trials: name of the table, in the folder.
        montage: template of MNE that knows the places of the sensors, such as biosemi64 or easycap-M1, for files
            that do not.
        channels: names of the rows of bare numbers, separated by commas, or ``montage`` where they are in its order.
        references: names of reference electrodes among the channels, separated by commas (``reference=electrodes``).
        exclude: names of channels that are no sensors, separated by commas.
        sensors: what is done when EEG files have other channels: ``same`` refuses them, ``common`` takes those that all
            have.
        stereo: which channel of a sound with several is taken: ``left``, ``right`` or the ``mean``.
        outside: whether paths may lead out of the folder.
        title: of the data, for tables.
        licence: of the data, for records.
    """

    trials: str = "trials.csv"
    montage: str = ""
    channels: str = ""
    references: str = ""
    exclude: str = ""
    sensors: Literal["same", "common"] = "same"
    stereo: Literal["", "mean", "left", "right"] = ""
    outside: bool = False
    title: str = ""
    licence: str = ""


@dataclass(frozen=True)
class FeatureSteps(FolderSteps):
    """Settings of a folder with features, at the rate of the auditory EEG challenge unless told."""

    audio_rate: int = 64


class FolderStudy(RawStudy[FolderSteps]):
    """A study whose title and licence are its users' to tell."""

    @property
    def facts(self) -> StudyFacts:
        """With what the settings say."""
        known, steps = super().facts, self.steps
        return replace(known, title=steps.title or known.title, licence=steps.licence or known.licence)


def folder() -> FolderStudy:
    """One's own data, with the sound of the speech."""
    return FolderStudy(FACTS, FolderSteps, partial(source, kind="audio"))


def folder_envelopes() -> FolderStudy:
    """One's own data, with envelopes of the speech."""
    return _of_features("envelope")


def folder_mels() -> FolderStudy:
    """One's own data, with mel spectrograms of the speech."""
    return _of_features("mel")


def _of_features(kind: Kind) -> FolderStudy:
    name = f"folder-{kind}s"
    how = FACTS.how_to_get.replace("prepare folder ", f"prepare {name} ")
    title = f"{FACTS.title}: {kind}s"
    facts = replace(FACTS, name=name, title=title, how_to_get=how, stimuli=kind, audio_rate=64)
    return FolderStudy(facts, FeatureSteps, partial(source, kind=kind))


def source(root: Path, steps: FolderSteps, kind: Kind = "audio") -> Source:
    """The recordings of a folder, from its table and the headers of its files.

    Raises:
        BadInput: anything is wrong; the first problems are told, and how many there are.
    """
    found = FolderFiles.read(root, steps, kind)
    if found.table.problems:
        raise told(found.table.path, found.table.problems)
    return Source(found.sensors, tuple(found.items()), found.references, notes=tuple(found.notes()))


def check(root: Path, steps: FolderSteps | None = None, kind: Kind | None = None) -> list[str]:
    """All problems of a folder, each a sentence; none if it can be prepared. No signal is read.

    ``kind`` of what is kept of the speech is found by the files if None.
    """
    steps = steps or FolderSteps()
    try:
        found = FolderFiles.read(root, steps, kind or kind_of(root, steps))
    except BadInput as error:
        return [line.strip() for line in str(error).splitlines()]
    return [str(problem) for problem in found.table.problems]


def notes(root: Path, steps: FolderSteps | None = None, kind: Kind | None = None) -> list[str]:
    """What should be known of a folder that can be prepared, each a sentence. Raises BadInput as ``source``."""
    steps = steps or FolderSteps()
    return list(source(root, steps, kind or kind_of(root, steps)).notes)
