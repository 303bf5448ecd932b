"""Linear decoding, then selection: the envelope that the EEG says was attended picks the talker that fits it best.

The classical pipeline of cognitive hearing aids (O'Sullivan et al. 2015; Van Eyndhoven, Francart and Bertrand
2017), with two kinds of talkers to pick from: the true ones, which is a ceiling on any separator, and those of
a blind separator.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from eeg2speech.systems.interface import Context, Facts
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

from .dprnn import DprnnSeparator, DprnnSettings
from .ridge_speech import ENVELOPE_SOURCE as SOURCE
from .ridge_speech import LinearDecoder


class _MtrfSelect(LinearDecoder):
    """What the two share: a backward model for each subject of the training data, a pooled one for strangers."""

    def select(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> Tensor:
        """Of talkers [B, K, T] the one whose envelope fits the EEG best, [B, T]."""
        chosen = [self._best(*row) for row in zip(eeg, subject, talkers, strict=True)]
        return talkers[torch.arange(len(talkers)), chosen]

    def _best(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> int:
        model, heard = self.model_of(subject), self.prepared(eeg)
        fits = [model.correlate(heard, self.aspect_of(wave)) for wave in talkers.cpu().numpy()]
        return int(np.argmax(fits))


class MtrfSelectTrueSources(_MtrfSelect):
    """Picks among the true, clean talkers."""

    facts = Facts(
        title="Linear decoder picks a true source", licence="MIT", source=SOURCE, uses_subject=True, sees="sources"
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T] -> [B, T]."""
        return self.select(eeg, subject, sources)


class MtrfSelectSeparated(_MtrfSelect):
    """Picks among the two outputs of a blind separator (``dprnn_separator``)."""

    facts = Facts(
        title="Linear decoder picks a separated source",
        licence="MIT",
        source=f"{SOURCE}; separator: {DprnnSeparator.facts.source}",
        uses_subject=True,
    )
    Settings = DprnnSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        self.separator = DprnnSeparator(context, settings)
        self._separated: OrderedDict[bytes, Tensor] = OrderedDict()

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Train the separator, then the linear decoder. The steps told are the separator's."""
        training = self.separator.fit(train, valid, budget, options)
        self._separated.clear()
        super().fit(train, valid, budget, options)
        return training

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the separator's."""
        return super().recipe(budget) | {"separator": self.separator.recipe(budget)}

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return self.select(eeg, subject, self._separate(mixture))

    def state(self) -> dict[str, Tensor]:
        """Weights of the decoder and of the separator."""
        return super().state() | {f"separator.{name}": t for name, t in self.separator.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up both."""
        super().load_state(state)
        own = {n.removeprefix("separator."): t for n, t in state.items() if n.startswith("separator.")}
        self.separator.load_state(own)
        self._separated.clear()

    def _separate(self, mixture: Tensor, keep: int = 512) -> Tensor:
        """[B, T] -> [B, 2, T]. The last ``keep`` are remembered: controls ask for the same mixtures again, and the
        separation does not depend on the EEG."""
        keys = [hashlib.sha256(row.cpu().numpy().tobytes()).digest() for row in mixture]
        missing = [k for k, key in enumerate(keys) if key not in self._separated]
        if missing:
            for k, talkers in zip(missing, self.separator.separate(mixture[missing]), strict=True):
                self._separated[keys[k]] = talkers
        answer = torch.stack([self._separated[key] for key in keys])
        while len(self._separated) > keep:
            self._separated.popitem(last=False)
        return answer
