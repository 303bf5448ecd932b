"""Linear decoding, then selection: the envelope that the EEG says was attended picks the talker that fits it best.

The classical pipeline of cognitive hearing aids (O'Sullivan et al. 2015; Van Eyndhoven, Francart and Bertrand
2017), with two kinds of talkers to pick from: the true ones, which is a ceiling on any separator, and those of
a blind separator.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput
from eeg2speech.systems.interface import Context, Facts, System
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

from .backward_model import Array, SubjectModels, prepare_eeg, speech_envelope
from .dprnn import DprnnSeparator, DprnnSettings

SOURCE = "O'Sullivan et al. 2015, doi:10.1093/cercor/bht355"


class _MtrfSelect(System):
    """What the two share: a backward model for each subject of the training data, a pooled one for strangers."""

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        self._envelopes: OrderedDict[bytes, Array] = OrderedDict()

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Ridge in closed form on whole trials; regularisation chosen on valid."""
        self.models = SubjectModels().fit(self._examples(train), list(self._examples(valid)))
        return Training("closed form", 0, 0.0, "cpu")

    def state(self) -> dict[str, Tensor]:
        """Weights of all models."""
        return {f"mtrf.{name}": torch.from_numpy(np.array(a)) for name, a in self.models.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up weights."""
        mine = {n.removeprefix("mtrf."): t.double().numpy() for n, t in state.items() if n.startswith("mtrf.")}
        if not mine:
            raise BadInput(type(self).__name__, "tensors", "those of a backward model", sorted(state)[:3])
        self.models = SubjectModels.from_state(mine)

    def select(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> Tensor:
        """Of talkers [B, K, T] the one whose envelope fits the EEG best, [B, T]."""
        chosen = [self._best(*row) for row in zip(eeg, subject, talkers, strict=True)]
        return talkers[torch.arange(len(talkers)), chosen]

    def _best(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> int:
        model = self.models.of(self.context.subjects[int(subject)])
        heard = prepare_eeg(eeg.double().cpu().numpy(), self.context.eeg_rate)
        fits = [model.correlate(heard, self._envelope(wave)) for wave in talkers.cpu().numpy()]
        return int(np.argmax(fits))

    def _envelope(self, wave: Samples, keep: int = 4096) -> Array:
        """Envelope of speech [T]. The last ``keep`` are remembered: several listeners hear a stimulus, and all controls
        ask about the same talkers."""
        key = hashlib.sha256(wave.tobytes()).digest()
        if key not in self._envelopes:
            self._envelopes[key] = speech_envelope(wave.astype(np.float64), self.context.audio_rate)
        while len(self._envelopes) > keep:
            self._envelopes.popitem(last=False)
        return self._envelopes[key]

    def _examples(self, examples: Examples) -> Iterator[tuple[str, Array, Array]]:
        for subject, scene in examples.scenes():
            eeg = prepare_eeg(scene.eeg, self.context.eeg_rate)
            yield subject, eeg, self._envelope(scene.target)


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
