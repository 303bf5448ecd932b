"""Medians of the same values under many weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


def weighted_medians(ordered: Floats, weights: Integers) -> Floats:
    """Median [r] of the ``ordered`` values [n], each repeated as often as its row of ``weights`` [n, r] says.

    It is ``numpy.median`` of the repeated values: of an even number of them, the mean of the two in the middle. NaN
    where all weights are zero. The values must be ascending and not NaN. ``weights`` are overwritten.
    """
    # Many resamples side by side: additions and comparisons run along them.
    reached = np.cumsum(weights, axis=0, dtype=np.int32, out=weights)
    total, last = reached[-1].copy(), len(ordered) - 1
    reached *= 2
    lower = np.minimum(np.add.reduce(reached < total, axis=0, dtype=np.int32), last)
    upper = np.minimum(np.add.reduce(reached <= total, axis=0, dtype=np.int32), last)
    return np.where(total > 0, (ordered[lower] + ordered[upper]) / 2, np.nan)
