"""From clean stimuli to what a listener hears: the mixture of a segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment
from eeg2speech.errors import BadInput


@dataclass(frozen=True)
class Scene:
    """A segment as heard: ``mixture = target + interferer``, each [T]; ``eeg`` is [C, N] in microvolt.

    Of a trial with one talker the interferer is silent. In a study of features each is [F, T], and the mixture, which
    features do not have, is the target.
    """

    segment: Segment
    mixture: Samples
    target: Samples
    interferer: Samples
    eeg: Samples


LEVEL = 0.05
"""Root mean square over the trial that the target is brought to, -26 dB of full scale."""


class Mixer:
    """Mixes the two talkers of a trial at a fixed ratio of their mean powers over the trial.

    The ratio of a single window varies, as it does in a room. Both talkers are brought to a level of their own, whoever
    is attended: were the mixture as loud as the attended stimulus, its loudness would tell the target.
    """

    def __init__(self, store: Store, target_to_interferer_db: float = 0.0) -> None:
        self.store, self.ratio_db = store, target_to_interferer_db
        self._rms: dict[tuple[str, float], float] = {}

    def scene(self, segment: Segment) -> Scene:
        """Cut and mix one segment."""
        rate = self.store.facts.audio_rate
        begin = round(segment.start * rate)
        # The cut comes first: it refuses a segment that leaves its trial.
        eeg = self.store.cut_eeg(segment)
        target, interferer = self.talkers(segment.trial, begin, begin + round(segment.duration * rate))
        if interferer is None:
            return Scene(segment, target, target, np.zeros_like(target), eeg)
        mixture = target + interferer if self._sound else target
        return Scene(segment, mixture, target, interferer, eeg)

    def talkers(self, name: str, begin: int, end: int) -> tuple[Samples, Samples | None]:
        """Target and interferer of a trial at their levels, audio samples ``begin`` to ``end``; of a trial with one
        talker the second is None. Features have no level: they are as the study has them."""
        trial = self.store.trial(name)
        target = self._heard(trial.attended, trial.duration, begin, end, 1.0)
        if trial.unattended is None:
            return target, None
        softer = 10 ** (-self.ratio_db / 20)
        return target, self._heard(trial.unattended, trial.duration, begin, end, softer)

    def both(self, name: str, begin: int, end: int) -> tuple[Samples, Samples]:
        """As ``talkers``, of a trial with two. Raises BadInput for one with one."""
        target, interferer = self.talkers(name, begin, end)
        if interferer is None:
            raise BadInput(f"trial {name!r}", "unattended", "a second talker to mix with", "none")
        return target, interferer

    def _heard(self, stimulus: str, seconds: float, begin: int, end: int, factor: float) -> Samples:
        cut = self.store.stimulus(stimulus)[..., begin:end]
        return self._gain(stimulus, seconds, factor) * cut if self._sound else np.array(cut)

    @property
    def _sound(self) -> bool:
        return self.store.facts.stimuli == "audio"

    def alone(self, stimulus: str, seconds: float, decibel: float) -> Samples:
        """The first ``seconds`` of a stimulus, ``decibel`` above the suite's level over that time."""
        gain = self._gain(stimulus, seconds, 10 ** (decibel / 20))
        return gain * self.store.stimulus(stimulus)[: round(seconds * self.store.facts.audio_rate)]

    def _gain(self, stimulus: str, seconds: float, factor: float = 1.0) -> np.float32:
        return np.float32(factor * LEVEL / self._level(stimulus, seconds))

    def _level(self, stimulus: str, seconds: float) -> float:
        key = (stimulus, seconds)
        if key not in self._rms:
            audio = self.store.stimulus(stimulus)[: round(seconds * self.store.facts.audio_rate)]
            level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
            if level < 1e-6:
                raise BadInput(f"stimulus {stimulus!r}", "level", "audible speech", f"root mean square {level:.1e}")
            self._rms[key] = level
        return self._rms[key]
