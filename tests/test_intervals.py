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
from eeg2speech.records.intervals import Interval, _quantiles
from eeg2speech.records.medians import weighted_medians
from eeg2speech.records.multiple import holm, rank_ranges

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


SOURCES = {
    "subjects": (1.0, 0.0, 0.0, 1.0),
    "pairs": (0.0, 1.0, 0.0, 1.0),
    "both": (1.0, 1.0, 1.0, 1.0),
    "mostly both": (2.0, 2.0, 1.0, 1.0),
    "trials": (0.0, 0.0, 1.0, 1.0),
    "segments": (0.0, 0.0, 0.0, 1.0),
    "a little of all": (0.3, 0.3, 0.3, 1.0),
}
"""Deviations of subjects, pairs, trials and segments."""


def committed_design(rng: np.random.Generator, sources: tuple[float, ...]) -> tuple[Floats, Indices, Indices]:
    """Scores with mean 0 in the design of the embedded study's strict test: 8 of 16 listeners to each of 10 pairs, two
    segments a trial."""
    cells = np.array([(s, p) for p in range(10) for s in rng.permutation(16)[:8]])
    subject, pair = np.repeat(cells, 2, axis=0).T
    trial = np.repeat(np.arange(len(cells)), 2)
    effects = [rng.normal(0, deviation, size) for deviation, size in zip(sources, (16, 10, 80, 160), strict=True)]
    return effects[0][subject] + effects[1][pair] + effects[2][trial] + effects[3], subject, pair


def test_intervals_cover_the_truth_as_often_as_they_say_whatever_varies(rng: np.random.Generator) -> None:
    """95 % intervals hold the truth 93 to 97 % of the time; for one source alone within what 300 draws can tell."""
    repeats, covered = 300, {}
    for name, sources in SOURCES.items():
        found = [clustered_interval(*committed_design(rng, sources), resamples=100, seed=k) for k in range(repeats)]
        covered[name] = np.mean([each.low <= 0 <= each.high for each in found])  # type: ignore[operator]
    assert 0.93 <= np.mean([*covered.values()]) <= 0.97, covered
    assert all(0.90 <= share <= 0.99 for share in covered.values()), covered


def test_percentiles_alone_would_be_far_too_wide_where_trials_are_noise(rng: np.random.Generator) -> None:
    """What the scaling is for: an interval of independent scores is about as wide as that of their plain mean."""
    widths = []
    for k in range(60):
        values, subject, pair = committed_design(rng, SOURCES["segments"])
        interval = clustered_interval(values, subject, pair, resamples=300, seed=k)
        assert interval.low is not None and interval.high is not None
        widths.append((interval.high - interval.low) / (2 * 1.96 * values.std() / np.sqrt(len(values))))
    assert 0.95 <= np.mean(widths) <= 1.25, "percentiles of the pigeonhole bootstrap are 1.7 times as wide"


def test_p_is_uniform_where_nothing_differs_and_small_where_it_does(rng: np.random.Generator) -> None:
    draws = [committed_design(rng, SOURCES["a little of all"]) for _ in range(300)]
    none = [clustered_interval(*draw, resamples=50).p or 0.0 for draw in draws]
    assert 0.02 <= np.mean(np.array(none) < 0.05) <= 0.09
    moved = [clustered_interval(draw[0] + 0.8, *draw[1:], resamples=50).p or 0.0 for draw in draws]
    assert np.mean(np.array(moved) < 0.05) > 0.95


def test_seeds_add_to_what_segments_say(rng: np.random.Generator) -> None:
    """With seeds that differ, three trainings tell less than their segments alone would; with equal ones, the same."""
    values, subject, pair = committed_design(rng, SOURCES["a little of all"])
    one = clustered_interval(values, subject, pair)
    equal = clustered_interval(np.stack([values] * 3), subject, pair)
    apart = clustered_interval(np.stack([values + shift for shift in (-1.0, 0.0, 1.0)]), subject, pair)
    assert (one.mean, one.low, one.high) == pytest.approx((equal.mean, equal.low, equal.high))
    assert apart.mean == pytest.approx(one.mean)
    assert apart.low is not None and one.low is not None and apart.high is not None and one.high is not None
    assert apart.low < one.low - 0.5 and apart.high > one.high + 0.5


def test_intervals_over_seeds_cover_the_truth_of_all_seeds(rng: np.random.Generator) -> None:
    covered = []
    for k in range(300):
        values, subject, pair = committed_design(rng, SOURCES["a little of all"])
        runs = np.stack([values + rng.normal(0, 0.4) + rng.normal(0, 0.5, len(values)) for _ in range(4)])
        interval = clustered_interval(runs, subject, pair, resamples=200, seed=k)
        assert interval.low is not None and interval.high is not None
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_ends_stay_within_the_scores(rng: np.random.Generator) -> None:
    subject, pair = (index.ravel() for index in np.indices((6, 6)))
    right = np.ones(36)
    right[[0, 1, 8]] = 0.0
    interval = clustered_interval(right, subject, pair)
    assert interval.low is not None and interval.high is not None
    assert 0 < interval.low < 33 / 36 < interval.high <= 1
    assert interval.high - 33 / 36 < 33 / 36 - interval.low, "the resampled means lean to the side that is open"


def test_holm_agrees_with_its_definition_written_out() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_keeps_false_alarms_below_its_level_over_all_comparisons(rng: np.random.Generator) -> None:
    alarms = [min(holm({str(k): p for k, p in enumerate(rng.random(10))}).values()) < 0.05 for _ in range(1000)]
    assert 0.025 <= np.mean(alarms) <= 0.075


def ranges(rng: np.random.Generator, shifts: dict[str, float]) -> dict[str, tuple[int, int]]:
    base, subject, pair = committed_design(rng, SOURCES["both"])
    scores = {name: base + shift + rng.normal(0, 0.5, len(base)) for name, shift in shifts.items()}

    def difference(a: str, b: str) -> Interval:
        return clustered_interval(scores[a] - scores[b], subject, pair, resamples=100)

    found = rank_ranges([*shifts], difference)
    turned = rank_ranges([*shifts], difference, higher_is_better=False)
    assert {n: (len(shifts) + 1 - r.worst, len(shifts) + 1 - r.best) for n, r in found.items()} == turned
    return {name: (span.best, span.worst) for name, span in found.items()}


def test_rank_ranges_are_points_where_all_differ_and_everything_where_none_does(rng: np.random.Generator) -> None:
    assert ranges(rng, {"a": 2.0, "b": 1.0, "c": 0.0}) == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    assert ranges(rng, {"a": 2.0, "b": 0.0, "c": 0.0}) == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}
    assert set(ranges(rng, dict.fromkeys("abcd", 0.0)).values()) == {(1, 4)}


def test_rank_ranges_hold_all_true_ranks_nearly_always(rng: np.random.Generator) -> None:
    shifts = {"a": 0.3, "b": 0.2, "c": 0.1, "d": 0.0}
    held = []
    for _ in range(60):
        found = ranges(rng, shifts)
        held.append(all(found[name][0] <= place <= found[name][1] for place, name in enumerate(shifts, start=1)))
    assert np.mean(held) >= 0.9


def test_a_pair_without_an_interval_decides_no_rank() -> None:
    spans = rank_ranges(["a", "b"], lambda a, b: None)
    assert str(spans["a"]) == "1-2" and str(rank_ranges(["a"], lambda a, b: None)["a"]) == "1"


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
    weights = rng.integers(0, 4, (50, 31), dtype=np.int32)
    weights[0] = 0
    found = weighted_medians(ordered, weights.T.copy())
    written_out = [np.median(np.repeat(ordered, row)) for row in weights[1:]]
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


@pytest.mark.parametrize("n", [1, 2, 3, 40, 10_000])
def test_the_ends_of_an_interval_are_numpys_quantiles_to_the_bit(n: int) -> None:
    shares = [0.0, 0.025, 0.5, 0.975, 1.0]
    for values in (np.random.default_rng(n).normal(size=n), np.zeros(n), np.arange(n) / 7):
        assert np.array_equal(_quantiles(values, shares), np.quantile(values, shares))
        lacking = np.append(values, [np.nan, np.nan])
        assert np.array_equal(_quantiles(lacking, shares), np.nanquantile(lacking, shares))
    assert np.isnan(_quantiles(np.full(3, np.nan), shares)).all()
