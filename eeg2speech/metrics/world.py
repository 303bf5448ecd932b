"""Pitch and spectral envelope by WORLD, the analysis that the package pyworld wraps.

[1] M. Morise, F. Yokomori, K. Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system", IEICE 2016.
[2] M. Morise, "CheapTrick, a spectral envelope estimator for high-quality speech synthesis", Speech Comm. 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eeg2speech.metrics.checks import Wave
from eeg2speech.metrics.packages import package
from eeg2speech.metrics.sharing import kept

Array = NDArray[np.float64]

FRAME_SECONDS = 0.01
F0_RANGE = (60.0, 500.0)
"""Hertz: from a low male voice to an excited female one. A child's shout lies above."""


@kept
def pitch_track(wave: Wave, rate: int) -> tuple[Array, Array]:
    """Fundamental frequency in Hz [F], 0 where unvoiced, and the time of each frame in seconds [F], every 10 ms.

    Dio, refined by StoneMask. Harvest would take 50 times as long, and it calls nearly every frame voiced, pauses too.
    Read-only while a segment is scored.
    """
    world, signal = package("pyworld", "pyworld"), np.ascontiguousarray(wave, dtype=np.float64)
    low, high = F0_RANGE
    coarse, times = world.dio(signal, rate, f0_floor=low, f0_ceil=high, frame_period=1000 * FRAME_SECONDS)
    return np.asarray(world.stonemask(signal, coarse, times, rate)), np.asarray(times)


def power_envelope(wave: Wave, rate: int) -> Array:
    """CheapTrick's smooth power spectrum [K, F], K bins from 0 Hz to rate / 2 (513 at 16 kHz), every 10 ms."""
    world, signal = package("pyworld", "pyworld"), np.ascontiguousarray(wave, dtype=np.float64)
    f0, times = pitch_track(wave, rate)
    return np.asarray(world.cheaptrick(signal, f0, times, rate, f0_floor=F0_RANGE[0])).T
