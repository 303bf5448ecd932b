"""Rounds: one question after another, each timed by itself.

No question is asked twice: a system may remember its answers, and a processor its input.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from eeg2speech.profiling.clock import Clock, clock_of, precision
from eeg2speech.profiling.machine import joules
from eeg2speech.profiling.memory import Peak

Questions = Callable[[int], Callable[[], object]]
"""By number, a question that is ready: to call it is to have it answered."""
FINE = 1000
"""How many times the clock's precision a round has to last; else it holds several answers."""


@dataclass(frozen=True)
class Effort:
    """How long something is timed: some ``seconds``, but at least and at most so many rounds, after ``warm`` ones.

    What takes longer than all of ``seconds`` for its first answer is not warmed up further.
    """

    seconds: float = 2.0
    least: int = 3
    most: int = 100
    warm: int = 2


@dataclass(frozen=True)
class Rounds:
    """Seconds of the first answer, of each round an answer, answers a round, memory at most, energy an answer."""

    first: float
    seconds: tuple[float, ...]
    loops: int
    megabytes: float | None
    joules: float | None

    @property
    def median(self) -> float:
        """Seconds, the median."""
        ranked = sorted(self.seconds)
        return (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2


def timed(question: Questions, device: torch.device, effort: Effort = Effort()) -> Rounds:
    """Time the answers to ``question(0)``, ``question(1)``, ...; to put a question is not timed.

    The first answer is timed by itself, memory is watched during it and the warm-up alone (the watcher takes its share
    of the cores), and the garbage collector waits until the end.
    """
    clock = clock_of(device)
    with Peak(device.type) as peak:
        first = clock(question(0))
        warm = effort.warm if first < effort.seconds else 0
        once = min((clock(question(k)) for k in range(1, 1 + warm)), default=first)
    loops = max(1, math.ceil(FINE * precision(clock) / max(once, 1e-9)))
    with _no_garbage():
        before = joules(device)
        seconds = _rounds(question, clock, loops, effort)
        after = joules(device)
    energy = None if before is None or after is None or after < before else (after - before) / (len(seconds) * loops)
    return Rounds(first, tuple(seconds), loops, peak.megabytes, energy)


def _rounds(question: Questions, clock: Clock, loops: int, effort: Effort) -> list[float]:
    seconds: list[float] = []
    end, asked = time.perf_counter() + effort.seconds, 1 + effort.warm
    while len(seconds) < effort.least or (time.perf_counter() < end and len(seconds) < effort.most):
        answers = [question(asked + k) for k in range(loops)]
        asked += loops
        seconds.append(clock(lambda answers=answers: [answer() for answer in answers]) / loops)  # type: ignore[misc]
    return seconds


@contextmanager
def _no_garbage() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
