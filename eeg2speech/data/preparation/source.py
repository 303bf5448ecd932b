"""What a study's adapter says of the files it found, before any signal is read.

An adapter turns a folder into a ``Source``: a list of items, one a recording. Reading is lazy: an item's ``takes`` are
asked for when its turn has come, and signals are read block by block. Names of items and takes become names of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from eeg2speech.data.preparation.blocks import Blocks
from eeg2speech.data.types import Sensors


@dataclass(frozen=True)
class Speech:
    """A stimulus as the study has it.

    ``key`` tells stimuli apart: what has the same key is the same sound and is read once. ``open`` gives the sound
    [1, T], or, in a study of features, the features [F, N]; it begins when the trial begins. ``files`` are what it is
    read from.
    """

    key: str
    open: Callable[[], Blocks]
    files: tuple[Path, ...] = ()
    speaker: str = ""
    language: str = ""
    title: str = ""
    story: str = ""


@dataclass(frozen=True)
class Take:
    """A trial to be: a stretch of EEG with what was heard.

    ``eeg`` has a row for each sensor of the source, then one for each reference electrode. ``start`` is when the
    speech began, seconds into ``eeg``; what lies before and after it is used for the filters' edges alone. The trial
    is as long as EEG and sound both last, ``seconds`` at most. ``id`` names the trial, unique in the study. ``part`` is
    ``train``, ``valid`` or ``test`` where the study's authors say so. ``ear`` is 'left' or 'right' where known.
    ``bad`` are sensors that the authors found bad.
    """

    id: str
    eeg: Blocks
    attended: Speech
    unattended: Speech | None = None
    start: float = 0.0
    seconds: float | None = None
    ear: str = ""
    part: str = ""
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """A recording to be: takes of one subject, laid end to end in the store. ``files`` hold its EEG and its events.

    ``takes`` raises BadInput for what it cannot use.
    """

    id: str
    subject: str
    files: tuple[Path, ...]
    takes: Callable[[], Iterable[Take]]


@dataclass(frozen=True)
class Source:
    """A study's files. ``references`` names the electrodes that follow the sensors in the rows of the EEG, such as
    mastoids. ``missing`` is what a whole copy would have and this one has not, ``notes`` what was decided by the data;
    both in words, told and kept."""

    sensors: Sensors
    items: tuple[Item, ...]
    references: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
