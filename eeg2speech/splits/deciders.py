"""What decides, without any EEG, who was attended: the listener, the voice, the story, the ear, the order of trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from eeg2speech.data.types import Index, Stimulus, Trial, sides
from eeg2speech.splits.findings import Finding
from eeg2speech.splits.manifest import Split

ALARM = 0.001
"""A rule that guesses attention is reported when chance does as well less often than this, over all rules together."""


@dataclass(frozen=True)
class Attention:
    """A subject who attends side 0 or 1 (canonical, see ``data.types.sides``) of a pair; what is known of both sides,
    and at which place among the trials of its recording. ``ear`` is that of the attended side, or empty."""

    subject: str
    pair: str
    side: int
    speakers: tuple[str, str]
    stories: tuple[str, str]
    ear: str
    place: int


def attention(index: Index, names: Iterable[str] | None = None) -> list[Attention]:
    """What was attended in each trial with two talkers, of all trials or those of some names."""
    stimuli = {s.id: s for s in index.stimuli}
    places = _places(index.trials)
    chosen = None if names is None else set(names)
    return [
        _attention(trial, stimuli, places[trial.id])
        for trial in index.trials
        if trial.unattended is not None and (chosen is None or trial.id in chosen)
    ]


def _attention(trial: Trial, stimuli: dict[str, Stimulus], place: int) -> Attention:
    both = sides(trial, {name: stimulus.speaker for name, stimulus in stimuli.items()})
    one, other = (stimuli[name] for name in both)
    about = (one.speaker, other.speaker), (one.story, other.story)
    return Attention(trial.subject, trial.pair, both.index(trial.attended), *about, trial.ear, place)


def _places(trials: Sequence[Trial]) -> dict[str, int]:
    """Place of each trial among those of its recording."""
    by_recording: dict[str, list[Trial]] = {}
    for trial in trials:
        by_recording.setdefault(trial.recording, []).append(trial)
    ordered = (sorted(each, key=lambda t: t.start) for each in by_recording.values())
    return {trial.id: place for each in ordered for place, trial in enumerate(each)}


def deciding(index: Index) -> list[Finding]:
    """What decides the target in every trial of the study; a way that follows from another is not told again."""
    cases = attention(index)
    found = [*_subject(cases)]
    for name, role in _ROLES.items():
        if not found and (detail := _role(cases, role)):
            found.append(Finding("fatal", f"{name} decides target", detail))
    # What a mixture in one channel does not tell by itself: only EEG that shows the ear, or the time, could.
    for name, rule in (("ear", _ear), ("trial order", _order)):
        if not found and (detail := rule(cases)):
            found.append(Finding("warning", f"{name} decides target", detail))
    return found


def _subject(cases: Sequence[Attention]) -> list[Finding]:
    one_sided = _one_sided(cases)
    if not any(one_sided.values()):
        return []
    detail = f"{sum(one_sided.values())} of {len(one_sided)} subjects always attend the same side"
    return [Finding("fatal", "subject decides target", detail)]


def _one_sided(cases: Iterable[Attention]) -> dict[str, bool]:
    """For each subject, whether all of several trials have the same side."""
    attended: dict[str, Counter[int]] = {}
    for each in cases:
        attended.setdefault(each.subject, Counter())[each.side] += 1
    return {subject: counts.total() > 1 and len(counts) == 1 for subject, counts in attended.items()}


Role = Callable[[Attention], tuple[str, str]]
_ROLES: dict[str, Role] = {"speaker": lambda a: a.speakers, "story": lambda a: a.stories}


def _role(cases: Sequence[Attention], role: Role) -> str:
    """Of any two voices (or stories) that meet, always the same one is attended."""
    told = [(frozenset(role(a)), role(a)[a.side]) for a in cases if all(role(a)) and len({*role(a)}) == 2]
    if not _all_told(told):
        return ""
    return f"of any two that meet, one is attended in all of {len(told)} trials"


def _ear(cases: Sequence[Attention]) -> str:
    told = [("", a.ear) for a in cases if a.ear]
    return f"the {told[0][1]} ear is attended in all of {len(told)} trials" if _all_told(told) else ""


_MOMENTS: dict[str, Callable[[Attention], int]] = {
    "turn": lambda a: a.place % 2,
    "place in the recording": lambda a: a.place,
}

_ANSWERS: dict[str, Callable[[Attention], str]] = {"side": lambda a: str(a.side), "ear": lambda a: a.ear}


def _order(cases: Sequence[Attention]) -> str:
    for moment, of in _MOMENTS.items():
        for what, label in _ANSWERS.items():
            told = [(of(a), label(a)) for a in cases if label(a)]
            if len({each for _, each in told}) > 1 and _all_told(told):
                return f"the {moment} of a trial decides the attended {what} in all of {len(told)} trials"
    return ""


def _all_told(told: Sequence[tuple[Hashable, Hashable]]) -> bool:
    """Whether equal keys always have equal answers, in so many cases that coins would not do so."""
    answers = dict(told)
    beyond = len(told) - len(answers)
    return beyond > 0 and 0.5**beyond < ALARM and all(answers[key] == answer for key, answer in told)


Guess = Callable[[Attention], Iterable[tuple[str, int]]]
"""What of a case leans to which side: names, each with +1 where it speaks for side 1, -1 where for side 0."""
_RULES: dict[str, Guess] = {
    "pair": lambda a: [(a.pair, 1)],
    "subject": lambda a: [(a.subject, 1)],
    "speaker": lambda a: [(a.speakers[1], 1), (a.speakers[0], -1)] if len({*a.speakers}) == 2 else [],
    "story": lambda a: [(a.stories[1], 1), (a.stories[0], -1)] if len({*a.stories}) == 2 else [],
}


def told_by_training(index: Index, split: Split) -> list[Finding]:
    """Whether the side attended in a test trial can be guessed from those attended in training, by one of ``_RULES``.

    Two guesses each: the side attended more often, and the side attended less often, which is the right one where a
    design is balanced exactly. Under attention by a fair coin each guess is right half the time, independently.
    """
    trained, tested = set(split.trials("train")), set(split.trials("test"))
    train = attention(index, trained)
    # A trial that is in both parts is another finding, and repeats of a presentation are no further evidence.
    test = [*{(a.subject, a.pair, a.side): a for a in attention(index, tested - trained)}.values()]
    one_sided = _one_sided(attention(index))
    findings: list[Finding] = []
    for name, guess in _RULES.items():
        # Subjects who always attend the same side are a finding of their own.
        judged = [a for a in test if name != "subject" or not one_sided[a.subject]]
        right, count = _majority(train, judged, guess)
        findings += _told(f"more often attended in training by {name}", right, count)
        findings += _told(f"less often attended in training by {name}", count - right, count)
    return findings


def _majority(train: Iterable[Attention], test: Iterable[Attention], guess: Guess) -> tuple[int, int]:
    """How many sides of the test are the ones attended more often in training by the same rule, out of how many.

    Where training does not know it, or says a tie, nothing is guessed.
    """
    leaning: Counter[str] = Counter()
    for each in train:
        for name, sign in guess(each):
            leaning[name] += sign * (2 * each.side - 1)
    says = [(sum(sign * leaning[name] for name, sign in guess(each)), each.side) for each in test]
    guessed = [(leans > 0) == side for leans, side in says if leans]
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
    return [Finding("warning", "attention told by training", detail)]


def unbalanced_roles(trials: Iterable[Trial]) -> list[Finding]:
    """Stimuli that are attended in all of their trials, or in none."""
    roles: dict[str, Counter[str]] = {}
    for trial in trials:
        if trial.unattended is not None:
            roles.setdefault(trial.attended, Counter())["attended"] += 1
            roles.setdefault(trial.unattended, Counter())["unattended"] += 1
    never = [s for s, counts in roles.items() if len(counts) == 1]
    if not never:
        return []
    detail = f"{len(never)} of {len(roles)} stimuli are always or never attended"
    return [Finding("warning", "unbalanced attended roles", detail)]
