"""How near the spectrum of generated speech is to that of the true speech, frame by frame.

Nothing is aligned: the speech is to be that which was heard at that time, so an estimate that comes late is wrong.

[1] A. Gray, J. Markel, "Distance measures for speech processing", TASSP 1976: log spectral distance.
[2] R. Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", PacRim 1993.
[3] K. Tokuda, T. Kobayashi, T. Masuko, S. Imai, "Mel-generalized cepstral analysis", ICSLP 1994: the warped axis.
[4] W. Biesmans et al., "Auditory-inspired speech envelope extraction methods", TNSRE 2017: the power 0.6.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.signal import butter, hilbert, resample_poly, sosfiltfilt

from eeg2speech.metrics.checks import Wave, check_pair
from eeg2speech.metrics.correlation import pearson
from eeg2speech.metrics.mel import log_mel_of, magnitudes, require_rate
from eeg2speech.metrics.sharing import kept
from eeg2speech.metrics.world import power_envelope

Array = NDArray[np.float64]

MEL_SECONDS = 0.25
ENVELOPE_SECONDS = 1.0
"""One period of the slowest frequency that is kept."""
MCD_SECONDS = 0.5
LSD_WINDOW, LSD_HOP = 0.032, 0.016
LSD_FLOOR = 1e-10
"""Least power of a bin, -100 dB where a sine of amplitude 1 is 0 dB: what no one hears is no difference."""
COEFFICIENTS = 24
ALPHA = 0.42
"""All-pass constant that bends the frequency axis to the mel scale at 16 kHz [3]."""
SPEECH_RANGE_DB = 40.0
"""A frame this far below the reference's loudest is a pause, as STOI has it."""
ENVELOPE_RATE = 64
ENVELOPE_BAND = (1.0, 9.0)
ENVELOPE_POWER = 0.6


def mel_correlation(reference: Wave, estimate: Wave, rate: int) -> float:
    """Pearson correlation over time of each band of two log-mel spectrograms (``log_mel``), mean of the 64 bands.

    A band that is flat in either counts as 0. Within [-1, 1]; 1 is no difference but a gain a band, so a gain of the
    estimate changes nothing but what it moves across the floor of 1e-5. Other speech and steady noise give about 0.
    Signals: [T] at 16 kHz.

    Raises:
        BadInput: shapes differ, or another rate. Unscorable: see ``check_pair``; "too short" below 0.25 s.
    """
    require_rate("mel_correlation", rate)
    check_pair(reference, estimate, rate, MEL_SECONDS)
    return float(pearson(log_mel_of(reference), log_mel_of(estimate)).mean())


def log_spectral_distance(reference: Wave, estimate: Wave, rate: int) -> float:
    """Log spectral distance [1] in dB, 0 is no difference: RMS over bins of the difference of levels, mean of frames.

    Power spectra of Hann windows of 32 ms every 16 ms; bins below -100 dB (``LSD_FLOOR``) are raised to it. The scale
    is taken as it is: a gain of 6 dB in all bins costs 6 dB. Signals: [T] at any rate.

    Raises:
        BadInput: shapes differ. Unscorable: see ``check_pair``; "too short" below 0.25 s.
    """
    check_pair(reference, estimate, rate, MEL_SECONDS)
    difference = _levels(reference, rate) - _levels(estimate, rate)
    return float(np.sqrt(np.mean(difference**2, axis=0)).mean())


def mel_cepstral_distortion(reference: Wave, estimate: Wave, rate: int) -> float:
    """Mel-cepstral distortion [2] in dB, 0 is no difference: 10 / ln 10 sqrt(2 sum (c - c')^2) over c1 to c24.

    c is the mel cepstrum [3] (all-pass constant 0.42) of CheapTrick's envelope, which is smooth: pitch is no part of
    it, nor, without c0, is the level of a frame. Mean over the frames within 40 dB of the reference's loudest; no
    alignment. Blind to gain. Numbers of papers that align by time warping first are lower. Signals: [T] at 16 kHz.

    Raises:
        BadInput: shapes differ, another rate, or pyworld is not installed.
        Unscorable: see ``check_pair``; "too short" below 0.5 s.
    """
    require_rate("mel_cepstral_distortion", rate)
    check_pair(reference, estimate, rate, MCD_SECONDS)
    (true, level), (made, _) = _cepstra_and_levels(reference, rate), _cepstra_and_levels(estimate, rate)
    difference = (true - made)[1:, level > level.max() - SPEECH_RANGE_DB]
    return float(10 / np.log(10) * np.sqrt(2 * np.sum(difference**2, axis=0)).mean())


@kept
def _cepstra_and_levels(wave: Wave, rate: int) -> tuple[Array, Array]:
    """Mel cepstra [25, F] and levels in dB [F]."""
    power = power_envelope(wave, rate)
    # A copy: a view would keep the other coefficients in memory.
    return mel_cepstrum(power).copy(), np.asarray(10 * np.log10(power.mean(axis=0)))


def mel_cepstrum(power: Array) -> Array:
    """Power spectra [K, F] -> mel cepstra [25, F] with ln|H| = c0 + sum c_m cos(m w), w the bent frequency [3]."""
    bent = np.linspace(0.0, np.pi, len(power))
    straight = bent - 2 * np.arctan(ALPHA * np.sin(bent) / (1 + ALPHA * np.cos(bent)))
    place = straight / np.pi * (len(power) - 1)
    below = np.minimum(place.astype(int), len(power) - 2)
    share = (place - below)[:, None]
    log_power = np.log(power)
    cepstra = np.fft.irfft(log_power[below] * (1 - share) + log_power[below + 1] * share, axis=0)[: COEFFICIENTS + 1]
    # ln|H| is half of the logarithm of the power, and all terms but the first occur twice.
    cepstra[0] /= 2
    return np.asarray(cepstra)


def envelope_correlation(reference: Wave, estimate: Wave, rate: int) -> float:
    """Pearson correlation of the broadband envelopes, 1 to 9 Hz: the slow rhythm of speech that EEG follows best.

    Envelope: analytic amplitude to the power 0.6 [4], at 64 Hz, band-pass forth and back (order 4 in all). Within
    [-1, 1]; blind to gain and polarity. Signals: [T] at any rate.

    Raises:
        BadInput: shapes differ. Unscorable: see ``check_pair``; "too short" below 1 s.
    """
    check_pair(reference, estimate, rate, ENVELOPE_SECONDS)
    return float(pearson(_slow_envelope(reference, rate), _slow_envelope(estimate, rate)))


def _levels(wave: Wave, rate: int) -> Array:
    """Levels [K, F] in dB; a sine of amplitude 1 at a bin's centre has 0 dB there."""
    size, hop = round(LSD_WINDOW * rate), round(LSD_HOP * rate)
    power = (magnitudes(wave.astype(np.float64), size, hop) / (size / 4)) ** 2
    return np.asarray(10 * np.log10(np.maximum(power, LSD_FLOOR)))


@kept
def _slow_envelope(wave: Wave, rate: int) -> Array:
    """[N] at 64 Hz. The wave is brought to deviation 1 first, so that flatness does not depend on its level."""
    signal = wave.astype(np.float64) - wave.mean(dtype=np.float64)
    loudness = np.abs(hilbert(signal / signal.std(), next_fast_len(signal.size))[: signal.size]) ** ENVELOPE_POWER
    share = Fraction(ENVELOPE_RATE, rate)
    # Without its mean: the zeros that the resampler sees beyond the ends would be steps that all envelopes share.
    slow = resample_poly(loudness - loudness.mean(), share.numerator, share.denominator)
    sections = butter(2, ENVELOPE_BAND, "bandpass", fs=ENVELOPE_RATE, output="sos")
    return np.asarray(sosfiltfilt(sections, slow, padtype="even", padlen=min(slow.size - 1, ENVELOPE_RATE)))
