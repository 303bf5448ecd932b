"""When a stimulus began in the EEG, and how far both clocks are apart, by the trigger pulses of SparrKULee.

With each stimulus goes a file of pulses, one a second and one at the end, that was played into the trigger input of the
EEG amplifier. Sound card and amplifier have clocks of their own; the pulses tell how they go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import Array, Blocks
from eeg2speech.errors import BadInput

SEARCH = 2.0
"""Seconds that the first pulse may lie from the onset in the table of events."""
NEAR = 0.02
"""Seconds that a trigger may lie from where the one before it lets it be expected."""
GAP = 5.0
"""Seconds without a trigger, though there are pulses."""
DRIFT = 500.0
"""Parts in a million that the clocks may differ; crystals differ by less than 100."""
RESIDUAL = 0.005
"""Seconds that a trigger may lie from the line through all."""
BLOCK = 1 << 20

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Clock:
    """Second ``t`` of the stimulus is second ``start + rate * t`` of the EEG; ``length`` is the last pulse's time,
    ``residual`` the farthest that a trigger lies from that, ``lost`` how many pulses have none."""

    start: float
    rate: float
    length: float = 0.0
    residual: float = 0.0
    lost: int = 0

    @property
    def drift(self) -> float:
        """Parts in a million; positive where the EEG's clock is the faster one."""
        return 1e6 * (self.rate - 1)


def onsets(status: NDArray[np.uint16], rate: float) -> Seconds:
    """Seconds at which the trigger channel leaves its most common value."""
    rest = np.argmax(np.bincount(status, minlength=1))
    away = status != rest
    return (np.flatnonzero(away[1:] & ~away[:-1]) + 1) / rate


def pulses(blocks: Blocks) -> Seconds:
    """Seconds at which pulses begin in a trigger file [1, T]. Raises BadInput for one without two of them."""
    parts = (blocks.read(begin, min(begin + BLOCK, blocks.samples))[0] for begin in range(0, blocks.samples, BLOCK))
    found = np.array(_rising(parts), np.float64) / blocks.rate
    if len(found) < 2:
        raise BadInput(getattr(blocks, "where", "triggers"), "pulses", "at least two", len(found))
    return found


def clock(where: Path, expected: Seconds, triggers: Seconds, onset: float, end: float, grain: float) -> Clock:
    """Align pulses with triggers, both in seconds.

    One of the triggers near the ``onset`` of the table of events is the first pulse, or the second if the first is
    lost: the one by which most pulses have a trigger. Pulses beyond ``end``, in seconds of the stimulus, are not
    awaited. ``grain`` is how exact triggers are: seconds between samples of the EEG.

    Raises:
        BadInput: no trigger near the onset; gaps; clocks that differ more than ``DRIFT``; triggers off their line.
    """
    awaited = expected[expected <= end + NEAR]
    if len(awaited) < 2:
        raise BadInput(where, "triggers", "at least two pulses within EEG and stimulus", len(awaited))
    begins = np.unique([each - pulse for pulse in awaited[:2] for each in triggers])
    near = begins[np.abs(begins - onset) <= SEARCH]
    if not len(near):
        raise _refused(where, "Status", f"a trigger within {SEARCH:g} s of the onset, {onset:g} s", _nearest(triggers))
    tried = [_matched(awaited, triggers, begin) for begin in near]
    # Of equals the one that is nearest to the table.
    pairs = tried[min(range(len(tried)), key=lambda k: (-len(tried[k]), abs(near[k] - onset)))]
    return _fitted(where, awaited, pairs, grain)


def _rising(parts: Iterable[Array]) -> list[int]:
    """Samples at which a signal of pulses, 0 and 1, goes up. It may begin with one."""
    found, high, place = list[int](), False, 0
    for part in parts:
        up = np.concatenate([[high], part > 0.5])
        found += (np.flatnonzero(up[1:] & ~up[:-1]) + place).tolist()
        high, place = bool(up[-1]), place + len(part)
    return found


def _matched(expected: Seconds, triggers: Seconds, begin: float) -> list[tuple[float, float]]:
    """Pulses and their triggers. Each is awaited where the last one lets it be: clocks may drift far in an hour."""
    pairs, offset = [], begin
    for pulse in expected.tolist():
        place = int(np.searchsorted(triggers, pulse + offset))
        around = triggers[max(place - 1, 0) : place + 1]
        found = float(around[np.argmin(np.abs(around - pulse - offset))])
        if abs(found - pulse - offset) <= NEAR:
            pairs.append((pulse, found))
            offset = found - pulse
    return pairs


def _fitted(where: Path, awaited: Seconds, pairs: list[tuple[float, float]], grain: float) -> Clock:
    heard = np.array([pulse for pulse, _ in pairs])
    gap = float(np.max(np.diff([awaited[0], *heard, awaited[-1]])))
    if len(pairs) < 2 or gap > max(GAP, 1.5 * float(np.max(np.diff(awaited)))):
        raise _refused(where, "Status", f"triggers no more than {GAP:g} s apart", f"{gap:.1f} s without one")
    rate, start = np.polyfit(heard, np.array([found for _, found in pairs]), 1)
    off = max(abs(found - start - rate * pulse) for pulse, found in pairs)
    made = Clock(float(start), float(rate), float(awaited[-1]), float(off), len(awaited) - len(pairs))
    if abs(made.drift) > DRIFT + 1e6 * grain / np.ptp(heard):
        raise _refused(where, "clocks", f"at most {DRIFT:g} ppm apart", f"{made.drift:.0f} ppm")
    if off > RESIDUAL + grain:
        raise _refused(
            where, "Status", f"triggers within {1e3 * RESIDUAL:g} ms of a line", f"one {1e3 * off:.1f} ms off"
        )
    return made


def _nearest(triggers: Seconds) -> str:
    return f"{len(triggers)}, the first at {triggers[0]:.3f} s" if len(triggers) else "no trigger at all"


def _refused(where: Path, field: str, expected: str, found: str) -> BadInput:
    return BadInput(where, field, f"{expected} (or --set align=events, or left_out=NAME)", found)


@dataclass(frozen=True)
class Stretched:
    """A signal by another clock: its second ``t`` is second ``factor * t`` of ``blocks``, at the same rate.

    Between samples it goes along cubics through four of them. That is enough far below the rate, where EEG is.
    """

    blocks: Blocks
    factor: float

    @property
    def rate(self) -> float:
        """Hz."""
        return self.blocks.rate

    @property
    def channels(self) -> int:
        """C."""
        return self.blocks.channels

    @property
    def samples(self) -> int:
        """N."""
        return floor((self.blocks.samples - 1) / self.factor) + 1

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin]."""
        places = np.arange(begin, end) * self.factor
        low = max(floor(places[0]) - 1, 0)
        high = min(ceil(places[-1]) + 3, self.blocks.samples)
        known = self.blocks.read(low, high)
        base = np.floor(places)
        between, row = places - base, base.astype(np.intp) - low
        made = np.zeros((self.channels, end - begin))
        for shift, weight in zip((-1, 0, 1, 2), _weights(between), strict=True):
            made += known.take(row + shift, axis=1, mode="clip") * weight
        return made


def _weights(t: Seconds) -> tuple[Seconds, ...]:
    """Of the samples before, at, after and two after a place ``t`` in [0, 1): Catmull and Rom's cubic."""
    return (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
