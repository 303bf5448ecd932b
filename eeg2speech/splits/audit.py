"""Leakage audit on metadata: what a test score could owe to something other than the EEG.

Each finding has a level: ``fatal`` (the score means nothing for the claim the split makes), ``warning`` (a known
way to score without the EEG is open) and ``note`` (a fact to state beside the score).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

from eeg2speech.data.types import Index, Trial, sides
from eeg2speech.splits.manifest import PARTS, Span, Split

Level = Literal["fatal", "warning", "note"]

ALARM = 0.001
"""A rule that guesses attention is reported when chance does as well less often than this, over all rules together."""

SAME_TIME_S = 1e-6
"""Spans that overlap by less than this touch: their ends are sums of floating-point seconds."""


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
    speakers = {s.id: s.speaker for s in index.stimuli}
    findings = [
        *_overlapping_windows(split, trials),
        *_shared_trials(split),
        *_shared_audio(split, trials),
        *_shared_subjects(split, trials),
        *_target_decided_by_subject(index.trials, speakers),
        *_unbalanced_roles(index.trials),
        *_told_by_training(split, index.trials, speakers),
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


def _overlapping_windows(split: Split, trials: dict[str, Trial]) -> list[Finding]:
    """EEG that is in two parts: spans that overlap in a recording, be they of one trial or of two."""
    clashes: list[tuple[str, str]] = []
    # Where the spans so far of a part end, at the latest, and which span that is; by recording and part.
    ends: dict[tuple[str, str], tuple[float, str]] = {}
    for recording, start, stop, part, trial in sorted(_in_recordings(split, trials)):
        for other in PARTS:
            end, earlier = ends.get((recording, other), (0.0, ""))
            if other != part and start < end - SAME_TIME_S:
                clashes.append((f"{earlier!r} ({other})", f"{trial!r} ({part})"))
        ends[recording, part] = max(ends.get((recording, part), (0.0, "")), (stop, trial))
    if not clashes:
        return []
    detail = f"{len(clashes)} overlaps between parts, the first of trial {' with trial '.join(clashes[0])}"
    return [Finding("fatal", "overlapping windows", detail, "cut the trials before windows are taken")]


def _in_recordings(split: Split, trials: dict[str, Trial]) -> Iterable[tuple[str, float, float, str, str]]:
    """Recording, start and stop in its seconds, part and trial of each span."""
    for part in PARTS:
        for span in split.parts[part]:
            trial = trials[span.trial]
            yield trial.recording, trial.start + span.start, trial.start + span.stop, part, trial.id


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


@dataclass(frozen=True)
class _Attention:
    """A subject who attends side 0 or 1 (canonical, see ``data.types.sides``) of a pair."""

    subject: str
    pair: str
    side: int


def _attention(trials: Iterable[Trial], speakers: dict[str, str]) -> list[_Attention]:
    """What was attended in each trial with two talkers."""
    return [
        _Attention(t.subject, t.pair, sides(t, speakers).index(t.attended)) for t in trials if t.unattended is not None
    ]


def _one_sided(attention: Iterable[_Attention]) -> dict[str, bool]:
    """For each subject, whether all of several trials have the same side."""
    attended: dict[str, Counter[int]] = {}
    for each in attention:
        attended.setdefault(each.subject, Counter())[each.side] += 1
    return {subject: counts.total() > 1 and len(counts) == 1 for subject, counts in attended.items()}


def _target_decided_by_subject(trials: Iterable[Trial], speakers: dict[str, str]) -> list[Finding]:
    one_sided = _one_sided(_attention(trials, speakers))
    if not any(one_sided.values()):
        return []
    detail = (
        f"{sum(one_sided.values())} of {len(one_sided)} subjects always attend the same side: "
        "knowing who listens is enough"
    )
    return [
        Finding("fatal", "subject decides target", detail, "report subject_id_oracle; use data with balanced attention")
    ]


_RULES: dict[str, Callable[[_Attention], str]] = {"pair": lambda a: a.pair, "subject": lambda a: a.subject}


def _told_by_training(split: Split, trials: Iterable[Trial], speakers: dict[str, str]) -> list[Finding]:
    """Whether the side attended in a test trial can be guessed from the sides attended in training, by pair or subject.

    Two guesses each: the side attended more often, and the side attended less often, which is the right one where a
    design is balanced exactly. Under attention by a fair coin each guess is right half the time, independently.
    """
    trials = list(trials)
    parts = {part: set(split.trials(part)) for part in PARTS}
    train = _attention((t for t in trials if t.id in parts["train"]), speakers)
    # A trial that is in both parts is another finding, and repeats of a presentation are no further evidence.
    test = list(dict.fromkeys(_attention((t for t in trials if t.id in parts["test"] - parts["train"]), speakers)))
    one_sided = _one_sided(_attention(trials, speakers))
    findings: list[Finding] = []
    for name, unit in _RULES.items():
        # Subjects who always attend the same side are a finding of their own.
        judged = [a for a in test if name != "subject" or not one_sided[a.subject]]
        right, count = _majority(train, judged, unit)
        findings += _told(f"more often attended in training by {name}", right, count)
        findings += _told(f"less often attended in training by {name}", count - right, count)
    return findings


def _majority(
    train: Iterable[_Attention], test: Iterable[_Attention], unit: Callable[[_Attention], str]
) -> tuple[int, int]:
    """How many sides of the test are the ones attended more often in training by the same unit, out of how many.

    Where training has no such unit, or a tie, nothing is guessed.
    """
    leaning: Counter[str] = Counter()
    for each in train:
        leaning[unit(each)] += 2 * each.side - 1
    guessed = [(leaning[unit(each)] > 0) == each.side for each in test if leaning[unit(each)]]
    return sum(guessed), len(guessed)


def _told(rule: str, right: int, count: int) -> list[Finding]:
    """A warning when so many right guesses are no chance."""
    if count == 0:
        return []
    by_chance = float(binomtest(right, count, 0.5, alternative="greater").pvalue)
    if by_chance >= ALARM / (2 * len(_RULES)):
        return []
    detail = (
        f"the side {rule} is the one attended in {right / count:.0%} of {count} test trials "
        f"(chance: 50 %, p = {by_chance:.1g})"
    )
    return [Finding("warning", "attention told by training", detail, "use data with attention by a coin in each trial")]


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
