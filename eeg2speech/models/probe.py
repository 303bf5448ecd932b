"""A linear probe: what can be told from EEG alone, without any sound?

Features of a window are each channel's mean and its power in the bands of EEG, in decibel: what a fingerprint of a
person, a cap or a moment is made of, and nothing of the time course that follows speech. The classifier is ridge
regression on one-hot classes (Hastie, Tibshirani and Friedman 2009, 4.2), in closed form: of a cross-validation all but
the labels can be computed once, so that a thousand permutations of them cost a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput

Floats = NDArray[np.float64]
BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0))
"""Hz: delta, theta, alpha, beta, low gamma."""
QUIET = 1e-6
"""Power in square microvolt per band below which a channel is silent."""
RIDGE = 1.0
"""Penalty, for features of deviation 1 and per feature."""


def features(eeg: NDArray[np.floating], rate: float) -> Floats:
    """Features [C * (1 + bands)] of EEG [C, N] in microvolt at ``rate`` Hz: means, then power in dB by band.

    Raises:
        BadInput: EEG that is not two-dimensional or shorter than one second.
    """
    if eeg.ndim != 2 or eeg.shape[1] < rate:
        raise BadInput("probe", "eeg", "[channels, samples] of at least one second", list(eeg.shape))
    spectrum = np.abs(np.fft.rfft(eeg - eeg.mean(1, keepdims=True), axis=1)) ** 2 / eeg.shape[1] ** 2
    frequency = np.fft.rfftfreq(eeg.shape[1], 1 / rate)
    power = [spectrum[:, (frequency >= low) & (frequency < high)].sum(1) for low, high in BANDS]
    return np.concatenate([eeg.mean(1), *(10 * np.log10(band + QUIET) for band in power)]).astype(np.float64)


@dataclass(frozen=True)
class LinearProbe:
    """Weights [F, K], offset [K] and the scale of the features [2, F]: mean and deviation."""

    weights: Floats
    offset: Floats
    scale: Floats

    @classmethod
    def fit(cls, x: Floats, labels: ArrayLike, classes: int) -> LinearProbe:
        """Learn from features [n, F] and labels [n], 0 to ``classes`` - 1."""
        scale = _scale(x)
        scaled, hot = _scaled(x, scale), one_hot(labels, classes)
        offset = hot.mean(0)
        gram = scaled @ scaled.T + RIDGE * x.shape[1] * np.eye(len(x))
        return cls(scaled.T @ np.linalg.solve(gram, hot - offset), offset, scale)

    def scores(self, x: Floats) -> Floats:
        """Scores [n, K] of features [n, F]; the largest is the answer."""
        answer: Floats = _scaled(x, self.scale) @ self.weights + self.offset
        return answer


def smoother(train: Floats, test: Floats) -> Floats:
    """The matrix [test, train] by which labels of training become scores of ``test``: what ``LinearProbe`` does, with
    the labels left open. Features are [n, F]."""
    scale = _scale(train)
    one, other = _scaled(train, scale), _scaled(test, scale)
    gram = one @ one.T + RIDGE * train.shape[1] * np.eye(len(one))
    centred = np.linalg.solve(gram, one @ other.T).T
    # Scores are the mean of the labels plus what the features say of their deviations from it.
    smooth: Floats = centred + (1 - centred.sum(1, keepdims=True)) / len(one)
    return smooth


def one_hot(labels: ArrayLike, classes: int) -> Floats:
    """Labels [n] as [n, classes]."""
    hot: Floats = np.eye(classes)[np.asarray(labels, dtype=np.intp)]
    return hot


def _scale(x: Floats) -> Floats:
    deviation = x.std(0)
    return np.stack([x.mean(0), np.where(deviation > 0, deviation, 1.0)])


def _scaled(x: Floats, scale: Floats) -> Floats:
    scaled: Floats = (x - scale[0]) / scale[1]
    return scaled
