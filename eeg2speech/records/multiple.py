"""Many comparisons at once: Holm's correction, and the ranks that it leaves possible."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

from eeg2speech.records.intervals import Interval

ALPHA = 0.05
K = TypeVar("K", bound=Hashable)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Adjusted p by name (Holm 1979, Scand. J. Statist. 6:65): below alpha, it holds whatever else was compared."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[K, float] = {}
    least = 0.0
    for place, name in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def adjusted_p(found: Mapping[K, Interval | None]) -> dict[K, float]:
    """p after Holm's correction over all of what was ``found`` that has one, by name."""
    return holm({name: each.p for name, each in found.items() if each is not None and each.p is not None})


class RankRange(NamedTuple):
    """Best and worst rank that the data leaves possible, 1 the best."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_ranges(
    names: Sequence[str],
    difference: Callable[[str, str], Interval | None],
    higher_is_better: bool = True,
    alpha: float = ALPHA,
) -> dict[str, RankRange]:
    """The ranks of each of ``names`` that are compatible with all paired differences, at 1 - alpha for all together.

    ``difference(a, b)`` is a minus b on the same segments. Of all pairs, Holm's correction says which differ; the best
    rank of a system is one more than the number of systems that beat it, its worst is one less for each that it beats
    (Mogstad, Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91:476, stepwise). A pair without an interval decides
    nothing.
    """
    found = {pair: difference(*pair) for pair in combinations(names, 2)}
    adjusted = adjusted_p(found)
    beaten = dict.fromkeys(names, 0)
    beats = dict.fromkeys(names, 0)
    for (first, second), each in found.items():
        if each is not None and adjusted.get((first, second), 1.0) < alpha:
            better, worse = (first, second) if ((each.mean or 0.0) > 0) == higher_is_better else (second, first)
            beats[better] += 1
            beaten[worse] += 1
    return {name: RankRange(1 + beaten[name], len(names) - beats[name]) for name in names}
