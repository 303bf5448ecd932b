"""How much there is in each part, and how much of it is independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from eeg2speech.data.types import Trial
from eeg2speech.splits.findings import Finding
from eeg2speech.splits.manifest import PARTS, Split

SHARED = 0.25
"""Share of a trial's variance taken to be its subject's, and as much to be its pair's, where nothing is known."""


def amounts(split: Split, trials: dict[str, Trial], seconds: float | None = None) -> list[Finding]:
    """Of each part: windows of ``seconds`` (None: not counted), trials, EEG, subjects, pairs, distinct speech; of the
    test also the effective number of independent trials."""
    parts = "; ".join(_described(split, trials, part, seconds) for part in PARTS)
    tested = [trials[name] for name in split.trials("test")]
    return [Finding("note", "amounts", f"{parts}; {_independent(tested)}")]


def _described(split: Split, trials: dict[str, Trial], part: str, seconds: float | None) -> str:
    spans = split.parts[part]
    minutes = sum(span.stop - span.start for span in spans) / 60
    own = [trials[name] for name in split.trials(part)]
    windows = "" if seconds is None else f"{sum(int((s.stop - s.start) / seconds + 1e-9) for s in spans)} windows, "
    counts = f"{len(own)} trials, {len({t.subject for t in own})} subjects, {len({t.pair for t in own})} stimulus pairs"
    return (
        f"{part}: {windows}{counts}, {minutes:.1f} min of EEG, {_distinct(split, trials, part) / 60:.1f} min distinct"
    )


def _distinct(split: Split, trials: dict[str, Trial], part: str) -> float:
    """Seconds of a part in which something is heard that is heard at no other place in it, each pair's time once."""
    by_pair: dict[str, list[tuple[float, float]]] = {}
    for span in split.parts[part]:
        by_pair.setdefault(trials[span.trial].pair, []).append((span.start, span.stop))
    return sum(_covered(spans) for spans in by_pair.values())


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    total, end = 0.0, 0.0
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def effective(names: Iterable[str]) -> float:
    """Number of equal clusters that spread a mean as these do: 1 / sum of squared shares (Kish 1965)."""
    counts = Counter(names)
    return counts.total() ** 2 / sum(count**2 for count in counts.values())


def _independent(tested: list[Trial]) -> str:
    subjects, pairs = effective(t.subject for t in tested), effective(t.pair for t in tested)
    least = 1 / (SHARED / subjects + SHARED / pairs + (1 - 2 * SHARED) / len(tested))
    return (
        f"test trials are worth {least:.1f} independent ones if a quarter of their variance is their subject's and a "
        f"quarter their pair's ({subjects:.1f} effective subjects, {pairs:.1f} pairs)"
    )
