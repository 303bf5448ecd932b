"""Pearson's correlation with a rule for signals that do not move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLAT = 1e-9
"""A series whose standard deviation is below this follows nothing: its correlation is 0."""


def pearson(x: Array, y: Array) -> Array:
    """Correlation along the last axis, [..., T] and [..., T] -> [...], within [-1, 1]; 0 where either is flat."""
    x, y = (series - series.mean(axis=-1, keepdims=True) for series in (x, y))
    covariance = np.mean(x * y, axis=-1)
    deviations = [np.sqrt(np.mean(series**2, axis=-1)) for series in (x, y)]
    moving = np.minimum(*deviations) >= FLAT
    scale = np.where(moving, deviations[0] * deviations[1], 1.0)
    return np.asarray(np.where(moving, np.clip(covariance / scale, -1.0, 1.0), 0.0))
