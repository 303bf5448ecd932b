"""Medians of the same values under many weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weighted_medians(ordered: Floats, weights: Floats) -> Floats:
    """Median [r] of the ``ordered`` values [n], each repeated as often as the whole number in its row of ``weights``.

    ``weights`` is [r, n]. It is ``numpy.median`` of the repeated values: of an even number of them, the mean of the two
    in the middle. NaN where all weights are zero. The values must be ascending and not NaN.
    """
    reached = np.cumsum(weights, axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (reached >= half).argmax(axis=1), (reached > half).argmax(axis=1)
    medians: Floats = (ordered[lower] + ordered[upper]) / 2
    return np.where(half[:, 0] > 0, medians, np.nan)
