"""Where segments begin: all of them start and end on EEG samples, so that audio and EEG cover exactly the same time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput


class TimeSpan(Protocol):
    """A stretch of a trial in seconds (``eeg2speech.splits.Span`` is one)."""

    @property
    def trial(self) -> str:
        """Name of the trial."""

    @property
    def start(self) -> float:
        """First second."""

    @property
    def stop(self) -> float:
        """Second at which it ends."""


def even_segments(spans: Iterable[TimeSpan], seconds: float, count: int, rate: int) -> list[Segment]:
    """At most ``count`` windows a span, evenly spread and not overlapping; fewer where the span is too short for them.

    Raises:
        BadInput: a span shorter than one window (it would otherwise be missing from every score).
    """
    segments: list[Segment] = []
    for span in spans:
        room = _room(span, seconds, rate)
        fitting = min(count, (room + round(seconds * rate)) // round(seconds * rate))
        for k in range(fitting):
            # Windows stand in the middle of ``fitting`` equal cells of the span.
            offset = (2 * k + 1) * (room + round(seconds * rate)) / (2 * fitting) - seconds * rate / 2
            segments.append(_segment(span, min(max(int(offset), 0), room), seconds, rate))
    return segments


def tiled_segments(spans: Iterable[TimeSpan], seconds: float, rate: int) -> list[Segment]:
    """All windows of a span side by side; what is left at its end is not used."""
    length = round(seconds * rate)
    return [
        _segment(span, k * length, seconds, rate)
        for span in spans
        for k in range(_room(span, seconds, rate) // length + 1)
    ]


def random_segments(
    spans: Sequence[TimeSpan], seconds: float, count: int, seed: Sequence[int], rate: int
) -> list[Segment]:
    """``count`` windows drawn uniformly over time: a span is drawn by how many windows it can hold, then a start.

    ``seed`` alone decides (for example run seed and epoch), not the caller's generator nor the number of workers.
    """
    rng = np.random.default_rng(list(seed))
    rooms = np.array([_room(span, seconds, rate) + 1 for span in spans])
    chosen = rng.choice(len(spans), size=count, p=rooms / rooms.sum())
    return [_segment(spans[i], int(rng.integers(rooms[i])), seconds, rate) for i in chosen]


def _room(span: TimeSpan, seconds: float, rate: int) -> int:
    """By how many EEG samples a window can be moved within the span."""
    first = int(np.ceil(span.start * rate - 1e-6))
    room = int(np.floor(span.stop * rate + 1e-6)) - first - round(seconds * rate)
    if room < 0:
        found = f"{span.stop - span.start:.3f} s"
        raise BadInput(f"span of trial {span.trial!r}", "duration", f"at least one window of {seconds} s", found)
    return room


def _segment(span: TimeSpan, offset: int, seconds: float, rate: int) -> Segment:
    first = int(np.ceil(span.start * rate - 1e-6))
    return Segment(span.trial, (first + offset) / rate, round(seconds * rate) / rate)
