"""Cost curves: how time and memory grow with the length of a segment, electrodes, candidates, training data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from eeg2speech.profiling.cases import STANDARD_SECONDS, shortened, threads
from eeg2speech.profiling.memory import Peak
from eeg2speech.profiling.ready import fitted, ready
from eeg2speech.profiling.rounds import Effort, timed
from eeg2speech.profiling.workload import Way, question_of
from eeg2speech.records.latency import Axis, Growth
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import Task
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import Declaration, system_class

SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ELECTRODES, FITTED_ELECTRODES = (8, 16, 32, 64, 128), (8, 16, 32, 64)
CANDIDATES = (2, 8, 32, 128)
SHARES = (0.125, 0.25, 0.5, 1.0)
RETRIEVAL_SECONDS = 2.0


def axes_of(declaration: Declaration, task: Task) -> tuple[Axis, ...]:
    """Along which axes the cost of a system can grow."""
    facts = system_class(declaration.system).facts
    found: tuple[Axis, ...] = ("seconds", "electrodes") if facts.uses_eeg else ("seconds",)
    return found + (("candidates",) if task == "retrieval" else ()) + (("training",) if _learns(declaration) else ())


def grown(declaration: Declaration, task: Task, axis: Axis, way: Way, device: torch.device, effort: Effort) -> Growth:
    """Measure one curve; all that is not the axis is as in ``way``."""
    found = [(value, *each) for value, each in _points(declaration, task, axis, way, device, effort)]
    values, seconds, megabytes = zip(*found, strict=True)
    what = "fitting, from nothing to a system" if axis == "training" else "an answer"
    return Growth(axis=axis, what=what, values=values, seconds=seconds, megabytes=megabytes)


def _points(
    declaration: Declaration, task: Task, axis: Axis, way: Way, device: torch.device, effort: Effort
) -> Iterator[tuple[float, tuple[float, float]]]:
    if axis == "training":
        for share in SHARES:
            yield share, _of_fit(declaration, share, way)
        return
    make = ready(declaration)
    if axis == "electrodes":
        counts = ELECTRODES if issubclass(system_class(declaration.system), NetworkSystem) else FITTED_ELECTRODES
        for count in counts:
            of_count = ready(declaration, channels=count).system
            yield count, _of(question_of(of_count, task, way, device), way, device, effort)
        return
    changed = (
        [(seconds, replace(way, seconds=seconds)) for seconds in SECONDS]
        if axis == "seconds"
        else [(count, replace(way, seconds=RETRIEVAL_SECONDS, candidates=count)) for count in CANDIDATES]
    )
    for value, each in changed:
        yield value, _of(question_of(make.system, task, each, device), each, device, effort)


def _of(
    question: Callable[[int], Callable[[], object]], way: Way, device: torch.device, effort: Effort
) -> tuple[float, float]:
    """Median seconds and megabytes of an answer."""
    with threads(way.threads):
        rounds = timed(question, device, effort)
    return shortened(rounds.median), round(rounds.megabytes or 0.0, 1)


def _of_fit(declaration: Declaration, share: float, way: Way) -> tuple[float, float]:
    """Seconds and megabytes of a fit; once, as it is long."""
    with threads(way.threads), Peak("cpu") as peak:
        start = time.perf_counter()
        fitted(declaration, Conditions(train_share=share))
        seconds = time.perf_counter() - start
    return shortened(seconds), round(peak.megabytes or 0.0, 1)


def _learns(declaration: Declaration) -> bool:
    """Whether it has a fit whose length depends on the data: a network's is as long as its number of steps."""
    from eeg2speech.systems.interface import System

    cls = system_class(declaration.system)
    return cls.fit is not System.fit and not issubclass(cls, NetworkSystem)


def standard_way(several: int) -> Way:
    """The way from which each axis departs."""
    return Way(seconds=STANDARD_SECONDS, threads=several)
