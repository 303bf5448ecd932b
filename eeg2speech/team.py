"""Processes that share tasks with this one: whoever is free takes the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Self, TypeVar

from eeg2speech.processes import end_with_parent, threads_of_children, without_collector

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    Turns = Synchronized[int]

Task = TypeVar("Task")
Found = TypeVar("Found")
_TURNS: list[Turns] = []
"""In a process that a team began: the turns, which can be handed to it only as it begins."""


class Team:
    """This process and others. Each takes the first task that is left, so that they end together.

        with Team(2, "eeg2speech.report.chapter") as team:
            found = team.map(call, tasks)

    The others begin as the team is entered, and load ``module`` while this process loads what it needs itself. They use
    one thread each, and live for the tasks alone: none looks for garbage. A team of one, or one that was not entered,
    is this process by itself.
    """

    def __init__(self, size: int = 1, module: str = "") -> None:
        """``size`` counts this process too; nothing begins yet."""
        self._others, self._module = size - 1, module
        self._pool: ProcessPoolExecutor | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._others > 0:
            spawned = get_context("spawn")
            self._turns = spawned.Value("i", 0)
            self._open.enter_context(threads_of_children(1))
            begin = (os.getpid(), self._turns)
            self._pool = self._open.enter_context(ProcessPoolExecutor(self._others, spawned, _begin, begin))
            self._loading = [self._pool.submit(_load, self._module) for _ in range(self._others if self._module else 0)]
        return self

    def __exit__(self, *about: object) -> None:
        self._pool = None
        self._open.close()

    def map(self, call: Callable[[Task], Found], tasks: Sequence[Task]) -> list[Found]:
        """What ``call`` makes of each task, in their order. Give the largest first. Raises what a call raises, then no
        process takes another task, and what kept another process from loading its module."""
        if self._pool is None:
            return [call(task) for task in tasks]
        self._turns.value = 0
        coming = [self._pool.submit(_done_there, call, tasks) for _ in range(min(self._others, len(tasks) - 1))]
        found = _done(self._turns, call, tasks)
        for loading in self._loading:
            loading.result()
        for each in coming:
            found.update(each.result())
        return [found[place] for place in range(len(tasks))]


ALONE = Team()
"""This process by itself."""


def _begin(parent: int, turns: Turns) -> None:
    end_with_parent(parent)
    _TURNS.append(turns)


def _load(module: str) -> None:
    # A module itself could not be sent back.
    import_module(module)


def _done_there(call: Callable[[Any], Any], tasks: Sequence[Any]) -> dict[int, Any]:
    with without_collector(last=True):
        return _done(_TURNS[0], call, tasks)


def _done(turns: Turns, call: Callable[[Task], Found], tasks: Sequence[Task]) -> dict[int, Found]:
    """By the place of its task, what was made here. After an error no process takes another task."""
    try:
        return {place: call(tasks[place]) for place in _taken(turns, len(tasks))}
    except BaseException:
        turns.value = len(tasks)
        raise


def _taken(turns: Turns, count: int) -> Iterator[int]:
    """Places that no other process has taken; ``turns`` is the next of all."""
    while True:
        with turns.get_lock():
            turn = turns.value
            turns.value = turn + 1
        if turn >= count:
            return
        yield turn
