"""Does a system use the EEG? A verdict in words, by a stated rule, from the scores under controls.

Two questions, each a paired difference on the same segments, true EEG minus control:

- ``noise_cue``: does it need the EEG at all?
- ``time_shift``: does it follow the speech in it? The EEG of another time of the same trial keeps who listens, to what,
  and in which trial, and breaks only the alignment with the sound. A system that answers from such a fingerprint does
  as well with it.

**Uses the EEG**: the score drops under both, in the metric that ranks or in the one that counts right choices, each
after Holm's correction over the four differences. **Does not**: under ``time_shift`` neither drops, and the interval
of the share of right choices excludes a drop of ``MARGIN`` or more; if it drops under ``noise_cue`` all the same, it
reads who or which trial. **Cannot tell**: everything else, and why. An interval that holds 0 is no proof of absence:
only a narrow one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from eeg2speech.records.intervals import Interval
from eeg2speech.records.multiple import ALPHA, adjusted_p

NOISE, SHIFT = "noise_cue", "time_shift"
MARGIN = 0.1
"""Drop of the share of right choices (or of another score from 0 to 1) that would matter."""
Answer = Literal["uses the EEG", "does not", "cannot tell"]


class Measure(NamedTuple):
    """A metric of the verdict. ``margin``: the least drop that would matter, in its unit; None where none is stated.
    ``label``: how reasons call it, where that is not its name."""

    name: str
    higher_is_better: bool
    margin: float | None
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class Verdict:
    """An answer and what it rests on."""

    answer: Answer
    reason: str

    @property
    def text(self) -> str:
        """The answer with its reason."""
        return f"{self.answer}: {self.reason}"


Drop = Callable[[str, str], Interval | None]
"""Metric and control to true EEG minus control; None where there is no such record."""


def judge(measures: tuple[Measure, ...], drop: Drop, uses_eeg: bool = True, alpha: float = ALPHA) -> Verdict:
    """The verdict on a system by its drops in ``measures``.

    ``uses_eeg``: whether it is given any; one that is not needs no scores.
    """
    if not uses_eeg:
        return Verdict("does not", "it is given none")
    drops = {(m.name, control): drop(m.name, control) for m in measures for control in (NOISE, SHIFT)}
    lacking = [control for control in (NOISE, SHIFT) if all(drops[m.name, control] is None for m in measures)]
    if lacking:
        return Verdict("cannot tell", f"not evaluated under {' and '.join(lacking)}")
    better = {measure.name: measure.higher_is_better for measure in measures}
    worse = _worse(drops, better, alpha)
    for measure in measures:
        if {(measure.name, NOISE), (measure.name, SHIFT)} <= worse:
            return Verdict("uses the EEG", f"{measure} drops under {NOISE} and {SHIFT}")
    return _absent(measures, drops, worse)


def _worse(
    drops: Mapping[tuple[str, str], Interval | None], better: Mapping[str, bool], alpha: float
) -> set[tuple[str, str]]:
    """Metrics and controls under which the score is worse, after Holm's correction."""
    adjusted = adjusted_p(drops)
    return {
        key
        for key, each in drops.items()
        if each is not None and adjusted.get(key, 1.0) < alpha and ((each.mean or 0.0) > 0) == better[key[0]]
    }


def _absent(
    measures: tuple[Measure, ...], drops: Mapping[tuple[str, str], Interval | None], worse: set[tuple[str, str]]
) -> Verdict:
    """Nothing shows that it follows speech: is it shown that it does not?"""
    if any(control == SHIFT for _, control in worse):
        return Verdict("cannot tell", f"it drops under {SHIFT}, and not under {NOISE}")
    stated = [measure for measure in measures if measure.margin is not None]
    if not stated or not all(_within(drops[measure.name, SHIFT], measure) for measure in stated):
        return Verdict("cannot tell", f"too few trials to exclude a drop under {SHIFT} that would matter")
    if worse:
        return Verdict(
            "does not", f"nothing is lost under {SHIFT}: it reads who listens, or which trial, not the speech"
        )
    return Verdict("does not", f"{stated[0]} loses nothing that would matter under {SHIFT}")


def _within(drop: Interval | None, measure: Measure) -> bool:
    """Whether the interval excludes every drop that would matter."""
    if drop is None or measure.margin is None or drop.low is None or drop.high is None:
        return False
    return drop.high < measure.margin if measure.higher_is_better else drop.low > -measure.margin
