"""Splitters: index and seed in, manifest out. They see metadata only, never a signal.

Units are ranked by the hash of their content and the seed, not by their position: the order in which a study was
written, or a renamed trial, changes nothing. The ranking is cut at the fractions, 70 / 10 / 20 % unless told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from eeg2speech.data.store import snap
from eeg2speech.data.studies.cocktail_party_runs import SPLIT_SEED, published_runs, run_of
from eeg2speech.data.types import Index, Trial
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.splits.manifest import PARTS, Span, Split

Fractions = tuple[float, float, float]
DEFAULT_FRACTIONS: Fractions = (0.7, 0.1, 0.2)
Assignment = dict[str, list[Span]]


def make_split(index: Index, kind: str, seed: int = 0, fractions: Fractions = DEFAULT_FRACTIONS) -> Split:
    """Split a study.

    Args:
        index: the study's index.
        kind: ``within_trial`` (time within each trial; leaks by design), ``trial`` (each subject's trials, repeats of
            a presentation together; the same audio may be heard by another subject in training), ``stimulus`` (no
            audio of a test trial, attended or not, was heard in training by anyone), ``story`` (as ``stimulus``, of
            all audio of a story), ``subject`` (other listeners, same audio), ``given`` (the parts that the study's
            authors give) or ``published`` (the Cocktail Party data alone: runs 27, 11, 1, 14 and 24 of everybody are
            test, 22 and 29 valid, as in published code).
        seed: changes the ranking; of ``published`` always 14, of ``given`` without meaning.
        fractions: train, valid, test; they add up to 1. Not of ``published`` and ``given``.

    Raises:
        BadInput: an unknown kind, fractions that do not add up, a part that would be empty, stimuli without a story or
            trials without a part where they are asked for, or, of ``published``, another seed or recordings that are
            not named after their runs.
    """
    if kind not in KINDS:
        raise unknown_name("make_split", "kind", kind, KINDS)
    if abs(sum(fractions) - 1) > 1e-9 or min(fractions) <= 0:
        raise BadInput("make_split", "fractions", "three positive numbers that add up to 1", fractions)
    parts = KINDS[kind](index, seed, fractions)
    ordered = {part: tuple(sorted(parts[part])) for part in PARTS}
    return Split(kind, seed, index.study.name, index.revision, ordered)


def _within_trial(index: Index, seed: int, fractions: Fractions) -> Assignment:
    """First 70 % of each trial's time, then 10 %, then 20 %: what many papers do, and what a strict split undoes."""
    parts = _empty()
    for trial in index.trials:
        # On EEG samples: a cut between two of them would take audio and EEG up to half a sample apart.
        first, second = (
            snap(share * trial.duration, index.study.eeg_rate) for share in (fractions[0], fractions[0] + fractions[1])
        )
        for part, start, stop in zip(PARTS, (0.0, first, second), (first, second, trial.duration), strict=True):
            parts[part].append(Span(trial.id, start, stop))
    return parts


def _trial(index: Index, seed: int, fractions: Fractions) -> Assignment:
    parts = _empty()
    for subject in sorted({t.subject for t in index.trials}):
        own = _presentations(t for t in index.trials if t.subject == subject)
        for part, names in _cut(own, seed, fractions).items():
            parts[part].extend(_whole(trial for name in names for trial in own[name]))
    return parts


def _stimulus(index: Index, seed: int, fractions: Fractions) -> Assignment:
    return _grouped(index, stimulus_groups(index.trials), seed, fractions)


def _story(index: Index, seed: int, fractions: Fractions) -> Assignment:
    stories = {stimulus.id: stimulus.story for stimulus in index.stimuli}
    for stimulus, story in stories.items():
        if not story:
            raise BadInput(
                "split 'story'", f"story of stimulus {stimulus!r}", "a name", "none: the study tells of none"
            )
    groups = stimulus_groups(index.trials, stories)
    return _grouped(index, groups, seed, fractions)


def _grouped(index: Index, groups: dict[str, str], seed: int, fractions: Fractions) -> Assignment:
    parts = _cut(set(groups.values()), seed, fractions)
    return {part: _whole(t for t in index.trials if groups[t.attended] in names) for part, names in parts.items()}


def _given(index: Index, seed: int, fractions: Fractions) -> Assignment:
    """Parts as the study's authors have them."""
    for trial in index.trials:
        if trial.part not in PARTS:
            found = repr(trial.part) if trial.part else "none: the study's authors give none"
            raise BadInput("split 'given'", f"part of trial {trial.id!r}", ", ".join(PARTS), found)
    return {part: _whole(t for t in index.trials if t.part == part) for part in PARTS}


def _subject(index: Index, seed: int, fractions: Fractions) -> Assignment:
    parts = _cut({t.subject for t in index.trials}, seed, fractions)
    return {part: _whole(t for t in index.trials if t.subject in names) for part, names in parts.items()}


def _published(index: Index, seed: int, fractions: Fractions) -> Assignment:
    """Runs by number; those that are missing leave the others where they are."""
    if seed != SPLIT_SEED:
        raise BadInput("split 'published'", "seed", f"{SPLIT_SEED}, that of the published code", seed)
    runs = published_runs()
    return {part: _whole(t for t in index.trials if run_of(t.recording) in runs[part]) for part in PARTS}


KINDS: dict[str, Callable[[Index, int, Fractions], Assignment]] = {
    "within_trial": _within_trial,
    "trial": _trial,
    "stimulus": _stimulus,
    "story": _story,
    "subject": _subject,
    "given": _given,
    "published": _published,
}


def stimulus_groups(trials: Sequence[Trial], stories: Mapping[str, str] | None = None) -> dict[str, str]:
    """Group of each stimulus: those that share a trial, directly or through others, are in one (union-find); where
    ``stories`` of them are given, those of one story are in one as well."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    alike = [(stimulus, first.setdefault(story, stimulus)) for stimulus, story in (stories or {}).items()]
    for pair in [*((trial.attended, trial.unattended or trial.attended) for trial in trials), *alike]:
        one, other = map(root, pair)
        # The smaller id leads, so that the name of a group does not depend on the order of the trials.
        parent[max(one, other)] = min(one, other)
    return {name: root(name) for name in parent}


def _cut(names: Iterable[str], seed: int, fractions: Fractions) -> dict[str, list[str]]:
    """Rank by hash; at least one unit for valid and test as soon as there are three."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = len(ranked)
    test = max(1, round(fractions[2] * count))
    valid = max(1, round(fractions[1] * count))
    # Test units come first in the ranking: another valid fraction leaves the test set as it is.
    return {"test": ranked[:test], "valid": ranked[test : test + valid], "train": ranked[test + valid :]}


def _presentations(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """A subject's trials by what was presented and attended: repeats, in whatever recording, are one unit.

    A unit is named after its smallest content, so that its rank does not depend on the order of the trials.
    """
    heard: dict[tuple[str, str | None], list[Trial]] = {}
    for trial in trials:
        heard.setdefault((trial.attended, trial.unattended), []).append(trial)
    return {min(map(_content, repeats)): repeats for repeats in heard.values()}


def _content(trial: Trial) -> str:
    return f"{trial.subject}:{trial.attended}:{trial.unattended}:{trial.start:.6f}"


def _whole(trials: Iterable[Trial]) -> list[Span]:
    return [Span(t.id, 0.0, t.duration) for t in trials]


def _empty() -> Assignment:
    return {part: [] for part in PARTS}
