"""Scores of many segments: in parallel, once per content, in order, and with a reason where there is no score."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, MutableMapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from types import TracebackType

from eeg2speech.errors import BadInput
from eeg2speech.metrics.checks import Unscorable
from eeg2speech.metrics.signals import Signals
from eeg2speech.metrics.table import Metric, metric
from eeg2speech.processes import end_with_parent, threads_of_children

Cache = MutableMapping[str, "dict[str, Score]"]
BATCH_PER_JOB = 32
"""Segments in flight per process: bounds memory when the items come from a generator."""


@dataclass(frozen=True)
class Score:
    """Value of one metric on one segment; NaN with the reason where it has none, the reason None where it has one."""

    value: float
    reason: str | None = None


def score(signals: Signals, metrics: Sequence[str], rate: int) -> dict[str, Score]:
    """Scores of one segment, by metric name, at ``rate`` hertz.

    Raises:
        BadInput: unknown metric, wrong shapes, or a rate that a metric cannot take. Any other exception of a metric
        but ``Unscorable`` propagates as well.
    """
    return _scores(signals, [metric(name) for name in metrics], rate)


def score_many(
    items: Iterable[Signals], metrics: Sequence[str], rate: int, jobs: int = 1, cache: Cache | None = None
) -> list[dict[str, Score]]:
    """Scores of all items, in their order; see ``Scorer``."""
    with Scorer(metrics, rate, jobs, cache) as scorer:
        return scorer.score(items)


class Scorer:
    """Scores segments in ``jobs`` processes and keeps them, and what it computed, for the next call.

    With one job everything runs in this process. The processes are spawned, not forked, so that threads of torch or
    BLAS in the parent do no harm, and each uses one thread. As always with spawn, a script that uses ``jobs`` > 1
    needs ``if __name__ == "__main__":``.

    Args:
        metrics: names. rate: samples per second of all signals. jobs: number of processes.
        cache: scores by rate and content of the signals; share one mapping among scorers to share their work.

    Raises:
        BadInput: unknown metric or jobs below 1.
    """

    def __init__(self, metrics: Sequence[str], rate: int, jobs: int = 1, cache: Cache | None = None) -> None:
        if jobs < 1:
            raise BadInput("Scorer", "jobs", "at least 1", jobs)
        self.metrics = tuple(metric(name) for name in metrics)
        self.rate, self.jobs = rate, jobs
        self.cache: Cache = {} if cache is None else cache
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the next ``score`` starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def score(self, items: Iterable[Signals], only: Sequence[str] | None = None) -> list[dict[str, Score]]:
        """Scores of the items, in their order, of all metrics or of those in ``only``.

        Signals of the same content are computed once.
        """
        metrics = self.metrics if only is None else tuple(entry for entry in self.metrics if entry.name in only)
        remaining = iter(items)
        result: list[dict[str, Score]] = []
        while batch := list(islice(remaining, BATCH_PER_JOB * self.jobs)):
            keys = [f"{self.rate}:{signals.digest()}" for signals in batch]
            self._fill(dict(zip(keys, batch, strict=True)), metrics)
            result += [{entry.name: self.cache[key][entry.name] for entry in metrics} for key in keys]
        return result

    def _fill(self, batch: dict[str, Signals], metrics: Sequence[Metric]) -> None:
        """Compute what the cache lacks of the batch."""
        tasks: dict[str, tuple[Signals, list[Metric]]] = {}
        for key, signals in batch.items():
            known = self.cache.get(key, {})
            if missing := [entry for entry in metrics if entry.name not in known]:
                tasks[key] = (signals, missing)
        for key, found in zip(tasks, self._run(list(tasks.values())), strict=True):
            self.cache[key] = {**self.cache.get(key, {}), **found}

    def _run(self, tasks: list[tuple[Signals, list[Metric]]]) -> list[dict[str, Score]]:
        if self.jobs == 1:
            return [_scores(signals, missing, self.rate) for signals, missing in tasks]
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), end_with_parent, (os.getpid(),))
        with threads_of_children(1):
            futures = [self._pool.submit(_scores, signals, missing, self.rate) for signals, missing in tasks]
        return [future.result() for future in futures]


def _scores(signals: Signals, metrics: Iterable[Metric], rate: int) -> dict[str, Score]:
    return {entry.name: _score(signals, entry, rate) for entry in metrics}


def _score(signals: Signals, entry: Metric, rate: int) -> Score:
    try:
        return Score(entry(signals, rate))
    except Unscorable as failure:
        return Score(math.nan, failure.reason)
