"""Floors: what one gets without listening to the EEG."""

from __future__ import annotations

import hashlib

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from eeg2speech.data.types import sides
from eeg2speech.systems.interface import Facts, System
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples


class MixtureFloor(System):
    """The mixture itself, unprocessed."""

    facts = Facts(title="Mixture, unprocessed", licence="MIT", source="this suite", uses_eeg=False)

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> the same."""
        return mixture.clone()


class CoinSettings(BaseModel):
    """Settings of ``random_speaker``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0


class RandomSpeaker(System):
    """Either clean talker, by a coin. The coin depends on the mixture alone, not on order or batch."""

    facts = Facts(
        title="Either clean talker, by a coin", licence="MIT", source="this suite", uses_eeg=False, sees="sources"
    )
    Settings = CoinSettings
    settings: CoinSettings

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T] -> [B, T]."""
        coins = [self._coin(row) for row in mixture]
        return sources[torch.arange(len(sources)), coins]

    def _coin(self, mixture: Tensor) -> int:
        words = str(self.settings.seed).encode() + mixture.cpu().numpy().tobytes()
        return hashlib.sha256(words).digest()[0] & 1


class SubjectIdOracle(System):
    """Knows only who is listening: picks the side that this subject attended more often in training.

    Sides are numbered by speaker, then stimulus. Where the subject decides the target (Cocktail Party: every subject
    attended one story), this alone is right every time; on balanced data it is a coin.
    """

    facts = Facts(
        title="Clean talker by who is listening",
        licence="MIT",
        source="this suite",
        uses_eeg=False,
        uses_subject=True,
        sees="sources",
    )

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Count attended sides per subject; a tie, or a subject never seen, goes to the side attended more by all."""
        numbers = {name: k for k, name in enumerate(self.context.subjects)}
        counts = torch.zeros(len(numbers), 2)
        for name in {span.trial for span in train.spans}:
            trial = train.store.trial(name)
            counts[numbers[trial.subject], sides(trial, train.store.speakers).index(trial.attended)] += 1
        overall = int(counts.sum(0).argmax())
        tied = counts[:, 0] == counts[:, 1]
        self.sides = torch.where(tied, torch.tensor(overall), counts.argmax(1))
        return Training.none()

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T] -> [B, T]."""
        return sources[torch.arange(len(sources)), self.sides[subject]]

    def state(self) -> dict[str, Tensor]:
        """The side of each subject."""
        return {"sides": self.sides}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up the side of each subject."""
        self.sides = state["sides"]


class RetrievalChance(System):
    """Says nothing: all candidates tie, which is scored as what a coin would earn."""

    facts = Facts(
        title="No answer, all candidates alike",
        licence="MIT",
        source="this suite",
        tasks=frozenset({"retrieval"}),
        uses_eeg=False,
        speech=frozenset({"audio", "envelope", "mel"}),
    )

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, C, N] -> zeros [B, 1, 1]."""
        return torch.zeros(len(eeg), 1, 1)

    def embed_speech(self, speech: Tensor) -> Tensor:
        """[B, T] -> zeros [B, 1, 1]."""
        return torch.zeros(len(speech), 1, 1)
