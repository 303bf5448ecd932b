"""STOI and ESTOI, with what they share computed once: signals at 10 kHz, speaking frames, third-octave envelopes.

The measure is that of the package pystoi, to the last bit (a test compares); resampler, bands and constants are its
own. The package takes both signals and gives one number, so that it would do everything twice for the two measures, and
once more for every estimate of a reference.

[1] C. Taal, R. Hendriks, R. Heusdens, J. Jensen, "An algorithm for intelligibility prediction of time-frequency
    weighted noisy speech", TASLP 2011.
[2] J. Jensen, C. Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", TASLP 2016.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pystoi.stoi import BETA, DYN_RANGE, FS, N_FRAME, NFFT, OBM, N
from pystoi.utils import EPS, resample_oct

from eeg2speech.metrics.checks import Unscorable, Wave
from eeg2speech.metrics.frames import join, speaking, windowed
from eeg2speech.metrics.sharing import kept, shared

Array = NDArray[np.float64]

HOP = N_FRAME // 2
LONGEST_KEPT = 2**22
"""Numbers of noise that are kept, 32 MiB: enough for 29 s of speech."""
CLIP = 1 + 10 ** (-BETA / 20)
"""An envelope may be this many times that of the reference: errors beyond -15 dB make nothing worse [1]."""


def plain(reference: Wave, estimate: Wave, rate: int) -> float:
    """STOI [1] of checked signals [T]. Raises Unscorable: "too little speech"."""
    x, y = _stretches(_envelopes(reference, reference, rate)), _stretches(_envelopes(estimate, reference, rate))
    levelled = y * (_norms(x) / (_norms(y) + EPS))
    x, y = (part - part.mean(axis=2, keepdims=True) for part in (x, np.minimum(levelled, x * CLIP)))
    x, y = (part / (_norms(part) + EPS) for part in (x, y))
    return float(np.sum(y * x) / (x.shape[0] * x.shape[1]))


def extended(reference: Wave, estimate: Wave, rate: int) -> float:
    """ESTOI [2] of checked signals [T]. Raises Unscorable: "too little speech"."""
    x, y = _stretches(_envelopes(reference, reference, rate)), _stretches(_envelopes(estimate, reference, rate))
    noise = _noise(4 * x.size).reshape(4, *x.shape)
    return float(np.sum(_whitened(x, noise[:2]) * _whitened(y, noise[2:]) / N) / len(x))


@kept
def _envelopes(signal: Wave, reference: Wave, rate: int) -> Array:
    """Third-octave envelopes [15, F] of a signal, in the frames of 26 ms where the reference speaks."""
    wave = join(windowed(_at_10_khz(signal, rate), N_FRAME, HOP)[_speaking(reference, rate)])
    spectra = np.fft.rfft(windowed(wave, N_FRAME, HOP), n=NFFT).T
    if spectra.shape[1] < N:
        raise Unscorable("too little speech")
    return np.asarray(np.sqrt(np.matmul(OBM, np.square(np.abs(spectra)))))


@kept
def _speaking(reference: Wave, rate: int) -> NDArray[np.bool_]:
    return speaking(windowed(_at_10_khz(reference, rate), N_FRAME, HOP), DYN_RANGE)


@shared
def _at_10_khz(signal: Wave, rate: int) -> Wave:
    return signal if rate == FS else np.asarray(resample_oct(signal, FS, rate))


def _stretches(envelopes: Array) -> Array:
    """All stretches of 384 ms, [J, 15, 30]."""
    views = np.lib.stride_tricks.sliding_window_view(envelopes, N, axis=1)
    # The order of sums, hence the last bit, depends on the layout.
    return np.ascontiguousarray(views.transpose(1, 0, 2))


def _norms(stretches: Array) -> Array:
    return np.asarray(np.linalg.norm(stretches, axis=2, keepdims=True))


def _whitened(stretches: Array, noise: Array) -> Array:
    """Zero mean and norm 1 over time in each band, then over bands at each time, with noise [2, ...] before each."""
    for axis, little in zip((2, 1), noise, strict=True):
        moved = stretches + little
        moved -= moved.mean(axis=axis, keepdims=True)
        stretches = moved * (1.0 / np.sqrt(np.sum(np.square(moved), axis=axis, keepdims=True)))
    return stretches


def _noise(count: int) -> Array:
    """The first ``count`` numbers of a stream of noise of 1e-16, always the same. It guards divisions by zero."""
    # A power of two, for segments of one length differ in how long they speak.
    size = 1 << (count - 1).bit_length()
    return _stream(size)[:count] if size <= LONGEST_KEPT else _drawn(count)


@lru_cache(maxsize=2)
def _stream(count: int) -> Array:
    return _drawn(count)


def _drawn(count: int) -> Array:
    return np.asarray(EPS * np.random.RandomState(0).standard_normal(count))
