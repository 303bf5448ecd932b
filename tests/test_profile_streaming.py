"""Streams against the clock: deadlines by a clock that the test turns, chunks that cover the signal, state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eeg2speech.errors import BadInput
from eeg2speech.profiling.profile import streamed, windowed
from eeg2speech.profiling.ready import ready
from eeg2speech.profiling.streaming import (
    Call,
    RealTime,
    _cut,
    by_window,
    calls_of,
    in_chunks,
    missed,
    state_bytes,
    summary,
)
from eeg2speech.records.latency import LEVELS
from eeg2speech.systems.registry import declare

CPU = torch.device("cpu")


class Turned:
    """A clock that stands still but for waiting and for what calls take."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        """Seconds."""
        return self.time

    def wait_until(self, moment: float) -> None:
        """Jump there."""
        self.time = max(self.time, moment)

    def taking(self, *seconds: float) -> list[Callable[[], int]]:
        """Calls that take so long."""

        def call(took: float) -> Callable[[], int]:
            def run() -> int:
                self.time += took
                return 1

            return run

        return [call(took) for took in seconds]


def test_calls_begin_when_their_chunk_has_come_and_late_ones_delay_the_next() -> None:
    clock = Turned()
    calls = calls_of(clock.taking(0.5, 2.5, 0.5, 0.5), 1.0, clock)
    assert [call.due for call in calls] == [1.0, 2.0, 3.0, 4.0]
    assert [call.began for call in calls] == pytest.approx([1.0, 2.0, 4.5, 5.0])
    assert [call.ended for call in calls] == pytest.approx([1.5, 4.5, 5.0, 5.5])
    # The second and the third end after the next chunk has come, the fourth too: it still waited.
    assert missed(calls, 1.0) == 3
    assert missed(calls_of(clock.taking(0.9, 0.9, 0.9), 1.0, clock), 1.0) == 0


def test_computed_deadlines_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    took = (0.5, 2.5, 0.5, 0.25, 0.25, 3.0)
    paced = Turned()
    expected = calls_of(paced.taking(*took), 1.0, paced)
    free = Turned()
    monkeypatch.setattr(RealTime, "now", lambda self: free.now())
    found = calls_of(free.taking(*took), 1.0, None)
    for one, other in zip(expected, found, strict=True):
        assert (one.due, one.began, one.ended) == pytest.approx((other.due, other.began, other.ended))


@pytest.mark.parametrize("chunk", [0.01, 0.02, 0.04, 0.08, 0.16])
def test_chunks_cover_a_signal_without_gap_or_overlap(chunk: float) -> None:
    for rate in (16_000, 128):
        signal = torch.arange(rate * 8)[None]
        pieces = _cut(signal, rate, chunk)
        assert len(pieces) == 8 / chunk and torch.equal(torch.cat(pieces, -1), signal)


class Echo:
    """A stream that answers one chunk late, and keeps it."""

    def __init__(self) -> None:
        self.kept = torch.zeros(1, 0)

    def push(self, chunk: Tensor, eeg: Tensor, last: bool = False) -> Tensor:
        """What came before."""
        given, self.kept = self.kept, chunk
        return given


def test_the_first_sound_is_known_by_when_it_comes() -> None:
    clock = Turned()
    calls = in_chunks(Echo(), torch.zeros(1, 800), torch.zeros(1, 2, 80), (100, 10), 1.0, clock)
    about = {"chunk": 1.0, "window": None, "paced": True, "algorithmic": 1.0, "state_bytes": 0, "threads": 1}
    found = summary(calls, how="chunks", **about)  # type: ignore[arg-type]
    assert found.first_sound == 2.0 and found.calls == 8 and found.signal == 8.0 and found.missed == 0


def test_a_summary_has_the_quantiles_of_the_calls() -> None:
    calls = [Call(k, k, k + 0.001 * k, 1) for k in range(1, 102)]
    about = {"chunk": 1.0, "window": 2.0, "paced": False, "algorithmic": 0.2, "state_bytes": None, "threads": 1}
    found = summary(calls, how="window", **about)  # type: ignore[arg-type]
    assert found.at(0.0) == pytest.approx(0.001) and found.at(0.5) == pytest.approx(0.051)
    assert found.at(1.0) == pytest.approx(0.101) and found.mean == pytest.approx(0.051)
    assert len(found.compute) == len(LEVELS) and found.worst_delay == pytest.approx(0.101)
    assert found.real_time_factor == pytest.approx(0.051)


def test_a_window_is_asked_about_as_often_as_told() -> None:
    asked: list[int] = []

    def ask(number: int) -> Callable[[], object]:
        return lambda: asked.append(number)

    calls = by_window(ask, 3200, 5, 0.2, Turned())
    assert asked == [0, 1, 2, 3, 4] and [call.given for call in calls] == [3200] * 5


def test_state_is_all_that_is_held_and_weights_are_not_state() -> None:
    class Held:
        def __init__(self) -> None:
            self.layer = torch.nn.Linear(100, 100)
            self.queue = [torch.zeros(10), {"key": torch.zeros(5, dtype=torch.float64)}]
            self.again = self.queue[0]
            self.me = self

    assert state_bytes(Held()) == 10 * 4 + 5 * 8
    echo = Echo()
    echo.push(torch.zeros(1, 50), torch.zeros(1, 1, 1))
    assert state_bytes(echo) == 200


def test_neurocodec_streams_with_bounded_state_and_says_its_latency() -> None:
    system = ready(declare("neurocodec")).system
    short, long = (streamed(system, 0.16, seconds, 1, CPU, None) for seconds in (3.2, 6.4))
    assert short.how == "chunks" and short.calls == 20 and not short.paced
    assert short.state_bytes and long.state_bytes and long.state_bytes < 1.25 * short.state_bytes
    assert short.algorithmic == pytest.approx(system.latency, abs=1e-6)  # type: ignore[attr-defined]
    # Sound comes out once its input is there: not before the algorithmic latency, and within two chunks of it.
    assert short.first_sound is not None
    assert short.algorithmic - 0.16 <= short.first_sound <= short.algorithmic + 0.32


def test_a_system_without_stream_is_refused_and_has_a_window() -> None:
    system = ready(declare("dprnn")).system
    with pytest.raises(BadInput, match="stream"):
        streamed(system, 0.08, 1.0, 1, CPU, None)
    found = windowed(system, 1.0, 1, CPU, None)
    assert found.how == "window" and (found.window, found.chunk, found.algorithmic) == (2.0, 0.2, 0.2)
    assert found.calls == 5 and found.state_bytes is None


def test_real_time_waits_for_the_moment() -> None:
    pace = RealTime()
    moment = pace.now() + 0.02
    pace.wait_until(moment)
    assert 0 <= pace.now() - moment < 0.02
    start = pace.now()
    pace.wait_until(start - 1.0)
    assert pace.now() - start < 0.01
