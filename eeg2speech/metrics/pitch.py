"""Does the melody of generated speech follow that of the true speech?"""

from __future__ import annotations

from eeg2speech.metrics.checks import Unscorable, Wave, check_pair
from eeg2speech.metrics.correlation import pearson
from eeg2speech.metrics.world import pitch_track

F0_SECONDS = 0.5
FEWEST_FRAMES = 10
"""Frames of 10 ms that must be voiced in both: a correlation over less than a syllable is chance."""


def f0_correlation(reference: Wave, estimate: Wave, rate: int) -> float:
    """Pearson correlation of fundamental frequencies (``world.pitch_track``) over frames voiced in both; no alignment.

    Within [-1, 1]; blind to gain and to a voice that is higher throughout; a monotone voice scores 0. It does not ask
    whether the same frames are voiced. Signals: [T] at any rate.

    A whispering or noisy estimate has no pitch, hence no score ("few voiced frames"), rather than a 0 that would say
    that its pitch was followed and found unrelated: read the mean beside the number of failures.

    Raises:
        BadInput: shapes differ, or pyworld is not installed.
        Unscorable: see ``check_pair``; "too short" below 0.5 s; "few voiced frames" with fewer than 10 in common.
    """
    check_pair(reference, estimate, rate, F0_SECONDS)
    true, made = pitch_track(reference, rate)[0], pitch_track(estimate, rate)[0]
    voiced = (true > 0) & (made > 0)
    if voiced.sum() < FEWEST_FRAMES:
        raise Unscorable("few voiced frames")
    return float(pearson(true[voiced], made[voiced]))
