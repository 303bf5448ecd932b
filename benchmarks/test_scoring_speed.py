"""How fast does the suite score, beside what a user would do otherwise?

    OMP_NUM_THREADS=1 pytest benchmarks/test_scoring_speed.py --benchmark-enable

A thousand pairs of 4 s at 16 kHz, each a stretch of the embedded corpus with another voice and white noise on top;
``SCORING_PAIRS`` makes it fewer (on two cores a thousand take about an hour). Three comparisons, each within one run:

1. all metrics in two processes and in one: at least 1.8 times as fast;
2. the metrics of extraction in two processes, and torchmetrics' audio metrics called pair by pair: at least 2 times;
3. eight estimates of each reference, as under the controls of the EEG, by one scorer, and each metric by itself.

The two sides take turns, a fifth of the pairs at a time, and only the ratio of their times is judged: that of the
middle turn, so that a burst of other work does not count, or, in the third comparison, that of all turns together, for
the first control pays for the others. Processes are started, and packages loaded, before. It needs an idle machine with
two cores: two processes on one core, or beside others that want the same cores, are no faster than one, and the first
ratio then says nothing of the suite. The load at the end and the ratio of each turn are noted beside each ratio.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.signal import resample_poly
from torchmetrics.functional import audio

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.evaluation.protocol import EXTRACTION_METRICS, GENERATION_METRICS
from eeg2speech.metrics import METRICS, Scorer, Signals
from eeg2speech.processes import cores

PAIRS, SECONDS, TURNS, CONTROLS = int(os.environ.get("SCORING_PAIRS", "1000")), 4, 5, 8
FRESH = 2 * CONTROLS
"""A seed of estimates that no comparison has scored."""
LEVEL = 0.05
"""Root mean square of each voice."""
# DNSMOS is asked for under the true EEG only, and the ranks are not of signals.
OF_GENERATED = tuple(name for name in GENERATION_METRICS if name in METRICS and name != "dnsmos")
WORTH = {"extraction": (EXTRACTION_METRICS, 1.05), "generation": (OF_GENERATED, 1.5)}
"""What is shared among estimates is most of the work where speech is generated, little where PESQ takes the time."""

Voices = Sequence[NDArray[np.float32]]
Times = list[tuple[float, float]]
Turn = Callable[[Sequence[Signals]], object]


@pytest.fixture(scope="module")
def voices() -> Voices:
    """One track of each speaker."""
    return [load_track(track) for track in {track.speaker: track for track in tracks()}.values()]


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_two_processes_against_one(benchmark: BenchmarkFixture, voices: Voices) -> None:
    """All metrics of the table."""
    with Scorer(list(METRICS), RATE) as one, Scorer(list(METRICS), RATE, jobs=2) as two:
        assert repr(one.score(pairs(voices, 2))) == repr(two.score(pairs(voices, 2)))
        times = in_turns(pairs(voices, PAIRS + 2), one.score, two.score)
        benchmark.pedantic(two.score, args=(list(pairs(voices, 4, seed=FRESH)),), rounds=1)
    judge(benchmark, "two processes against one, all metrics", times, middle(times), 1.8)


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_two_processes_against_torchmetrics_pair_by_pair(benchmark: BenchmarkFixture, voices: Voices) -> None:
    """The same measures, to rounding."""
    with Scorer(EXTRACTION_METRICS, RATE, jobs=2) as scorer:
        for ours, signals in zip(scorer.score(pairs(voices, 2)), pairs(voices, 2), strict=True):
            theirs = by_torchmetrics(signals)
            assert {name: score.value for name, score in ours.items()} == pytest.approx(theirs, abs=2e-3)
        times = in_turns(pairs(voices, PAIRS + 2), lambda items: [*map(by_torchmetrics, items)], scorer.score)
        benchmark.pedantic(scorer.score, args=(list(pairs(voices, 4, seed=FRESH)),), rounds=1)
    judge(benchmark, "two processes against torchmetrics pair by pair", times, middle(times), 2.0)


@pytest.mark.parametrize("task", WORTH)
def test_eight_controls_against_no_sharing(benchmark: BenchmarkFixture, voices: Voices, task: str) -> None:
    """One process on either side; the references come round once a control, as they do in an evaluation."""
    names, at_least = WORTH[task]
    references = max(1, PAIRS // CONTROLS)

    def alone(items: Sequence[Signals]) -> list[list[float]]:
        return [[METRICS[name](signals, RATE) for name in names] for signals in items]

    with Scorer(names, RATE) as scorer:
        first = list(pairs(voices, 1, seed=CONTROLS))
        assert [[score.value for score in found.values()] for found in scorer.score(first)] == alone(first)
        rounds = (pair for control in range(CONTROLS) for pair in pairs(voices, references, control))
        times = in_turns(rounds, alone, scorer.score, CONTROLS, references)
        benchmark.pedantic(scorer.score, args=(list(pairs(voices, 4, seed=FRESH)),), rounds=1)
    judge(benchmark, f"eight controls against no sharing, {task}", times, together(times), at_least)


def pairs(voices: Voices, count: int, seed: int = 0) -> Iterator[Signals]:
    """Target, estimate, mixture and interferer; the seed moves the noise of the estimates and nothing else."""
    for number in range(count):
        target, interferer = (stretch(voices, number, voice) for voice in (0, 1))
        noise = np.random.default_rng((seed, number)).standard_normal(target.size, dtype=np.float32)
        mixture = target + interferer
        yield Signals(
            target, target + np.float32(0.3) * interferer + np.float32(0.1 * LEVEL) * noise, mixture, interferer
        )


def stretch(voices: Voices, number: int, voice: int) -> NDArray[np.float32]:
    """Four seconds of a voice, at the common level; hops of 2 s, round and round the voices."""
    track = voices[(number + voice) % len(voices)]
    places = (track.size - SECONDS * RATE) // (2 * RATE)
    begin = number // len(voices) % places * 2 * RATE
    part = track[begin : begin + SECONDS * RATE]
    return np.asarray(LEVEL / part.std() * part, dtype=np.float32)


def by_torchmetrics(signals: Signals) -> dict[str, float]:
    """The metrics of extraction, each by a call of its own."""
    target, estimate, mixture, interferer = (torch.from_numpy(wave) for wave in waves_of(signals))
    ratio = audio.scale_invariant_signal_distortion_ratio
    narrow = [torch.from_numpy(resample_poly(wave.numpy(), 1, 2)) for wave in (estimate, target)]
    found = {
        "si_sdr": ratio(estimate, target, zero_mean=True),
        "si_sdri": ratio(estimate, target, zero_mean=True) - ratio(mixture, target, zero_mean=True),
        "sdr": audio.signal_distortion_ratio(estimate, target),
        "pesq_wb": audio.perceptual_evaluation_speech_quality(estimate, target, RATE, "wb"),
        "pesq_nb": audio.perceptual_evaluation_speech_quality(*narrow, RATE // 2, "nb"),
        "stoi": audio.short_time_objective_intelligibility(estimate, target, RATE),
        "estoi": audio.short_time_objective_intelligibility(estimate, target, RATE, extended=True),
        "selection_accuracy": ratio(estimate, target, zero_mean=True) > ratio(estimate, interferer, zero_mean=True),
    }
    return {name: float(value) for name, value in found.items()}


def waves_of(signals: Signals) -> tuple[NDArray[np.floating], ...]:
    """Reference, estimate, mixture and interferer, all of which the pairs have."""
    assert signals.mixture is not None and signals.interferer is not None
    return signals.reference, signals.estimate, signals.mixture, signals.interferer


def in_turns(items: Iterator[Signals], slow: Turn, fast: Turn, turns: int = TURNS, size: int | None = None) -> Times:
    """Seconds of either side at each turn, over all items but two, which both know; the sides change who is first."""
    times: Times = []
    if size is None:
        list(islice(items, 2))
    for turn in range(turns):
        part = list(islice(items, size or -(-PAIRS // TURNS)))
        if turn % 2:
            times.append((timed(slow, part), timed(fast, part)))
        else:
            times.append((timed(fast, part), timed(slow, part))[::-1])
    return times


def timed(side: Turn, part: Sequence[Signals]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    side(part)
    return time.perf_counter() - start


def middle(times: Times) -> float:
    """The ratio of the middle turn."""
    return float(np.median([slow / fast for slow, fast in times]))


def together(times: Times) -> float:
    """The ratio of the sums."""
    return sum(slow for slow, _ in times) / sum(fast for _, fast in times)


def judge(benchmark: BenchmarkFixture, what: str, times: Times, ratio: float, at_least: float) -> None:
    """Note the ratio, print it and hold it against what is asked for."""
    load, each = os.getloadavg()[0], [round(slow / fast, 2) for slow, fast in times]
    benchmark.group = f"Scoring: {what}"
    benchmark.extra_info.update(
        pairs=PAIRS,
        seconds_slow=round(sum(slow for slow, _ in times), 2),
        seconds_fast=round(sum(fast for _, fast in times), 2),
        speed_ratio=round(ratio, 3),
        ratios=each,
        at_least=at_least,
        load=round(load, 1),
    )
    result = f"{what}: {ratio:.2f} times as fast, by turn {each}; {PAIRS} pairs, load {load:.1f}"
    print(result)
    assert ratio >= at_least, result
