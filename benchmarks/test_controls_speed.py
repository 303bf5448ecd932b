"""What does it cost to ask a system under all eight controls, and what to run it anew for each?

    pytest benchmarks/test_controls_speed.py --benchmark-enable

The EEG-dependent part is the time under a control with everything known that no EEG has a part in: scenes, and what
the system makes of the mixtures (``System.hear``). Nothing is known from other controls: not how an answer scores that
is the same under two of them, as where EEG chooses between two voices. All controls, starting from nothing, may take at
most 1.3 times the sum of it over the controls.
Beside it is what one would do otherwise, a test of its own for each control. Shipped weights on test segments of the
embedded study, scored by the protocol's metrics in this process. ``CONTROLS_SEGMENTS`` says how many segments. Rounds
of the three are taken in turns, and times are of the processor: where others use it too, the clock says how many they
are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from eeg2speech.controls import CONTROLS
from eeg2speech.data.studies.registry import prepare
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.run import Bench, scorer_of
from eeg2speech.evaluation.scoring import ExtractionTest
from eeg2speech.evaluation.trained import Trained, taken_up
from eeg2speech.profiling.clock import processor_clock
from eeg2speech.splits import make_split

SEGMENTS, ROUNDS = int(os.environ.get("CONTROLS_SEGMENTS", "8")), 3
SYSTEMS = ("neurocodec", "mtrf_select_separated", "dprnn")
EVERY = tuple(CONTROLS)
"""The true EEG and the eight controls."""
AT_MOST_RATIO = 1.3


@pytest.fixture(scope="module")
def bench() -> Bench:
    """The embedded study and its split by stimulus."""
    store, chosen = prepare("simulated-clear"), protocol("demo-1")
    return Bench(store, make_split(store.index, "stimulus"), chosen, scorer_of(chosen, 1))


@pytest.mark.parametrize("name", SYSTEMS)
def test_all_controls_of_a_system(benchmark: BenchmarkFixture, bench: Bench, name: str, one_thread: None) -> None:
    """Seconds of all controls together, of what depends on the EEG in them, and of as many runs."""
    trained = taken_up(name, bench.store, bench.split, bench.protocol).trained
    # Not timed: the first answer chooses kernels, reads the disk and makes tables.
    asked_apart(bench, trained)
    rounds = [Times.of(bench, trained) for _ in range(ROUNDS)]
    together, apart, eeg = (median(each) for each in zip(*((t.together, t.apart, t.eeg) for t in rounds), strict=True))
    # Of the middle round: in another, one of the three may have met a burst of something else.
    ratio, saved = median(t.together / t.eeg for t in rounds), median(t.apart / t.together for t in rounds)
    load = os.getloadavg()[0]
    benchmark.group = f"True EEG and eight controls, {SEGMENTS} segments of 4 s"
    benchmark.extra_info.update(
        system=name,
        seconds=round(together, 2),
        apart_seconds=round(apart, 2),
        eeg_seconds=round(eeg, 2),
        over_eeg_part_cost=round(ratio, 3),
        apart_to_together_ratio=round(saved, 3),
        load=round(load, 1),
    )
    result = f"{name}: {together:.2f} s, {ratio:.2f} of what depends on EEG; {saved:.2f} as long apart; load {load:.1f}"
    print(result)
    benchmark.pedantic(lambda: asked_together(bench, trained), rounds=1)
    assert ratio <= AT_MOST_RATIO, result


@dataclass(frozen=True)
class Times:
    """Seconds of the processor of one round."""

    together: float
    eeg: float
    apart: float

    @classmethod
    def of(cls, bench: Bench, trained: Trained) -> Times:
        """All controls from nothing; each again, with all that needs no EEG known; and each from nothing."""
        test = fresh(bench, trained)
        together = processor_clock(lambda: ask(bench, test))
        eeg = sum(processor_clock(partial(ask_anew, bench, test, control)) for control in EVERY)
        return cls(together, eeg, processor_clock(lambda: asked_apart(bench, trained)))


def asked_together(bench: Bench, trained: Trained) -> None:
    """As a suite does it: one test, control by control."""
    ask(bench, fresh(bench, trained))


def asked_apart(bench: Bench, trained: Trained) -> None:
    """As one would otherwise: a run a control."""
    for control in EVERY:
        fresh(bench, trained).scores(control, bench.protocol.metrics_under(control))


def ask(bench: Bench, test: ExtractionTest) -> None:
    """All controls, each with the protocol's metrics."""
    for control in EVERY:
        test.scores(control, bench.protocol.metrics_under(control))


def ask_anew(bench: Bench, test: ExtractionTest, control: str) -> None:
    """One control. Answers would otherwise be known by their content, and not be scored at all."""
    test.scorer.cache.clear()
    test.scores(control, bench.protocol.metrics_under(control))


def fresh(bench: Bench, trained: Trained) -> ExtractionTest:
    """A test that knows nothing yet."""
    chosen, segments = bench.protocol, bench.segments[:: max(1, len(bench.segments) // SEGMENTS)][:SEGMENTS]
    return ExtractionTest(trained.system, segments, bench.mixer, scorer_of(chosen, 1), chosen.evaluation_seed)
