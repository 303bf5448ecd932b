"""Leakage audit on metadata: what a test score could owe to something other than the EEG.

Each finding has a level: ``fatal`` (the score means nothing for the claim the split makes), ``warning`` (a known
way to score without the EEG is open) and ``note`` (a fact to state beside the score).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from eeg2speech.data.types import Index, Trial, sides
from eeg2speech.splits.manifest import PARTS, Span, Split

Level = Literal["fatal", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing the audit found, what it means and how to cure it."""

    level: Level
    name: str
    detail: str
    cure: str


def audit(index: Index, split: Split) -> list[Finding]:
    """All findings for a split of a study, the gravest first."""
    trials = {t.id: t for t in index.trials}
    findings = [
        *_overlapping_windows(split),
        *_shared_trials(split),
        *_shared_audio(split, trials),
        *_shared_subjects(split, trials),
        *_target_decided_by_subject(index.trials, {s.id: s.speaker for s in index.stimuli}),
        *_unbalanced_roles(index.trials),
        *_amounts(split, trials),
    ]
    order = ("fatal", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.level))


def verdict(findings: Iterable[Finding]) -> str:
    """``clean``, or the gravest level with the names of its findings; notes do not count."""
    for level in ("fatal", "warning"):
        names = sorted({f.name for f in findings if f.level == level})
        if names:
            return f"{level}: {', '.join(names)}"
    return "clean"


def _overlapping_windows(split: Split) -> list[Finding]:
    spans = sorted((span, part) for part in PARTS for span in split.parts[part])
    clashes = [
        (a.trial, p, q)
        for (a, p), (b, q) in zip(spans, spans[1:], strict=False)
        if a.trial == b.trial and b.start < a.stop - 1e-9 and p != q
    ]
    if not clashes:
        return []
    detail = (
        f"{len(clashes)} overlaps between parts, the first in trial {clashes[0][0]!r} ({clashes[0][1]}/{clashes[0][2]})"
    )
    return [Finding("fatal", "overlapping windows", detail, "cut the trials before windows are taken")]


def _shared_trials(split: Split) -> list[Finding]:
    shared = set(split.trials("train")) & set(split.trials("test"))
    if not shared:
        return []
    detail = f"{len(shared)} trials are in train and in test: a fingerprint of the trial gives the target away"
    return [Finding("fatal", "trial in train and test", detail, "use the split trial, stimulus or subject")]


def _shared_audio(split: Split, trials: dict[str, Trial]) -> list[Finding]:
    heard = _audio(split, trials, "train")
    shared = _audio(split, trials, "test") & heard
    if not shared:
        return []
    level: Level = "fatal" if split.kind == "stimulus" else "warning"
    detail = f"{len(shared)} stimuli of test trials were heard in training"
    return [Finding(level, "audio in train and test", detail, "use the split stimulus")]


def _shared_subjects(split: Split, trials: dict[str, Trial]) -> list[Finding]:
    subjects = {part: {trials[t].subject for t in split.trials(part)} for part in PARTS}
    shared = subjects["train"] & subjects["test"]
    if not shared:
        return []
    level: Level = "fatal" if split.kind == "subject" else "note"
    detail = f"{len(shared)} of {len(subjects['test'])} test subjects were seen in training"
    return [
        Finding(level, "subject in train and test", detail, "use the split subject for a claim about new listeners")
    ]


def _target_decided_by_subject(trials: Iterable[Trial], speakers: dict[str, str]) -> list[Finding]:
    attended: dict[str, Counter[int]] = {}
    for trial in trials:
        if trial.unattended is not None:
            side = sides(trial, speakers).index(trial.attended)
            attended.setdefault(trial.subject, Counter())[side] += 1
    fixed = [s for s, counts in attended.items() if sum(counts.values()) > 1 and len(counts) == 1]
    if not fixed:
        return []
    detail = f"{len(fixed)} of {len(attended)} subjects always attend the same side: knowing who listens is enough"
    return [
        Finding("fatal", "subject decides target", detail, "report subject_id_oracle; use data with balanced attention")
    ]


def _unbalanced_roles(trials: Iterable[Trial]) -> list[Finding]:
    roles: dict[str, Counter[str]] = {}
    for trial in trials:
        if trial.unattended is not None:
            roles.setdefault(trial.attended, Counter())["attended"] += 1
            roles.setdefault(trial.unattended, Counter())["unattended"] += 1
    never = [s for s, counts in roles.items() if len(counts) == 1]
    if not never:
        return []
    detail = f"{len(never)} of {len(roles)} stimuli are always or never attended: the audio alone tells the target"
    return [Finding("warning", "unbalanced attended roles", detail, "use pairs heard with attention on either talker")]


def _amounts(split: Split, trials: dict[str, Trial]) -> list[Finding]:
    def describe(part: str) -> str:
        spans: tuple[Span, ...] = split.parts[part]
        minutes = sum(s.stop - s.start for s in spans) / 60
        pairs = {trials[t].pair for t in split.trials(part)}
        return (
            f"{part}: {len(split.trials(part))} trials, {minutes:.1f} min of EEG, {len(pairs)} distinct stimulus pairs"
        )

    return [
        Finding(
            "note", "amounts", "; ".join(describe(part) for part in PARTS), "intervals cluster over subjects and pairs"
        )
    ]


def _audio(split: Split, trials: dict[str, Trial], part: str) -> set[str]:
    names = (trials[t] for t in split.trials(part))
    return {s for trial in names for s in (trial.attended, trial.unattended) if s is not None}
