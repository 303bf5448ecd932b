"""What must hold of the signals before any metric sees them.

The packages behind the metrics disagree on bad input: for a silent estimate one returns 0 dB, another minus infinity,
a third raises; for unequal lengths two of them compute a number all the same. So the same checks run before every one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.metrics.sharing import kept

Wave = NDArray[np.floating]
"""One audio signal: [T] floating point, full scale 1.0."""

SILENCE_RMS = 1e-6
"""A signal whose RMS after removal of its mean is below this (full scale 1.0, so -120 dBFS) is silent.
A ninth of the rounding noise of 16-bit audio (9e-6): written to a file, such a signal is all zeros."""


class Unscorable(Exception):
    """The signals are well-formed but have no score; ``reason`` is short and stable, made to be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_shapes(reference: Wave, **others: Wave) -> None:
    """Raise ``BadInput`` unless all signals are floating-point [T] arrays of the same length."""
    for name, signal in {"reference": reference, **others}.items():
        if not isinstance(signal, np.ndarray) or not np.issubdtype(signal.dtype, np.floating):
            raise BadInput("metrics", name, "a floating-point array", getattr(signal, "dtype", type(signal).__name__))
        if signal.ndim != 1:
            raise BadInput("metrics", name, "shape [T]", signal.shape)
        if signal.size != reference.size:
            raise BadInput("metrics", name, f"{reference.size} samples as in the reference", signal.size)


def check_audible(name: str, signal: Wave) -> None:
    """Raise ``Unscorable("non-finite <name>")`` or ``Unscorable("silent <name>")``.

    The mean does not count: SI-SDR and PESQ remove it, and a constant cannot be heard.
    """
    if fault := _fault(signal):
        raise Unscorable(f"{fault} {name}")


@kept
def _fault(signal: Wave) -> str | None:
    """Why nobody can hear it, if so."""
    if not np.isfinite(signal).all():
        return "non-finite"
    return "silent" if np.std(signal, dtype=np.float64) < SILENCE_RMS else None


def check_pair(reference: Wave, estimate: Wave, rate: int = 1, min_seconds: float = 0.0) -> None:
    """Checks that come before every metric, in this order: shapes, length, finiteness, silence.

    Args:
        reference, estimate: [T] floating point.
        rate: samples per second.
        min_seconds: shortest signal that can be scored.

    Raises:
        BadInput: wrong type or shape, unequal lengths, or a rate that is not positive.
        Unscorable: "too short", "non-finite reference", "non-finite estimate", "silent reference", "silent estimate".
    """
    check_shapes(reference, estimate=estimate)
    if rate <= 0:
        raise BadInput("metrics", "rate", "a positive number of samples per second", rate)
    if reference.size < max(1.0, min_seconds * rate):
        raise Unscorable("too short")
    check_audible("reference", reference)
    check_audible("estimate", estimate)
