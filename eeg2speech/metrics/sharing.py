"""What the metrics of one segment, and the segments of one reference, have in common is computed once.

A metric stays a pure function of arrays. A part that several of them need (a signal at another rate, its pitch) is a
function marked ``shared`` or ``kept``. Called on its own it computes, like any function. Called while a segment is
being scored (within ``Memory.segment``) it answers from memory what it was asked before about the same signals: both
kinds until the segment is done; a ``kept`` one also later, of signals that may come back with another estimate, as the
reference does under every control of the EEG.

Within a segment a signal is known by its array object, beyond it by its content. Arrays that nobody named are computed
with as if there were no memory. Exceptions are not remembered. Arrays in answers are read-only: others read them too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Key = tuple[Hashable, ...]

KEPT_BYTES = 128 * 2**20
"""What a memory holds beyond a segment: 3,300 references of 4 s with the metrics of extraction, 400 with those of
generation, 220 with all. A second process has a memory of its own, and half of the references. Of more references than
that, coming round in the same order, none is found again: as slow as without, and no more memory."""
ENTRY_BYTES = 500
"""What an answer takes beside its arrays: key and places in dictionaries."""


class Named(NamedTuple):
    """A signal of a segment and its name; ``lasting`` if other segments mean the same content by that name."""

    wave: NDArray[Any]
    name: Hashable
    lasting: bool


class _Name(NamedTuple):
    name: Hashable
    lasting: bool


@dataclass(frozen=True)
class _Answer:
    value: Any
    bytes: int


def shared(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a pure function of signals and plain numbers: computed once a segment."""
    return _remembering(function, keep=False)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """As ``shared``, and kept for the next segment. For answers that are small beside the time that they take."""
    return _remembering(function, keep=True)


class Memory:
    """Answers of kept parts; the longest unused go first when they take more than ``limit`` bytes in all.

    One thread at a time.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit, self.bytes = limit, 0
        self._answers: OrderedDict[Key, _Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    @contextmanager
    def segment(self, signals: Iterable[Named]) -> Iterator[None]:
        """Parts that are asked for within share what they find about these signals, in this thread."""
        token = _current.set(_Segment(self, signals))
        try:
            yield
        finally:
            _current.reset(token)

    def recall(self, key: Key) -> _Answer | None:
        """What is known, now the last to go."""
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def keep(self, key: Key, value: Any) -> None:
        """Hold an answer, and let others go if there is no room."""
        answer = _Answer(value, ENTRY_BYTES + sum(array.nbytes for array in _arrays(value)))
        self._answers[key] = answer
        self.bytes += answer.bytes
        while self.bytes > self.limit:
            self.bytes -= self._answers.popitem(last=False)[1].bytes


class _Segment:
    """What is known while one segment is scored."""

    def __init__(self, memory: Memory, signals: Iterable[Named]) -> None:
        self.memory = memory
        # Holding on to the arrays keeps their ids from being given to others.
        self.signals = list(signals)
        self.names = {id(wave): _Name(name, lasting) for wave, name, lasting in self.signals}
        self.answers: dict[Key, Any] = {}

    def ask(self, function: Callable[..., R], keep: bool, args: tuple[Any, ...], options: dict[str, Any]) -> R:
        """The answer of a part, computed if need be."""
        given = [self._named(argument) for argument in (*args, *options.values())]
        if any(argument is None for argument in given):
            return function(*args, **options)
        key = (function, tuple(options), *given)
        if key not in self.answers:
            lasting = all(argument.lasting for argument in given if isinstance(argument, _Name))
            self.answers[key] = self._answer(key, keep and lasting, lambda: function(*args, **options))
            self._name_arrays(key, lasting)
        found: R = self.answers[key]
        return found

    def _named(self, argument: Any) -> Hashable:
        """What an argument is called in a key; None for an array that has no name."""
        return self.names.get(id(argument)) if isinstance(argument, np.ndarray) else argument

    def _answer(self, key: Key, keep: bool, compute: Callable[[], Any]) -> Any:
        known = self.memory.recall(key) if keep else None
        if known is not None:
            return known.value
        value = compute()
        for array in _arrays(value):
            # A part may hand back a signal as it was: that is the caller's.
            if id(array) not in self.names:
                array.setflags(write=False)
        if keep:
            self.memory.keep(key, value)
        return value

    def _name_arrays(self, key: Key, lasting: bool) -> None:
        """Parts may be asked about answers in turn."""
        for place, array in enumerate(_arrays(self.answers[key])):
            self.names.setdefault(id(array), _Name((key, place), lasting))


_current: ContextVar[_Segment | None] = ContextVar("segment that is being scored", default=None)


def _remembering(function: Callable[P, R], keep: bool) -> Callable[P, R]:
    @wraps(function)
    def answered(*args: P.args, **options: P.kwargs) -> R:
        segment = _current.get()
        return function(*args, **options) if segment is None else segment.ask(function, keep, args, options)

    return answered


def _arrays(value: Any) -> Iterator[NDArray[Any]]:
    """The arrays in an answer: itself, or parts of a tuple."""
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, np.ndarray):
            yield part
