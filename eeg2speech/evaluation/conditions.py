"""Conditions put into effect: what a system under them is built for, learns from and is asked.

Without conditions everything is as it was: the study itself, all of its training part, whole segments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.evaluation.protocol import Protocol
from eeg2speech.splits.manifest import Span, Split
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import Context
from eeg2speech.training.examples import Examples
from eeg2speech.training.view import View


def view_of(conditions: Conditions, store: Store) -> Store:
    """The study as it is seen under conditions.

    Controls act on what is seen: channels are exchanged, and deviations pooled, among the electrodes that a system has,
    and EEG of another time is later by as much. Raises BadInput for more electrodes than the study has.
    """
    if conditions.channels is None and not conditions.delay and not conditions.noise_share:
        return store
    return View.of(store, conditions.channels, conditions.delay)


def context_of(conditions: Conditions, store: Store, protocol: Protocol) -> Context:
    """What a system may know; its window is the condition's, where there is one."""
    seconds = protocol.segment_seconds if conditions.window is None else conditions.window
    return Context.of(view_of(conditions, store), seconds)


def examples_of(conditions: Conditions, store: Store, split: Split, protocol: Protocol) -> tuple[Examples, Examples]:
    """Examples to learn from, and those that watch: of the valid part whole, and never noisy."""
    view = view_of(conditions, store)
    mixer = Mixer(view, protocol.target_to_interferer_db)
    train = some_trials(split.parts["train"], store, conditions.train_share, split.seed)
    learn = Examples(view, train, mixer, conditions.window, conditions.noise_share)
    return learn, Examples(view, split.parts["valid"], mixer, conditions.window)


def some_trials(spans: Sequence[Span], store: Store, share: float, seed: int) -> tuple[Span, ...]:
    """Spans of a share of the trials, at least one of them; those of a smaller share are among those of a larger one.

    As in a split, trials are ranked by the hash of their content: their order and their names change nothing.
    """
    if share == 1:
        return tuple(spans)
    ranked = sorted({span.trial for span in spans}, key=lambda name: _rank(store, name, seed))
    kept = set(ranked[: max(1, round(share * len(ranked)))])
    return tuple(span for span in spans if span.trial in kept)


def _rank(store: Store, name: str, seed: int) -> bytes:
    trial = store.trial(name)
    content = f"{trial.subject}:{trial.attended}:{trial.unattended}:{trial.start:.6f}"
    return hashlib.sha256(f"share:{seed}:{content}".encode()).digest()
