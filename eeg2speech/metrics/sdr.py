"""Signal-to-distortion ratios, in decibels, higher is better.

All of them stay within plus or minus ``CEILING_DB`` so that a mean over segments is finite: a perfect estimate scores
100 dB, an estimate orthogonal to the reference -100 dB. (100 dB is beyond 16-bit audio; torchmetrics returns the
rounding error of its data type there, fast_bss_eval raises an exception.)

Written here in numpy rather than called: fast_bss_eval imports torch where torch is installed. Sums are numpy's
pairwise sums and the solver is Levinson's, neither of which depends on the number of BLAS threads, so a score is the
same to the last bit in any process.

[1] J. Le Roux, S. Wisdom, H. Erdogan, J. Hershey, "SDR: half-baked or well done?", ICASSP 2019.
[2] E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source separation", TASLP 2006.
[3] R. Scheibler, "SDR: medium rare with fast computations", ICASSP 2022.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import LinAlgError, solve_toeplitz

from eeg2speech.metrics.checks import Unscorable, Wave, check_audible, check_pair, check_shapes
from eeg2speech.metrics.sharing import kept, shared

CEILING_DB = 100.0
FILTER_TAPS = 512
"""Length of the distortion filter that SDR forgives: the constant of BSS Eval, 32 ms at 16 kHz."""


def si_sdr(reference: Wave, estimate: Wave) -> float:
    """Scale-invariant SDR [1], both signals made zero-mean: 10 log10(|a s|^2 / |a s - e|^2), a = <e, s> / <s, s>.

    Args:
        reference: s [T]. estimate: e [T].

    Returns:
        dB within [-100, 100]; blind to the scale and to the polarity of the estimate.

    Raises:
        BadInput: shapes differ. Unscorable: a signal is silent (a constant is) or not finite.
    """
    check_pair(reference, estimate)
    return _si_sdr_without_mean(reference, estimate)


def si_sdr_with_mean(reference: Wave, estimate: Wave) -> float:
    """``si_sdr`` of the signals as they are, no mean removed: a constant offset counts as distortion.

    Raises:
        BadInput, Unscorable: as ``si_sdr``.
    """
    check_pair(reference, estimate)
    return _si_sdr(reference.astype(np.float64), estimate.astype(np.float64))


@kept
def _si_sdr_without_mean(reference: Wave, estimate: Wave) -> float:
    return _si_sdr(_centred(reference), _centred(estimate))


def _si_sdr(s: Wave, e: Wave) -> float:
    target = np.sum(e * s) / np.sum(s * s) * s
    return _decibel(float(np.sum(target**2)), float(np.sum((target - e) ** 2)))


def si_sdr_improvement(reference: Wave, estimate: Wave, mixture: Wave) -> float:
    """SI-SDR of the estimate minus SI-SDR of the unprocessed mixture, dB: 0 for a system that returns its input.

    Raises:
        BadInput, Unscorable: as ``si_sdr``, and Unscorable("silent mixture") or ("non-finite mixture").
    """
    check_shapes(reference, mixture=mixture)
    check_audible("mixture", mixture)
    return si_sdr(reference, estimate) - si_sdr(reference, mixture)


def sdr(reference: Wave, estimate: Wave) -> float:
    """SDR of BSS Eval [2] in its fast form [3]: 10 log10(c / (1 - c)), c = b' R^-1 b / <e, e>.

    R [512, 512] is the Toeplitz matrix of the autocorrelation of s, b [512] the cross-correlation of s and e: c is the
    share of the energy of e that the best 512-tap filter of s explains. No mean is removed, as in BSS Eval.

    Returns:
        dB within [-100, 100]; blind to scale, polarity and any short filter.

    Raises:
        BadInput: shapes differ. Unscorable: silent or non-finite signal; "too short" for up to 1024 samples (two a
        tap); "degenerate reference" if its delayed copies are the same to rounding (a slow swell), where the reference
        packages return noise.
    """
    check_pair(reference, estimate, rate=1, min_seconds=2 * FILTER_TAPS + 1)
    autocorrelation, correlation = _autocorrelation(reference), _correlation(reference, estimate)
    try:
        taps = solve_toeplitz(autocorrelation, correlation)
    except LinAlgError:
        raise Unscorable("degenerate reference") from None
    explained = float(np.sum(taps * correlation))
    if not -_ROUNDING < explained < 1 + _ROUNDING:
        raise Unscorable("degenerate reference")
    return _decibel(explained, 1 - explained)


_ROUNDING = 1e-6
"""By how much a share of energy may leave [0, 1] before the solution is called wrong."""


@kept
def _autocorrelation(reference: Wave) -> NDArray[np.float64]:
    """Lags 0 to 511, of the reference at unit energy."""
    return _first_lags(np.abs(_spectrum(reference)) ** 2, reference.size)


def _correlation(reference: Wave, estimate: Wave) -> NDArray[np.float64]:
    """Lags 0 to 511, of both at unit energy."""
    return _first_lags(_spectrum(reference).conj() * _spectrum(estimate), reference.size)


@shared
def _spectrum(signal: Wave) -> NDArray[np.complex128]:
    return np.asarray(rfft(_unit_energy(signal), _length(signal.size)))


def _first_lags(spectrum: NDArray[Any], size: int) -> NDArray[np.float64]:
    # A copy: a view would keep all lags in memory.
    return np.array(irfft(spectrum, _length(size))[:FILTER_TAPS])


def _length(size: int) -> int:
    """Of a transform in which no lag that counts meets another one."""
    return int(next_fast_len(size + FILTER_TAPS, real=True))


@shared
def _centred(signal: Wave) -> NDArray[np.float64]:
    wave = signal.astype(np.float64)
    return np.asarray(wave - wave.mean())


def _unit_energy(signal: Wave) -> NDArray[np.float64]:
    wave = signal.astype(np.float64)
    return np.asarray(wave / np.sqrt(np.sum(wave**2)))


def _decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise) within the ceiling; either energy may be zero or, by rounding, slightly below."""
    least = 10 ** (-CEILING_DB / 10)
    if noise <= least * signal:
        return CEILING_DB
    if signal <= least * noise:
        return -CEILING_DB
    return 10 * math.log10(signal / noise)
