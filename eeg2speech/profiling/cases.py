"""Which ways to ask a system are measured: one thing at a time changed, or all of them crossed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, product
from typing import Any, Literal

import torch
from torch import nn

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.processes import cores
from eeg2speech.profiling.cost import macs
from eeg2speech.profiling.ready import Ready
from eeg2speech.profiling.rounds import Effort, Questions, timed
from eeg2speech.profiling.workload import Precision, Way, question_of
from eeg2speech.records.latency import Case
from eeg2speech.systems.interface import System, Task
from eeg2speech.systems.network import NetworkSystem

Grid = Literal["short", "standard", "full"]
GRIDS: tuple[Grid, ...] = ("short", "standard", "full")
SECONDS, BATCHES = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0), (1, 8, 32)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
STANDARD_SECONDS, STANDARD_THREADS = 4.0, 2
Make = Callable[[], Ready]


def wished_grid(name: str) -> Grid:
    """A grid by name; an unknown one is refused with the nearest."""
    for grid in GRIDS:
        if grid == name:
            return grid
    raise unknown_name("profile", "--grid", name, GRIDS)


def ways(grid: Grid, networks: bool, compiled: bool = True) -> list[Way]:
    """Ways to ask, the standard one first.

    ``short`` is the standard one alone, on one thread and on two; ``standard`` changes one thing at a time, ``full``
    crosses all of them. What has no network has nothing to compile and knows one precision.
    """
    several = min(STANDARD_THREADS, cores())
    base = Way(seconds=STANDARD_SECONDS, threads=several)
    threads = [count for count in (several, 1) if count <= cores()]
    precisions = PRECISIONS if networks else PRECISIONS[:1]
    eager = (False, True) if networks and compiled else (False,)
    if grid == "full":
        crossed = product(SECONDS, BATCHES, precisions, eager, threads)
        every = [Way(batch, seconds, precision, made, count) for seconds, batch, precision, made, count in crossed]
        return [base, *(way for way in every if way != base)]
    found = [base, *(Way(seconds=STANDARD_SECONDS, threads=count) for count in threads)]
    if grid == "standard":
        found += [Way(seconds=seconds, threads=several) for seconds in SECONDS]
        found += [Way(batch=batch, seconds=STANDARD_SECONDS, threads=several) for batch in BATCHES]
        found += [Way(seconds=STANDARD_SECONDS, precision=each, threads=several) for each in precisions]
        found += [Way(seconds=STANDARD_SECONDS, compiled=each, threads=several) for each in eager]
    return list(dict.fromkeys(found))


def measured(make: Make, task: Task, way: Way, device: torch.device, effort: Effort) -> Case:
    """Ask a system in one way. What a device or a library cannot do is a failure with its reason, not an error."""
    about = asdict(way)
    about.pop("candidates")
    with threads(way.threads):
        try:
            system = make().system
            question = question_of(system, task, way, device)
            if way.compiled:
                for module in answering(system, question):
                    module.compile()
            with _quiet():
                rounds = timed(question, device, effort)
            products = macs(question(-1), getattr(system, "network", None)) if _counted(way) else None
        except (RuntimeError, TypeError, BadInput) as error:
            # torch has the first for what a device cannot do, the second for types that numpy does not know, and a
            # system the third for segments that are too short for it. All else is a mistake of ours, and is raised.
            why = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
            nothing: dict[str, Any] = {"first": None, "rounds": (), "loops": 1, "peak_megabytes": None, "macs": None}
            return Case(**about, **nothing, failure=why)
    return Case(
        **about,
        first=shortened(rounds.first),
        rounds=tuple(map(shortened, rounds.seconds)),
        loops=rounds.loops,
        peak_megabytes=None if rounds.megabytes is None else round(rounds.megabytes, 1),
        macs=products,
        joules=None if rounds.joules is None else shortened(rounds.joules),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.compile says of code that it leaves as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch._dynamo")
        yield


def _counted(way: Way) -> bool:
    """Products are counted of one segment: of several they are as many times more."""
    return way.batch == 1 and way.precision == "float32" and not way.compiled and way.seconds <= STANDARD_SECONDS


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch with so many threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shortened(seconds: float) -> float:
    """Four digits: more than any round repeats."""
    return float(f"{seconds:.4g}")


def answering(system: System, question: Questions) -> list[nn.Module]:
    """What is called to answer: the network as a whole, or, where a system says what its parts are or calls its
    network's parts one by one, each of them."""
    if not isinstance(system, NetworkSystem):
        return []
    whole = type(system).stages is NetworkSystem.stages
    parts = system.network.children() if whole else chain.from_iterable(system.stages().values())
    candidates, called = [*([system.network] if whole else []), *parts], set[nn.Module]()
    handles = [module.register_forward_pre_hook(lambda module, _: called.add(module)) for module in candidates]
    try:
        question(-1)()
    finally:
        for handle in handles:
            handle.remove()
    return [system.network] if system.network in called else [module for module in candidates if module in called]
