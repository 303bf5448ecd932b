"""Frames that overlap by half, and the removal of those in which the reference is silent, as STOI has it."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)


def windowed(wave: NDArray[np.floating], size: int, hop: int) -> Array:
    """Frames [F, size] of a wave [T], T at least ``size``, under a Hann window that is nowhere 0.

    A last frame that would end with the wave is left out, as in the Matlab code that STOI was published with.
    """
    count = -(-(wave.size - size) // hop)
    return np.asarray(_window(size) * np.lib.stride_tricks.sliding_window_view(wave, size)[::hop][:count])


def speaking(frames: Array, range_db: float) -> NDArray[np.bool_]:
    """Which frames [F, size] are less than ``range_db`` below the loudest, [F]."""
    levels = 20 * np.log10(np.linalg.norm(frames, axis=1) + EPS)
    return np.asarray(levels.max() - range_db - levels < 0)


def join(frames: Array) -> Array:
    """Frames [F, 2 H] overlapped by half and added, [(F + 1) H]."""
    half = frames.shape[1] // 2
    wave = np.zeros((len(frames) + 1, half))
    wave[:-1] += frames[:, :half]
    wave[1:] += frames[:, half:]
    return wave.reshape(-1)


@cache
def _window(size: int) -> Array:
    return np.hanning(size + 2)[1:-1]
