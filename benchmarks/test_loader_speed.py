"""How many segments a second come out of a prepared store, for training and for evaluation?

    pytest benchmarks/test_loader_speed.py --benchmark-enable

Held against the loop that one would write otherwise, on the same files: load both stimuli and the recording, bring the
talkers to their levels, cut, mix. Both give the same numbers. Windows of 4 s with 64 electrodes; no worker processes,
so that what is compared is the work. Rounds are taken in turns, times are of the processor, the files are in memory by
then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from eeg2speech.data.mixing import LEVEL, Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Samples, Segment
from eeg2speech.evaluation.scoring import asked, device_named
from eeg2speech.profiling.clock import processor_clock
from eeg2speech.splits import make_split
from eeg2speech.training.examples import Examples

SEGMENTS, SECONDS, BATCH, ROUNDS, AT_LEAST_RATIO = 64, 4.0, 8, 3, 3.0
Loaded = tuple[Samples, Samples, Samples]
"""Mixture [T], target [T] and EEG [C, N]."""


@pytest.fixture(scope="module")
def store() -> Store:
    """The embedded study."""
    return prepare("simulated-clear")


@pytest.fixture(scope="module")
def examples(store: Store) -> Examples:
    """Its training part."""
    return Examples(store, make_split(store.index, "stimulus").parts["train"], Mixer(store))


def test_training_examples(benchmark: BenchmarkFixture, store: Store, examples: Examples) -> None:
    """Batches of random windows, as a training asks for them."""
    segments = examples.random(SECONDS, SEGMENTS, 0, 0)

    def ours() -> list[Loaded]:
        batches = examples.loader(segments, BATCH)
        return [
            (mixture.numpy(), target.numpy(), eeg.numpy())
            for batch in batches
            for mixture, target, eeg in zip(batch.mixture, batch.target, batch.eeg, strict=True)
        ]

    _compare(benchmark, "training", store, segments, ours)


def test_evaluation(benchmark: BenchmarkFixture, store: Store, examples: Examples) -> None:
    """Segments with the EEG of a test, as a system is asked about them under the true EEG."""
    segments = examples.fixed(SECONDS, SEGMENTS)

    def ours() -> list[Loaded]:
        mixer, loaded = Mixer(store), []
        for batch in asked(store, segments, "true_eeg", 0, device_named("cpu")):
            scenes = [mixer.scene(segment) for segment in batch.segments]
            eeg = batch.eeg.numpy()
            loaded += [(scene.mixture, scene.target, one) for scene, one in zip(scenes, eeg, strict=True)]
        return loaded

    _compare(benchmark, "evaluation", store, segments, ours)


def naive(store: Store, segment: Segment) -> Loaded:
    """One segment, from the files."""
    trial, audio_rate, eeg_rate = store.trial(segment.trial), store.facts.audio_rate, store.facts.eeg_rate
    talkers = []
    for stimulus in (trial.attended, trial.unattended):
        audio = np.load(store.root / "stimuli" / f"{stimulus}.npy")[: round(trial.duration * audio_rate)]
        level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
        begin = round(segment.start * audio_rate)
        talkers.append(np.float32(LEVEL / level) * audio[begin : begin + round(segment.duration * audio_rate)])
    recording = np.load(store.root / "eeg" / f"{trial.recording}.npy")
    begin = round((trial.start + segment.start) * eeg_rate)
    eeg = recording[:, begin : begin + round(segment.duration * eeg_rate)].copy()
    return talkers[0] + talkers[1], talkers[0], eeg


def _compare(
    benchmark: BenchmarkFixture,
    name: str,
    store: Store,
    segments: Sequence[Segment],
    ours: Callable[[], list[Loaded]],
) -> None:
    """Segments a second of ours and of the loop, which have to load the same."""
    few = segments[: SEGMENTS // 4]
    for one, other in zip(ours(), (naive(store, segment) for segment in few), strict=False):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    rounds = [
        (processor_clock(ours), processor_clock(lambda: [naive(store, segment) for segment in few]))
        for _ in range(ROUNDS)
    ]
    mine, theirs = (min(each) for each in zip(*rounds, strict=True))
    rates, load = (len(segments) / mine, len(few) / theirs), os.getloadavg()[0]
    ratio = rates[0] / rates[1]
    benchmark.group = f"Loading {name} segments of {SECONDS:g} s"
    benchmark.extra_info.update(
        segments_per_second=round(rates[0]),
        naive_segments_per_second=round(rates[1]),
        over_naive_ratio=round(ratio, 1),
        load=round(load, 1),
    )
    result = f"{name}: {rates[0]:.0f} segments a second, {ratio:.1f} times a plain loop, load {load:.1f}"
    print(result)
    benchmark.pedantic(ours, rounds=1)
    assert ratio >= AT_LEAST_RATIO, result
