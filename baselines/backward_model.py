"""The linear backward model: reconstruct the envelope of the attended speech from EEG, then see whose envelope it is.

The reconstruction is s(t) = sum over channels c and lags k of w[k, c] eeg[c, t + k]: the brain answers after the
sound, so a sample of speech is read from the EEG of the 0 to 400 ms that follow it. The weights are ridge regression
in closed form. The one stimulus whose envelope correlates best with the reconstruction is taken as the attended one.

Sources: O'Sullivan et al. 2015, Cereb. Cortex 25:1697 (stimulus reconstruction in a cocktail party); Crosse et al.
2016, Front. Hum. Neurosci. 10:604 (the mTRF toolbox); Wong et al. 2018, Front. Neurosci. 12:531 (regularisation);
Biesmans et al. 2017, IEEE TNSRE 25:402 (envelope with a power law of 0.6).

Conventions: EEG is [channels, samples], an envelope is [samples], both at ``rate`` Hz and from the same instant on.
The EEG of an example may go on after its envelope ends; what is there is used. In place of an envelope stand as well
K bands of speech [samples, K], which then share the sums over EEG; weights are [lags, channels] or
[lags, channels, K].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, next_fast_len
from scipy.linalg import cho_factor, cho_solve
from scipy.signal import butter, resample_poly, sosfiltfilt

from eeg2speech.errors import BadInput

Array = NDArray[np.float64]
Example = tuple[Array, Array]

RATE = 64
BAND = (1.0, 9.0)
SPEECH_BAND, BANDS = (125.0, 7000.0), 8
POWER = 0.6
FLAT = 1e-9
CLAMP = 5.0
LAGS = (0.0, 0.4)
ALPHAS = tuple(10.0**k for k in range(-6, 2))


def speech_envelope(audio: NDArray[np.floating], audio_rate: int, rate: int = RATE) -> Array:
    """Envelope [N] at ``rate`` Hz of speech [T], 1 to 9 Hz, mean 0, deviation 1; silence gives zeros.

    The analytic amplitudes of 8 bands, each to the power 0.6, are summed (Biesmans et al. 2017, with bands that do not
    overlap). ``resample_poly`` removes what lies above rate / 2 before it takes samples away.

    Raises:
        BadInput: audio that is not one-dimensional, not finite, or shorter than 0.25 s.
    """
    audio = required("audio", audio, 1, audio_rate)
    loudness = sum(amplitude**POWER for amplitude in _band_amplitudes(audio, audio_rate))
    return standardised(_band_passed(resampled(np.asarray(loudness), audio_rate, rate), rate))


def feature_envelope(loudness: NDArray[np.floating], rate: float, to: int = RATE) -> Array:
    """As ``speech_envelope`` [N] at ``to`` Hz, of an envelope [T] that a study publishes at ``rate`` Hz."""
    return standardised(_band_passed(resampled(required("envelope", loudness, 1, rate), rate, to), to))


def prepare_eeg(eeg: NDArray[np.floating], rate: float, to: int = RATE) -> Array:
    """EEG [C, N] at ``rate`` Hz as [C, N'] at ``to`` Hz: 1 to 9 Hz zero-phase, the median channel's deviation 1.

    Blinks are clamped at 5 deviations of their channel. All channels are scaled alike: weights cancel noise that
    channels share, and a scale of each channel's own, from a window of a few seconds, would spoil that.

    Raises:
        BadInput: EEG that is not two-dimensional, not finite, or shorter than 0.25 s.
    """
    slow = resampled(_band_passed(required("eeg", eeg, 2, rate), rate), rate, to)
    deviation = slow.std(axis=1, keepdims=True)
    clamped = np.clip(slow, -CLAMP * deviation, CLAMP * deviation)
    typical = float(np.median(deviation))
    return clamped / typical if typical > FLAT else np.zeros_like(clamped)


def lagged(eeg: Array, lags: Sequence[int]) -> Array:
    """The regressors [N, lags * C] of EEG [C, N]: row t holds eeg[:, t + lag] for each lag, 0 outside the recording.

    The definition of the model; ``Moments`` and ``BackwardModel.reconstruct`` compute with it but never build it.
    """
    samples = eeg.shape[1]
    rows = np.zeros((samples, len(lags), eeg.shape[0]))
    for place, lag in enumerate(lags):
        begin, end = max(0, -lag), min(samples, samples - lag)
        rows[begin:end, place] = eeg[:, begin + lag : end + lag].T
    return rows.reshape(samples, -1)


class Moments:
    """Sums that ridge regression needs, over examples seen one at a time; memory does not grow with their number.

    ``covariance`` [L C, L C] and ``cross`` [L C], or [L C, K] with ``outputs`` (K,), are sums over rows t whose lagged
    EEG lies within the recording.
    """

    def __init__(self, channels: int, lags: range, outputs: tuple[int, ...] = ()) -> None:
        self.channels, self.lags, self.outputs = channels, lags, outputs
        size = channels * len(lags)
        self.covariance, self.cross, self.rows = np.zeros((size, size)), np.zeros((size, *outputs)), 0

    def add(self, eeg: Array, envelope: Array) -> None:
        """Take in an example, EEG [C, N] and envelope [M] or bands [M, K].

        Raises:
            BadInput: another number of channels or bands than before.
        """
        if eeg.shape[0] != self.channels:
            raise BadInput("example", "eeg", f"{self.channels} channels", eeg.shape[0])
        if envelope.shape[1:] != self.outputs:
            raise BadInput("example", "envelope", ["samples", *self.outputs], list(envelope.shape))
        first = max(0, -self.lags[0])
        last = min(len(envelope), eeg.shape[1] - self.lags[-1])
        if last <= first:
            return
        span = eeg[:, first + self.lags[0] : last + self.lags[-1]]
        target = envelope[first:last]
        self.covariance += _lag_covariance(span, last - first, len(self.lags))
        self.cross += np.concatenate([span[:, k : k + len(target)] @ target for k in range(len(self.lags))])
        self.rows += len(target)

    def merge(self, other: Moments) -> None:
        """Take in all that ``other`` has seen."""
        self.covariance += other.covariance
        self.cross += other.cross
        self.rows += other.rows


class BackwardModel:
    """Ridge regression from lagged EEG to the envelope, or to bands of speech.

    ``alphas`` are in units of the mean variance of a regressor, so that they mean the same for any amount of data;
    the one with the highest mean correlation on the valid examples (and over bands) is kept in ``alpha``.
    """

    def __init__(
        self, lags_seconds: tuple[float, float] = LAGS, rate: int = RATE, alphas: Sequence[float] = ALPHAS
    ) -> None:
        self.lags_seconds, self.rate, self.alphas = lags_seconds, rate, tuple(alphas)
        self.lags = range(round(lags_seconds[0] * rate), round(lags_seconds[1] * rate) + 1)
        self.weights: Array = np.zeros((len(self.lags), 0))
        self.alpha, self.valid_r = float("nan"), float("nan")

    def fit(self, examples: Iterable[Example], valid: Iterable[Example]) -> BackwardModel:
        """Learn from examples (eeg [C, N], envelope [N] or [N, K]), each read once. Raises BadInput without any."""
        return self.fit_moments(_gather(examples, self.lags), valid)

    def fit_moments(self, moments: Moments, valid: Iterable[Example], prior: Array | None = None) -> BackwardModel:
        """Learn from sums gathered before; ridge pulls the weights towards ``prior`` (0 if there is none)."""
        if moments.rows == 0:
            raise BadInput("backward model", "examples", "an example longer than the lags", "none")
        candidates = ridge(moments, self.alphas, prior)
        scores = _mean_correlations(candidates, self.lags, valid)
        best = int(np.argmax(scores))
        self.weights, self.alpha, self.valid_r = candidates[best], self.alphas[best], float(scores[best])
        return self

    def reconstruct(self, eeg: Array) -> Array:
        """The envelope [N] or bands [N, K] read from EEG [C, N]; EEG that lies outside the window counts as 0."""
        if eeg.ndim != 2 or eeg.shape[0] != self.weights.shape[1]:
            raise BadInput("backward model", "eeg", f"[{self.weights.shape[1]}, samples]", list(eeg.shape))
        reconstruction: Array = _reconstructed(self.weights[None], self.lags, eeg)[0]
        return reconstruction

    def correlate(self, eeg: Array, envelope: Array, edge_seconds: float = 0.0) -> float:
        """Pearson's r of reconstruction and envelope, without ``edge_seconds`` at both ends; 0 for a flat signal; of
        bands the mean."""
        edge = round(edge_seconds * self.rate)
        samples = min(eeg.shape[1], len(envelope))
        inside = slice(edge, samples - edge)
        return _mean_pearson(self.reconstruct(eeg)[inside], envelope[inside])

    def state(self) -> dict[str, Array]:
        """All that ``from_state`` needs, as arrays."""
        return {
            "lags_seconds": np.array(self.lags_seconds),
            "rate": np.array(float(self.rate)),
            "alphas": np.array(self.alphas),
            "weights": self.weights,
            "chosen": np.array([self.alpha, self.valid_r]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> BackwardModel:
        """The model that ``state`` describes. Raises BadInput when an array is missing or does not fit."""
        missing = {"lags_seconds", "rate", "alphas", "weights", "chosen"} - set(state)
        if missing:
            raise BadInput("backward model", "state", "all that state() gives", f"no {min(missing)!r}")
        first, last = (float(lag) for lag in state["lags_seconds"])
        model = cls((first, last), round(float(state["rate"])), [float(a) for a in state["alphas"]])
        model.weights = np.asarray(state["weights"], dtype=np.float64)
        if model.weights.ndim not in (2, 3) or len(model.weights) != len(model.lags):
            expected = f"[{len(model.lags)}, channels] or [{len(model.lags)}, channels, bands]"
            raise BadInput("backward model", "weights", expected, list(model.weights.shape))
        model.alpha, model.valid_r = (float(number) for number in state["chosen"])
        return model


class SubjectModels:
    """One backward model for each subject seen in training and a pooled one for strangers.

    A subject's ridge pulls towards the pooled weights instead of towards 0: with little data of his own he is decoded
    as people in general are. A subject without valid examples of his own is validated on those of all.
    """

    def __init__(
        self, lags_seconds: tuple[float, float] = LAGS, rate: int = RATE, alphas: Sequence[float] = ALPHAS
    ) -> None:
        self.settings = (lags_seconds, rate, tuple(alphas))
        self.pooled = BackwardModel(*self.settings)
        self.models: dict[str, BackwardModel] = {}

    def fit(
        self, examples: Iterable[tuple[str, Array, Array]], valid: Sequence[tuple[str, Array, Array]]
    ) -> SubjectModels:
        """Learn from examples (subject, eeg [C, N], envelope [N] or [N, K]), each read once; sums are kept by
        subject."""
        sums: dict[str, Moments] = {}
        for subject, eeg, envelope in examples:
            if subject not in sums:
                sums[subject] = Moments(len(eeg), self.pooled.lags, envelope.shape[1:])
            sums[subject].add(eeg, envelope)
        everyone = [(eeg, envelope) for _, eeg, envelope in valid]
        self.pooled = BackwardModel(*self.settings).fit_moments(_total(sums.values()), everyone)
        for subject, moments in sorted(sums.items()):
            own = [(eeg, envelope) for name, eeg, envelope in valid if name == subject]
            model = BackwardModel(*self.settings)
            self.models[subject] = model.fit_moments(moments, own or everyone, prior=self.pooled.weights)
        return self

    def of(self, subject: str) -> BackwardModel:
        """The subject's model, the pooled one for a subject never seen."""
        return self.models.get(subject, self.pooled)

    def state(self) -> dict[str, Array]:
        """All models as arrays, named ``pooled/<array>`` and ``subject/<subject>/<array>``."""
        named = {"pooled": self.pooled} | {f"subject/{name}": model for name, model in self.models.items()}
        return {f"{name}/{key}": array for name, model in named.items() for key, array in model.state().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> SubjectModels:
        """The models that ``state`` describes."""
        groups: dict[str, dict[str, Array]] = {}
        for name, array in state.items():
            group, _, key = name.rpartition("/")
            groups.setdefault(group, {})[key] = array
        pooled = BackwardModel.from_state(groups.pop("pooled", {}))
        models = cls(pooled.lags_seconds, pooled.rate, pooled.alphas)
        models.pooled = pooled
        models.models = {n.removeprefix("subject/"): BackwardModel.from_state(s) for n, s in groups.items()}
        return models


def ridge(moments: Moments, alphas: Sequence[float], prior: Array | None = None) -> Array:
    """Weights [A, L, C] or [A, L, C, K] for each alpha: (S + a I)^-1 (b + a prior), a = alpha * mean diagonal of S."""
    size = len(moments.cross)
    scale = np.trace(moments.covariance) / size or 1.0
    pull = np.zeros(moments.cross.shape) if prior is None else prior.reshape(moments.cross.shape)
    solutions = np.empty((len(alphas), *moments.cross.shape))
    for place, alpha in enumerate(alphas):
        regular = moments.covariance + 0.0
        regular.flat[:: size + 1] += alpha * scale
        factor = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        solutions[place] = cho_solve(factor, moments.cross + alpha * scale * pull)
    return solutions.reshape(len(alphas), len(moments.lags), moments.channels, *moments.outputs)


def pearson(a: Array, b: Array) -> float:
    """Pearson's correlation of two signals [N]; 0 when one of them is flat or nothing is left of them."""
    if len(a) < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 1e-12 else 0.0


def _mean_pearson(a: Array, b: Array) -> float:
    """Pearson's correlation of two signals [N], or its mean over the K bands of two [N, K]."""
    if a.ndim == 1:
        return pearson(a, b)
    return float(np.mean([pearson(*pair) for pair in zip(a.T, b.T, strict=True)]))


def _lag_covariance(span: Array, rows: int, lags: int) -> Array:
    """X^T X [lags C, lags C] for rows X_t = span[:, t : t + lags], without building X.

    Block (i, j) sums span[:, t + i] span[:, t + j]^T over t, so block (i + 1, j + 1) is block (i, j) without its first
    and with one more last term: only the first row of blocks costs a product over time.
    """
    channels = len(span)
    blocks = np.empty((lags, channels, lags, channels))
    head, tail = span[:, :lags].T, span[:, rows : rows + lags].T
    for j in range(lags):
        blocks[0, :, j] = span[:, :rows] @ span[:, j : j + rows].T
        blocks[j, :, 0] = blocks[0, :, j].T
    for i in range(lags - 1):
        leaves = head[i][:, None, None] * head[None, : lags - 1]
        enters = tail[i][:, None, None] * tail[None, : lags - 1]
        blocks[i + 1, :, 1:] = blocks[i, :, : lags - 1] - leaves + enters
    return blocks.reshape(lags * channels, lags * channels)


def _reconstructed(weights: Array, lags: range, eeg: Array) -> Array:
    """Envelopes [A, N] from EEG [C, N] by weights [A, L, C]; bands [A, N, K] by weights [A, L, C, K]."""
    samples, outputs = eeg.shape[1], weights.shape[3:]
    by_lag = np.moveaxis(weights, (1, 2), (0, -1)).reshape(len(lags), -1, len(eeg))
    envelopes = np.zeros((by_lag.shape[1], samples))
    for place, lag in enumerate(lags):
        begin, end = max(0, -lag), min(samples, samples - lag)
        if end > begin:
            envelopes[:, begin:end] += by_lag[place] @ eeg[:, begin + lag : end + lag]
    return np.moveaxis(envelopes.reshape(len(weights), *outputs, samples), -1, 1)


def _mean_correlations(candidates: Array, lags: range, valid: Iterable[Example]) -> Array:
    """Mean over the valid examples of each candidate's correlation, [A]; each example is read once."""
    scores: list[list[float]] = []
    for eeg, envelope in valid:
        samples = min(eeg.shape[1], len(envelope))
        guesses = _reconstructed(candidates, lags, eeg)[:, :samples]
        scores.append([_mean_pearson(guess, envelope[:samples]) for guess in guesses])
    if not scores:
        raise BadInput("backward model", "valid", "at least one example", 0)
    means: Array = np.mean(scores, axis=0)
    return means


def _gather(examples: Iterable[Example], lags: range) -> Moments:
    moments: Moments | None = None
    for eeg, envelope in examples:
        moments = moments or Moments(len(eeg), lags, envelope.shape[1:])
        moments.add(eeg, envelope)
    return moments or Moments(0, lags)


def _total(parts: Iterable[Moments]) -> Moments:
    iterator: Iterator[Moments] = iter(parts)
    first = next(iterator, None)
    if first is None:
        raise BadInput("backward model", "examples", "at least one", 0)
    total = Moments(first.channels, first.lags, first.outputs)
    for part in (first, *iterator):
        total.merge(part)
    return total


def _band_amplitudes(audio: Array, audio_rate: int) -> Iterator[Array]:
    """Analytic amplitude [T] of each band of speech, the bands cut from the spectrum side by side."""
    length = next_fast_len(len(audio))
    spectrum, frequency = fft(audio, length), np.arange(length) * (audio_rate / length)
    for low, high in pairwise(np.geomspace(*SPEECH_BAND, BANDS + 1)):
        band = (frequency >= low) & (frequency < min(high, audio_rate / 2))
        yield np.abs(ifft(np.where(band, 2 * spectrum, 0.0)))[: len(audio)]


def _band_passed(signal: Array, rate: float) -> Array:
    """1 to 9 Hz along the last axis, zero-phase; beyond each end lies up to 1 s of the signal's mirror image."""
    sections = butter(2, BAND, btype="bandpass", fs=rate, output="sos")
    pad = min(signal.shape[-1] - 1, round(rate))
    centred = signal - signal.mean(axis=-1, keepdims=True)
    filtered: Array = sosfiltfilt(sections, centred, axis=-1, padtype="even", padlen=pad)
    return filtered


def resampled(signal: Array, rate: float, to: int) -> Array:
    """A signal [..., N] at ``rate`` Hz as [..., ceil(N to / rate)] at ``to`` Hz, without what lies above to / 2."""
    ratio = (Fraction(to) / Fraction(rate)).limit_denominator(1_000_000)
    if ratio == 1:
        return signal
    changed: Array = resample_poly(signal, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    return changed


def standardised(signal: Array) -> Array:
    """Mean 0 and deviation 1 along the last axis; what is flat becomes 0."""
    centred = signal - signal.mean(axis=-1, keepdims=True)
    deviation = centred.std(axis=-1, keepdims=True)
    return np.where(deviation > FLAT, centred / np.maximum(deviation, FLAT), 0.0)


def required(field: str, given: NDArray[np.floating], dimensions: int, rate: float) -> Array:
    """A signal in double precision. Raises BadInput for other dimensions, less than 0.25 s, or samples not finite."""
    signal: Array = np.asarray(given, dtype=np.float64)
    if signal.ndim != dimensions:
        raise BadInput("backward model", field, f"{dimensions} dimensions", list(signal.shape))
    if signal.shape[-1] < 0.25 * rate:
        raise BadInput("backward model", field, "at least 0.25 s", f"{signal.shape[-1] / rate:.3f} s")
    if not np.isfinite(signal).all():
        raise BadInput("backward model", field, "finite samples", "NaN or infinite ones")
    return signal
