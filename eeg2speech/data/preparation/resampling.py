"""Another rate, block by block: what a block gives is what the whole signal would have given.

Polyphase, by the exact ratio of both rates: sample k of the result lies k / wanted seconds after the first however long
the signal is. The filter is a windowed sinc, symmetric and therefore without delay.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, resample_poly

from eeg2speech.data.preparation.blocks import Array, Blocks
from eeg2speech.data.types import Samples

ZERO_CROSSINGS, ROLLOFF, KAISER = 64, 0.948, 14.77
"""Filter of the resampling: it passes 0.91 of the lower band; more than 100 dB down it is from 2 % above it on."""
BLOCK = 1 << 22
"""Numbers that are read at a time."""


def ratio(rate: float, wanted: float) -> Fraction:
    """Samples at ``wanted`` Hz for one at ``rate`` Hz; rates are taken to 1/1000 Hz."""
    return Fraction(wanted).limit_denominator(1000) / Fraction(rate).limit_denominator(1000)


def resampled_length(blocks: Blocks, wanted: float, origin: int = 0) -> int:
    """Samples that a signal from its sample ``origin`` on has at ``wanted`` Hz."""
    return int((blocks.samples - origin) * ratio(blocks.rate, wanted))


def resampled(blocks: Blocks, wanted: float, origin: int = 0, first: int = 0, count: int | None = None) -> Samples:
    """Samples ``first`` to ``first + count`` of a signal at ``wanted`` Hz, float32 [C, count].

    Sample 0 lies on the signal's own sample ``origin``; ``first`` may be negative. Beyond both ends of the signal, its
    first or last sample is repeated.
    """
    total = resampled_length(blocks, wanted, origin) - first if count is None else count
    made = np.empty((blocks.channels, max(total, 0)), np.float32)
    done = 0
    for part in _parts(blocks, ratio(blocks.rate, wanted), origin, first, total):
        made[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    return made


def polyphase(signal: Array, factor: Fraction) -> Array:
    """[..., N] -> [..., about N * factor]."""
    # That coefficients are taken as well is not in scipy's stubs.
    taps: Any = _filter(max(factor.numerator, factor.denominator))
    return np.asarray(resample_poly(signal, factor.numerator, factor.denominator, axis=-1, window=taps))


def _parts(blocks: Blocks, factor: Fraction, origin: int, first: int, count: int) -> Iterator[Samples]:
    up, down = factor.numerator, factor.denominator
    if factor == 1:
        length = max(BLOCK // blocks.channels, 1)
        for begin in range(first, first + count, length):
            end = min(begin + length, first + count)
            yield np.asarray(_padded(blocks, origin + begin, origin + end), np.float32)
        return
    # Blocks begin where a sample of the result lies on one of the signal: at multiples of ``up`` and ``down``.
    edge = -(-(ZERO_CROSSINGS * max(up, down) // up + 1) // down)
    length = max(BLOCK // (blocks.channels * down), 1)
    for begin in range(first // up, -(-(first + count) // up), length):
        end = min(begin + length, -(-(first + count) // up))
        read = _padded(blocks, origin + (begin - edge) * down, origin + (end + edge) * down)
        offset = read.mean(axis=1, keepdims=True, dtype=np.float64)
        made = polyphase(read - offset, factor) + offset
        low, high = max(first, begin * up), min(first + count, end * up)
        shift = (edge - begin) * up
        yield np.asarray(made[:, low + shift : high + shift], np.float32)


def _padded(blocks: Blocks, begin: int, end: int) -> Array:
    """Samples ``begin`` to ``end``, the first and the last repeated beyond both ends."""
    low, high = min(max(begin, 0), blocks.samples - 1), max(min(end, blocks.samples), 1)
    low = min(low, high - 1)
    read = blocks.read(low, high)
    return np.pad(read, ((0, 0), (low - begin, end - high)), mode="edge") if (low, high) != (begin, end) else read


@cache
def _filter(steps: int) -> NDArray[np.float64]:
    taps: NDArray[np.float64] = firwin(2 * ZERO_CROSSINGS * steps + 1, ROLLOFF / steps, window=("kaiser", KAISER))
    return taps
