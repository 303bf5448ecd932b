"""Audio fingerprints: which stimuli sound alike though their bytes differ?

Haitsma and Kalker 2002 ("A highly robust audio fingerprinting system", ISMIR): the signs of differences of energy
between neighbouring bands and frames, 32 bits a frame. A copy at another gain, rate or coding, cut elsewhere or with
noise in it keeps most of them; two recordings of the same words do not. Frames whose bits are equal propose at which
offset two stimuli may match, and the share of differing bits over three seconds decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import resample_poly

from eeg2speech.data.store import Store

RATE, WINDOW, HOP = 5500, 2048, 110
"""Hz; samples of a frame (0.37 s) and from one to the next (20 ms): neighbours overlap, so that cuts matter little."""
BANDS_HZ = (300.0, 2000.0)
BLOCK = 150
"""Frames that are compared: three seconds."""
ALIKE = 0.25
"""Share of differing bits below which two blocks are the same sound; of unrelated ones half differ."""
QUIET_DB = -50.0
"""Frames this far below the loudest have no say."""
COMMON, VOTES = 40, 2
"""Bits that occur in more frames propose nothing; an offset needs so many proposals to be looked at."""

Bits = NDArray[np.uint32]


class Fingerprint(NamedTuple):
    """Bits of each frame [F], and which frames are loud enough to count [F]."""

    bits: Bits
    loud: NDArray[np.bool_]


class Alike(NamedTuple):
    """Two stimuli that sound alike: the second begins ``offset`` seconds after the first; share of differing bits."""

    first: str
    second: str
    offset: float
    error: float


def near_duplicates(store: Store) -> list[Alike]:
    """Pairs of a study's stimuli that share three seconds of sound, by name; none without sound to tell by."""
    if store.facts.stimuli != "audio":
        return []
    found = {name: fingerprint(store.stimulus(name), store.facts.audio_rate) for name in sorted(store.stimuli)}
    return list(alike(found))


def fingerprint(audio: NDArray[np.floating], rate: int) -> Fingerprint:
    """Fingerprint of speech [T] at ``rate`` Hz; no frames for less than a window of 0.37 s."""
    common = gcd(rate, RATE)
    slow = resample_poly(np.asarray(audio, np.float32), RATE // common, rate // common)
    if len(slow) < WINDOW + HOP:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))
    energy = _energies(slow)
    loudness = 10 * np.log10(energy.sum(1) + 1e-20)
    steps = np.diff(np.diff(energy, axis=1), axis=0) > 0
    bits = (steps @ (1 << np.arange(32, dtype=np.uint64))).astype(np.uint32)
    return Fingerprint(bits, loudness[1:] > loudness.max() + QUIET_DB)


def _energies(slow: NDArray[np.floating]) -> NDArray[np.float64]:
    """Energies [F, 33] in bands of equal width on a logarithmic scale."""
    edges = np.geomspace(*BANDS_HZ, 34)
    bins = np.searchsorted(edges, np.fft.rfftfreq(WINDOW, 1 / RATE), side="right") - 1
    inside = (bins >= 0) & (bins < 33)
    gather = np.eye(33)[bins[inside]]
    frames = np.lib.stride_tricks.sliding_window_view(slow, WINDOW)[::HOP]
    taper = np.hanning(WINDOW).astype(np.float32)
    blocks = (frames[k : k + 1000] for k in range(0, len(frames), 1000))
    return np.concatenate([np.abs(rfft(block * taper, axis=1)[:, inside]) ** 2 @ gather for block in blocks])


def alike(found: Mapping[str, Fingerprint]) -> Iterator[Alike]:
    """Pairs of fingerprints that match in a block, by name, each once with its best offset."""
    names = sorted(found)
    best: dict[tuple[str, str], Alike] = {}
    for (one, other, offset), votes in _proposals([found[name] for name in names]).items():
        if votes < VOTES:
            continue
        error = _difference(found[names[one]], found[names[other]], offset)
        pair = names[one], names[other]
        if error < ALIKE and (pair not in best or error < best[pair].error):
            best[pair] = Alike(*pair, offset * HOP / RATE, error)
    yield from (best[pair] for pair in sorted(best))


def _proposals(prints: list[Fingerprint]) -> Counter[tuple[int, int, int]]:
    """How many frames with equal bits two fingerprints share, by their places and the offset in frames."""
    owner = np.concatenate([np.full(int(p.loud.sum()), k) for k, p in enumerate(prints)])
    frame = np.concatenate([np.flatnonzero(p.loud) for p in prints])
    bits = np.concatenate([p.bits[p.loud] for p in prints])
    order = np.argsort(bits, kind="stable")
    _, starts, counts = np.unique(bits[order], return_index=True, return_counts=True)
    votes: Counter[tuple[int, int, int]] = Counter()
    for start, count in zip(starts, counts, strict=True):
        if 1 < count <= COMMON:
            votes.update(_pairs(order[start : start + count], owner, frame))
    return votes


def _pairs(
    places: NDArray[np.intp], owner: NDArray[np.intp], frame: NDArray[np.intp]
) -> Iterable[tuple[int, int, int]]:
    for k, one in enumerate(places):
        for other in places[k + 1 :]:
            if owner[one] != owner[other]:
                yield int(owner[one]), int(owner[other]), int(frame[one] - frame[other])


def _difference(first: Fingerprint, second: Fingerprint, offset: int) -> float:
    """Least share of differing bits over a block, frame k + offset of the first beside frame k of the second."""
    begin, end = max(0, offset), min(len(first.bits), len(second.bits) + offset)
    if end - begin < BLOCK:
        return 1.0
    one, other = slice(begin, end), slice(begin - offset, end - offset)
    loud = (first.loud[one] & second.loud[other]).astype(np.float64)
    wrong = np.bitwise_count(first.bits[one] ^ second.bits[other]) / 32 * loud
    count, errors = (np.convolve(each, np.ones(BLOCK), "valid") for each in (loud, wrong))
    enough = count > BLOCK / 2
    return float((errors[enough] / count[enough]).min()) if enough.any() else 1.0
