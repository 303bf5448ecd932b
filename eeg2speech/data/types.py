"""The nouns of the data layer. All of them are frozen: data is described once and never edited.

Times are in seconds, sample counts are integers, EEG is in microvolt, sensor positions are in metres
(head coordinates: x to the right ear, y to the nose, z up).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput

Samples = NDArray[np.float32]


def content_hash(array: NDArray[np.generic]) -> str:
    """Name of an array by its content: the first 16 hex digits of SHA-256 over shape, dtype and bytes."""
    digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    if array.size:
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Sensors:
    """EEG sensors: names [C] and positions [C, 3] in metres, in the order of the recording's rows."""

    names: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.positions):
            raise BadInput("Sensors", "positions", f"{len(self.names)} positions", len(self.positions))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class StudyFacts:
    """What is known of a data set before any file is read.

    ``note`` is the sentence that every table prints about this data (for example "simulated EEG, real speech");
    ``doi`` may be empty for the embedded study only. ``stimuli`` is what the study keeps of the speech: ``audio``, or,
    where no audio is published, a feature, ``envelope`` or ``mel``; ``audio_rate`` is its rate in Hz. ``splits`` are
    those used in the literature, in words.
    """

    name: str
    title: str
    licence: str
    citation: str
    doi: str
    how_to_get: str
    note: str
    audio_rate: int
    eeg_rate: int
    known_problems: tuple[str, ...] = ()
    stimuli: str = "audio"
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stimulus:
    """One piece of speech, stored once: sound [samples], or of a study without sound features [bands, samples]; of
    sound ``bands`` is 0. ``id`` is the hash of its samples. ``story`` is the book or talk it is a part of, empty where
    the study tells of none."""

    id: str
    samples: int
    rate: int
    speaker: str
    language: str
    title: str
    story: str = ""
    bands: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its array."""
        return (self.bands, self.samples) if self.bands else (self.samples,)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Recording:
    """One subject's EEG [C, N] in microvolt at ``rate`` Hz; ``samples`` is N, ``hash`` names the content."""

    id: str
    subject: str
    samples: int
    rate: int
    hash: str


@dataclass(frozen=True)
class Trial:
    """A stretch of a recording with what was attended and, where there is one, what was not.

    ``start`` and ``duration`` are seconds in the recording; both stimuli begin at the trial's start. ``ear`` is where
    the attended one was heard, such as 'left', empty where both were heard alike or the study does not tell. ``part``
    is the part of the authors' own split, empty where they have none.
    """

    id: str
    recording: str
    subject: str
    start: float
    duration: float
    attended: str
    unattended: str | None = None
    ear: str = ""
    part: str = ""

    @property
    def pair(self) -> str:
        """Name of the stimulus pair, the same whichever of the two is attended."""
        return "+".join(sorted(s for s in (self.attended, self.unattended) if s is not None))


@dataclass(frozen=True)
class Segment:
    """A window of a trial: ``start`` and ``duration`` are seconds from the trial's beginning."""

    trial: str
    start: float
    duration: float


@dataclass(frozen=True)
class Cut:
    """The signals of one segment, over exactly the same time.

    ``attended`` and ``unattended`` are [T] at the study's audio rate, ``eeg`` is [C, N] in microvolt.
    """

    segment: Segment
    attended: Samples
    unattended: Samples | None
    eeg: Samples


@dataclass(frozen=True)
class Index:
    """Everything a store knows except the signals; what splitters and audits work on."""

    study: StudyFacts
    revision: str
    sensors: Sensors
    recordings: Sequence[Recording]
    stimuli: Sequence[Stimulus]
    trials: Sequence[Trial]
    settings: dict[str, object] = field(default_factory=dict)


def sides(trial: Trial, speakers: Mapping[str, str]) -> tuple[str, str]:
    """The two stimuli of a trial in canonical order (speaker, then id), which says nothing about attention.

    ``speakers`` gives the speaker of each stimulus id. Raises BadInput for a trial with one stimulus only.
    """
    if trial.unattended is None:
        raise BadInput(f"trial {trial.id!r}", "unattended", "a second stimulus", "none")
    first, second = sorted((trial.attended, trial.unattended), key=lambda s: (speakers[s], s))
    return first, second
