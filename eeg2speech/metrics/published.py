"""Measures as the code behind published numbers on the Cocktail Party data computes them.

They differ from those of the same names without the suffix: silent frames of the reference are cut out of both signals
first, and PESQ is narrow-band at 8 kHz behind Octave's resampling filter. (Its ESTOI is a training loss of its own and
is not here.) Source: the file ``calculate_intelligibility.py`` shared by BASEN and M3ANet; frames as in STOI's package.
The sound that it scores was brought from 44.1 to 14.7 kHz by taking every third sample, without a filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pystoi.utils import resample_oct

from eeg2speech.metrics.checks import Unscorable, Wave, check_pair
from eeg2speech.metrics.frames import join, speaking, windowed
from eeg2speech.metrics.perceptual import PESQ_SECONDS, pesq_nb
from eeg2speech.metrics.sdr import sdr, si_sdr, si_sdr_with_mean
from eeg2speech.metrics.sharing import kept, shared

RANGE_DB, FRAME, HOP = 40, 256, 128
"""A frame of 256 samples is silent if it is 40 dB below the loudest of the reference. In samples at any rate: 17 ms at
14.7 kHz."""
PESQ_RATE = 8_000
DECIMATION = 3
"""Every how manieth sample is taken: 44.1 kHz becomes 14.7 kHz."""


def voiced(reference: Wave, estimate: Wave) -> tuple[Wave, Wave]:
    """Both signals [T] without the frames in which the reference is silent, overlapped and added, [T'].

    Raises:
        BadInput: shapes differ. Unscorable: see ``check_pair``; "too short" for up to 256 samples.
    """
    check_pair(reference, estimate)
    if reference.size <= FRAME:
        raise Unscorable("too short")
    return _voiced(reference, reference), _voiced(estimate, reference)


@shared
def _voiced(signal: Wave, reference: Wave) -> Wave:
    return join(_frames(signal)[speaking(_frames(reference), RANGE_DB)])


@shared
def _frames(signal: Wave) -> NDArray[np.float64]:
    return windowed(signal.astype(np.float64), FRAME, HOP)


def si_sdr_voiced(reference: Wave, estimate: Wave) -> float:
    """SI-SDR in dB after the removal of silent frames; an estimate that errs in the pauses is not told apart.

    No mean is removed, as in the loss that the published file calls.

    Raises:
        BadInput, Unscorable: as ``voiced`` and ``si_sdr``.
    """
    return si_sdr_with_mean(*voiced(reference, estimate))


def sdr_voiced(reference: Wave, estimate: Wave) -> float:
    """SDR of BSS Eval in dB after the removal of silent frames.

    Raises:
        BadInput, Unscorable: as ``voiced`` and ``sdr``.
    """
    return sdr(*voiced(reference, estimate))


def si_sdr_decimated(reference: Wave, estimate: Wave) -> float:
    """SI-SDR in dB of every third sample of both signals [T], the first among them; no filter goes before.

    What lies above a sixth of the rate is folded onto what lies below: two errors that differ may cancel there, and one
    may fall onto the speech and pass for it. Equal to ``si_sdr`` where nothing lies above, to the leak at the ends.

    Raises:
        BadInput: shapes differ. Unscorable: as ``si_sdr``, of the signals or of what is left of them (a tone at a third
            of the rate is left as a constant, hence silent).
    """
    check_pair(reference, estimate)
    return si_sdr(reference[::DECIMATION], estimate[::DECIMATION])


def pesq_nb_8k(reference: Wave, estimate: Wave, rate: int) -> float:
    """Narrow-band PESQ, MOS-LQO from about 1.0 to 4.55, of signals brought to 8 kHz by Octave's resampling filter.

    ``pesq_nb`` differs in that filter alone.

    Raises:
        BadInput, Unscorable: as ``pesq_nb``.
    """
    check_pair(reference, estimate, rate, PESQ_SECONDS)
    return pesq_nb(_octave(reference, rate), _octave(estimate, rate), PESQ_RATE)


@kept
def _octave(signal: Wave, rate: int) -> Wave:
    return signal if rate == PESQ_RATE else np.asarray(resample_oct(signal.astype(np.float64), PESQ_RATE, rate))
