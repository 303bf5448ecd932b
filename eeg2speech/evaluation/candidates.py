"""Candidate sets: the distinct speech of the test segments, in a fixed order, with a hash.

Several listeners hear a stimulus, so segments share candidates; and speech may occur twice in a study. What has the
same samples is one candidate: a set with a candidate twice would make its rank a coin's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment, content_hash
from eeg2speech.evaluation.scoring import device_of
from eeg2speech.records import CandidatesRef
from eeg2speech.systems.interface import System

BATCH = 16


@dataclass(frozen=True)
class Window:
    """Where a candidate's sound is found: attended or not in a trial, audio samples ``begin`` to ``end``."""

    trial: str
    attended: bool
    begin: int
    end: int

    def sound(self, mixer: Mixer, whole: bool = False) -> Samples:
        """[T] at the level at which the trial is heard; with ``whole``, of the whole trial."""
        store = mixer.store
        last = round(store.trial(self.trial).duration * store.facts.audio_rate)
        talkers = mixer.talkers(self.trial, 0, last) if whole else mixer.talkers(self.trial, self.begin, self.end)
        sound = talkers[0 if self.attended else 1]
        assert sound is not None, "a window of the unattended talker is of a trial that has one"
        return sound


@dataclass(frozen=True)
class Candidates:
    """The candidates of some segments.

    ``windows`` are the distinct ones, by hash of their sound, in order of appearance; ``attended`` and ``unattended``
    are each segment's own, as hashes, the second None where there was one talker. Only what somebody attends to is a
    candidate.
    """

    mixer: Mixer
    segments: tuple[Segment, ...]
    windows: dict[str, Window]
    others: dict[str, Window]
    attended: tuple[str, ...]
    unattended: tuple[str | None, ...]

    @classmethod
    def of(cls, store: Store, segments: Sequence[Segment], mixer: Mixer) -> Candidates:
        """Find the candidates of test segments."""
        found: tuple[dict[str, Window], dict[str, Window]] = ({}, {})
        names: tuple[list[str], list[str | None]] = ([], [])
        for segment in segments:
            begin = round(segment.start * store.facts.audio_rate)
            end = begin + round(segment.duration * store.facts.audio_rate)
            attended, unattended = mixer.talkers(segment.trial, begin, end)
            names[0].append(content_hash(attended))
            found[0].setdefault(names[0][-1], Window(segment.trial, True, begin, end))
            other = None if unattended is None else content_hash(unattended)
            names[1].append(other)
            if other is not None:
                found[1].setdefault(other, Window(segment.trial, False, begin, end))
        return cls(mixer, tuple(segments), *found, tuple(names[0]), tuple(names[1]))

    @property
    def rows(self) -> list[int]:
        """Row of each segment's true candidate, in the order of ``windows``."""
        return [self._places[name] for name in self.attended]

    @property
    def other_rows(self) -> list[int] | None:
        """Row in ``embeddings`` of what each segment's listener does not attend to; None where a segment has no such
        talker."""
        rows = [self._places[name] for name in self.unattended if name is not None]
        return rows if len(rows) == len(self.unattended) else None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.windows | self.others)}

    @cached_property
    def reference(self) -> CandidatesRef:
        """What a record says of the set."""
        store = self.mixer.store
        heard = {(store.trial(s.trial).attended, s.start, s.duration) for s in self.segments}
        digest = hashlib.sha256(" ".join(self.windows).encode()).hexdigest()[:16]
        return CandidatesRef(
            n=len(self.windows),
            duplicates=len(heard) - len(self.windows),
            hash=digest,
            seconds=self.segments[0].duration,
        )

    def embeddings(self, system: System) -> NDArray[np.float32]:
        """What a system makes of the candidates, and after them of unattended speech that is none: rows of D x F."""
        wanted = list((self.others | self.windows)[name] for name in self._places)
        parts = self._embedded(system, wanted)
        first = next(parts)
        found = np.empty((len(wanted), first.shape[1]), np.float32)
        found[: len(first)] = first
        for number, part in enumerate(parts, start=1):
            found[number * BATCH : number * BATCH + len(part)] = part
        return found

    def _embedded(self, system: System, windows: Sequence[Window]) -> Iterator[NDArray[np.float32]]:
        device = device_of(system)
        for begin in range(0, len(windows), BATCH):
            batch = windows[begin : begin + BATCH]
            with torch.inference_mode():
                if system.facts.sees == "stimuli":
                    stimuli = [torch.from_numpy(window.sound(self.mixer, whole=True)).to(device) for window in batch]
                    found = torch.stack(
                        [
                            system.embed_speech_in(stimulus, window.begin, window.end)
                            for stimulus, window in zip(stimuli, batch, strict=True)
                        ]
                    )
                else:
                    waves = torch.from_numpy(np.stack([window.sound(self.mixer) for window in batch]))
                    found = system.embed_speech(waves.to(device))
            yield found.float().flatten(1).cpu().numpy()
