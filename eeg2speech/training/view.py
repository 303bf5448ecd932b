"""A prepared study as a system under conditions sees it: fewer electrodes, EEG of another time, noise in some windows.

Whatever draws from a study asks its store for EEG, so a store that answers otherwise is all it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eeg2speech.controls import controlled_eeg
from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment, Sensors
from eeg2speech.errors import BadInput

NOISE = "noise_cue"
"""The control that replaces the EEG of noisy windows."""


@dataclass(frozen=True)
class NoisySegment(Segment):
    """A window whose EEG is replaced by what the noise cue, drawn with ``seed``, gives."""

    seed: int


class View(Store):
    """A store whose segments have the EEG of some electrodes alone, or of ``shift`` samples later.

    Electrodes keep the study's order, so that a view of all of them is as the study. EEG from beyond a trial's ends is
    zeros: what was recorded there belongs to other speech, or to none. ``eeg`` and ``verify`` are of whole recordings.

    Args:
        root: folder of the store. rows: electrodes, by their places in the study, ascending.
        shift: EEG samples; positive: the EEG begins later than the sound.
    """

    def __init__(self, root: Path | str, rows: Sequence[int], shift: int = 0) -> None:
        super().__init__(root)
        self.rows, self.shift, self._recorded = tuple(rows), shift, len(self.index.sensors)
        names, positions = self.index.sensors.names, self.index.sensors.positions
        sensors = Sensors(tuple(names[row] for row in rows), tuple(positions[row] for row in rows))
        self.index = replace(self.index, sensors=sensors)

    @classmethod
    def of(cls, store: Store, channels: int | None = None, delay: float = 0.0) -> View:
        """A view with so many electrodes, spread over the head, and so many seconds of delay.

        Raises BadInput for more electrodes than there are.
        """
        sensors = store.index.sensors
        rows = range(len(sensors)) if channels is None else spread(sensors, channels)
        return cls(store.root, rows, round(delay * store.facts.eeg_rate))

    def __reduce__(self) -> tuple[type[View], tuple[Path, tuple[int, ...], int]]:  # type: ignore[override]
        return View, (self.root, self.rows, self.shift)

    @property
    def words(self) -> str:
        """What sets it apart from the study, for a hash."""
        return f"electrodes {self.rows} {self.shift} samples later"

    def eeg(self, recording: str) -> Samples:
        """The whole recording with all its electrodes, as the study has it."""
        shape = (self._recorded, self.recordings[recording].samples)
        return self._map(self.root / "eeg" / f"{recording}.npy", shape)

    def cut_eeg(self, segment: Segment) -> Samples:
        """EEG [C, N] of a segment as a system is given it, a copy in memory."""
        if isinstance(segment, NoisySegment):
            plain = Segment(segment.trial, segment.start, segment.duration)
            return controlled_eeg(NOISE, self._given(plain), self, plain, segment.seed)
        return self._given(segment)

    def _given(self, segment: Segment) -> Samples:
        return self._later(segment) if self.shift else super().cut_eeg(segment)[list(self.rows)]

    def _later(self, segment: Segment) -> Samples:
        """EEG of ``shift`` samples later, zeros beyond the trial."""
        rate, trial = self.facts.eeg_rate, self.trial(segment.trial)
        if segment.start < 0 or segment.start + segment.duration > trial.duration + 1e-6:
            raise BadInput(f"trial {trial.id!r}", "segment", f"a window within 0 to {trial.duration} s", segment)
        first, length = round(segment.start * rate) + self.shift, round(segment.duration * rate)
        begin, end = max(first, 0), min(first + length, int(trial.duration * rate + 1e-6))
        found = np.zeros((len(self.rows), length), np.float32)
        if begin < end:
            inside = Segment(trial.id, begin / rate, (end - begin) / rate)
            found[:, begin - first : end - first] = super().cut_eeg(inside)[list(self.rows)]
        return found


def spread(sensors: Sensors, count: int) -> list[int]:
    """Places of ``count`` electrodes, spread over the head, ascending.

    Farthest-point sampling (Gonzalez 1985) from the topmost one on: each next is the one that is farthest from all
    before it, so that fewer are always among more.

    Raises:
        BadInput: more than there are, or a position that is not known.
    """
    places = np.array(sensors.positions, dtype=np.float64)
    if not 1 <= count <= len(places):
        raise BadInput("conditions", "channels", f"1 to {len(places)}, as the study has", count)
    if not np.isfinite(places).all():
        raise BadInput("conditions", "channels", "a study whose electrodes all have positions", "one without")
    chosen = [int(np.argmax(places[:, 2]))]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    for _ in range(count - 1):
        distance[chosen] = -1.0
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return sorted(chosen)


def noisy(segments: Sequence[Segment], share: float, seed: Sequence[int]) -> list[Segment]:
    """The segments, about ``share`` of them noisy; those of a smaller share are among those of a larger one."""
    rng = np.random.default_rng([*seed, 2])
    draws, seeds = rng.random(len(segments)), rng.integers(2**31, size=len(segments))
    return [
        NoisySegment(segment.trial, segment.start, segment.duration, int(number)) if draw < share else segment
        for segment, draw, number in zip(segments, draws, seeds, strict=True)
    ]
