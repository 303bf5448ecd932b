"""Intervals cover the truth when subjects and stimuli vary, are exact where they must be, and never pretend."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.records import clustered_interval, paired_difference
from eeg2speech.records import intervals as intervals_module
from eeg2speech.records.medians import weighted_medians

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def crossed(
    rng: np.random.Generator,
    subjects: int = 16,
    pairs: int = 20,
    each: int = 3,
    spread: tuple[float, float] = (1.0, 1.0),
) -> tuple[Floats, Indices, Indices]:
    """Scores with mean 0: an effect a subject, an effect a pair, and noise; ``each`` segments a cell."""
    subject, pair, _ = (index.ravel() for index in np.indices((subjects, pairs, each)))
    of_subject, of_pair = rng.normal(0, spread[0], subjects), rng.normal(0, spread[1], pairs)
    return of_subject[subject] + of_pair[pair] + rng.normal(0, 1, len(subject)), subject, pair


def frame(values: Floats, subjects: Indices, pairs: Indices) -> pd.DataFrame:
    names = {"trial": "t", "attended": "a", "unattended": "b"}
    return pd.DataFrame(
        {"segment": np.arange(len(values)), "subject": subjects.astype(str), "pair": pairs.astype(str)}
        | {column: [f"{letter}{pair}" for pair in pairs] for column, letter in names.items()}
        | {"start": 0.0, "duration": 4.0, "si_sdr": values}
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def scored(rng: np.random.Generator) -> pd.DataFrame:
    return frame(*crossed(rng))


def test_coverage_is_near_its_level(rng: np.random.Generator) -> None:
    repeats = 200
    found = [clustered_interval(*crossed(rng), resamples=500, seed=repeat) for repeat in range(repeats)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])  # type: ignore[operator]
    assert 0.90 <= covered <= 0.99


def test_wider_than_naive_when_clusters_matter(rng: np.random.Generator) -> None:
    values, subjects, pairs = crossed(rng)
    interval = clustered_interval(values, subjects, pairs, resamples=2000)
    naive = 2 * 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low is not None and interval.high is not None
    assert interval.high - interval.low > 3 * naive


def test_agrees_with_the_plain_bootstrap_written_out(rng: np.random.Generator) -> None:
    values, subjects, pairs = crossed(rng, 5, 6, 2)
    values[[1, 8]] = np.nan
    means = []
    for _ in range(4000):
        rows = np.bincount(rng.integers(0, 5, 5), minlength=5)
        columns = np.bincount(rng.integers(0, 6, 6), minlength=6)
        weight = (rows[subjects] * columns[pairs]) * ~np.isnan(values)
        means.append(np.sum(weight * np.nan_to_num(values)) / weight.sum())
    interval = clustered_interval(values, subjects, pairs, seed=1)
    assert [interval.low, interval.high] == pytest.approx(list(np.quantile(means, [0.025, 0.975])), abs=0.1)


def test_a_seed_decides_everything(rng: np.random.Generator) -> None:
    data = crossed(rng)
    first, again, other = (clustered_interval(*data, resamples=700, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.low != other.low


def test_missing_scores_have_no_weight(rng: np.random.Generator) -> None:
    values, subjects, pairs = crossed(rng)
    values[::7] = np.nan
    scored = ~np.isnan(values)
    with_missing = clustered_interval(values, subjects, pairs, resamples=500)
    assert with_missing == clustered_interval(values[scored], subjects[scored], pairs[scored], resamples=500)
    assert with_missing.n == scored.sum()


@pytest.mark.parametrize(
    ("subjects", "pairs", "note"),
    [
        ([0, 0, 0], [0, 1, 2], "only one subject"),
        ([0, 1, 2], [0, 0, 0], "only one stimulus pair"),
        ([0, 0, 0], [0, 0, 0], "only one subject and one stimulus pair"),
    ],
)
def test_one_cluster_gives_no_interval(subjects: list[int], pairs: list[int], note: str) -> None:
    interval = clustered_interval([1.0, 2.0, 3.0], subjects, pairs)
    assert (interval.mean, interval.low, interval.high, interval.note) == (2.0, None, None, note)
    assert not interval.excludes_zero


def test_nothing_scored_gives_no_mean() -> None:
    interval = clustered_interval([np.nan, np.nan], [0, 1], [0, 1])
    assert (interval.mean, interval.low, interval.n, interval.note) == (None, None, 0, "nothing scored")


@pytest.mark.parametrize("arguments", [([1.0], [0, 1], [0, 1]), ([1.0, np.inf], [0, 1], [0, 1])])
def test_bad_values_are_refused(arguments: tuple[Any, Any, Any]) -> None:
    with pytest.raises(BadInput, match="values"):
        clustered_interval(*arguments)


def test_identical_scores_differ_by_exactly_zero(scored: pd.DataFrame) -> None:
    interval = paired_difference(scored, scored.sample(frac=1, random_state=1), "si_sdr", resamples=1000)
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert not interval.excludes_zero


def test_a_constant_difference_is_found_whatever_the_clusters(scored: pd.DataFrame) -> None:
    interval = paired_difference(scored.assign(si_sdr=scored["si_sdr"] + 0.5), scored, "si_sdr", resamples=500)
    assert [interval.mean, interval.low, interval.high] == pytest.approx([0.5, 0.5, 0.5])
    assert interval.excludes_zero


def test_a_difference_counts_the_segments_scored_in_both(scored: pd.DataFrame) -> None:
    one, other = scored.copy(), scored.copy()
    one.loc[:9, "si_sdr"] = np.nan
    other.loc[5:14, "si_sdr"] = np.nan
    assert paired_difference(one, other, "si_sdr", resamples=100).n == len(scored) - 15


def test_other_segments_are_refused(scored: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="0 only in the first and 1 only in the second"):
        paired_difference(scored.iloc[1:], scored, "si_sdr")
    with pytest.raises(BadInput, match="attended"):
        paired_difference(scored.assign(attended="x"), scored, "si_sdr")


def test_a_missing_second_talker_is_the_same_as_a_missing_one(scored: pd.DataFrame) -> None:
    alone = scored.assign(unattended=None)
    assert paired_difference(alone, alone.assign(unattended=np.nan), "si_sdr", resamples=100).mean == 0
    with pytest.raises(BadInput, match="unattended"):
        paired_difference(alone, scored, "si_sdr")


def test_many_segments_take_seconds(rng: np.random.Generator) -> None:
    data = crossed(rng, 50, 200, 10)
    start = time.perf_counter()
    clustered_interval(*data)
    assert time.perf_counter() - start < 10


def test_a_weighted_median_is_the_median_of_the_repeated_values(rng: np.random.Generator) -> None:
    ordered = np.sort(rng.integers(0, 9, 31)).astype(float)
    weights = rng.integers(0, 4, (50, 31)).astype(float)
    weights[0] = 0
    found = weighted_medians(ordered, weights)
    written_out = [np.median(np.repeat(ordered, row.astype(int))) for row in weights[1:]]
    assert np.isnan(found[0]) and found[1:].tolist() == written_out


def test_the_median_agrees_with_the_plain_bootstrap_written_out(rng: np.random.Generator) -> None:
    values, subjects, pairs = crossed(rng, 5, 6, 2)
    values[[1, 8]] = np.nan
    medians = []
    for _ in range(3000):
        rows = np.bincount(rng.integers(0, 5, 5), minlength=5)
        columns = np.bincount(rng.integers(0, 6, 6), minlength=6)
        medians.append(np.nanmedian(np.repeat(values, rows[subjects] * columns[pairs])))
    interval = clustered_interval(values, subjects, pairs, seed=1, statistic="median")
    assert interval.mean == np.nanmedian(values)
    assert [interval.low, interval.high] == pytest.approx(list(np.quantile(medians, [0.025, 0.975])), abs=0.12)


def test_the_median_covers_the_truth_and_a_far_score_does_not_move_it(rng: np.random.Generator) -> None:
    found = [clustered_interval(*crossed(rng), resamples=300, seed=seed, statistic="median") for seed in range(100)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])  # type: ignore[operator]
    assert 0.88 <= covered <= 1.0
    values, subjects, pairs = crossed(rng)
    far = np.where(values == values.max(), 1e6, values)
    both = [clustered_interval(scores, subjects, pairs, 300, statistic="median") for scores in (values, far)]
    assert both[0] == both[1]
    assert clustered_interval(far, subjects, pairs, 300).mean != both[0].mean


def test_how_much_is_held_at_a_time_does_not_show(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    data = crossed(rng, 4, 5, 2)
    whole = clustered_interval(*data, resamples=700, statistic="median")
    monkeypatch.setattr(intervals_module, "WEIGHTS", 7 * len(data[0]))
    assert clustered_interval(*data, resamples=700, statistic="median") == whole


def test_the_median_scales_and_turns_with_its_scores(rng: np.random.Generator) -> None:
    values, subjects, pairs = crossed(rng, 6, 7, 1)
    plain, turned = (clustered_interval(scale * values, subjects, pairs, 300, statistic="median") for scale in (1, -2))
    assert plain.low is not None and plain.high is not None and plain.mean is not None
    assert [turned.mean, turned.high] == pytest.approx([-2 * plain.mean, -2 * plain.low])


@pytest.mark.parametrize(("subjects", "note"), [([0, 0, 0], "only one subject"), ([0, 1, 2], None)])
def test_one_cluster_gives_no_interval_of_the_median(subjects: list[int], note: str | None) -> None:
    interval = clustered_interval([1.0, 2.0, 9.0], subjects, [0, 1, 2], 50, statistic="median")
    assert (interval.mean, interval.note, interval.low is None) == (2.0, note, note is not None)
    nothing = clustered_interval([np.nan] * 3, subjects, [0, 1, 2], 50, statistic="median")
    assert (nothing.mean, nothing.note) == (None, "nothing scored")


def test_another_statistic_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'median'"):
        clustered_interval([1.0], [0], [0], statistic="medium")  # type: ignore[arg-type]


def test_medians_of_many_segments_take_seconds(rng: np.random.Generator) -> None:
    data = crossed(rng, 16, 100, 1)
    start = time.perf_counter()
    clustered_interval(*data, statistic="median")
    assert time.perf_counter() - start < 10
