"""How far a mean over crossed clusters may be from the truth: its variance and the degrees of freedom behind it.

Two-way clustering (Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29:238): the variance of the mean between
subjects, plus that between stimulus pairs, less that between their cells, which both contain; each with the correction
for few clusters. It is never less than either of the first two. Degrees of freedom are Satterthwaite's (1946,
Biometrics Bull. 2:110) for the three parts.

Several seeds of a training are a third source, with its own variance and freedom: they add to what segments say, they
do not stand in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Spread:
    """Variance of a ``mean`` and its degrees of freedom."""

    mean: float
    variance: float
    freedom: float

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(self.variance))

    @property
    def p(self) -> float:
        """Two-sided probability of a mean at least as far from 0 if the truth were 0."""
        if self.variance == 0:
            return float(self.mean == 0)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))

    def quantile(self, level: float) -> float:
        """The t quantile of a two-sided interval: 2.26 for 95 % and nine degrees of freedom."""
        return float(stdtrit(self.freedom, (1 + level) / 2))


def spread_of(
    values: Floats, subject: Places, pair: Places, clusters: tuple[int, int], seeds: Sequence[Sequence[float]] = ()
) -> Spread:
    """Spread of the mean of ``values`` [n], all finite, in ``clusters`` subjects and pairs by their places [n].

    ``seeds`` holds, for each run behind the values that was trained with several, the mean of each seed.
    """
    mean = float(values.mean())
    cell, away = subject * clusters[1] + pair, values - mean
    filled = int(np.count_nonzero(np.bincount(cell)))
    parts = ((subject, clusters[0]), (pair, clusters[1]), (cell, filled))
    subjects, pairs, cells = (_between(away, places, count) for places, count in parts)
    variance = max(subjects + pairs - cells, subjects, pairs)
    own = (max(subjects - cells, 0.0), max(pairs - cells, 0.0), cells)
    freedoms = (clusters[0] - 1, clusters[1] - 1, max(filled - sum(clusters) + 1, 1))
    several = [means for means in seeds if len(means) > 1]
    between = [float(np.var(means, ddof=1)) / len(means) for means in several]
    freedom = _satterthwaite((*own, *between), (*freedoms, *(len(means) - 1 for means in several)))
    return Spread(mean, variance + sum(between), freedom)


def _between(away: Floats, places: Places, count: int) -> float:
    """Variance of the mean by the sums of its clusters, corrected for the number of those with a value."""
    sums = np.bincount(places, weights=away)
    return float((sums**2).sum()) / len(away) ** 2 * count / max(count - 1, 1)


def _satterthwaite(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    below = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return max(1.0, sum(variances) ** 2 / below) if below > 0 else float(max(freedoms))
