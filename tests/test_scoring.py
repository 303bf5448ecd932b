"""Scoring of many segments: order, cache, processes, failures; and the aggregation of scores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.errors import BadInput
from eeg2speech.metrics import (
    METRICS,
    Metric,
    Score,
    Scorer,
    Signals,
    Unscorable,
    score,
    score_many,
    split_by_selection,
    summarise,
)


@pytest.fixture(scope="module")
def segments() -> list[Signals]:
    """Three four-second segments of two different speakers, the estimate at 0, 5 and 10 dB."""
    first, second = list({track.speaker: track for track in tracks()}.values())[:2]
    speech, other = (load_track(track)[60 * RATE : 64 * RATE] for track in (first, second))
    return [
        Signals(speech, speech + other * gain, speech + other, other)
        for gain in np.array([1.0, 0.56, 0.32], np.float32)
    ]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The peaks of the estimates that a metric named "counted" was asked for, in order."""
    seen: list[float] = []

    def function(signals: Signals, rate: int) -> float:
        seen.append(float(np.abs(signals.estimate).max()))
        return seen[-1]

    monkeypatch.setitem(METRICS, "counted", Metric("counted", function, "", False))
    return seen


def thread_count(signals: Signals, rate: int) -> float:
    return float(os.environ["OMP_NUM_THREADS"])


def test_a_score_has_a_value_or_a_reason(segments: list[Signals]) -> None:
    silent = replace(segments[0], estimate=segments[0].estimate * 0)
    assert score(segments[0], ["si_sdr"], RATE)["si_sdr"].reason is None
    for failed in score(silent, sorted(METRICS), RATE).values():
        assert math.isnan(failed.value) and failed.reason == "silent estimate"


def test_a_missing_interferer_fails_only_the_metric_that_needs_it(segments: list[Signals]) -> None:
    scores = score(replace(segments[0], interferer=None), ["si_sdr", "selection_accuracy"], RATE)
    assert math.isfinite(scores["si_sdr"].value)
    assert scores["selection_accuracy"].reason == "no interferer"


def test_processes_change_nothing_and_keep_the_order(segments: list[Signals]) -> None:
    silent = replace(segments[0], estimate=segments[0].estimate * 0)
    items, names = [*segments, silent, segments[0]], sorted(METRICS)
    alone = score_many(items, names, RATE, jobs=1)
    together = score_many(iter(items), names, RATE, jobs=2)
    assert repr(alone) == repr(together)
    assert [list(scores) for scores in together] == [names] * len(items)
    assert alone[0] == alone[4]
    assert alone[0]["si_sdr"].value < alone[1]["si_sdr"].value < alone[2]["si_sdr"].value


def test_workers_use_one_thread_and_stay_for_the_next_call(
    segments: list[Signals], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setitem(METRICS, "threads", Metric("threads", thread_count, "", False))
    with Scorer(["threads"], RATE, jobs=2) as scorer:
        assert scorer.score(segments[:1]) == [{"threads": Score(1.0)}]
        pool = scorer._pool
        assert scorer.score(segments[1:2]) == [{"threads": Score(1.0)}]
        assert scorer._pool is pool
        with pytest.raises(BadInput, match="estimate: expected 64000 samples"):
            scorer.score([replace(segments[0], estimate=segments[0].estimate[1:])])
        assert scorer.score(segments) == [{"threads": Score(1.0)}] * 3
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_equal_content_is_computed_once(segments: list[Signals], calls: list[float]) -> None:
    first, second, _ = segments
    twin = Signals(*(np.array(getattr(first, name)) for name in first.__dataclass_fields__))
    cache: dict[str, dict[str, Score]] = {}
    scores = score_many([first, second, twin, first], ["counted"], RATE, cache=cache)
    assert len(calls) == 2 and len(cache) == 2
    assert scores[0] == scores[2] == scores[3] != scores[1]
    assert score_many([second, first], ["counted"], RATE, cache=cache) == [scores[1], scores[0]]
    assert len(calls) == 2


def test_any_change_of_content_rate_or_metrics_is_computed_anew(segments: list[Signals], calls: list[float]) -> None:
    first = segments[0]
    changed = [
        first,
        replace(first, interferer=None),
        replace(first, mixture=None),
        replace(first, mixture=first.reference, reference=first.estimate),
        replace(first, estimate=first.estimate.astype(np.float64)),
    ]
    scorer = Scorer(["counted"], RATE)
    scorer.score(changed)
    assert len(calls) == len(changed)
    Scorer(["counted"], 2 * RATE, cache=scorer.cache).score([first])
    assert len(calls) == len(changed) + 1
    both = Scorer(["si_sdr", "counted"], RATE, cache=scorer.cache).score([first])
    assert list(both[0]) == ["si_sdr", "counted"] and len(calls) == len(changed) + 1


def test_a_caller_cannot_spoil_the_cache(segments: list[Signals]) -> None:
    scorer = Scorer(["si_sdr"], RATE)
    expected = dict(scorer.score(segments[:1])[0])
    scorer.score(segments[:1])[0].clear()
    assert scorer.score(segments[:1]) == [expected]


def test_failures_are_cached_with_their_reason(segments: list[Signals], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def function(signals: Signals, rate: int) -> float:
        asked.append(rate)
        raise Unscorable("no reason at all")

    monkeypatch.setitem(METRICS, "failing", Metric("failing", function, "", True))
    scores = score_many([segments[0], segments[0]], ["failing"], RATE)
    assert len(asked) == 1 and {entry["failing"].reason for entry in scores} == {"no reason at all"}


def test_items_are_drawn_in_batches_and_kept_in_order(calls: list[float]) -> None:
    def items() -> Iterator[Signals]:
        for peak in range(1, 101):
            wave = np.tile(np.array([peak, -peak], dtype=np.float32), 50)
            drawn.append(peak - len(calls))
            yield Signals(wave, wave)

    drawn: list[int] = []
    scores = score_many(items(), ["counted"], rate=100)
    assert [entry["counted"].value for entry in scores] == list(range(1, 101))
    assert max(drawn) <= 32


def test_a_defect_of_a_metric_is_not_swallowed(segments: list[Signals], monkeypatch: pytest.MonkeyPatch) -> None:
    def function(signals: Signals, rate: int) -> float:
        raise ZeroDivisionError("a defect")

    monkeypatch.setitem(METRICS, "broken", Metric("broken", function, "", True))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        score_many(segments, ["broken"], RATE)


def test_bad_requests_are_refused_before_any_work(segments: list[Signals]) -> None:
    with pytest.raises(BadInput, match="did you mean 'estoi'"):
        Scorer(["e_stoi"], RATE)
    with pytest.raises(BadInput, match="jobs: expected at least 1, found 0"):
        Scorer(["estoi"], RATE, jobs=0)
    assert score_many([], ["estoi"], RATE, jobs=2) == []


def test_a_summary_counts_failures_and_averages_the_rest() -> None:
    summary = summarise([1.0, math.nan, 3.0, math.nan], [None, "too short", None, "too short"])
    assert (summary.n, summary.n_failed, summary.reasons, summary.mean) == (4, 2, {"too short": 2}, 2.0)
    nothing = summarise([math.nan], ["silent estimate"])
    assert nothing.n_failed == 1 and math.isnan(nothing.mean)
    assert summarise([], []).n == 0


@pytest.mark.parametrize(("values", "reasons"), [([math.nan], [None]), ([1.0], ["too short"]), ([1.0, 2.0], [None])])
def test_a_summary_refuses_values_that_contradict_their_reasons(values: list[float], reasons: list[str | None]) -> None:
    with pytest.raises(BadInput, match="summarise"):
        summarise(values, reasons)


def test_selection_splits_scores_into_right_and_wrong() -> None:
    selected = np.array([1.0, 0.0, 0.5, math.nan, 1.0])
    parts = split_by_selection({"si_sdr": np.array([9.0, -9.0, 0.0, math.nan, math.nan])}, selected)
    np.testing.assert_array_equal(parts["all"]["si_sdr"], [9.0, -9.0, 0.0, math.nan, math.nan])
    np.testing.assert_array_equal(parts["right"]["si_sdr"], [9.0, math.nan])
    np.testing.assert_array_equal(parts["wrong"]["si_sdr"], [-9.0])


def test_selection_refuses_what_is_no_selection() -> None:
    with pytest.raises(BadInput, match="selected"):
        split_by_selection({}, np.array([0.7]))
    with pytest.raises(BadInput, match=r"si_sdr: expected shape \(2,\), found \(3,\)"):
        split_by_selection({"si_sdr": np.zeros(3)}, np.ones(2))
