"""Intervals for means and medians over segments that share subjects and stimuli.

Segments are not independent: those of one subject share a brain and those of one stimulus pair share the sound (a few
test minutes heard by many subjects are few test minutes). Both sets are resampled with replacement, crossed; the weight
of a segment is the product of the counts of its subject and its pair (pigeonhole bootstrap: Owen 2007, Annals of
Applied Statistics 1(2), 386-411, who shows that it errs on the wide side). Intervals are percentiles of the weighted
means, or of the weighted medians.

A score of NaN has weight zero. Everything is a function of its arguments and the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.records.medians import weighted_medians

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Statistic = Literal["mean", "median"]
OfCounts = Callable[[Floats, Floats], Floats]
"""Counts of the subjects [r, subjects] and of the pairs [r, pairs] in r resamples -> the statistic in each [r]."""
RESAMPLES = 10_000
CHUNK = 500
"""Resamples drawn at a time: bounds memory. Part of what a seed means, so not an option."""
WEIGHTS = 2_000_000
"""Most weights of segments held at a time for medians: bounds memory. No part of what a seed means."""
IDENTITY = ("segment", "subject", "trial", "pair", "attended", "unattended", "start", "duration")
"""Columns of the scores that say which segment a row is about."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` scored segments with its interval, in the unit of the scores. ``note``: why there is none.

    ``mean`` is the median where that was asked for.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    n_subjects: int
    n_pairs: int
    note: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 is outside it."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def clustered_interval(
    values: ArrayLike,
    subjects: ArrayLike,
    pairs: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    statistic: Statistic = "mean",
) -> Interval:
    """Mean of ``values`` [n] (NaN: not scored) with its interval clustered over ``subjects`` [n] and ``pairs`` [n].

    With fewer than two subjects or two pairs among the scored segments nothing is known about the spread between them:
    the interval is None with a note. ``statistic`` "median" takes the median in place of the mean, under the same
    resamples. Raises BadInput if the lengths differ, a value is infinite or the statistic is another.
    """
    if statistic not in get_args(Statistic):
        raise unknown_name("interval", "statistic", statistic, get_args(Statistic))
    scores, subject, pair = np.asarray(values, np.float64), np.asarray(subjects), np.asarray(pairs)
    _check_shapes(scores, subject, pair)
    scored = ~np.isnan(scores)
    (n_subjects, row), (n_pairs, column) = _places(subject[scored]), _places(pair[scored])
    n, clusters = int(scored.sum()), (n_subjects, n_pairs)
    build = _mean_of if statistic == "mean" else _median_of
    value, of_counts = build(scores[scored], row, column, clusters)
    note = _no_interval(n, *clusters)
    if note:
        return Interval(value, None, None, n, *clusters, note)
    found = _resampled(of_counts, clusters, resamples, np.random.default_rng(seed))
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n, *clusters)


def paired_difference(
    frame_a: pd.DataFrame,
    frame_b: pd.DataFrame,
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean of a - b over the segments scored in both frames (``n`` says how many), clustered as above.

    The frames are scores of two runs (``IDENTITY`` columns and ``metric``), rows in any order. Raises BadInput unless
    both cover the same segments: a difference of means over different segments would compare segments, not systems.
    """
    first, second = (frame.sort_values("segment", kind="stable") for frame in (frame_a, frame_b))
    check_same_segments(first, second)
    difference = first[metric].to_numpy(np.float64) - second[metric].to_numpy(np.float64)
    return clustered_interval(difference, first["subject"], first["pair"], resamples, seed, level)


def check_same_segments(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Raises BadInput unless two frames, sorted by segment, are about the same segments in every identity column."""
    one, other = (set(frame["segment"].tolist()) for frame in (first, second))
    if one != other or len(first) != len(second):
        found = f"{len(one - other)} only in the first and {len(other - one)} only in the second"
        raise BadInput("paired scores", "segment", "the same segments in both", found)
    for column in IDENTITY:
        left, right = (frame[column].reset_index(drop=True) for frame in (first, second))
        differing = int(((left != right) & ~(left.isna() & right.isna())).sum())
        if differing:
            raise BadInput("paired scores", column, "the same in both for every segment", f"{differing} that differ")


def _check_shapes(scores: Floats, subjects: NDArray[Any], pairs: NDArray[Any]) -> None:
    if not scores.shape == subjects.shape == pairs.shape or scores.ndim != 1:
        shapes = f"{scores.shape}, {subjects.shape}, {pairs.shape}"
        raise BadInput("interval", "values, subjects, pairs", "three sequences of one length", shapes)
    if np.isinf(scores).any():
        raise BadInput("interval", "values", "finite numbers, or NaN where not scored", "an infinite one")


def _places(clusters: NDArray[Any]) -> tuple[int, Places]:
    """Number of different clusters, and of each segment the place of its own among them [n]."""
    names, places = np.unique(clusters.astype(str), return_inverse=True)
    return len(names), places.astype(np.intp)


def _mean_of(scores: Floats, row: Places, column: Places, clusters: tuple[int, int]) -> tuple[float | None, OfCounts]:
    """The mean, and the weighted mean in resamples: it needs only the sum and the number of the scores in each cell of
    [subjects x pairs]."""
    cell, size = row * clusters[1] + column, clusters[0] * clusters[1]
    sums = np.bincount(cell, weights=scores, minlength=size).astype(np.float64).reshape(clusters)
    numbers = np.bincount(cell, minlength=size).astype(np.float64).reshape(clusters)

    def means(rows: Floats, columns: Floats) -> Floats:
        total = ((rows @ sums) * columns).sum(axis=1)
        weight = ((rows @ numbers) * columns).sum(axis=1)
        found = np.full(len(rows), np.nan)
        np.divide(total, weight, out=found, where=weight > 0)
        return found

    return (float(sums.sum() / len(scores)) if len(scores) else None), means


def _median_of(scores: Floats, row: Places, column: Places, clusters: tuple[int, int]) -> tuple[float | None, OfCounts]:
    """The median, and the weighted median in resamples, a part of them at a time: the weights of all are many."""
    order = np.argsort(scores, kind="stable")
    ordered, row, column = scores[order], row[order], column[order]

    def medians(rows: Floats, columns: Floats) -> Floats:
        size = max(1, WEIGHTS // max(1, len(ordered)))
        parts = (slice(start, start + size) for start in range(0, len(rows), size))
        return np.concatenate(
            [weighted_medians(ordered, rows[part][:, row] * columns[part][:, column]) for part in parts]
        )

    return (float(np.median(scores)) if len(scores) else None), medians


def _no_interval(n: int, n_subjects: int, n_pairs: int) -> str | None:
    if n == 0:
        return "nothing scored"
    few = [word for word, count in (("subject", n_subjects), ("stimulus pair", n_pairs)) if count < 2]
    return f"only one {' and one '.join(few)}" if few else None


def _resampled(of_counts: OfCounts, clusters: tuple[int, int], resamples: int, rng: np.random.Generator) -> Floats:
    """The statistic [resamples]; NaN where a resample drew no cell with a score (possible when most are empty)."""
    found = np.full(resamples, np.nan)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        rows, columns = (_counts(rng, number, size) for number in clusters)
        found[start : start + size] = of_counts(rows, columns)
    return found


def _counts(rng: np.random.Generator, clusters: int, size: int) -> Floats:
    """How often each cluster is drawn, with replacement: [size, clusters], rows summing to clusters."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
