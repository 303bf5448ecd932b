"""Intervals for means over segments that share subjects and stimuli.

Segments are not independent: those of one subject share a brain and those of one stimulus pair share the sound (a few
test minutes heard by many subjects are few test minutes). Both sets are resampled with replacement, crossed; the weight
of a segment is the product of the counts of its subject and its pair (pigeonhole bootstrap: Owen 2007, Annals of
Applied Statistics 1(2), 386-411, who shows that it errs on the wide side). Intervals are percentiles of the weighted
means.

A score of NaN has weight zero. Everything is a function of its arguments and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
RESAMPLES = 10_000
CHUNK = 500
"""Resamples drawn at a time: bounds memory. Part of what a seed means, so not an option."""
IDENTITY = ("segment", "subject", "trial", "pair", "attended", "unattended", "start", "duration")
"""Columns of the scores that say which segment a row is about."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` scored segments with its interval, in the unit of the scores. ``note``: why there is none."""

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
) -> Interval:
    """Mean of ``values`` [n] (NaN: not scored) with its interval clustered over ``subjects`` [n] and ``pairs`` [n].

    With fewer than two subjects or two pairs among the scored segments nothing is known about the spread between them:
    the interval is None with a note. Raises BadInput if the lengths differ or a value is infinite.
    """
    scores, subject, pair = np.asarray(values, np.float64), np.asarray(subjects), np.asarray(pairs)
    _check_shapes(scores, subject, pair)
    scored = ~np.isnan(scores)
    sums, counts = _cells(scores[scored], subject[scored], pair[scored])
    n, (n_subjects, n_pairs) = int(scored.sum()), sums.shape
    mean = float(sums.sum() / n) if n else None
    note = _no_interval(n, n_subjects, n_pairs)
    if note:
        return Interval(mean, None, None, n, n_subjects, n_pairs, note)
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), n, n_subjects, n_pairs)


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


def _cells(scores: Floats, subjects: NDArray[Any], pairs: NDArray[Any]) -> tuple[Floats, Floats]:
    """Sum and number of the scores in each cell of [subjects x pairs]; all that the bootstrap needs to know."""
    subject_names, row = np.unique(subjects.astype(str), return_inverse=True)
    pair_names, column = np.unique(pairs.astype(str), return_inverse=True)
    shape = (len(subject_names), len(pair_names))
    cell = row * shape[1] + column
    size = shape[0] * shape[1]
    sums = np.bincount(cell, weights=scores, minlength=size).astype(np.float64).reshape(shape)
    return sums, np.bincount(cell, minlength=size).astype(np.float64).reshape(shape)


def _no_interval(n: int, n_subjects: int, n_pairs: int) -> str | None:
    if n == 0:
        return "nothing scored"
    few = [word for word, count in (("subject", n_subjects), ("stimulus pair", n_pairs)) if count < 2]
    return f"only one {' and one '.join(few)}" if few else None


def _resampled_means(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Weighted means [resamples]; NaN where a resample drew no cell with a score (possible when most are empty)."""
    means = np.full(resamples, np.nan)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        rows, columns = (_counts(rng, clusters, size) for clusters in sums.shape)
        total = ((rows @ sums) * columns).sum(axis=1)
        weight = ((rows @ counts) * columns).sum(axis=1)
        np.divide(total, weight, out=means[start : start + size], where=weight > 0)
    return means


def _counts(rng: np.random.Generator, clusters: int, size: int) -> Floats:
    """How often each cluster is drawn, with replacement: [size, clusters], rows summing to clusters."""
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
