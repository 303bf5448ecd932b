"""Clocks: how fine they are, measured, and how to time what a device does.

A CPU is timed by ``time.perf_counter``. A CUDA device works on after a call has returned, so it is timed by its own
events, and waited for on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Clock(Protocol):
    """Seconds that a call takes, until the device has done it."""

    def __call__(self, call: Callable[[], object]) -> float:
        """Seconds."""


def host_clock(call: Callable[[], object]) -> float:
    """Seconds on the CPU."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def processor_clock(call: Callable[[], object]) -> float:
    """Seconds of the processor, of this process: what others do meanwhile does not count, nor does waiting."""
    start = time.process_time()
    call()
    return time.process_time() - start


def cuda_clock(call: Callable[[], object]) -> float:
    """Seconds between two events on the device, the work before them done and theirs too."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return cuda_clock if device.type == "cuda" else host_clock


def precision(clock: Clock = host_clock, tries: int = 200) -> float:
    """Seconds that the clock gives for nothing at all, median: what it adds, and the least that it can tell.

    At least one step of ``time.perf_counter``, so that it is never zero.
    """
    found = sorted(clock(_nothing) for _ in range(tries))
    return max(found[tries // 2], time.get_clock_info("perf_counter").resolution)


def _nothing() -> None:
    """What takes no time."""
