"""Answers while the signal comes: in chunks, or by a window that moves on, against the clock.

A chunk is there when its last sample has been recorded. Its answer is late when the next chunk has come before it is
done. Calls do not overlap: what is late delays what follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from eeg2speech.records.latency import LEVELS, Streaming, quantile

CHUNKS = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Seconds."""
WINDOW, HOP = 2.0, 0.2
"""Seconds of the sliding window that stands for systems without state, as published for NeuroCodec."""


@runtime_checkable
class Streamed(Protocol):
    """A stream of a causal system: sound [B, n] and EEG [B, C, m] in, the sound [B, k] that is ready out."""

    def push(self, chunk: Tensor, eeg: Tensor, last: bool = False) -> Tensor:
        """What is ready."""


class Pace(Protocol):
    """A clock to be paced by, real or not."""

    def now(self) -> float:
        """Seconds."""

    def wait_until(self, moment: float) -> None:
        """Return at that moment, or at once if it has passed."""


class RealTime:
    """The machine's own clock. It sleeps most of the time and waits actively for the last millisecond."""

    NEAR = 1e-3

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Sleep, then watch the clock: to be woken takes longer than a chunk may be late."""
        while (left := moment - self.now()) > 0:
            if left > self.NEAR:
                time.sleep(left - self.NEAR)


@dataclass(frozen=True)
class Call:
    """One call: when its chunk had come, when it began and ended (seconds), and how many samples it gave."""

    due: float
    began: float
    ended: float
    given: int

    @property
    def seconds(self) -> float:
        """Computation."""
        return self.ended - self.began


def in_chunks(
    stream: Streamed, sound: Tensor, eeg: Tensor, rates: tuple[int, int], chunk: float, pace: Pace | None
) -> list[Call]:
    """Push a signal through a stream, sound [1, T] and EEG [1, C, N] at ``rates`` (audio, EEG), chunk by chunk.

    ``pace`` None does not wait for the chunks to come: their times are computed, and the calls follow each other.
    """

    def push(heard: Tensor, felt: Tensor) -> Callable[[], int]:
        return lambda: stream.push(heard, felt).shape[-1]

    pieces = zip(_cut(sound, rates[0], chunk), _cut(eeg, rates[1], chunk), strict=True)
    return calls_of([push(*piece) for piece in pieces], chunk, pace)


def by_window(
    ask: Callable[[int], Callable[[], object]], samples: int, count: int, hop: float, pace: Pace | None
) -> list[Call]:
    """Ask about a window ``count`` times, each ``hop`` seconds later; each answer gives ``samples`` that are new."""

    def once(number: int) -> Callable[[], int]:
        answer = ask(number)

        def call() -> int:
            answer()
            return samples

        return call

    return calls_of([once(number) for number in range(count)], hop, pace)


def calls_of(calls: Sequence[Callable[[], int]], chunk: float, pace: Pace | None) -> list[Call]:
    """Make the calls, each when its chunk has come and the one before it is done."""
    real = pace or RealTime()
    done: list[Call] = []
    start = real.now()
    for number, call in enumerate(calls):
        due = (number + 1) * chunk
        if pace is not None:
            pace.wait_until(start + due)
        began = real.now() - start
        given = call()
        took = real.now() - start - began
        if pace is None:
            # As it would have been: it begins when its chunk has come and its forerunner is done.
            began = max(due, done[-1].ended if done else 0.0)
        done.append(Call(due, began, began + took, given))
    return done


def missed(calls: Sequence[Call], chunk: float) -> int:
    """How many ended after the next chunk had come."""
    return sum(call.ended > call.due + chunk for call in calls)


def summary(
    calls: Sequence[Call],
    *,
    how: Literal["chunks", "window"],
    chunk: float,
    window: float | None,
    paced: bool,
    algorithmic: float,
    state_bytes: int | None,
    threads: int,
) -> Streaming:
    """What a record keeps of the calls."""
    seconds = [call.seconds for call in calls]
    first = next((call.due for call in calls if call.given), None)
    return Streaming(
        how=how,
        chunk=chunk,
        window=window,
        signal=round(len(calls) * chunk, 6),
        paced=paced,
        algorithmic=algorithmic,
        first_sound=first,
        calls=len(calls),
        compute=tuple(float(f"{quantile(seconds, level):.4g}") for level in LEVELS),
        mean=float(f"{sum(seconds) / len(seconds):.4g}"),
        missed=missed(calls, chunk),
        worst_delay=float(f"{max(call.ended - call.due for call in calls):.4g}"),
        state_bytes=state_bytes,
        threads=threads,
    )


def state_bytes(stream: object, outside: Sequence[torch.nn.Module] = ()) -> int:
    """Bytes of all tensors that a stream holds, but for the parameters and buffers of the modules it goes through.

    Found by following its attributes, so that no stream has to count its own. A tensor that is seen from several places
    counts once, and a view of a larger one with all that it keeps in memory.
    """
    held: dict[int, int] = {}
    fixed = {tensor.untyped_storage().data_ptr() for module in outside for tensor in _weights(module)}
    for tensor in _tensors(stream, set()):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())


def _tensors(value: object, seen: set[int]) -> Iterator[Tensor]:
    if id(value) in seen or isinstance(value, torch.nn.Module | str | bytes):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _parts(value):
            yield from _tensors(part, seen)


def _parts(value: Any) -> Sequence[object]:
    if isinstance(value, dict):
        return [*value.values()]
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        return [*value]
    named = [*getattr(value, "__dict__", {}).values()]
    slots = (name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()))
    return named + [getattr(value, name) for name in slots if hasattr(value, name)]


def _weights(module: torch.nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _cut(signal: Tensor, rate: int, chunk: float) -> list[Tensor]:
    """[..., T] -> pieces whose ends are the samples nearest to the ends of chunks: none is lost or comes twice."""
    count = round(signal.shape[-1] / rate / chunk)
    ends = [round(number * chunk * rate) for number in range(count + 1)]
    return [signal[..., begin:end] for begin, end in pairwise(ends)]
