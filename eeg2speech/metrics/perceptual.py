"""Measures that model a listener: PESQ (quality) and STOI (intelligibility), through their reference packages.

[1] ITU-T P.862 (2001) and P.862.1 (2003): PESQ, narrow band. [2] ITU-T P.862.2 (2007): PESQ, wide band.
[3] C. Taal, R. Hendriks, R. Heusdens, J. Jensen, "An algorithm for intelligibility prediction of time-frequency
    weighted noisy speech", TASLP 2011.
[4] J. Jensen, C. Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", TASLP 2016.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from pesq import BufferTooShortError, NoUtterancesError, pesq
from scipy.signal import resample_poly

from eeg2speech.errors import BadInput
from eeg2speech.metrics import intelligibility
from eeg2speech.metrics.checks import Unscorable, Wave, check_pair

PESQ_SECONDS = 0.25
"""Shortest signal that the pesq package takes. The standard was validated on 3.2 s of speech and more."""
STOI_SECONDS = 0.5
"""STOI needs 30 frames that are not silent: 0.4 s."""
WIDE_BAND_RATE = 14_000
"""Lowest rate, in hertz, that holds the band of wide-band PESQ (50 to 7000 Hz)."""


def pesq_wb(reference: Wave, estimate: Wave, rate: int) -> float:
    """Wide-band PESQ [2]: MOS-LQO from about 1.0 (bad) to 4.64 (no difference), at 16 kHz.

    Another rate is resampled to 16 kHz first. Signals: [T].

    Raises:
        BadInput: shapes differ, or a rate below 14 kHz, which has lost part of the band.
        Unscorable: see ``check_pair``; "no utterance detected"; "undefined score".
    """
    if rate < WIDE_BAND_RATE:
        raise BadInput("pesq_wb", "rate", f"at least {WIDE_BAND_RATE} Hz (use pesq_nb)", rate)
    return _pesq(reference, estimate, rate, 16_000, "wb")


def pesq_nb(reference: Wave, estimate: Wave, rate: int) -> float:
    """Narrow-band PESQ [1]: MOS-LQO from about 1.0 (bad) to 4.55 (no difference), at 8 kHz.

    Any other rate is first resampled to 8 kHz by ``scipy.signal.resample_poly``, as the papers on EEG-guided
    extraction do. The package also takes 16 kHz in mode "nb" and then scores at 16 kHz: another number, not this one.

    Raises:
        BadInput: shapes differ. Unscorable: see ``check_pair``; "no utterance detected"; "undefined score".
    """
    return _pesq(reference, estimate, rate, 8_000, "nb")


def stoi(reference: Wave, estimate: Wave, rate: int) -> float:
    """Short-time objective intelligibility [3]: mean correlation of 384 ms one-third octave envelopes, up to 1.

    Signals [T] are resampled to 10 kHz, and the frames dropped where the reference is silent. pystoi's number.

    Raises:
        BadInput: shapes differ. Unscorable: see ``check_pair``; "too little speech" (fewer than 30 frames left).
    """
    check_pair(reference, estimate, rate, STOI_SECONDS)
    return intelligibility.plain(reference, estimate, rate)


def estoi(reference: Wave, estimate: Wave, rate: int) -> float:
    """Extended STOI [4]: correlation of envelopes normalised over time and band, up to 1.

    pystoi's number, but for its noise of 1e-16 against division by zero, which it draws from numpy's global generator.
    Here it is that of a fixed seed, so that the score repeats and the caller's random numbers are left alone.

    Raises:
        BadInput, Unscorable: as ``stoi``.
    """
    check_pair(reference, estimate, rate, STOI_SECONDS)
    return intelligibility.extended(reference, estimate, rate)


def _pesq(reference: Wave, estimate: Wave, rate: int, pesq_rate: int, mode: str) -> float:
    check_pair(reference, estimate, rate, PESQ_SECONDS)
    clean, degraded = _resampled(reference, rate, pesq_rate), _resampled(estimate, rate, pesq_rate)
    try:
        return float(pesq(pesq_rate, clean, degraded, mode))
    except NoUtterancesError:
        raise Unscorable("no utterance detected") from None
    except BufferTooShortError:
        raise Unscorable("too short") from None
    except ValueError as error:
        # The C code divides by the power of one signal, which vanishes if the other is beyond 1e20 times louder.
        if "NaN" not in str(error):
            raise
        raise Unscorable("undefined score") from None


def _resampled(signal: Wave, rate: int, wanted: int) -> Wave:
    if rate == wanted:
        return signal
    common = gcd(rate, wanted)
    return np.asarray(resample_poly(signal, wanted // common, rate // common))
