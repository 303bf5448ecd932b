"""Did the system bring out the attended talker?"""

from __future__ import annotations

from eeg2speech.metrics.checks import Wave, check_audible, check_shapes
from eeg2speech.metrics.sdr import si_sdr

TIE_DB = 1e-6


def target_selected(reference: Wave, estimate: Wave, interferer: Wave) -> float:
    """1.0 if SI-SDR(reference, estimate) > SI-SDR(interferer, estimate), 0.0 if it is lower, 0.5 at a tie.

    The mean over segments is the selection accuracy; chance is 0.5. A tie is a difference of at most 1e-6 dB: an
    estimate that is as near to both talkers (their sum at equal energy), or beyond 100 dB of neither, tells nothing,
    and half a point is what guessing would earn. An unprocessed mixture earns 1 wherever the target is the louder
    talker: balance levels before reading this number.

    Args:
        reference: the attended talker [T]. estimate: [T]. interferer: the unattended talker [T].

    Raises:
        BadInput: shapes differ. Unscorable: a signal is silent or not finite.
    """
    check_shapes(reference, interferer=interferer)
    check_audible("interferer", interferer)
    margin = si_sdr(reference, estimate) - si_sdr(interferer, estimate)
    if abs(margin) <= TIE_DB:
        return 0.5
    return 1.0 if margin > 0 else 0.0
