"""Leaks between the parts of a split: time, trials, audio, subjects."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from eeg2speech.data.types import Trial
from eeg2speech.splits.findings import Finding, Level
from eeg2speech.splits.manifest import PARTS, Split

SAME_TIME_S = 1e-6
"""Spans that overlap by less than this touch: their ends are sums of floating-point seconds."""

Trials = dict[str, Trial]
Duplicates = Collection[tuple[str, str]]
"""Pairs of stimuli that sound alike though their content differs."""


def overlapping_windows(split: Split, trials: Trials) -> list[Finding]:
    """EEG that is in two spans that overlap in a recording, be they of one trial or of two, of two parts or of one."""
    clashes: dict[frozenset[str], list[str]] = {}
    # Where the spans so far of a part end, at the latest, and which span that is; by recording and part.
    ends: dict[tuple[str, str], tuple[float, str]] = {}
    for recording, start, stop, part, trial in sorted(_in_recordings(split, trials)):
        for other in PARTS:
            end, earlier = ends.get((recording, other), (0.0, ""))
            if start < end - SAME_TIME_S:
                clash = f"trial {earlier!r} ({other}) with trial {trial!r} ({part})"
                clashes.setdefault(frozenset((part, other)), []).append(clash)
        ends[recording, part] = max(ends.get((recording, part), (0.0, "")), (stop, trial))
    named: dict[str, list[str]] = {}
    for parts, found in clashes.items():
        named.setdefault(_clash(parts), []).extend(found)
    return [_overlap(name, found) for name, found in named.items()]


def _clash(parts: frozenset[str]) -> str:
    if len(parts) == 1:
        return "windows counted twice"
    return "valid used as test" if parts == {"valid", "test"} else "overlapping windows"


def _overlap(name: str, found: list[str]) -> Finding:
    level: Level = "warning" if name == "windows counted twice" else "fatal"
    where = "within a part" if name == "windows counted twice" else "between parts"
    return Finding(level, name, f"{len(found)} overlaps {where}, the first of {found[0]}")


def _in_recordings(split: Split, trials: Trials) -> Iterable[tuple[str, float, float, str, str]]:
    """Recording, start and stop in its seconds, part and trial of each span."""
    for part in PARTS:
        for span in split.parts[part]:
            trial = trials[span.trial]
            yield trial.recording, trial.start + span.start, trial.start + span.stop, part, trial.id


def shared_trials(split: Split) -> list[Finding]:
    """Trials in the test and in another part, in other windows: of training's or, where there are none, of valid's."""
    levels: dict[str, Level] = {"train": "fatal", "valid": "warning"}
    for part, level in levels.items():
        if shared := _shared(split, part) - _sharing_time(split, part):
            return [Finding(level, f"trial in {part} and test", f"{len(shared)} trials are in {part} and in test")]
    return []


def _shared(split: Split, part: str) -> set[str]:
    return set(split.trials(part)) & set(split.trials("test"))


def _sharing_time(split: Split, part: str) -> set[str]:
    """Trials that a part and the test have at the same time: that is a finding of its own."""
    spans = {name: [span for span in split.parts["test"] if span.trial == name] for name in _shared(split, part)}
    return {
        span.trial
        for span in split.parts[part]
        if any(
            span.start < s.stop - SAME_TIME_S and s.start < span.stop - SAME_TIME_S for s in spans.get(span.trial, [])
        )
    }


def shared_audio(split: Split, trials: Trials, duplicates: Duplicates = ()) -> list[Finding]:
    """Speech of test trials that was heard in other trials of training: attended in both, in any role, in disguise."""
    level: Level = "fatal" if split.kind == "stimulus" else "warning"
    train, test = (_Heard.of(split, trials, part, _shared(split, "train")) for part in ("train", "test"))
    shared = train.any & test.any
    if attended := train.attended & test.attended:
        detail = f"{len(attended)} stimuli attended in test trials were attended in training, {len(shared)} were heard"
        return [Finding(level, "attended audio in train and test", detail)]
    if shared:
        detail = f"{len(shared)} stimuli of test trials were heard in training"
        return [Finding(level, "audio in train and test", detail)]
    if alike := [pair for pair in duplicates if {*pair} & train.any and {*pair} & test.any]:
        detail = f"{len(alike)} pairs of stimuli sound alike, the first {alike[0][0]} and {alike[0][1]}"
        return [Finding(level, "near-duplicate audio in train and test", detail)]
    return _audio_that_watches(split, trials)


def _audio_that_watches(split: Split, trials: Trials) -> list[Finding]:
    """A split by stimulus promises that no part shares audio with the test."""
    valid, test = (_Heard.of(split, trials, part, _shared(split, "valid")) for part in ("valid", "test"))
    shared = valid.any & test.any
    if split.kind != "stimulus" or not shared:
        return []
    return [Finding("warning", "audio in valid and test", f"{len(shared)} stimuli of test trials are in valid")]


class _Heard(NamedTuple):
    """Stimuli of a part: attended ones, and all."""

    attended: set[str]
    any: set[str]

    @classmethod
    def of(cls, split: Split, trials: Trials, part: str, without: set[str]) -> _Heard:
        """What is heard in the trials of a part that are not among ``without``: shared trials are a finding already."""
        own = [trials[name] for name in split.trials(part) if name not in without]
        heard = {s for trial in own for s in (trial.attended, trial.unattended) if s is not None}
        return cls({trial.attended for trial in own}, heard)


def shared_subjects(split: Split, trials: Trials) -> list[Finding]:
    """Listeners of the test who were in training."""
    subjects = {part: {trials[t].subject for t in split.trials(part)} for part in PARTS}
    shared = subjects["train"] & subjects["test"]
    if not shared:
        return []
    level: Level = "fatal" if split.kind == "subject" else "note"
    detail = f"{len(shared)} of {len(subjects['test'])} test subjects were seen in training"
    return [Finding(level, "subject in train and test", detail)]
