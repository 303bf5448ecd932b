"""Processes that score, each with a memory of its own: a reference goes to the process that knows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from eeg2speech.processes import end_with_parent, threads_of_children

R = TypeVar("R")

SLACK = 4
"""By how many tasks the line of the process that knows a reference may be longer than the shortest: at the end of the
work it would idle for as many, while to tell another process about the reference costs a part of a task."""


class Workers:
    """``count`` processes of one thread each, started at the first task. They are spawned, not forked, so that threads
    of torch or BLAS in the parent do no harm."""

    def __init__(self, count: int) -> None:
        # A pool of one process each: within a pool, nobody chooses which process gets a task.
        self._pools = [_pool() for _ in range(count)]
        self._lines: list[list[Future[Any]]] = [[] for _ in range(count)]
        self._knows: dict[str, int] = {}

    def submit(self, subject: str, function: Callable[..., R], *args: Any) -> Future[R]:
        """Have a task done by the process that did the last one on this subject, unless its line is too long."""
        number = self._choose(subject)
        with threads_of_children(1):
            future = self._pools[number].submit(function, *args)
        self._lines[number].append(future)
        return future

    def close(self) -> None:
        """End the processes; what has not begun is dropped."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools:
            pool.shutdown()

    def _choose(self, subject: str) -> int:
        self._lines = [[future for future in line if not future.done()] for line in self._lines]
        lengths = [len(line) for line in self._lines]
        shortest = lengths.index(min(lengths))
        known = self._knows.get(subject, shortest)
        return self._knows.setdefault(subject, known) if lengths[known] <= min(lengths) + SLACK else shortest


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), end_with_parent, (os.getpid(),))
