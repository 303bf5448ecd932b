"""Intervals for means and medians over segments that share subjects and stimuli.

Segments are not independent: those of one subject share a brain and those of one stimulus pair share the sound (a few
test minutes heard by many subjects are few test minutes). Both sets are resampled with replacement, crossed; the weight
of a segment is the product of the counts of its subject and its pair (pigeonhole bootstrap: Owen 2007, Annals of
Applied Statistics 1(2), 386-411).

Its percentiles give the interval's shape, not its width. Owen shows why: noise of single trials is counted three times,
so intervals are too wide where it rules; and with ten clusters they are too narrow where the clusters rule. So
distances from the mean are scaled until the width is that of two-way clustering and a t quantile (``spread.Spread``).
In simulations of this suite's design (16 subjects, 10 pairs, 160 segments), percentiles alone cover the truth 92 to
99.9 % of the time, scaled ones 93 to 97 %, whatever rules. Hardest are shares near 0 or 1 whose subjects differ much:
down to 90 %. Ends stay within the range of the scores.

A score of NaN has weight zero. Everything is a function of its arguments and the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.records.medians import weighted_medians
from eeg2speech.records.spread import spread_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Statistic = Literal["mean", "median"]
METHOD: Literal["two-way"] = "two-way"
"""Name of how intervals are made, for records."""
RESAMPLES = 10_000
CHUNK = 500
"""Resamples drawn at a time: bounds memory. Part of what a seed means, so not an option."""
KEPT = 1_000_000
"""Most counts of clusters that are kept for the next interval over as many."""
WEIGHTS = 200_000
"""Most weights of segments held at a time for medians: they fit a processor's cache. No part of what a seed means."""
IDENTITY = ("segment", "subject", "trial", "pair", "attended", "unattended", "start", "duration")
"""Columns of the scores that say which segment a row is about."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Of r resamples: counts of the subjects [subjects, r] and of the pairs [pairs, r]. Resamples lie side by side:
    sums and products run along them."""

    rows: Floats
    columns: Floats


OfDraws = Callable[[Draws], Floats]
"""The statistic in each resample [r]."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` scored segments with its interval, in the unit of the scores. ``note``: why there is none.

    ``mean`` is the median where that was asked for. ``p`` is the two-sided probability of a mean at least as far from 0
    if the truth were 0, by the t distribution; None without an interval, or for a median.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    n_subjects: int
    n_pairs: int
    note: str | None = None
    p: float | None = None

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

    ``values`` may be [seeds, n]: then of each segment's mean over the seeds, and the interval knows how far the seeds
    are apart. With fewer than two subjects or two pairs among the scored segments nothing is known about the spread
    between them: the interval is None with a note. ``statistic`` "median" takes the median in place of the mean, under
    the same resamples. Raises BadInput if the lengths differ, a value is infinite or the statistic is another.
    """
    if statistic not in get_args(Statistic):
        raise unknown_name("interval", "statistic", statistic, get_args(Statistic))
    several, subject, pair = np.atleast_2d(np.asarray(values, np.float64)), np.asarray(subjects), np.asarray(pairs)
    return _interval(several.mean(axis=0), [several], subject, pair, resamples, seed, level, statistic)


def _interval(
    scores: Floats,
    runs: Sequence[NDArray[Any]],
    subject: NDArray[Any],
    pair: NDArray[Any],
    resamples: int,
    seed: int,
    level: float,
    statistic: Statistic,
) -> Interval:
    """Interval of ``scores`` [n] that come from ``runs``, each [seeds, n]."""
    _check_shapes(scores, subject, pair)
    scored = ~np.isnan(scores)
    (n_subjects, row), (n_pairs, column) = _places(subject[scored]), _places(pair[scored])
    n, clusters, known = int(scored.sum()), (n_subjects, n_pairs), scores[scored]
    value, of_draws = (_mean_of if statistic == "mean" else _median_of)(known, row, column, clusters)
    note = _no_interval(n, *clusters)
    if note or value is None:
        return Interval(value, None, None, n, *clusters, note)
    found = _resampled(of_draws, clusters, resamples, seed)
    about, means, ends = known, found, [(1 - level) / 2, (1 + level) / 2]
    if statistic == "median":
        # What spreads around a median is on which side of it a score lies: the density there cancels in the ratio.
        about, runs = np.less_equal(known, value).astype(np.float64), [np.less_equal(run, value) for run in runs]
        of_means = _mean_of(about, row, column, clusters)[1]
        means = _resampled(of_means, clusters, resamples, seed)
    spread = spread_of(about, row, column, clusters, [run[:, scored].mean(axis=1).tolist() for run in runs])
    shape = _quantiles(found, ends)
    around = shape if means is found else _quantiles(means, ends)
    width = float(around[1] - around[0])
    scale = 2 * spread.error * spread.quantile(level) / width if width else 1.0
    low, high = np.clip(value + scale * (shape - value), known.min(), known.max()).tolist()
    return Interval(value, low, high, n, *clusters, p=spread.p if statistic == "mean" else None)


def paired_difference(
    frame_a: pd.DataFrame | Sequence[pd.DataFrame],
    frame_b: pd.DataFrame | Sequence[pd.DataFrame],
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    same_seeds: bool = False,
) -> Interval:
    """Mean of a - b over the segments scored in both (``n`` says how many), clustered as above.

    The frames are scores of two runs (``IDENTITY`` columns and ``metric``), rows in any order; of a run with several
    seeds, a frame a seed, and ``same_seeds`` says that those of b are the very networks of a. Raises BadInput unless
    all cover the same segments: a difference of means over different segments would compare segments, not systems.
    """
    first, second = (_sorted(frames) for frames in (frame_a, frame_b))
    for other in (*first[1:], *second):
        check_same_segments(first[0], other)
    runs = [np.stack([frame[metric].to_numpy(np.float64) for frame in frames]) for frames in (first, second)]
    about = first[0]["subject"].to_numpy(), first[0]["pair"].to_numpy()
    return difference_of(runs[0], runs[1], *about, resamples, seed, level, same_seeds)


def difference_of(
    first: Floats,
    second: Floats,
    subjects: NDArray[Any],
    pairs: NDArray[Any],
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    same_seeds: bool = False,
) -> Interval:
    """As ``paired_difference``, of scores [seeds, n] of the same segments in the same order."""
    difference = first.mean(axis=0) - second.mean(axis=0)
    runs = [first - second] if same_seeds else [first, second]
    return _interval(difference, runs, subjects, pairs, resamples, seed, level, "mean")


def _sorted(frames: pd.DataFrame | Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    several = frames if isinstance(frames, Sequence) else [frames]
    return [frame.sort_values("segment", kind="stable") for frame in several]


def check_same_segments(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Raises BadInput unless two frames, sorted by segment, are about the same segments in every identity column."""
    if _identity(first).equals(_identity(second)):
        return
    one, other = (set(frame["segment"].tolist()) for frame in (first, second))
    if one != other or len(first) != len(second):
        found = f"{len(one - other)} only in the first and {len(other - one)} only in the second"
        raise BadInput("paired scores", "segment", "the same segments in both", found)
    for column in IDENTITY:
        left, right = (frame[column].reset_index(drop=True) for frame in (first, second))
        differing = int(((left != right) & ~(left.isna() & right.isna())).sum())
        if differing:
            raise BadInput("paired scores", column, "the same in both for every segment", f"{differing} that differ")


def _identity(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[*IDENTITY]].reset_index(drop=True)


def _check_shapes(scores: Floats, subjects: NDArray[Any], pairs: NDArray[Any]) -> None:
    if not scores.shape == subjects.shape == pairs.shape or scores.ndim != 1:
        shapes = f"{scores.shape}, {subjects.shape}, {pairs.shape}"
        raise BadInput("interval", "values, subjects, pairs", "three sequences of one length", shapes)
    if np.isinf(scores).any():
        raise BadInput("interval", "values", "finite numbers, or NaN where not scored", "an infinite one")


def _places(clusters: NDArray[Any]) -> tuple[int, Places]:
    """Number of different clusters, and of each segment the place of its own among them [n], in the order of names."""
    names = np.asarray(clusters, dtype=str)
    return _kept_places(names.tobytes(), names.dtype.str)


@lru_cache(maxsize=16)
def _kept_places(names: bytes, kind: str) -> tuple[int, Places]:
    """The same, kept: most intervals are about the same segments."""
    # Few names for many segments: to sort the names alone takes less than numpy.unique, which sorts what it is given.
    texts = np.frombuffer(names, kind).tolist() if names else []
    places = {name: place for place, name in enumerate(sorted(set(texts)))}
    found = np.fromiter(map(places.__getitem__, texts), np.intp, len(texts))
    found.flags.writeable = False
    return len(places), found


def _mean_of(scores: Floats, row: Places, column: Places, clusters: tuple[int, int]) -> tuple[float | None, OfDraws]:
    """The mean, and the weighted mean in resamples: it needs only the sum and the number of the scores in each cell of
    [subjects x pairs]."""
    cell, size = row * clusters[1] + column, clusters[0] * clusters[1]
    sums = np.bincount(cell, weights=scores, minlength=size).astype(np.float64).reshape(clusters)
    numbers = np.bincount(cell, minlength=size).astype(np.float64).reshape(clusters)
    # With as many scores in every cell, the weight is the same in every resample.
    balanced = float(numbers[0, 0]) * size if size and (numbers == numbers[0, 0]).all() else None

    def means(drawn: Draws) -> Floats:
        total = _crossed(sums, drawn)
        if balanced:
            return total / balanced
        weight = _weights(numbers.tobytes(), drawn)
        found = np.full(len(total), np.nan)
        np.divide(total, weight, out=found, where=weight > 0)
        return found

    return (float(sums.sum() / len(scores)) if len(scores) else None), means


def _crossed(cells: Floats, drawn: Draws) -> Floats:
    """Sum [r] over the cells [subjects, pairs], each as often as its row and its column are drawn in a resample."""
    of_pairs = cells.T @ drawn.rows
    of_pairs *= drawn.columns
    found: Floats = np.add.reduce(of_pairs, axis=0)
    return found


@lru_cache(maxsize=8)
def _weights(numbers: bytes, drawn: Draws) -> Floats:
    """The same of the numbers of scores in the cells, kept: most intervals are about the same segments."""
    return _crossed(np.frombuffer(numbers).reshape(len(drawn.rows), len(drawn.columns)), drawn)


def _median_of(scores: Floats, row: Places, column: Places, clusters: tuple[int, int]) -> tuple[float | None, OfDraws]:
    """The median, and the weighted median in resamples, a part of them at a time: the weights of all are many."""
    order = np.argsort(scores, kind="stable")
    ordered, row, column = scores[order], row[order], column[order]

    def medians(drawn: Draws) -> Floats:
        size = max(1, WEIGHTS // max(1, len(ordered)))
        whole = [counts.astype(np.int32) for counts in (drawn.rows, drawn.columns)]
        found = []
        for start in range(0, drawn.rows.shape[1], size):
            of_subjects, of_pairs = (counts[:, start : start + size] for counts in whole)
            found.append(weighted_medians(ordered, of_subjects[row] * of_pairs[column]))
        return np.concatenate(found)

    return (float(np.median(scores)) if len(scores) else None), medians


def _no_interval(n: int, n_subjects: int, n_pairs: int) -> str | None:
    if n == 0:
        return "nothing scored"
    few = [word for word, count in (("subject", n_subjects), ("stimulus pair", n_pairs)) if count < 2]
    return f"only one {' and one '.join(few)}" if few else None


def _resampled(statistic: OfDraws, clusters: tuple[int, int], resamples: int, seed: int) -> Floats:
    """The statistic [resamples]; NaN where a resample drew no cell with a score (possible when most are empty)."""
    if resamples * sum(clusters) <= KEPT:
        return statistic(_kept_draws(clusters, resamples, seed))
    return np.concatenate([np.zeros(0), *map(statistic, _draws(clusters, resamples, seed))])


def _quantiles(values: Floats, shares: Sequence[float]) -> Floats:
    """``numpy.nanquantile``, to the bit, without most of what it takes: an interval has few numbers to sort."""
    known = values[~np.isnan(values)] if np.isnan(values).any() else values
    if not len(known):
        return np.full(len(shares), np.nan)
    places = (len(known) - 1) * np.asarray(shares)
    below = np.floor(places).astype(np.intp)
    above, share = np.minimum(below + 1, len(known) - 1), places - below
    ordered = np.partition(known, np.unique([below, above]))
    low, high = ordered[below], ordered[above]
    # Counted from the nearer end, as numpy does: then 1 gives the higher one itself.
    found: Floats = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    return found


def _draws(clusters: tuple[int, int], resamples: int, seed: int) -> Iterator[Draws]:
    """Some resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        yield Draws(_counts(rng, clusters[0], size), _counts(rng, clusters[1], size))


@lru_cache(maxsize=8)
def _kept_draws(clusters: tuple[int, int], resamples: int, seed: int) -> Draws:
    """The same, all of them, for many intervals over the same clusters: to draw takes longer than to use what was
    drawn."""
    drawn = [*_draws(clusters, resamples, seed)]
    rows = np.concatenate([np.zeros((clusters[0], 0)), *(part.rows for part in drawn)], axis=1)
    return Draws(rows, np.concatenate([np.zeros((clusters[1], 0)), *(part.columns for part in drawn)], axis=1))


def _counts(rng: np.random.Generator, clusters: int, size: int) -> Floats:
    """How often each cluster is drawn, with replacement: [clusters, size], columns summing to clusters."""
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
    return np.ascontiguousarray(drawn.T, dtype=np.float64)
