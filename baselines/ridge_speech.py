"""Linear decoders of speech from EEG: of its envelope, and of its mel spectrogram.

The classical way from EEG to speech (O'Sullivan et al. 2015 for the envelope, Pasley et al. 2012 for a spectrogram):
ridge regression on EEG of the 0 to 400 ms that follow the sound. ``RidgeEnvelope`` and ``RidgeMel`` find the speech
that was heard by the correlation with what they read; ``RidgeMel`` makes it audible, too, with a vocoder.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from eeg2speech.data.types import Samples, Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.models.mel import FRAME_RATE, HOP, LogMel
from eeg2speech.systems.interface import Context, Facts, System, Task
from eeg2speech.systems.parts import load_vocoder, part_heard
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

from .backward_model import (
    RATE,
    Array,
    BackwardModel,
    SubjectModels,
    feature_envelope,
    prepare_eeg,
    required,
    resampled,
    speech_envelope,
    standardised,
)
from .generation import VocoderSettings, require_mel_rate, training_speech, voiced

ENVELOPE_SOURCE = "O'Sullivan et al. 2015, doi:10.1093/cercor/bht355"
MEL_SOURCE = "Pasley et al. 2012, doi:10.1371/journal.pbio.1001251"
QUIET = 1e-3
"""Deviation, in nats, below which a band of the training speech counts as silent."""


class LinearDecoder(System):
    """A backward model for each subject of the training data, a pooled one for strangers.

    Derive, and say in ``aspect`` what of a wave is read from EEG; unless it is said, the envelope.
    """

    keep: ClassVar[int] = 4096
    """Waves whose aspect is remembered: several listeners hear a stimulus, and all controls ask about the same ones."""

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        self.models = SubjectModels()
        self._known: OrderedDict[bytes, Array] = OrderedDict()

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

    def aspect(self, wave: Samples) -> Array:
        """What of speech [T] is read from EEG, [N] or [N, K] at 64 Hz. Of features [F, T], the mean over bands."""
        if self.context.speech != "audio":
            return feature_envelope(wave.mean(axis=0, dtype=np.float64), self.context.audio_rate)
        return speech_envelope(wave.astype(np.float64), self.context.audio_rate)

    def aspect_of(self, wave: Samples) -> Array:
        """As ``aspect``; the last ``keep`` are remembered."""
        key = hashlib.sha256(wave.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self.aspect(wave)
        while len(self._known) > self.keep:
            self._known.popitem(last=False)
        return self._known[key]

    def model_of(self, subject: Tensor) -> BackwardModel:
        """The model of a subject's number; the pooled one for strangers."""
        number, names = int(subject), self.context.subjects
        return self.models.of(names[number] if 0 <= number < len(names) else "")

    def prepared(self, eeg: Tensor) -> Array:
        """EEG [C, N] in microvolt as the models take it, [C, N'] at 64 Hz."""
        return prepare_eeg(eeg.double().cpu().numpy(), self.context.eeg_rate)

    def read(self, eeg: Tensor, subject: Tensor) -> Array:
        """What a subject's model reads from EEG [C, N], [N'] or [N', K] at 64 Hz."""
        return self.model_of(subject).reconstruct(self.prepared(eeg))

    def samples(self, eeg: Tensor) -> int:
        """How many samples of speech last as long as EEG [..., N]."""
        return round(eeg.shape[-1] / self.context.eeg_rate * self.context.audio_rate)

    def _examples(self, examples: Examples) -> Iterator[tuple[str, Array, Array]]:
        for subject, scene in examples.scenes():
            yield subject, prepare_eeg(scene.eeg, self.context.eeg_rate), self.aspect_of(scene.target)


class _LinearRetrieval(LinearDecoder):
    """Retrieval by the correlation of what is read from EEG with the same of the candidates, a mean over bands."""

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, C, N] -> [B, K, F] at 64 Hz, each band with mean 0 and deviation 1 over time; what is flat is 0."""
        frames = self._frames(self.samples(eeg))
        return _embedding(self.read(*row)[:frames] for row in zip(eeg, subject, strict=True))

    def embed_speech(self, speech: Tensor) -> Tensor:
        """[B, T], or features [B, K', T] -> [B, K, F], brought to the same scale."""
        frames = self._frames(speech.shape[-1])
        return _embedding(self.aspect_of(wave)[:frames] for wave in speech.cpu().numpy())

    def _frames(self, samples: int) -> int:
        """Counted by samples of speech on both sides, so that they agree whatever the rates and the window."""
        return samples * RATE // self.context.audio_rate


class RidgeEnvelope(_LinearRetrieval):
    """Retrieval by the correlation of the envelope that is read from EEG with those of the candidates."""

    facts = Facts(
        title="Linear decoder of the envelope",
        licence="MIT",
        source=ENVELOPE_SOURCE,
        tasks=frozenset({"retrieval"}),
        uses_subject=True,
        speech=frozenset({"audio", "envelope", "mel"}),
    )


class RidgeMel(_LinearRetrieval):
    """Retrieval and generation by the 64 bands of the log mel spectrogram.

    ``mean`` and ``deviation`` [64], in nats, are those of the training speech at 64 Hz: what is read from EEG are
    deviations. One sum over EEG serves all bands, and the regularisation is the same for all.
    """

    facts = Facts(
        title="Linear decoder of the mel spectrogram",
        licence="MIT",
        source=MEL_SOURCE,
        tasks=frozenset({"retrieval", "generation"}),
        uses_subject=True,
    )
    Settings = VocoderSettings
    settings: VocoderSettings
    # A minute of 64 bands is 2 MB.
    keep: ClassVar[int] = 128

    def __init__(self, context: Context, settings: BaseModel) -> None:
        require_mel_rate(context)
        super().__init__(context, settings)
        self.mel = LogMel()
        self.mean, self.deviation = np.zeros(self.mel.dimension), np.ones(self.mel.dimension)

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Mean and deviation of the bands, then ridge in closed form."""
        self.mean, self.deviation = band_statistics(self._mel_of(wave) for wave in training_speech(train))
        self._known.clear()
        training = super().fit(train, valid, budget, options)
        self._known.clear()
        return training

    def state(self) -> dict[str, Tensor]:
        """Weights of all models, mean and deviation of the bands."""
        # In single precision, so that a checkpoint in half precision has half the size.
        weights = {n: t.float() if n.endswith("/weights") else t for n, t in super().state().items()}
        return weights | {"mel.mean": torch.from_numpy(self.mean), "mel.deviation": torch.from_numpy(self.deviation)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up all of it."""
        for name in ("mel.mean", "mel.deviation"):
            if name not in state or list(state[name].shape) != [self.mel.dimension]:
                found = list(state[name].shape) if name in state else "nothing"
                raise BadInput(type(self).__name__, name, [self.mel.dimension], found)
        super().load_state(state)
        self.mean, self.deviation = (state[f"mel.{name}"].double().numpy() for name in ("mean", "deviation"))
        self._known.clear()

    def aspect(self, wave: Samples) -> Array:
        """[T] -> [N, 64], deviations from the training speech."""
        return (self._mel_of(wave) - self.mean) / self.deviation

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """[B, C, N] -> [B, T]. Nothing is drawn at random."""
        samples = self.samples(eeg)
        mels = [self._spectrogram(self.read(*row), -(-samples // HOP)) for row in zip(eeg, subject, strict=True)]
        return voiced(torch.from_numpy(np.stack(mels)).float(), self.settings.vocoder, samples).to(eeg.device)

    @property
    def parts(self) -> dict[str, str]:
        """The vocoder."""
        return {"vocoder": load_vocoder(self.settings.vocoder).fingerprint}

    @property
    def uses_parts_in(self) -> frozenset[Task]:
        """Generation alone."""
        return frozenset({"generation"})

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether the vocoder may have; retrieval does without it."""
        return part_heard(self.settings.vocoder, stimulus, study)

    def _mel_of(self, wave: Samples) -> Array:
        """Log mel spectrogram [N, 64] of speech [T], at 64 Hz."""
        checked = torch.from_numpy(required("speech", wave, 1, self.context.audio_rate))
        mel = self.mel(checked[None])[0].double().numpy()
        # Around its mean: the resampler ripples on a constant, and silence is to stay flat.
        level = mel.mean(axis=1, keepdims=True)
        slow: Array = resampled(mel - level, FRAME_RATE, RATE) + level
        return slow.T

    def _spectrogram(self, read: Array, frames: int) -> Array:
        """What is read [N, 64] at 64 Hz as a log mel spectrogram [64, F], by straight lines between samples."""
        place, known = np.arange(frames) * (RATE / FRAME_RATE), np.arange(len(read))
        bands = np.stack([np.interp(place, known, band) for band in read.T])
        return bands * self.deviation[:, None] + self.mean[:, None]


def band_statistics(mels: Iterable[Array]) -> tuple[Array, Array]:
    """Mean and deviation [K] of all samples of bands [N, K]; a band that is nearly constant has deviation 1.

    Raises:
        BadInput: no samples.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for bands in mels:
        count, total, squares = count + len(bands), total + bands.sum(0), squares + np.square(bands).sum(0)
    if not count:
        raise BadInput("band_statistics", "speech", "at least one sample", "none")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean, np.where(deviation > QUIET, deviation, 1.0)


def _embedding(rows: Iterable[Array]) -> Tensor:
    """[F] or [F, K] of each row -> [B, K, F], each band with mean 0 and deviation 1 over time."""
    bands = [standardised(np.atleast_2d(row.T)) for row in rows]
    return torch.from_numpy(np.stack(bands)).float()
