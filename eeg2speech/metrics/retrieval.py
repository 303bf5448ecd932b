"""Retrieval: where the true candidate comes among all, and what is quoted of that.

A query and a candidate are embeddings, rows of numbers; their score is the cosine between them. Ties count as what a
coin would earn on average, so that an embedding that says nothing scores exactly at chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput, unknown_name

TIE = 1e-6
"""Cosines that differ by no more are a tie: about the rounding error of single precision."""
CHUNK = 512
"""Candidates scored at a time, at most."""
CHUNK_NUMBERS = 8 * 1024 * 1024
"""Numbers of candidates at a time, at most: bounds memory, whatever the width of an embedding."""
FEWEST = 5
"""Candidates: what match-mismatch among five needs."""
Rows = NDArray[np.floating]


class Place(NamedTuple):
    """Of ``n`` candidates, ``better`` score higher than the true one and ``ties`` others the same."""

    better: int
    ties: int
    n: int

    @property
    def worse(self) -> int:
        """Candidates that score lower."""
        return self.n - 1 - self.better - self.ties


@dataclass(frozen=True)
class RankMetric:
    """A measure of one query's place; ``chance`` gives what guessing earns among n candidates."""

    name: str
    function: Callable[[Place], float]
    chance: Callable[[int], float]
    unit: str = "fraction"
    higher_is_better: bool = True
    decimals: int = 3
    aggregate: Literal["mean", "median"] = "mean"
    source: str = "Defossez et al. 2023"


def places(queries: Rows, candidates: Rows, truth: ArrayLike, chunk: int = CHUNK) -> list[Place | None]:
    """Place of the true candidate of each query; None where the query or its true candidate is not finite.

    Args:
        queries: [Q, K]. candidates: [N, K], an array or a memory map, read ``chunk`` rows at a time.
        truth: [Q], row of the true candidate of each query.

    Raises:
        BadInput: widths that differ, fewer than 5 candidates, or a truth that is no row of the candidates.
    """
    rows = np.asarray(truth, np.int64)
    _check(queries, candidates, rows)
    chunk = max(1, min(chunk, CHUNK_NUMBERS // max(1, queries.shape[1])))
    unit = _unit(np.asarray(queries, np.float32))
    own = np.empty(len(unit), np.float32)
    for begin in range(0, len(unit), chunk):
        part = slice(begin, begin + chunk)
        own[part] = np.einsum("qk,qk->q", unit[part], _unit(np.asarray(candidates[rows[part]], np.float32)))
    better, ties = (np.zeros(len(unit), np.int64) for _ in range(2))
    for begin in range(0, len(candidates), chunk):
        block = _unit(np.asarray(candidates[begin : begin + chunk], np.float32))
        # A candidate that is not finite can be nobody's answer.
        scores = unit @ np.nan_to_num(block, nan=0.0).T
        scores[:, ~np.isfinite(block).all(1)] = -np.inf
        inside = np.flatnonzero((rows >= begin) & (rows < begin + len(block)))
        scores[inside, rows[inside] - begin] = -np.inf
        margin = scores - own[:, None]
        better += (margin > TIE).sum(1)
        ties += (np.abs(margin) <= TIE).sum(1)
    found = zip(better, ties, np.isfinite(own), strict=True)
    return [Place(int(b), int(t), len(candidates)) if ok else None for b, t, ok in found]


def top(k: int) -> Callable[[Place], float]:
    """Probability that the true candidate is among the first ``k``, ties in random order."""
    return lambda place: float(np.clip((k - place.better) / (place.ties + 1), 0, 1))


def match_mismatch(k: int) -> Callable[[Place], float]:
    """Probability that the true candidate wins against ``k`` - 1 others drawn at random: exact, nothing is drawn."""

    def won(place: Place) -> float:
        draws = comb(place.n - 1, k - 1)
        ways = (comb(place.ties, j) * comb(place.worse, k - 1 - j) / (j + 1) for j in range(k))
        return float(sum(ways) / draws)

    return won


def rank(place: Place) -> float:
    """1 is best; among ties the middle."""
    return 1 + place.better + place.ties / 2


def reciprocal_rank(place: Place) -> float:
    """Mean of 1 / rank over the ranks that ties leave open."""
    return float(np.mean(1 / np.arange(place.better + 1, place.better + place.ties + 2)))


def won(
    queries: Rows, candidates: Rows, attended: ArrayLike, unattended: ArrayLike, chunk: int = CHUNK
) -> NDArray[np.float64]:
    """1 where a query [Q, K] is nearer to its attended candidate than to its unattended one, 0.5 for a tie, NaN where
    anything is not finite.

    Args:
        candidates: [N, K]. attended, unattended: [Q], rows of them.
    """
    rows = [np.asarray(numbers, np.int64) for numbers in (attended, unattended)]
    found = np.empty(len(queries))
    for begin in range(0, len(queries), chunk):
        part = slice(begin, begin + chunk)
        query = _unit(np.asarray(queries[part], np.float32))
        first, second = (
            np.einsum("qk,qk->q", query, _unit(np.asarray(candidates[row[part]], np.float32))) for row in rows
        )
        margin = (first - second).astype(np.float64)
        found[part] = np.where(np.isnan(margin), np.nan, np.where(np.abs(margin) <= TIE, 0.5, margin > 0))
    return found


def _top_chance(k: int) -> Callable[[int], float]:
    return lambda n: min(1.0, k / n)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay, those that are not finite are NaN."""
    length = np.sqrt(np.einsum("nk,nk->n", rows, rows))[:, None]
    with np.errstate(invalid="ignore"):
        scaled = rows / np.where(length > 0, length, 1)
    return np.where(np.isfinite(length), scaled, np.nan).astype(np.float32)


def _check(queries: Rows, candidates: Rows, truth: NDArray[np.int64]) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        found = f"{queries.shape} and {candidates.shape}"
        raise BadInput("retrieval", "queries, candidates", "[Q, K] and [N, K]", found)
    if len(candidates) < FEWEST:
        raise BadInput("retrieval", "candidates", f"at least {FEWEST}", len(candidates))
    if truth.shape != (len(queries),) or (len(truth) and not 0 <= truth.min() <= truth.max() < len(candidates)):
        raise BadInput("retrieval", "truth", f"a row of the candidates a query, {len(queries)}", truth.shape)


def _harmonic(n: int) -> float:
    return float(np.sum(1 / np.arange(1, n + 1)) / n)


MATCH = "Puffay et al. 2023, doi:10.1088/1741-2552/ace73f"
_ALL = (
    RankMetric("top1", top(1), _top_chance(1)),
    RankMetric("top5", top(5), _top_chance(5)),
    RankMetric("top10", top(10), _top_chance(10)),
    RankMetric("reciprocal_rank", reciprocal_rank, _harmonic, ""),
    RankMetric("rank", rank, lambda n: (n + 1) / 2, "", False, 1, "median"),
    RankMetric("match_mismatch_2", match_mismatch(2), lambda n: 1 / 2, source=MATCH),
    RankMetric("match_mismatch_5", match_mismatch(5), lambda n: 1 / 5, source=MATCH),
)
RANK_METRICS: dict[str, RankMetric] = {entry.name: entry for entry in _ALL}
"""Measures of a query's place among the candidates, by name."""
SPOKEN = {f"mel_{name}": name for name in ("top1", "top10", "reciprocal_rank")}
"""The same of generated speech, found again among true segments by its mel spectrogram."""
ATTENTION = RankMetric(
    "attention_accuracy", lambda place: top(1)(place), lambda n: 1 / 2, source="O'Sullivan et al. 2015"
)
"""Retrieval with the competing talker as the only other candidate."""


def rank_metric(name: str) -> RankMetric:
    """A measure by name; an unknown one is refused with the nearest."""
    known = RANK_METRICS | {ATTENTION.name: ATTENTION}
    if name not in known:
        raise unknown_name("metrics", "name", name, known)
    return known[name]
