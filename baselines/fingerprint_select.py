"""Selection by a fingerprint: the EEG tells who listens and in which trial, and that alone picks the talker.

A linear probe learns from the EEG of the training windows which side of its pair was attended, and answers with that
true source. It never compares EEG with sound, and its features have no time course that could follow speech. So it is
at chance wherever the EEG must be matched with what was heard, and right wherever subject or trial decides the target.
That linear decoders of EEG alone score where a split lets them know the trial: Rotaru et al. 2024, J. Neural Eng. 21:
016017. A system that does no better on the same split has shown no more.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eeg2speech.data.types import Segment, sides
from eeg2speech.errors import BadInput
from eeg2speech.models.probe import LinearProbe, features
from eeg2speech.systems.interface import Facts, System
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

from .two_step import picked

WINDOWS = 4000
"""Windows learned from, at most, spread evenly: the probe's closed form takes memory with their square."""
TENSORS = {"weights": 2, "offset": 1, "scale": 2}
"""Tensors of the probe, and how many dimensions each has."""


class FingerprintSelect(System):
    """Picks the side that a linear probe of the EEG alone names.

    Sides are numbered by speaker, then stimulus, as the true sources are.
    """

    facts = Facts(
        title="Linear probe of the EEG picks a true source, deaf to both",
        licence="MIT",
        source="this suite",
        sees="sources",
    )
    probe: LinearProbe

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Ridge in closed form on windows side by side. Raises BadInput for windows shorter than one second."""
        segments = train.fixed(self.context.segment_seconds, WINDOWS)
        x = np.stack([features(train.store.cut_eeg(segment), self.context.eeg_rate) for segment in segments])
        self.probe = LinearProbe.fit(x, [_side(train, segment) for segment in segments], 2)
        return Training("closed form", 0, 0.0, "cpu")

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T] -> [B, T]."""
        return picked(sources, self.sides(eeg).to(sources.device))

    def sides(self, eeg: Tensor) -> Tensor:
        """The side [B], 0 or 1, that the probe names by EEG [B, C, N] in microvolt."""
        x = np.stack([features(row, self.context.eeg_rate) for row in eeg.double().cpu().numpy()])
        return torch.from_numpy(self.probe.scores(x).argmax(1))

    def state(self) -> dict[str, Tensor]:
        """Weights, offset and scale of the probe."""
        return {f"probe.{name}": torch.from_numpy(getattr(self.probe, name)) for name in TENSORS}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take them up. Raises BadInput for those of another system."""
        found = {name: list(tensor.shape) for name, tensor in state.items()}
        if {name: len(shape) for name, shape in found.items()} != {f"probe.{n}": d for n, d in TENSORS.items()}:
            raise BadInput(type(self).__name__, "tensors", "those of a linear probe", found)
        self.probe = LinearProbe(*(state[f"probe.{name}"].double().numpy() for name in TENSORS))


def _side(examples: Examples, segment: Segment) -> int:
    trial = examples.store.trial(segment.trial)
    return sides(trial, examples.store.speakers).index(trial.attended)
