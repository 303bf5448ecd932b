"""The brain encoder as a system: which of many speech segments was heard (Defossez et al. 2023).

EEG and speech are brought to embeddings of one shape; the candidate nearest to the EEG is the answer. On the speech
side stands a mel spectrogram as it is, a network on it that is learned (``deep_mel``), or a frozen wav2vec 2.0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from eeg2speech.errors import BadInput
from eeg2speech.models import mel
from eeg2speech.models.brain_encoder import SIZES, BrainEncoder
from eeg2speech.models.contrastive import clip_loss, gathered, regression_loss
from eeg2speech.models.deep_mel import DeepMel
from eeg2speech.models.mel import LogMel
from eeg2speech.systems.interface import Context, Facts
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples
from eeg2speech.training.feature_examples import FeatureBatch, FeatureExamples
from eeg2speech.training.features import FeatureCache, GivenFeatures, Wav2Vec2Features, resampled
from eeg2speech.training.fit import Plan

SOURCE = "Defossez et al. 2023, doi:10.1038/s42256-023-00714-5"
CALIBRATION = 64
WIDTHS = {"demo": 64, "paper": 1024}


class BrainEncoderSettings(BaseModel):
    """Settings of ``brain_encoder``; those from ``subject_layer`` on are the ablations of the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["demo", "paper"] = "demo"
    speech: Literal["mel", "deep_mel", "wav2vec2"] = Field(default="deep_mel", description="what candidates become")
    speech_model: str = Field(default="", description="wav2vec2 only: a folder, or a name on the model hub")
    speech_context: Literal["segment", "stimulus"] = Field(
        default="segment", description="wav2vec2 only: computed inside the window, or on the whole stimulus and cut"
    )
    loss: Literal["clip", "mse"] = Field(default="clip", description="contrastive, or mean squared error")
    negatives: int = Field(
        default=63, ge=1, description="other segments, on each device, from which each is told; a batch is one more"
    )
    unknown_subjects: Literal["average", "refuse"] = Field(
        default="average", description="a listener who was not in training: the mean of all layers, or an error"
    )
    subject_layer: bool = True
    spatial_dropout: float = Field(default=0.2, ge=0)
    clamp: float | None = Field(default=20.0, gt=0)
    final: bool = True

    @model_validator(mode="after")
    def _check(self) -> BrainEncoderSettings:
        if (self.speech == "wav2vec2") != bool(self.speech_model):
            raise ValueError("speech_model is needed with speech wav2vec2, and means nothing without")
        if self.speech_context == "stimulus" and self.speech != "wav2vec2":
            raise ValueError("speech_context stimulus is for speech wav2vec2: mel spectrograms see 32 ms")
        if self.loss == "mse" and self.speech == "deep_mel":
            raise ValueError("loss mse needs fixed features: deep_mel would learn to be constant")
        return self


class BrainNetwork(nn.Module):
    """EEG side and speech side.

    ``mean`` and ``deviation`` [1, D, 1] bring fixed features to unit variance; they are set before training.
    """

    def __init__(self, brain: BrainEncoder, features: int, learned: bool, width: int, hidden: int) -> None:
        super().__init__()
        self.brain = brain
        self.speech: nn.Module = DeepMel(features, width, hidden, brain.size.blocks) if learned else nn.Identity()
        self.register_buffer("mean", torch.zeros(1, features, 1))
        self.register_buffer("deviation", torch.ones(1, features, 1))

    def of_features(self, features: Tensor, rate: float, frames: int) -> Tensor:
        """Features [B, D, F] at ``rate`` -> embedding [B, D', frames] at the brain's."""
        normal = (features.float() - self.get_buffer("mean")) / self.get_buffer("deviation")
        embedding: Tensor = self.speech(resampled(normal, rate, frames, self.brain.size.rate))
        return embedding


class BrainEncoderSystem(NetworkSystem):
    """Retrieval from EEG."""

    facts = Facts(
        title="Brain encoder",
        licence="MIT",
        source=SOURCE,
        tasks=frozenset({"retrieval"}),
        uses_subject=True,
        speech=frozenset({"audio", "mel"}),
    )
    Settings = BrainEncoderSettings
    settings: BrainEncoderSettings
    network: BrainNetwork
    shares: ClassVar[bool] = True
    plan: ClassVar[Plan] = Plan(
        steps={"demo": 300, "hour": 6_000, "full": 60_000},
        batch=64,
        segment_seconds=3.0,
        learning_rate=1e-3,
        weight_decay=0.01,
        valid_segments=320,
        patience=12,
    )

    def __init__(self, context: Context, settings: BaseModel) -> None:
        assert isinstance(settings, BrainEncoderSettings)
        if context.speech == "audio" and context.audio_rate != mel.RATE:
            raise BadInput("brain_encoder", "audio rate", f"{mel.RATE} Hz", f"{context.audio_rate} Hz")
        if context.speech != "audio" and settings.speech == "wav2vec2":
            raise BadInput("brain_encoder", "speech", "mel or deep_mel, for the study has no audio", settings.speech)
        sees: Any = "stimuli" if settings.speech_context == "stimulus" else "mixture"
        self.facts = replace(type(self).facts, sees=sees, title=_title(settings))  # type: ignore[misc]
        self.plan = replace(type(self).plan, batch=settings.negatives + 1)  # type: ignore[misc]
        super().__init__(context, settings)

    @cached_property
    def fixed(self) -> FeatureCache | GivenFeatures:
        """What a wave becomes before anything that is learned: features of a frozen network, or the mel spectrogram;
        the study's own where it has no audio."""
        if self.context.speech != "audio":
            return GivenFeatures(self.context.bands, self.context.audio_rate)
        frozen = self.settings.speech == "wav2vec2"
        return FeatureCache(Wav2Vec2Features(self.settings.speech_model) if frozen else LogMel())

    def build(self) -> nn.Module:
        """The network for this context."""
        settings, context = self.settings, self.context
        size = replace(
            SIZES[settings.size],
            subject_layer=settings.subject_layer,
            spatial_dropout=settings.spatial_dropout,
            clamp=settings.clamp,
            final=settings.final,
        )
        positions = torch.tensor(context.sensors.positions)
        brain = BrainEncoder(positions, context.eeg_rate, len(context.subjects), self.dimension, size)
        learned = settings.speech == "deep_mel"
        return BrainNetwork(brain, self.fixed.features.dimension, learned, self.dimension, size.hidden)

    @property
    def dimension(self) -> int:
        """Numbers a frame of an embedding, D."""
        return WIDTHS[self.settings.size] if self.settings.speech == "deep_mel" else self.fixed.features.dimension

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Also the speech network's weights."""
        return super().recipe(budget) | {"speech": self.fixed.features.fingerprint}

    def source(self, examples: Examples, learning: bool = True) -> FeatureExamples:
        """EEG with what the speech becomes. A mel frame sees no further than 32 ms: it is cut out of the whole."""
        whole = self.settings.speech != "wav2vec2" or self.settings.speech_context == "stimulus"
        return FeatureExamples(examples, self.fixed, whole)

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """At random, but knowing whom it learns from, and the mean and deviation of features."""
        numbers = {subject: k for k, subject in enumerate(self.context.subjects)}
        self.network.brain.mark_known(numbers[train.store.trial(span.trial).subject] for span in train.spans)
        source = self.source(train)
        drawn = source.random(self.plan.segment_seconds, CALIBRATION, 0, 10**6)
        features = next(iter(source.loader(drawn, CALIBRATION))).features
        self.network.get_buffer("mean").copy_(features.mean((0, 2), keepdim=True))
        self.network.get_buffer("deviation").copy_(features.std((0, 2), keepdim=True).clamp_min(1e-3))
        return Training.none()

    def loss(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """Contrastive loss in nats, against the batches of all devices; or the mean squared error."""
        heard = self._speech(batch.features, batch.eeg.shape[-1] / self.context.eeg_rate)
        felt = self.network.brain(batch.eeg, batch.subject).float()
        if self.settings.loss == "mse":
            return {"loss": regression_loss(felt, heard)}
        return {"loss": clip_loss(felt, gathered(heard))}

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, C, N] -> [B, D, F]. Raises BadInput for a listener who was not in training, in strict mode."""
        self.network.eval()
        layer = self.network.brain.subject
        if layer is not None and self.settings.unknown_subjects == "refuse":
            strange = [int(k) for k in subject if int(k) < 0 or not bool(layer.known[int(k)])]
            if strange:
                names = sorted({"a stranger" if k < 0 else self.context.subjects[k] for k in strange})
                raise BadInput("brain_encoder", "subject", "listeners of the training", ", ".join(names))
        found: Tensor = self.network.brain(eeg, subject)
        return found

    def embed_speech(self, speech: Tensor) -> Tensor:
        """[B, T], or features [B, K, T] -> [B, D, F]."""
        self.network.eval()
        return self._speech(self.features(speech), speech.shape[-1] / self.context.audio_rate)

    def features(self, speech: Tensor) -> Tensor:
        """What speech [B, T] becomes before anything that is learned, [B, D, F]; a frozen network's is kept."""
        if isinstance(self.fixed, GivenFeatures):
            return speech
        if isinstance(self.fixed.features, LogMel):
            with torch.no_grad():
                found: Tensor = self.fixed.features.to(speech.device)(speech)
            return found
        kept = [self.fixed.of(wave) for wave in speech.cpu().numpy()]
        return torch.from_numpy(np.stack(kept)).to(speech.device)

    def embed_speech_in(self, stimulus: Tensor, begin: int, end: int) -> Tensor:
        """[T] -> [D, F] of samples ``begin`` to ``end``, from features of the whole."""
        if self.facts.sees != "stimuli" or isinstance(self.fixed, GivenFeatures):
            return super().embed_speech_in(stimulus, begin, end)
        self.network.eval()
        features = self.fixed.within_stimulus(stimulus.cpu().numpy(), begin / mel.RATE, end / mel.RATE)
        return self._speech(torch.from_numpy(np.array(features)[None]).to(stimulus.device), (end - begin) / mel.RATE)[0]

    def _speech(self, features: Tensor, seconds: float) -> Tensor:
        frames = self.network.brain.frames(seconds)
        return self.network.of_features(features, self.fixed.features.rate, frames).float()


def _title(settings: BrainEncoderSettings) -> str:
    speech = {"mel": "mel", "deep_mel": "Deep Mel", "wav2vec2": f"wav2vec 2.0 in the {settings.speech_context}"}
    return f"Brain encoder ({speech[settings.speech]}, {settings.loss})"
