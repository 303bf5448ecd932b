"""Models of the curve of accuracy against the length of the decision window, in seconds.

Two forms, for two kinds of system.

``NormalDifference``, for any system of which right and wrong are known: what tells the talkers apart adds up over the
window as independent pieces, so that its mean over its deviation grows with the square root of the length, and the
accuracy is Phi(d sqrt(tau)). One number, fitted by maximum likelihood to the counts at all lengths.

``FisherDifference``, for systems that decide by two correlations: Geirnaert, Vanthornhout, Francart and Bertrand 2025,
"Performance Modeling for Correlation-based Neural Decoding of Auditory Attention to Speech", arXiv:2503.09349. The
difference of the Fisher transforms of the attended and the unattended correlation is taken for normal; its mean and
deviation, measured at one length, give the accuracy at every other. Nothing is fitted to the curve: it is a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from eeg2speech.errors import BadInput

Values = NDArray[np.float64]
CLOSEST = 1 - 1e-12
"""Correlations nearer to 1 than this are taken for it: the transform of 1 is infinite."""


@dataclass(frozen=True)
class NormalDifference:
    """Accuracy Phi(d sqrt(tau)); ``d`` is per square root of a second, 0 at chance."""

    d: float

    def accuracy(self, windows: ArrayLike) -> Values:
        """Predicted accuracy at windows [K] in seconds."""
        found: Values = ndtr(self.d * np.sqrt(np.asarray(windows, np.float64)))
        return found


@dataclass(frozen=True)
class FisherDifference:
    """What two correlations were like in windows of ``window`` seconds at ``rate`` samples a second.

    ``mean`` and ``deviation`` are of artanh(attended) - artanh(unattended), ``correlations`` is the mean of attended -
    unattended itself.
    """

    window: float
    rate: float
    mean: float
    deviation: float
    correlations: float

    def accuracy(self, windows: ArrayLike) -> Values:
        """Predicted accuracy at windows [K] in seconds. Raises BadInput for a window of less than two samples."""
        samples = np.asarray(windows, np.float64) * self.rate
        if samples.size and samples.min() < 2:
            raise BadInput("window curve", "windows", "at least two samples each", f"{samples.min():g} samples")
        # The transform of a correlation over n samples is about normal, with mean artanh(rho) + rho / (2 (n - 1)) and
        # a variance as 1 / (n - 1) (Fisher 1921; Hotelling 1953). Neighbouring samples that depend on each other are
        # worth fewer; at all lengths by the same factor, which the ratio of the deviations leaves out.
        mean = self.mean + self.correlations / 2 * (1 / (samples - 1) - 1 / (self._samples - 1))
        deviation = self.deviation * np.sqrt((self._samples - 1) / (samples - 1))
        found: Values = ndtr(mean / deviation)
        return found

    @property
    def _samples(self) -> float:
        return self.window * self.rate


def fit_normal_difference(windows: ArrayLike, right: ArrayLike, counts: ArrayLike) -> NormalDifference | None:
    """The d of the greatest likelihood; None where it is not finite, for all are right or all are wrong.

    Windows are taken for independent of each other. Those that share a listener or a stretch of sound are not: the
    estimate stays consistent, but its precision is not what the counts would say, and none is given.

    Args:
        windows: [K] seconds. right: [K], number of right decisions, a tie half a one. counts: [K], of all decisions.

    Raises:
        BadInput: lengths that differ, windows that are not positive, or counts that cannot be.
    """
    lengths, rights, numbers = (np.asarray(values, np.float64) for values in (windows, right, counts))
    _check_counts(lengths, rights, numbers)
    wrongs, root = numbers - rights, np.sqrt(lengths)
    if rights.sum() == 0 or wrongs.sum() == 0:
        return None

    def slope(d: float) -> float:
        """Derivative of the log-likelihood, which is concave: log Phi is."""
        steepness = root * (rights * _mills(d * root) - wrongs * _mills(-d * root))
        return float(steepness.sum())

    reach = 1.0
    while slope(-reach) < 0 or slope(reach) > 0:
        reach *= 2
    return NormalDifference(float(brentq(slope, -reach, reach, xtol=1e-12)))


def fit_fisher_difference(attended: ArrayLike, unattended: ArrayLike, window: float, rate: float) -> FisherDifference:
    """Statistics of labelled correlations at one length.

    Args:
        attended, unattended: [n] correlations, of the same windows. window: seconds. rate: samples a second of what was
            correlated.

    Raises:
        BadInput: fewer than two windows, lengths that differ, values beyond -1 to 1, differences that are all the same,
            or windows of less than two samples.
    """
    first, second = (np.asarray(values, np.float64) for values in (attended, unattended))
    _check_correlations(first, second)
    if not window * rate >= 2:
        raise BadInput("window curve", "window", "at least two samples", f"{window * rate:g} samples")
    transformed = [np.arctanh(np.clip(values, -CLOSEST, CLOSEST)) for values in (first, second)]
    difference = transformed[0] - transformed[1]
    deviation = float(difference.std(ddof=1))
    if deviation == 0:
        raise BadInput("window curve", "attended, unattended", "differences that vary", "all the same")
    return FisherDifference(
        float(window), float(rate), float(difference.mean()), deviation, float(np.mean(first - second))
    )


def _mills(x: Values) -> Values:
    """phi(x) / Phi(x), without loss far below 0."""
    ratio: Values = np.exp(-(x**2) / 2 - np.log(2 * np.pi) / 2 - log_ndtr(x))
    return ratio


def _check_counts(windows: Values, right: Values, counts: Values) -> None:
    if windows.ndim != 1 or not windows.shape == right.shape == counts.shape or not len(windows):
        shapes = (windows.shape, right.shape, counts.shape)
        raise BadInput("window curve", "windows, right, counts", "three sequences of one length", shapes)
    if not (np.all(windows > 0) and np.all(np.isfinite(windows))):
        raise BadInput("window curve", "windows", "positive numbers of seconds", windows.tolist())
    if not (np.all((right >= 0) & (right <= counts)) and np.all(np.isfinite(counts)) and counts.sum() > 0):
        raise BadInput("window curve", "right", "from 0 to the number of decisions", right.tolist())


def _check_correlations(attended: Values, unattended: Values) -> None:
    if attended.ndim != 1 or attended.shape != unattended.shape or len(attended) < 2:
        shapes = (attended.shape, unattended.shape)
        raise BadInput("window curve", "attended, unattended", "two sequences of one length, at least 2", shapes)
    worst = np.abs(np.stack([attended, unattended])).max()
    if not worst <= 1 + 1e-6:
        raise BadInput("window curve", "attended, unattended", "correlations, from -1 to 1", worst)
