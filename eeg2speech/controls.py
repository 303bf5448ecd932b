"""EEG controls: what is done to the EEG at test time to see whether a system uses it.

A control gets the segment's true EEG and may look up other EEG of the same study; it returns an array of the same
shape. Audio is never touched. Its randomness is seeded by evaluation seed, control and segment, so that every system is
asked about exactly the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from eeg2speech.data.store import Store, snap, trials_of
from eeg2speech.data.types import Samples, Segment, Trial
from eeg2speech.errors import BadInput, unknown_name

TRUE_EEG = "true_eeg"


@dataclass(frozen=True)
class Place:
    """Where a segment's EEG comes from, for controls that look elsewhere in the study."""

    store: Store
    segment: Segment

    @cached_property
    def trial(self) -> Trial:
        """The segment's trial."""
        return self.store.trial(self.segment.trial)

    def another_trial(self, candidates: list[Trial], rng: np.random.Generator) -> Samples:
        """EEG of a random window of a random one of ``candidates``."""
        long_enough = [t for t in candidates if t.duration >= self.segment.duration]
        if not long_enough:
            raise BadInput(
                f"trial {self.trial.id!r}", "control", "a trial with other speech to take EEG from", "none long enough"
            )
        chosen = long_enough[int(rng.integers(len(long_enough)))]
        rate = self.store.facts.eeg_rate
        start = snap(float(rng.uniform(0, chosen.duration - self.segment.duration)), rate)
        start = min(start, np.floor((chosen.duration - self.segment.duration) * rate) / rate)
        return self.store.cut_eeg(replace(self.segment, trial=chosen.id, start=float(start)))


Control = Callable[[Samples, Place, np.random.Generator], Samples]


def true_eeg(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """The EEG as recorded."""
    return eeg


def noise_cue(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """White Gaussian noise with each channel's own mean and deviation over the segment."""
    noise = rng.standard_normal(eeg.shape)
    return _float(eeg.mean(1, keepdims=True) + eeg.std(1, keepdims=True) * noise)


def noise_cue_global(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """White Gaussian noise with one mean and deviation for all channels, as published with NeuroCodec."""
    return _float(eeg.mean() + eeg.std() * rng.standard_normal(eeg.shape))


def zero(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """No EEG at all."""
    return np.zeros_like(eeg)


def time_shift(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """EEG of the same trial at another time, at least one window away where the trial is long enough, else as far away
    as it allows. It keeps subject, trial and attended story and breaks only the alignment with the speech."""
    duration, start, length = place.trial.duration, place.segment.start, place.segment.duration
    rate = place.store.facts.eeg_rate
    last = np.floor((duration - length) * rate) / rate
    starts = np.arange(0, round(last * rate) + 1) / rate
    distance = np.abs(starts - start)
    far = starts[distance >= min(length, distance.max())]
    if distance.max() == 0:
        raise BadInput(f"trial {place.trial.id!r}", "time_shift", "a trial longer than the segment", f"{duration} s")
    return place.store.cut_eeg(replace(place.segment, start=float(far[int(rng.integers(len(far)))])))


def other_trial(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """EEG of another trial of the same subject, in which neither of the two stimuli was heard."""
    own = trials_of(place.store, place.trial.subject)
    return place.another_trial([t for t in own if _other_speech(t, place.trial)], rng)


def other_subject(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """EEG of another subject, from a trial in which neither of the two stimuli was heard."""
    others = (t for t in place.store.trials.values() if t.subject != place.trial.subject)
    return place.another_trial([t for t in others if _other_speech(t, place.trial)], rng)


def phase_randomised(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """Surrogate with every channel's own power spectrum and the channels' cross-spectra, but random phases
    (Theiler et al. 1992; one phase sequence for all channels, Prichard and Theiler 1994)."""
    spectrum = np.fft.rfft(eeg, axis=1)
    phases = np.exp(2j * np.pi * rng.random(spectrum.shape[1]))
    phases[0] = 1
    if eeg.shape[1] % 2 == 0:
        phases[-1] = 1
    return _float(np.fft.irfft(spectrum * phases, n=eeg.shape[1], axis=1))


def channel_shuffle(eeg: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """The same signals with their sensors exchanged at random."""
    return eeg[rng.permutation(len(eeg))]


CONTROLS: dict[str, Control] = {
    TRUE_EEG: true_eeg,
    "noise_cue": noise_cue,
    "noise_cue_global": noise_cue_global,
    "zero": zero,
    "time_shift": time_shift,
    "other_trial": other_trial,
    "other_subject": other_subject,
    "phase_randomised": phase_randomised,
    "channel_shuffle": channel_shuffle,
}


def control(name: str) -> Control:
    """A control by name; an unknown one is refused with the nearest name."""
    if name not in CONTROLS:
        raise unknown_name("controls", "control", name, CONTROLS)
    return CONTROLS[name]


def controlled_eeg(name: str, eeg: Samples, store: Store, segment: Segment, seed: int) -> Samples:
    """EEG [C, N] of a segment under a control, float32, of the same shape."""
    words = f"{seed}:{name}:{segment.trial}:{segment.start:.6f}:{segment.duration:.6f}"
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big"))
    return control(name)(eeg, Place(store, segment), rng)


def _other_speech(one: Trial, other: Trial) -> bool:
    """Whether two trials share no stimulus: a shared one, attended or not, would leave its trace in the EEG."""
    return {one.attended, one.unattended}.isdisjoint(s for s in (other.attended, other.unattended) if s is not None)


def _float(array: np.ndarray) -> Samples:
    return array.astype(np.float32)
