"""What metrics share is computed once, in bounded memory, and changes no score."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from pystoi import stoi as pystoi  # type: ignore[import-untyped]
from pystoi.utils import remove_silent_frames  # type: ignore[import-untyped]
from scipy.signal import resample_poly

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.metrics import METRICS, Metric, Score, Scorer, Signals, Unscorable, log_mel, score
from eeg2speech.metrics.mel import FLOOR, HOP, PAD, WIN, magnitudes, mel_filterbank
from eeg2speech.metrics.perceptual import estoi, stoi
from eeg2speech.metrics.published import voiced
from eeg2speech.metrics.sharing import Memory, Named, kept, shared
from eeg2speech.metrics.workers import SLACK, Workers

SECONDS = 2
NAMES = [name for name in METRICS if name != "dnsmos"]
"""DNSMOS hears the estimate alone and shares nothing; a test of its own scores it once."""

calls: list[str] = []


@kept
def level(wave: np.ndarray) -> np.ndarray:
    """A part that counts how often it is computed."""
    calls.append("level")
    return np.full(1000, wave.std())


@shared
def peak(wave: np.ndarray) -> float:
    calls.append("peak")
    return float(np.abs(wave).max())


@kept
def impossible(wave: np.ndarray) -> float:
    calls.append("impossible")
    raise Unscorable("never")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.fixture(scope="module")
def segments() -> list[Signals]:
    """Two references, each with two estimates, and never the same array object twice."""
    return [_segment(reference, gain) for gain in (0.2, 0.6) for reference in (0, 1)]


def _segment(reference: int, gain: float) -> Signals:
    speech, other = (_stretch(voice, 60 + 4 * reference) for voice in (0, 1))
    noise = np.random.default_rng(int(100 * gain)).standard_normal(speech.size)
    estimate = (speech + gain * other + 0.002 * noise).astype(np.float32)
    return Signals(speech, estimate, speech + other, other)


def _stretch(voice: int, second: int) -> np.ndarray:
    part = load_track(tracks()[voice])[second * RATE : (second + SECONDS) * RATE]
    return np.asarray(0.05 * part / part.std(), dtype=np.float32)


def _alone(signals: Signals, names: list[str]) -> dict[str, Score]:
    """Each metric by a call of its own, without a scorer."""
    found = {}
    for name in names:
        try:
            found[name] = Score(METRICS[name](signals, RATE))
        except Unscorable as failure:
            found[name] = Score(math.nan, failure.reason)
    return found


# Scores


def test_all_metrics_together_score_as_each_alone(segments: list[Signals]) -> None:
    names = list(METRICS)
    assert repr(score(segments[0], names, RATE)) == repr(_alone(segments[0], names))


def test_scores_do_not_depend_on_what_was_scored_before(segments: list[Signals]) -> None:
    alone = [_alone(signals, NAMES) for signals in segments]
    assert repr(Scorer(NAMES, RATE).score(segments)) == repr(alone)
    back = list(reversed(range(len(segments))))
    assert repr(Scorer(NAMES[::-1], RATE).score([segments[k] for k in back])) == repr(
        [dict(reversed(alone[k].items())) for k in back]
    )


def test_roles_may_be_exchanged_and_arrays_shared(segments: list[Signals]) -> None:
    first = segments[0]
    swapped = Signals(first.estimate, first.reference, first.interferer, first.mixture)
    same = Signals(first.reference, first.reference, first.reference, first.estimate)
    items, names = [first, swapped, same, first], [name for name in NAMES if name != "speaker_similarity"]
    assert repr(Scorer(names, RATE).score(items)) == repr([_alone(signals, names) for signals in items])


def test_a_metric_without_a_score_leaves_the_others_theirs(segments: list[Signals]) -> None:
    noise = np.random.default_rng(0).standard_normal(SECONDS * RATE).astype(np.float32)
    whisper = replace(segments[0], estimate=noise, mixture=noise * 0)
    found = score(whisper, NAMES, RATE)
    assert found["f0_correlation"].reason == "few voiced frames" and found["si_sdri"].reason == "silent mixture"
    assert [name for name in NAMES if found[name].reason] == ["si_sdri", "f0_correlation"]
    assert repr(found) == repr(_alone(whisper, NAMES))


def test_silence_of_one_estimate_is_not_that_of_the_next(segments: list[Signals]) -> None:
    first = segments[0]
    items = [replace(first, estimate=first.estimate * 0), first, replace(first, reference=first.reference * 0)]
    found = Scorer(["stoi", "sdr"], RATE).score(items)
    assert [scores["stoi"].reason for scores in found] == ["silent estimate", None, "silent reference"]


@pytest.mark.parametrize("rate", [8_000, 10_000, 14_700, 16_000, 44_100])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_stoi_is_that_of_its_package_to_the_last_bit(segments: list[Signals], rate: int, kind: type) -> None:
    both = (segments[0].reference, segments[0].estimate)
    speech, estimate = (resample_poly(wave, rate // 100, RATE // 100).astype(kind) for wave in both)
    assert stoi(speech, estimate, rate) == pystoi(speech, estimate, rate)
    before = np.random.get_state()
    np.random.seed(0)
    expected = pystoi(speech, estimate, rate, extended=True)
    np.random.set_state(before)
    assert estoi(speech, estimate, rate) == expected


def test_silent_frames_are_those_of_pystoi(segments: list[Signals]) -> None:
    for size in (257, 384, 385, SECONDS * RATE):
        both = [wave[-size:].astype(float) for wave in (segments[0].reference, segments[0].estimate)]
        for ours, theirs in zip(voiced(*both), remove_silent_frames(*both, 40, 256, 128), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_filters_of_the_mel_scale_lose_nothing_with_their_zeros(segments: list[Signals]) -> None:
    wave = segments[0].reference
    spectra = magnitudes(np.pad(wave.astype(float), PAD, mode="reflect"), WIN, HOP)
    whole = np.log(np.maximum(np.einsum("bk,kf->bf", mel_filterbank(), spectra), FLOOR))
    # Equal to the last bit where numpy adds in blocks of up to 32, as it does so far.
    np.testing.assert_allclose(log_mel(wave), whole, rtol=1e-13)


# Memory


def _names(reference: str, wave: np.ndarray, estimate: np.ndarray) -> Iterator[Named]:
    yield Named(wave, reference, True)
    yield Named(estimate, "estimate", False)


def test_parts_are_computed_once_a_segment_and_kept_ones_once_a_reference() -> None:
    memory, wave = Memory(), np.ones(8)
    for _ in range(3):
        again, estimate = wave.copy(), wave.copy()
        with memory.segment(_names("a", again, estimate)):
            for _ in range(2):
                level(again), level(estimate), peak(again), peak(estimate)
    assert calls.count("level") == 1 + 3 and calls.count("peak") == 6
    assert len(memory) == 1


def test_outside_a_segment_and_for_other_arrays_nothing_is_remembered() -> None:
    memory, wave = Memory(), np.ones(8)
    level(wave), level(wave)
    with memory.segment(_names("a", wave, wave * 2)):
        level(wave * 1), level(wave * 1)
    level(wave)
    assert calls.count("level") == 5 and len(memory) == 0


def test_answers_are_read_only_and_signals_stay_the_callers() -> None:
    wave = np.ones(8)
    with Memory().segment(_names("a", wave, wave * 2)):
        found = level(wave)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 1
        whole = log_mel(np.ones(2 * PAD))
    whole += 1
    wave += 1
    level(wave)[0] = 1


def test_a_part_of_an_answer_is_known_by_what_it_was_made_of() -> None:
    memory = Memory()
    for _ in range(2):
        wave = np.ones(8)
        with memory.segment(_names("a", wave, wave * 2)):
            level(level(wave))
    assert calls.count("level") == 2 and len(memory) == 2


def test_refusals_are_not_remembered() -> None:
    wave = np.ones(8)
    with Memory().segment(_names("a", wave, wave * 2)):
        for _ in range(2):
            with pytest.raises(Unscorable, match="never"):
                impossible(wave)
    assert calls.count("impossible") == 2


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    memory = Memory(limit=30_000)
    for name in ("a", "b", "c", "a", "d", "a", "e", "b"):
        wave = np.ones(8)
        with memory.segment(_names(name, wave, wave * 2)):
            level(wave)
        assert memory.bytes <= 30_000
    # Three have room: "a" was asked for all along, "b" had to go.
    assert len(memory) == 3 and calls.count("level") == 6
    small = Memory(limit=100)
    with small.segment(_names("a", wave, wave * 2)):
        assert level(wave) is level(wave)
    assert (len(small), small.bytes) == (0, 0)


def test_a_scorer_keeps_nothing_of_estimates_and_few_bytes_of_a_reference(segments: list[Signals]) -> None:
    scorer = Scorer(NAMES, RATE)
    scorer.score(segments[:2])
    entries, size = len(scorer._memory), scorer._memory.bytes
    assert 0 < size < 2 * 400_000
    scorer.score(segments[2:])
    assert (len(scorer._memory), scorer._memory.bytes) == (entries, size)


# Processes


def process(signals: Signals, rate: int) -> float:
    return float(os.getpid())


def test_a_reference_goes_to_the_process_that_knows_it(
    segments: list[Signals], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "process", Metric("process", process, "", False))
    with Scorer(["process"], RATE, jobs=2) as scorer:
        first = [scores["process"].value for scores in scorer.score(segments[:2])]
        again = [scores["process"].value for scores in scorer.score(segments[:1:-1])]
    assert first == again[::-1] and len({*first}) == 2


def test_no_process_idles_while_the_line_of_another_is_long() -> None:
    workers = Workers(2)
    assert workers._choose("a") == 0
    workers._lines[0] = [Future() for _ in range(SLACK)]
    assert workers._choose("a") == 0 and workers._choose("b") == 1
    workers._lines[0].append(Future())
    assert workers._choose("a") == 1
    workers._lines[0][0].set_result(None)
    assert workers._choose("a") == 0
    workers.close()
