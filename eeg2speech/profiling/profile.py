"""The whole profile of a system on this machine, as a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import torch

from eeg2speech.errors import BadInput
from eeg2speech.evaluation.scoring import device_named, place
from eeg2speech.profiling.cases import Grid, measured, threads, ways
from eeg2speech.profiling.clock import clock_of, precision
from eeg2speech.profiling.growth import axes_of, grown, standard_way
from eeg2speech.profiling.machine import conditions, device_name, machine_of, require_idle
from eeg2speech.profiling.ready import Ready, ready, task_of
from eeg2speech.profiling.rounds import Effort
from eeg2speech.profiling.stages import stage_times
from eeg2speech.profiling.streaming import (
    CHUNKS,
    HOP,
    WINDOW,
    Pace,
    RealTime,
    Streamed,
    by_window,
    in_chunks,
    state_bytes,
    summary,
)
from eeg2speech.profiling.workload import Input, Way, question_of
from eeg2speech.records.latency import Growth, Latency, Stage, Streaming
from eeg2speech.records.provenance import code_reference
from eeg2speech.systems.interface import System, Task
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import Declaration, system_class

STAGE_ROUNDS, MOST = 5, 15
"""Rounds of the stages, and of a case that is not the standard one at most."""
STREAM_THREADS = 1
"""A chunk is hundreds of operations too small to share: two threads take as long and twice the processor."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wishes:
    """What to measure, and how thoroughly.

    Args:
        grid: ways to ask. compiled: whether ``torch.compile`` is among them.
        effort: of each way. stream: seconds of signal for each chunk size of causal systems, by the clock; 0 for none.
        window: seconds of signal for the sliding window of the others, not paced; 0 for none.
        growth: whether to measure cost curves. busy: go on where others compute.
    """

    grid: Grid = "standard"
    compiled: bool = False
    effort: Effort = Effort()
    stream: float = 60.0
    window: float = 20.0
    growth: bool = False
    busy: bool = False


def profile(
    declaration: Declaration,
    device: str = "cpu",
    wishes: Wishes = Wishes(),
    task: str = "",
    say: Say = lambda _: None,
) -> Latency:
    """Measure a declared system on a device of this machine; ``task`` is the first that it answers, unless told.

    Raises:
        BadInput: an unknown system, setting, device or task, or a machine on which others compute.
    """
    where = device_named(device)
    before = conditions(where)
    if not wishes.busy:
        require_idle(before)
    task = task_of(system_class(declaration.system), task)
    one = _on(where, ready(declaration))

    def made(way: Way) -> Ready:
        # What was compiled once stays so: for that, one is built anew.
        return _on(where, ready(declaration)) if way.compiled else one

    asked = _told(ways(wishes.grid, isinstance(one.system, NetworkSystem), wishes.compiled), say)
    # The tail is of the standard case; of the others the median is asked.
    others = replace(wishes.effort, most=min(MOST, wishes.effort.most))
    cases = [
        measured(partial(made, way), task, way, where, others if number else wishes.effort)
        for number, way in enumerate(asked)
    ]
    standard = standard_way(cases[0].threads)
    return Latency(
        label=declaration.label,
        system=declaration.system,
        settings=one.system.settings.model_dump(mode="json"),
        task=task,
        weights=one.weights,
        causal=one.system.facts.causal,
        parameters=one.system.parameters,
        audio_rate=one.system.context.audio_rate,
        eeg_rate=one.system.context.eeg_rate,
        electrodes=len(one.system.context.sensors),
        device=device_name(where),
        machine=machine_of(where),
        clock=float(f"{precision(clock_of(where)):.2g}"),
        cases=tuple(cases),
        stages=_stages(one.system, task, standard, where),
        streams=tuple(_streams(one.system, task, standard, where, wishes, say)),
        growth=tuple(_growth(declaration, task, standard, where, wishes, say)),
        conditions=(before, conditions(where)),
        code=code_reference(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _told(found: list[Way], say: Say) -> Iterator[Way]:
    for way in found:
        say(
            f"{way.batch} x {way.seconds:g} s, {way.precision}, {'compiled' if way.compiled else 'eager'}, "
            f"{way.threads} threads"
        )
        yield way


def _on(device: torch.device, made: Ready) -> Ready:
    place(made.system, device.type)
    return made


def _stages(system: System, task: Task, way: Way, device: torch.device) -> tuple[Stage, ...]:
    stages = system.stages()
    if not stages:
        return ()
    with threads(way.threads):
        found = stage_times(stages, question_of(system, task, way, device, seed=1), device, STAGE_ROUNDS)
    return tuple(Stage(name=name, calls=calls, seconds=float(f"{s:.4g}")) for name, (s, calls) in found.items())


def _streams(
    system: System, task: Task, way: Way, device: torch.device, wishes: Wishes, say: Say
) -> Iterator[Streaming]:
    """Chunk by chunk where a system has a stream, else by a window. What is retrieved or generated has no stream."""
    if task != "extraction":
        return
    if hasattr(system, "stream") and system.facts.causal:
        for chunk in CHUNKS if wishes.stream else ():
            say(f"stream in chunks of {1000 * chunk:g} ms, {wishes.stream:g} s by the clock")
            yield streamed(system, chunk, wishes.stream, STREAM_THREADS, device, RealTime())
    elif wishes.window:
        say(f"window of {WINDOW:g} s moved by {HOP:g} s, {wishes.window:g} s")
        yield windowed(system, wishes.window, way.threads, device, None)


def streamed(
    system: System, chunk: float, seconds: float, count: int, device: torch.device, pace: Pace | None
) -> Streaming:
    """A causal system chunk by chunk. Raises BadInput for one that has no stream."""
    make = getattr(system, "stream", None)
    if make is None:
        raise BadInput(type(system).__name__, "stream", "a system that has stream()", "none")
    context = system.context
    given = Input.of(context, Way(seconds=seconds), device, 2)
    with threads(count):
        _warmed(make(), given, context.audio_rate, context.eeg_rate, chunk)
        stream: Streamed = make()
        rates = (context.audio_rate, context.eeg_rate)
        calls = in_chunks(stream, given.mixture, given.eeg, rates, chunk, pace)
    return summary(
        calls,
        how="chunks",
        chunk=chunk,
        window=None,
        paced=pace is not None,
        algorithmic=round(float(system.latency), 6),  # type: ignore[attr-defined]
        state_bytes=state_bytes(stream),
        threads=count,
    )


def windowed(system: System, seconds: float, count: int, device: torch.device, pace: Pace | None) -> Streaming:
    """Any extraction by the sliding window: of each answer the newest hop is taken."""
    way = Way(seconds=WINDOW, threads=count)
    question = question_of(system, "extraction", way, device, seed=3)
    with threads(count):
        for number in range(2):
            question(number)()
        new = round(HOP * system.context.audio_rate)
        calls = by_window(lambda k: question(2 + k), new, round(seconds / HOP), HOP, pace)
    about = {"paced": pace is not None, "algorithmic": HOP, "state_bytes": None, "threads": count}
    return summary(calls, how="window", chunk=HOP, window=WINDOW, **about)  # type: ignore[arg-type]


def _warmed(stream: Streamed, given: Input, audio_rate: int, eeg_rate: int, chunk: float) -> None:
    """A second of the signal through another stream: the first calls of a process choose kernels."""
    seconds = max(1.0, 2 * chunk)
    sound, eeg = given.mixture[..., : round(seconds * audio_rate)], given.eeg[..., : round(seconds * eeg_rate)]
    in_chunks(stream, sound, eeg, (audio_rate, eeg_rate), chunk, None)


def _growth(
    declaration: Declaration, task: Task, way: Way, device: torch.device, wishes: Wishes, say: Say
) -> Iterator[Growth]:
    if not wishes.growth:
        return
    effort = replace(wishes.effort, seconds=min(1.0, wishes.effort.seconds))
    for axis in axes_of(declaration, task):
        say(f"growth with {axis}")
        yield grown(declaration, task, axis, way, device, effort)
