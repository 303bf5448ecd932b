"""Generation without a decoder of its own: a floor, two ceilings, and the nearest piece of known speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.data.types import Samples, Segment, Stimulus, StudyFacts
from eeg2speech.data.windows import tiled_segments
from eeg2speech.errors import BadInput
from eeg2speech.models import mel
from eeg2speech.models.mel import BANDS, LogMel
from eeg2speech.systems.brain_encoder import SOURCE, BrainEncoderSettings, BrainEncoderSystem
from eeg2speech.systems.interface import Context, Facts, System
from eeg2speech.systems.parts import load_autoencoder, load_vocoder, part_heard
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

VOCODER_SOURCE = "Kong et al. 2020, arXiv 2010.05646"
AUTOENCODER_SOURCE = "Liu et al. 2023, arXiv 2301.12503"
FULL_SCALE = 32_767
BATCH = 16


def voiced(log_mel: Tensor, vocoder: str, samples: int) -> Tensor:
    """Log mel spectrograms [B, 64, F] made audible, [B, samples]: cut, or filled with zeros at the end."""
    with torch.no_grad():
        wave: Tensor = load_vocoder(vocoder).to(log_mel.device)(log_mel).float()
    return F.pad(wave, (0, max(0, samples - wave.shape[-1])))[..., :samples]


def training_speech(examples: Examples) -> Iterator[Samples]:
    """Each stretch of speech [T] that is attended to, once whoever listens, at the level at which it is heard."""
    stretches = {(examples.store.trial(s.trial).attended, s.start, s.stop): s for s in examples.spans}
    rate = examples.store.facts.audio_rate
    for span in stretches.values():
        begin = round(span.start * rate)
        yield examples.mixer.talkers(span.trial, begin, begin + round((span.stop - span.start) * rate))[0]


def require_mel_rate(context: Context) -> None:
    """Refuse speech at another rate than that of the mel spectrogram."""
    if context.audio_rate != mel.RATE:
        raise BadInput("mel spectrogram", "audio rate", f"{mel.RATE} Hz", f"{context.audio_rate} Hz")


class VocoderSettings(BaseModel):
    """Which vocoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocoder: str = Field(default="demo", description="demo, a path of weights, or a name on the model hub")


class AutoencoderSettings(VocoderSettings):
    """Which vocoder and which autoencoder."""

    autoencoder: str = Field(default="demo", description="demo, a path of weights, or a name on the model hub")


class _Voiced(System):
    """What the vocoder makes audible."""

    Settings = VocoderSettings
    settings: VocoderSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        require_mel_rate(context)
        super().__init__(context, settings)
        self.mel = LogMel()

    @property
    def parts(self) -> dict[str, str]:
        """The vocoder."""
        return {"vocoder": load_vocoder(self.settings.vocoder).fingerprint}

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether the vocoder may have."""
        return part_heard(self.settings.vocoder, stimulus, study)


class MeanSpeech(_Voiced):
    """The mean log mel spectrum of the training speech, ``mean`` [64] in nats, held as long as the EEG lasts: a hum."""

    facts = Facts(
        title="Mean spectrum of the training speech",
        licence="MIT",
        source="this suite",
        tasks=frozenset({"generation"}),
        uses_eeg=False,
    )

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        self.mean = torch.zeros(BANDS)

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """The mean over all frames."""
        total, frames = torch.zeros(BANDS, dtype=torch.float64), 0
        for wave in training_speech(train):
            found = self.mel(torch.from_numpy(np.array(wave))[None])[0]
            total, frames = total + found.double().sum(1), frames + found.shape[1]
        if not frames:
            raise BadInput("mean_speech", "training speech", "at least one frame", "none")
        self.mean = (total / frames).float()
        return Training("closed form", 0, 0.0, "cpu")

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """[B, C, N] -> [B, T], the same for all."""
        samples = round(eeg.shape[-1] / self.context.eeg_rate * self.context.audio_rate)
        hum = voiced(self.mean[None, :, None].expand(1, BANDS, -(-samples // mel.HOP)), self.settings.vocoder, samples)
        return hum.repeat(len(eeg), 1).to(eeg.device)

    def state(self) -> dict[str, Tensor]:
        """The mean."""
        return {"mean": self.mean}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up the mean."""
        if list(state) != ["mean"] or list(state["mean"].shape) != [BANDS]:
            raise BadInput(
                "mean_speech", "state", f"mean [{BANDS}] alone", {n: list(t.shape) for n, t in state.items()}
            )
        self.mean = state["mean"].float()


class VocoderTarget(_Voiced):
    """The attended speech as a mel spectrogram, made audible again: what any system with this vocoder can reach."""

    facts = Facts(
        title="Vocoder round trip of the attended speech",
        licence="MIT",
        source=VOCODER_SOURCE,
        tasks=frozenset({"generation"}),
        uses_eeg=False,
        sees="target",
    )

    def generate_from(
        self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator], target: Tensor
    ) -> Tensor:
        """[B, T] -> [B, T]."""
        found = voiced(self.spectrogram(target.cpu()), self.settings.vocoder, target.shape[-1])
        return found.to(target.device)

    def spectrogram(self, target: Tensor) -> Tensor:
        """[B, T] -> the log mel spectrogram that is made audible, [B, 64, F]."""
        found: Tensor = self.mel(target)
        return found


class AutoencoderTarget(VocoderTarget):
    """As ``VocoderTarget``, through the autoencoder too: what any system that answers in its latents can reach."""

    facts = replace(
        VocoderTarget.facts,
        title="Autoencoder and vocoder round trip of the attended speech",
        source=AUTOENCODER_SOURCE,
    )
    Settings = AutoencoderSettings
    settings: AutoencoderSettings

    def spectrogram(self, target: Tensor) -> Tensor:
        """[B, T] -> [B, 64, F]."""
        true = super().spectrogram(target)
        autoencoder = load_autoencoder(self.settings.autoencoder).to(true.device)
        with torch.no_grad():
            return autoencoder.decode(autoencoder.encode(true), true.shape[-1]).float()

    @property
    def parts(self) -> dict[str, str]:
        """Both."""
        return super().parts | {"autoencoder": load_autoencoder(self.settings.autoencoder).fingerprint}

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether either part may have."""
        return super().heard_before(stimulus, study) or part_heard(self.settings.autoencoder, stimulus, study)


class NearestSettings(BrainEncoderSettings):
    """Those of the brain encoder, and the bank's size."""

    bank: int = Field(default=512, ge=1, description="windows of training speech to choose from, at most")


class NearestSegment(System):
    """Of windows of training speech the one that the brain encoder finds nearest to the EEG.

    Real speech, and so the fluency that generation can have; but never the words that were heard. The bank is ``waves``
    [K, T], 16 bit, and ``embeddings`` [K, D * F] of length 1.
    """

    facts = Facts(
        title="Nearest window of the training speech",
        licence="MIT",
        source=SOURCE,
        tasks=frozenset({"generation"}),
        uses_subject=True,
    )
    Settings = NearestSettings
    settings: NearestSettings

    def __init__(self, context: Context, settings: BaseModel) -> None:
        super().__init__(context, settings)
        assert isinstance(settings, NearestSettings)
        if settings.speech_context != "segment":
            found = f"{settings.speech_context}: a window of the bank stands by itself"
            raise BadInput("nearest_segment", "speech_context", "segment", found)
        plain = settings.model_dump(include=set(BrainEncoderSettings.model_fields))
        self.encoder = BrainEncoderSystem(context, BrainEncoderSettings(**plain))
        self.waves, self.embeddings = torch.zeros(0, 0, dtype=torch.int16), torch.zeros(0, 0)

    @property
    def network(self) -> nn.Module:
        """The encoder's: its device is where this is asked."""
        return self.encoder.network

    @property
    def parameters(self) -> int:
        """The encoder's; the bank is data, not learned values."""
        return self.encoder.parameters

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Train the encoder, then fill the bank. What is told is the encoder's training."""
        inner = replace(options, folder=options.folder / "encoder")
        training = self.encoder.fit(train, valid, budget, inner)
        waves = bank_of(train, self.context.segment_seconds, self.settings.bank)
        self.waves = (waves * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE).to(torch.int16)
        self.embeddings = self._embedded(self.waves)
        return training

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the encoder's."""
        return super().recipe(budget) | {"encoder": self.encoder.recipe(budget)}

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """[B, C, N] -> [B, T]. Nothing is drawn at random.

        Raises:
            BadInput: EEG of another length than the bank's windows, or no bank.
        """
        expected = round(self.context.segment_seconds * self.context.eeg_rate)
        if eeg.shape[-1] != expected:
            raise BadInput("nearest_segment", "eeg", f"{expected} samples, as the bank's windows", eeg.shape[-1])
        if not len(self.waves):
            raise BadInput("nearest_segment", "bank", "fit or load_state first", "no windows")
        felt = self.encoder.embed_eeg(eeg, subject).flatten(1).float().cpu()
        # The largest cosine: the bank's rows have length 1, and that of the EEG's row changes no order.
        nearest = (felt @ self.embeddings.T).argmax(1)
        return (self.waves[nearest].float() / FULL_SCALE).to(eeg.device)

    def state(self) -> dict[str, Tensor]:
        """The encoder's weights and the bank."""
        encoder = {f"encoder.{name}": tensor for name, tensor in self.encoder.state().items()}
        return encoder | {"bank.waves": self.waves, "bank.embeddings": self.embeddings}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up both."""
        waves, embeddings = (state.get(f"bank.{name}") for name in ("waves", "embeddings"))
        if waves is None or embeddings is None or waves.dtype != torch.int16 or len(waves) != len(embeddings):
            found = {n: (str(t.dtype), list(t.shape)) for n, t in state.items() if n.startswith("bank.")}
            raise BadInput("nearest_segment", "bank", "waves [K, T] of int16 and embeddings [K, D * F]", found)
        own = {n.removeprefix("encoder."): t for n, t in state.items() if n.startswith("encoder.")}
        self.encoder.load_state(own)
        self.waves, self.embeddings = waves, embeddings.float()

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool | None:
        """What is to be said of the encoder."""
        return self.encoder.heard_before(stimulus, study)

    def _embedded(self, waves: Tensor) -> Tensor:
        """[K, T] of int16 -> [K, D * F] of length 1, on the CPU."""
        parts = torch.split(waves, BATCH)
        with torch.no_grad():
            found = [self.encoder.embed_speech(part.float() / FULL_SCALE).flatten(1).float().cpu() for part in parts]
        return F.normalize(torch.cat(found), dim=1)


def bank_of(examples: Examples, seconds: float, limit: int) -> Tensor:
    """Windows [K, T] of what is attended to, side by side, each once whoever listens, thinned evenly to ``limit``."""
    store, rate = examples.store, examples.store.facts.audio_rate
    distinct: dict[tuple[str, float], Segment] = {}
    for segment in tiled_segments(examples.spans, seconds, store.facts.eeg_rate):
        distinct.setdefault((store.trial(segment.trial).attended, segment.start), segment)
    windows = list(distinct.values())
    chosen = np.linspace(0, len(windows) - 1, min(limit, len(windows))).round().astype(int)
    length = round(round(seconds * store.facts.eeg_rate) / store.facts.eeg_rate * rate)
    begins = [(windows[k].trial, round(windows[k].start * rate)) for k in chosen]
    return torch.from_numpy(np.stack([examples.mixer.talkers(t, begin, begin + length)[0] for t, begin in begins]))
