"""Where the time of an answer goes: its parts, timed by hooks around them, the system itself unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn

from eeg2speech.profiling.clock import clock_of
from eeg2speech.profiling.rounds import Questions

REST = "the rest"
Stages = Mapping[str, Sequence[nn.Module]]
"""Modules by what they are; several under one name are one stage."""


@dataclass
class StageTimes:
    """Seconds and calls of each stage since the last ``take``. Of stages within each other the outermost counts."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    _begun: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """A module of a stage is called."""
        self._begun.append(self._now())

    def end(self, name: str) -> None:
        """It has answered."""
        since = self._begun.pop()
        if not self._begun:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - since
            self.calls[name] = self.calls.get(name, 0) + 1

    def take(self) -> dict[str, tuple[float, int]]:
        """Seconds and calls by stage; from here on it counts anew."""
        found = {name: (seconds, self.calls[name]) for name, seconds in self.seconds.items()}
        self.seconds.clear()
        self.calls.clear()
        return found

    def _now(self) -> float:
        if self.device.type == "cuda":
            # Stages add up only when each is waited for; this costs some overlap, so totals come from elsewhere.
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@contextmanager
def watched(stages: Stages, device: torch.device) -> Iterator[StageTimes]:
    """Hooks around the modules of all stages, taken away at the end."""
    times, handles = StageTimes(device), []
    for name, modules in stages.items():
        for module in modules:
            handles.append(module.register_forward_pre_hook(_before(times)))
            handles.append(module.register_forward_hook(_after(times, name), always_call=True))
    try:
        yield times
    finally:
        for handle in handles:
            handle.remove()


def stage_times(stages: Stages, question: Questions, device: torch.device, rounds: int) -> dict[str, tuple[float, int]]:
    """Median seconds and calls an answer of each stage, and of ``the rest``, in the order of their calls."""
    found: list[dict[str, tuple[float, int]]] = []
    clock = clock_of(device)
    with watched(stages, device) as times:
        for number in range(-1, rounds):
            whole = clock(question(number + 1))
            parts = times.take()
            rest = max(0.0, whole - sum(seconds for seconds, _ in parts.values()))
            # The first is to warm up.
            found += [] if number < 0 else [parts | {REST: (rest, 1)}]
    return {name: (median(each[name][0] for each in found), found[0][name][1]) for name in found[0]}


def _before(times: StageTimes) -> Callable[..., None]:
    def begin(*_: Any) -> None:
        times.begin()

    return begin


def _after(times: StageTimes, name: str) -> Callable[..., None]:
    def end(*_: Any) -> None:
        times.end(name)

    return end
