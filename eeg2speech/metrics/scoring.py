"""Scores of many segments: in parallel, once per content, in order, and with a reason where there is no score."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache as once
from types import TracebackType

from eeg2speech.errors import BadInput
from eeg2speech.metrics.checks import Unscorable
from eeg2speech.metrics.sharing import Memory
from eeg2speech.metrics.signals import ROLES, Signals
from eeg2speech.metrics.table import Metric, metric
from eeg2speech.metrics.workers import Workers

Cache = MutableMapping[str, "dict[str, Score]"]
Pending = deque[tuple[str, "Future[dict[str, Score]]"]]
IN_FLIGHT_PER_JOB = 32
"""Segments handed to each process ahead of what is done: bounds memory when the items come from a generator."""


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
    names = dict(zip(ROLES, ROLES, strict=True))
    return _scores(signals, names, [metric(name) for name in metrics], rate, Memory(limit=0))


def score_many(
    items: Iterable[Signals], metrics: Sequence[str], rate: int, jobs: int = 1, cache: Cache | None = None
) -> list[dict[str, Score]]:
    """Scores of all items, in their order; see ``Scorer``."""
    with Scorer(metrics, rate, jobs, cache) as scorer:
        return scorer.score(items)


class Scorer:
    """Scores segments in ``jobs`` processes and keeps them, and what it computed, for the next call.

    What metrics have in common is computed once a segment, and what depends on the reference, the mixture or the
    interferer alone once for all estimates (see ``sharing``), so keep one scorer for all controls. With one job
    everything runs in this process. The processes are spawned and use one thread each (see ``workers``). As always with
    spawn, a script that uses ``jobs`` > 1 needs ``if __name__ == "__main__":``.

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
        self._memory = Memory()
        self._pool: Workers | None = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the next ``score`` starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def score(self, items: Iterable[Signals], only: Sequence[str] | None = None) -> list[dict[str, Score]]:
        """Scores of the items, in their order, of all metrics or of those in ``only``.

        Signals of the same content are computed once.
        """
        metrics = self.metrics if only is None else tuple(entry for entry in self.metrics if entry.name in only)
        keys: list[str] = []
        pending: Pending = deque()
        for signals in items:
            digests = signals.digests()
            keys.append(":".join((str(self.rate), *digests.values())))
            self._begin(keys[-1], signals, digests, metrics, pending)
            self._collect(pending, IN_FLIGHT_PER_JOB * self.jobs)
        self._collect(pending, 0)
        return [{entry.name: self.cache[key][entry.name] for entry in metrics} for key in keys]

    def _begin(
        self, key: str, signals: Signals, digests: Mapping[str, str], metrics: Sequence[Metric], pending: Pending
    ) -> None:
        """Compute what the cache lacks, or have it computed."""
        known = self.cache.get(key, {})
        missing = [entry for entry in metrics if entry.name not in known]
        if not missing or any(key == other for other, _ in pending):
            return
        if self.jobs == 1:
            self._store(key, _scores(signals, digests, missing, self.rate, self._memory))
            return
        self._pool = self._pool or Workers(self.jobs)
        task = (signals, digests, missing, self.rate)
        pending.append((key, self._pool.submit(digests["reference"], _scores_in_worker, *task)))

    def _collect(self, pending: Pending, most: int) -> None:
        """Wait until at most that many are pending, the oldest first."""
        while len(pending) > most:
            key, future = pending.popleft()
            self._store(key, future.result())

    def _store(self, key: str, found: dict[str, Score]) -> None:
        self.cache[key] = {**self.cache.get(key, {}), **found}


@once
def _memory_of_worker() -> Memory:
    return Memory()


def _scores_in_worker(
    signals: Signals, names: Mapping[str, str], metrics: Sequence[Metric], rate: int
) -> dict[str, Score]:
    return _scores(signals, names, metrics, rate, _memory_of_worker())


def _scores(
    signals: Signals, names: Mapping[str, str], metrics: Iterable[Metric], rate: int, memory: Memory
) -> dict[str, Score]:
    with memory.segment(signals.named(names)):
        return {entry.name: _score(signals, entry, rate) for entry in metrics}


def _score(signals: Signals, entry: Metric, rate: int) -> Score:
    try:
        return Score(entry(signals, rate))
    except Unscorable as failure:
        return Score(math.nan, failure.reason)
