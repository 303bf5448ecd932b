"""Log-mel spectrograms as AudioLDM reads them and its vocoder, a HiFi-GAN, plays them back.

[1] H. Liu et al., "AudioLDM: text-to-audio generation with latent diffusion models", ICML 2023.
[2] J. Kong, J. Kim, J. Bae, "HiFi-GAN", NeurIPS 2020: framing without centring, so that a hop is a frame.
[3] M. Slaney, "Auditory toolbox", 1998: the mel scale, and filters of equal area.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.metrics.checks import Wave, check_shapes
from eeg2speech.metrics.sharing import kept

Array = NDArray[np.float64]

RATE = 16_000
"""Samples per second; the only rate that these constants are for."""
N_FFT = 1024
WIN = 1024
HOP = 160
"""Samples a frame: 100 frames a second."""
BANDS = 64
FMIN, FMAX = 0.0, 8000.0
"""Edges of the lowest and the highest filter, Hz."""
FLOOR = 1e-5
"""Least mel magnitude: its natural logarithm, -11.5, is silence."""
BLOCK = 32
PAD = (N_FFT - HOP) // 2
"""Samples that are reflected at either end."""


def log_mel(wave: Wave, rate: int = RATE) -> Array:
    """Natural logarithm of the mel magnitudes of a wave [T], full scale 1.0, as [64, T // 160].

    Magnitudes, not powers, of a periodic Hann window's spectrum; frame k is centred on sample 160 k + 80.

    Raises:
        BadInput: not a floating-point [T] array, shorter than 433 samples (what is reflected, and one), not 16 kHz.
    """
    require_rate("log_mel", rate)
    check_shapes(wave)
    if wave.size <= PAD:
        raise BadInput("log_mel", "wave", f"at least {PAD + 1} samples", wave.size)
    return log_mel_of(wave).copy()


@kept
def log_mel_of(wave: Wave) -> Array:
    """``log_mel`` of a wave that is fit for it; read-only while a segment is scored."""
    spectra = magnitudes(np.pad(wave.astype(np.float64), PAD, mode="reflect"), WIN, HOP)
    return np.asarray(np.log(np.maximum(_filtered(spectra), FLOOR)))


def _filtered(spectra: Array) -> Array:
    """Spectra [513, F] through the filters, [64, F], without the products with their zeros."""
    # einsum rather than @: its sums do not depend on the number of BLAS threads.
    bands = [
        np.einsum("k,kf->f", filters[bins], spectra[bins])
        for filters, bins in zip(mel_filterbank(), _bins(), strict=True)
    ]
    return np.stack(bands)


@cache
def _bins() -> tuple[slice, ...]:
    """The bins that each filter reads. Whole blocks of 32: einsum adds up in parallel within blocks of a power of two,
    so that each sum is that over all bins, to the last bit."""
    reach = [np.flatnonzero(row)[[0, -1]] for row in mel_filterbank()]
    return tuple(slice(int(first) // BLOCK * BLOCK, (int(last) // BLOCK + 1) * BLOCK) for first, last in reach)


@cache
def mel_filterbank() -> Array:
    """Slaney's triangular filters [64, 513]: equal steps on his mel scale, each of area 1 Hz. Not to be written to."""
    edges = _hertz(np.linspace(_mel(FMIN), _mel(FMAX), BANDS + 2))[:, None]
    bins = np.linspace(0.0, RATE / 2, N_FFT // 2 + 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (high - low)
    filters.setflags(write=False)
    return np.asarray(filters)


def magnitudes(wave: Array, size: int, hop: int) -> Array:
    """Magnitude spectra [size // 2 + 1, F] of the frames that lie wholly in the wave [T], periodic Hann windows."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * window, axis=-1)).T)


def require_rate(where: str, rate: int) -> None:
    """Raise ``BadInput`` unless the rate is 16 kHz."""
    if rate != RATE:
        raise BadInput(where, "rate", f"{RATE} Hz", rate)


_LINEAR = 200.0 / 3
"""Hertz a mel below the break at 1 kHz, which is mel 15; above, 27 mels are a factor of 6.4."""
_BREAK_HERTZ, _BREAK_MEL, _STEP = 1000.0, 15.0, np.log(6.4) / 27


def _mel(hertz: float) -> float:
    above = _BREAK_MEL + np.log(max(hertz, _BREAK_HERTZ) / _BREAK_HERTZ) / _STEP
    return float(above if hertz > _BREAK_HERTZ else hertz / _LINEAR)


def _hertz(mel: Array) -> Array:
    above = _BREAK_HERTZ * np.exp(_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.asarray(np.where(mel > _BREAK_MEL, above, mel * _LINEAR))
