"""Is it the same voice? Embeddings of Resemblyzer, and the distance between two sets of them.

[1] L. Wan, Q. Wang, A. Papir, I. Lopez Moreno, "Generalized end-to-end loss for speaker verification", ICASSP 2018;
    the package resemblyzer holds the network (an LSTM of 256 units, 40 mel bands, 16 kHz) and its weights.
[2] M. Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017: the Frechet distance of embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svdvals

from eeg2speech.errors import BadInput
from eeg2speech.metrics.checks import Wave, check_audible, check_pair, check_shapes
from eeg2speech.metrics.mel import require_rate
from eeg2speech.metrics.packages import package
from eeg2speech.metrics.sharing import kept

Array = NDArray[np.float64]

SPEAKER_SECONDS = 1.6
"""Length of one partial utterance: a shorter signal would be filled up with zeros."""
LEVEL = 10 ** (-30 / 20)
"""RMS that a signal is brought to, -30 dBFS, the level that the network was trained at."""


def speaker_similarity(reference: Wave, estimate: Wave, rate: int) -> float:
    """Cosine of the utterance embeddings of reference and estimate, 0 to 1; the embeddings have no negative numbers.

    The embedding of an utterance is the mean of its partial embeddings (see ``partial_embeddings``). Two voices are
    far above 0: read it beside the value of another talker. Blind to gain. Signals: [T] at 16 kHz.

    Raises:
        BadInput: shapes differ, another rate, or resemblyzer is not installed.
        Unscorable: see ``check_pair``; "too short" below 1.6 s.
    """
    require_rate("speaker_similarity", rate)
    check_pair(reference, estimate, rate, SPEAKER_SECONDS)
    true, made = (_embedding(wave, rate) for wave in (reference, estimate))
    return float(np.sum(true * made) / np.sqrt(np.sum(true**2) * np.sum(made**2)))


@kept
def _embedding(wave: Wave, rate: int) -> Array:
    """Of an utterance, [256]."""
    return np.asarray(partial_embeddings(wave, rate).mean(axis=0))


def partial_embeddings(wave: Wave, rate: int) -> Array:
    """Embeddings [P, 256], each of norm 1, of 1.6 s of a wave [T] at 16 kHz every 0.77 s.

    An end shorter than 1.2 s is dropped; a longer one is filled up with zeros to 1.6 s, in both of a pair alike.

    Resemblyzer would cut the pauses out first, by a voice detector. Not here: it would cut the two signals of a pair
    in different places, and a noisy estimate down to nothing. Both keep all their samples, so what is compared was
    heard at the same time, and both are brought to -30 dBFS (Resemblyzer only raises the softer ones). Runs on the
    CPU in one thread, so that it repeats to the last bit.

    Raises:
        BadInput: not a floating-point [T] array, another rate, shorter than 1.6 s, or resemblyzer is not installed.
        Unscorable: a silent or non-finite signal.
    """
    require_rate("partial_embeddings", rate)
    check_shapes(wave)
    if wave.size < SPEAKER_SECONDS * rate:
        raise BadInput("partial_embeddings", "wave", f"at least {SPEAKER_SECONDS} s", f"{wave.size / rate:.3f} s")
    check_audible("signal", wave)
    signal = wave.astype(np.float64) - wave.mean(dtype=np.float64)
    signal *= LEVEL / signal.std()
    with _one_thread():
        _, partials, _ = _encoder().embed_utterance(signal.astype(np.float32), return_partials=True)
    return np.asarray(partials, dtype=np.float64)


def frechet_resemblyzer(references: Iterable[Wave], estimates: Iterable[Wave], rate: int) -> float:
    """Frechet distance of the partial-utterance embeddings of two sets of signals, each [T] of its own length.

    Not a Frechet audio distance, whose embeddings are of VGGish or the like: the numbers do not compare.

    Raises:
        BadInput, Unscorable: as ``partial_embeddings`` and ``frechet_distance``.
    """
    true, made = ([partial_embeddings(wave, rate) for wave in waves] for waves in (references, estimates))
    for field, found in (("references", true), ("estimates", made)):
        if not found:
            raise BadInput("frechet_resemblyzer", field, "at least one signal", "none")
    return frechet_distance(np.concatenate(true), np.concatenate(made))


def frechet_distance(reference: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Frechet distance [2] of the normal distributions fitted to two sets of rows, [N, D] and [M, D]; 0 if equal.

    |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)), S the unbiased covariance. The trace of the root is the sum of the
    singular values of A B', where A and B are the centred rows over sqrt(N - 1): no root of a matrix is taken, so a
    covariance of low rank (N < D) does no harm and nothing is added to it. With few rows the distance is too high;
    compare only distances of equal N and M.

    Raises:
        BadInput: not two-dimensional, fewer than 2 rows, unequal numbers of columns, NaN or infinity.
    """
    for field, rows in (("reference", reference), ("estimate", estimate)):
        _check_rows(field, rows)
    if reference.shape[1] != estimate.shape[1]:
        raise BadInput("frechet_distance", "estimate", f"{reference.shape[1]} columns", estimate.shape[1])
    means = [rows.mean(axis=0, dtype=np.float64) for rows in (reference, estimate)]
    a, b = (_spread(rows, mean) for rows, mean in zip((reference, estimate), means, strict=True))
    traces = float(np.sum(a**2) + np.sum(b**2) - 2 * np.sum(svdvals(a @ b.T)))
    # The traces of nearly equal sets cancel to rounding, on either side of 0.
    return float(np.sum((means[0] - means[1]) ** 2)) + max(0.0, traces)


def _check_rows(field: str, rows: NDArray[np.floating]) -> None:
    if rows.ndim != 2 or len(rows) < 2:
        raise BadInput("frechet_distance", field, "shape [N, D], N at least 2", rows.shape)
    if not np.isfinite(rows).all():
        raise BadInput("frechet_distance", field, "finite numbers", "NaN or infinite ones")


def _spread(rows: NDArray[np.floating], mean: Array) -> Array:
    """R [min(N, D), D] with R' R = S: the triangle of the centred rows, small however many rows there are."""
    centred = (rows.astype(np.float64) - mean) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


@cache
def _encoder() -> Any:
    return package("resemblyzer", "resemblyzer").VoiceEncoder("cpu", verbose=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread for a while: the order of its sums depends on their number."""
    torch = package("torch", "torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
