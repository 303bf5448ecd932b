"""How fast could a hearing device follow a listener who turns to the other talker?

A device that decides every ``tau`` seconds, right with probability ``p``, and moves its gain by one of ``N`` equally
spaced levels per decision is a random walk on 0 ... N - 1 that stays where it is at either end; level N - 1 brings out
the attended talker fully. After a switch of attention the roles of the ends are exchanged. The expected switch duration
(ESD) is the mean time from then until the gain reaches the comfort level, and the minimal one (MESD) is its minimum
over the curve of accuracy against ``tau``, with as few levels as keep the gain comfortable while attention stays.

Source: Geirnaert, Francart and Bertrand 2020, IEEE TNSRE 28(1):307-317, doi:10.1109/TNSRE.2019.2952724. Formulas are
derived below; with q = 1 - p and rho = q / p < 1 they hold for p = 1 as well and lose no digits at many levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput

Values = NDArray[np.float64]
COMFORT = 0.65
"""Relative gain, of 0 to 1, from which on listening is comfortable."""
CONFIDENCE = 0.8
"""Share of the time that the gain has to be at or above ``COMFORT`` while attention stays."""
FEWEST_LEVELS, MANY_LEVELS, MOST_LEVELS = 5, 100, 10_000
"""Fewer levels jump audibly; more are needed by no accuracy above 0.5002, and are not tried."""
SAMPLES = 1_000
"""Points at which the curve between the measured lengths is looked at."""
ROUNDING = 1e-9
"""What is this close to a whole level is that level."""


@dataclass(frozen=True)
class WorkingPoint:
    """Where the switch is fastest: ``seconds`` to be expected (the MESD), with windows of ``window`` seconds, each
    right with probability ``accuracy``, and ``levels`` of gain."""

    seconds: float
    window: float
    accuracy: float
    levels: int


@dataclass(frozen=True)
class Switching:
    """The working point, or None; ``note`` says why there is none, or how the point is to be read."""

    point: WorkingPoint | None
    note: str | None = None


def steady_state(p: float, levels: int) -> Values:
    """Share of the time at each of ``levels`` [N] while attention stays; sums to 1.

    Raises:
        BadInput: p at or below 0.5 or above 1, or fewer than 2 levels.
    """
    _check(p, levels)
    # In balance as many steps go up as down between neighbours: p pi(i) = q pi(i + 1), so pi(i) ~ rho^(N - 1 - i).
    weights = _powers(p, levels)[::-1]
    shares: Values = weights / weights.sum()
    return shares


def lowest_usual_level(p: float, levels: int, confidence: float = CONFIDENCE) -> int:
    """The highest level, counted from 0, that the gain is at or above for a share ``confidence`` of the time.

    Raises:
        BadInput: as ``steady_state``.
    """
    _check(p, levels)
    return int(_lowest_usual(p, np.array([levels]), confidence)[0])


def fewest_levels(
    p: float, confidence: float = CONFIDENCE, comfort: float = COMFORT, fewest: int = FEWEST_LEVELS
) -> int | None:
    """The least number of levels, at least ``fewest``, with which the gain is comfortable for a share ``confidence`` of
    the time; None where more than ``MOST_LEVELS`` would be needed.

    Raises:
        BadInput: as ``steady_state``.
    """
    _check(p, fewest)
    # Few are mostly enough, so the few are tried first.
    for begin, end in ((fewest, MANY_LEVELS), (max(fewest, MANY_LEVELS), MOST_LEVELS + 1)):
        levels = np.arange(begin, end)
        fitting = np.flatnonzero(_lowest_usual(p, levels, confidence) >= comfort * (levels - 1) - ROUNDING)
        if len(fitting):
            return int(levels[fitting[0]])
    return None


def target_level(levels: int, comfort: float = COMFORT) -> int:
    """The lowest comfortable one of ``levels``, counted from 0."""
    return int(np.ceil(comfort * (levels - 1) - ROUNDING))


def steps_to(p: float, target: int) -> Values:
    """Mean number of decisions to reach level ``target`` from each level below it, [target].

    Raises:
        BadInput: p at or below 0.5 or above 1.
    """
    _check(p, FEWEST_LEVELS)
    # d(i), the mean number from i to i + 1: at the end d(0) = 1 / p, for a wrong decision stays there; elsewhere a
    # wrong one costs a step back and the way up again, d(i) = 1 + q (d(i - 1) + d(i)), so d(i) = 1 / p + rho d(i - 1).
    # Hence d(i) = (1 - rho^(i + 1)) / (p - q), and the way to the target is the sum of d from i on.
    each: Values = (1 - _powers(p, target + 1)[1:]) / (2 * p - 1)
    return np.cumsum(each[::-1])[::-1]


def expected_switch_duration(p: float, tau: float, levels: int, comfort: float = COMFORT) -> float:
    """ESD in seconds: mean time to the comfort level after a switch of attention that finds the gain below it.

    Args:
        p: probability that a decision is right. tau: seconds between decisions. levels: N.
        comfort: relative gain to be reached.

    Raises:
        BadInput: as ``steady_state``, or a tau that is not positive.
    """
    if not tau > 0:
        raise BadInput("switching", "tau", "more than 0 s", tau)
    # Where the gain is at the switch: the steady state, its ends exchanged, of those levels that are not yet there.
    target = target_level(levels, comfort)
    start = steady_state(p, levels)[::-1][:target]
    return float(tau * (start @ steps_to(p, target)) / start.sum())


def minimal_switch_duration(
    windows: ArrayLike,
    accuracies: ArrayLike,
    confidence: float = CONFIDENCE,
    comfort: float = COMFORT,
    fewest: int = FEWEST_LEVELS,
    samples: int = SAMPLES,
) -> Switching:
    """MESD of a measured curve, looked for at ``samples`` points of the straight lines between its points.

    Where the accuracy is at or below 0.5 the gain drifts to the wrong talker, and there is no ESD.

    Args:
        windows: [K] seconds, rising. accuracies: [K], 0 to 1.

    Raises:
        BadInput: no points, lengths that do not rise, or accuracies that are none.
    """
    lengths, values = _curve(windows, accuracies)
    taus = np.linspace(lengths[0], lengths[-1], samples)
    points = [
        _point(tau, p, confidence, comfort, fewest)
        for tau, p in zip(taus, np.interp(taus, lengths, values), strict=True)
    ]
    found = [point for point in points if point is not None]
    if not found:
        return Switching(None, _no_point(values))
    best = min(found, key=lambda point: point.seconds)
    return Switching(best, _at_an_end(best.window, lengths))


def _point(tau: float, p: float, confidence: float, comfort: float, fewest: int) -> WorkingPoint | None:
    levels = fewest_levels(p, confidence, comfort, fewest) if p > 0.5 else None
    if levels is None:
        return None
    return WorkingPoint(expected_switch_duration(p, tau, levels, comfort), float(tau), float(p), levels)


def _no_point(accuracies: Values) -> str:
    best = f"the highest accuracy is {accuracies.max():.3f}"
    if accuracies.max() <= 0.5:
        return f"no length is right more often than wrong ({best}): the gain would drift away from the attended talker"
    return f"so near chance ({best}) that more than {MOST_LEVELS} levels of gain would be needed"


def _at_an_end(window: float, lengths: Values) -> str | None:
    """A minimum at an end of what was measured may lie beyond it."""
    if len(lengths) == 1:
        return "of the only length that was measured"
    if window == lengths[0]:
        return "at the shortest length that was measured: a shorter one may switch sooner"
    if window == lengths[-1]:
        return "at the longest length that was measured: a longer one may switch sooner"
    return None


def _lowest_usual(p: float, levels: NDArray[np.int64], confidence: float) -> NDArray[np.int64]:
    # The top w of N levels hold (1 - rho^w) / (1 - rho^N) of the time; the least w with at least ``confidence`` of it
    # has rho^w <= 1 - confidence (1 - rho^N). At p = 1 the logarithm is minus infinity, and the top level is enough.
    with np.errstate(divide="ignore"):
        log_rho = np.log((1 - p) / p)
    held = np.log1p(confidence * np.expm1(levels * log_rho))
    lowest: NDArray[np.int64] = levels - np.maximum(1, np.ceil(held / log_rho - ROUNDING)).astype(np.int64)
    return lowest


def _powers(p: float, count: int) -> Values:
    """rho^0 ... rho^(count - 1), [count]."""
    powers: Values = np.power((1 - p) / p, np.arange(count, dtype=np.float64))
    return powers


def _check(p: float, levels: int) -> None:
    if not 0.5 < p <= 1:
        raise BadInput("switching", "p", "more than 0.5, at most 1", p)
    if levels < 2:
        raise BadInput("switching", "levels", "at least 2", levels)


def _curve(windows: ArrayLike, accuracies: ArrayLike) -> tuple[Values, Values]:
    lengths, values = np.asarray(windows, np.float64), np.asarray(accuracies, np.float64)
    if lengths.ndim != 1 or lengths.shape != values.shape or not len(lengths):
        raise BadInput("switching", "windows, accuracies", "two sequences of one length", (lengths.shape, values.shape))
    if not (lengths[0] > 0 and np.all(np.diff(lengths) > 0) and np.isfinite(lengths[-1])):
        raise BadInput("switching", "windows", "positive numbers that rise", _listed(lengths))
    if not np.all((values >= 0) & (values <= 1)):
        raise BadInput("switching", "accuracies", "numbers from 0 to 1", _listed(values))
    return lengths, values


def _listed(values: Values) -> str:
    return ", ".join(f"{value:g}" for value in values)
