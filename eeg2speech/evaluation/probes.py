"""Probes: what a linear classifier reads from the EEG of test trials alone, without any sound.

Accuracy is cross-validated on windows of test trials, chance is the mean over permuted labels, and p is the share of
permutations that do as well (Phipson and Smyth 2010: the true labels count as one). What is permuted is what could have
been otherwise: whole trials, and for the trial itself which second half belongs to which first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment, Trial, sides
from eeg2speech.data.windows import even_segments
from eeg2speech.models.probe import features, one_hot, smoother
from eeg2speech.splits.manifest import Split

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]
PERMUTATIONS = 1000
FOLDS = 5
PER_SPAN = 6
"""Windows of each test trial: more of the same trial tell little more."""
SIGNIFICANT = 0.005
AT_A_TIME = 100
"""Permutations whose labels are held at once: bounds memory."""


@dataclass(frozen=True)
class Probe:
    """What a probe found: ``accuracy`` and ``chance`` as fractions, ``p`` by permutation, over ``n`` windows of
    ``classes`` classes."""

    name: str
    accuracy: float
    chance: float
    p: float
    n: int
    classes: int

    @property
    def told(self) -> bool:
        """Whether the EEG tells it."""
        return self.p < SIGNIFICANT and self.accuracy > self.chance

    @property
    def text(self) -> str:
        """One sentence."""
        about = f"accuracy {self.accuracy:.3f}, chance {self.chance:.3f}, p = {self.p:.3f}"
        return f"{self.name}: {about} ({self.n} windows, {self.classes} classes)"


def probe_all(
    store: Store, split: Split, seconds: float, permutations: int = PERMUTATIONS, seed: int = 0
) -> list[Probe]:
    """All probes that the test part of a split has enough classes and trials for.

    Raises BadInput for a test span shorter than ``seconds``.
    """
    segments = even_segments(split.parts["test"], seconds, PER_SPAN, store.facts.eeg_rate)
    about = _Windows(store, segments)
    found = [
        _trial(about, permutations, seed),
        _of_trials(about, "subject", about.subjects, None, permutations, seed),
        _of_trials(about, "attended speaker", about.speakers, about.subjects, permutations, seed),
        _of_trials(about, "attended story", about.stories, about.subjects, permutations, seed),
        _of_trials(about, "attended side", about.sides, about.subjects, permutations, seed),
        _of_trials(about, "attended ear", about.ears, about.subjects, permutations, seed),
    ]
    return [probe for probe in found if probe is not None]


class _Windows:
    """Features of the windows, and what is known of each."""

    def __init__(self, store: Store, segments: Sequence[Segment]) -> None:
        self.store, self.segments = store, segments
        self.of = [store.trial(segment.trial) for segment in segments]
        self.x = np.stack([features(store.cut_eeg(segment), store.facts.eeg_rate) for segment in segments])
        self.starts = np.array([segment.start for segment in segments])
        self.trials = _numbered([trial.id for trial in self.of])
        self.subjects = _numbered([trial.subject for trial in self.of])

    @property
    def speakers(self) -> Labels | None:
        return self._named(lambda trial: self.store.speakers[trial.attended])

    @property
    def stories(self) -> Labels | None:
        return self._named(lambda trial: self.store.stimuli[trial.attended].story)

    @property
    def ears(self) -> Labels | None:
        return self._named(lambda trial: trial.ear)

    @property
    def sides(self) -> Labels | None:
        if any(trial.unattended is None for trial in self.of):
            return None
        return self._named(lambda trial: str(sides(trial, self.store.speakers).index(trial.attended)))

    def _named(self, name: Callable[[Trial], str]) -> Labels | None:
        """Numbers of the names; None where some have none."""
        found = [name(trial) for trial in self.of]
        return _numbered(found) if all(found) else None


def _numbered(names: Sequence[object]) -> Labels:
    numbers: Labels = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.intp)
    return numbers


def _trial(about: _Windows, permutations: int, seed: int) -> Probe | None:
    """Which of a subject's trials is a window of? Learned from the first half of every trial, told of the second."""
    late = _late(about)
    folds: list[tuple[Labels, Labels]] = []
    counted: list[Labels] = []
    for subject in np.unique(about.subjects):
        own = np.flatnonzero(about.subjects == subject)
        early, later = own[~late[own]], own[late[own]]
        if len({*about.trials[own].tolist()}) > 1 and len(early) and len(later):
            folds.append((early, later))
            counted.append(own)
    if not folds:
        return None
    labels = about.trials.copy()
    for own in counted:
        labels[own] = _numbered(about.trials[own].tolist())
    rng = np.random.default_rng([seed, 1])

    def permuted() -> Labels:
        mixed = labels.copy()
        for own in counted:
            later = own[late[own]]
            mixed[later] = rng.permutation(labels[own].max() + 1)[labels[later]]
        return mixed

    return _probe("trial, of those of its subject", about.x, labels, folds, permuted, permutations)


def _late(about: _Windows) -> NDArray[np.bool_]:
    """Whether a window is in the second half of its trial's windows."""
    middle = np.array([np.median(about.starts[about.trials == trial]) for trial in range(about.trials.max() + 1)])
    return np.asarray(about.starts > middle[about.trials], dtype=np.bool_)


def _of_trials(
    about: _Windows, name: str, labels: Labels | None, within: Labels | None, permutations: int, seed: int
) -> Probe | None:
    """A fact of whole trials, told of trials that were not learned from. Labels are permuted over trials, ``within``
    each subject where the subject might tell them."""
    count = int(about.trials.max()) + 1
    if labels is None or len({*labels.tolist()}) < 2 or count < 2 * FOLDS:
        return None
    first = np.array([np.flatnonzero(about.trials == trial)[0] for trial in range(count)])
    of_trial, block = labels[first], np.zeros(count, np.intp) if within is None else within[first]
    rng = np.random.default_rng([seed, 2])
    fold = (rng.permutation(count) % FOLDS)[about.trials]
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]

    def permuted() -> Labels:
        order = np.lexsort((rng.random(count), block))
        mixed = np.empty_like(of_trial)
        mixed[np.lexsort((np.arange(count), block))] = of_trial[order]
        spread: Labels = mixed[about.trials]
        return spread

    return _probe(name, about.x, labels, folds, permuted, permutations)


def _probe(
    name: str,
    x: Floats,
    labels: Labels,
    folds: Sequence[tuple[Labels, Labels]],
    permuted: Callable[[], Labels],
    permutations: int,
) -> Probe:
    """Accuracy over the folds (learned from, told of), with the true labels and with permuted ones."""
    classes = int(labels.max()) + 1
    smoothers = [(learn, tell, smoother(x[learn], x[tell])) for learn, tell in folds]
    several = [labels, *(permuted() for _ in range(permutations))]
    found: list[float] = []
    for start in range(0, len(several), AT_A_TIME):
        block = np.stack(several[start : start + AT_A_TIME], axis=1)
        right = np.sum([_right(*each, block, classes) for each in smoothers], axis=0)
        found += (right / sum(len(tell) for _, tell in folds)).tolist()
    accuracy, null = found[0], np.array(found[1:])
    p = (1 + int((null >= accuracy - 1e-12).sum())) / (1 + permutations)
    return Probe(name, accuracy, float(null.mean()), p, sum(len(tell) for _, tell in folds), classes)


def _right(learn: Labels, tell: Labels, smooth: Floats, block: Labels, classes: int) -> Floats:
    """How many windows are told right, for each column of labels [n, columns]."""
    columns = block.shape[1]
    hot = one_hot(block[learn], classes).reshape(len(learn), columns * classes)
    told = (smooth @ hot).reshape(len(tell), columns, classes).argmax(-1)
    return np.asarray((told == block[tell]).sum(0), dtype=np.float64)
