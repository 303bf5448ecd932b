"""EEG2Speech: speech from EEG alone, by latent diffusion that is conditioned on the brain encoder.

The design is AudioLDM's (Liu et al. 2023, arXiv 2301.12503) with a brain encoder (Defossez et al. 2023) in the place of
CLAP: autoencoder of mel spectrograms, U-Net on its latents, vocoder. The U-Net learns from embeddings of EEG, or, as
AudioLDM does with CLAP, from embeddings of the speech itself, which the encoder has brought to the same space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.models import mel
from eeg2speech.models.fingerprint import state_hash
from eeg2speech.models.latent_diffusion import MOST_STEPS, SIZES, LatentDiffusion, new_unet, noisy, sample
from eeg2speech.systems.brain_encoder import BrainEncoderSettings, BrainEncoderSystem, BrainNetwork
from eeg2speech.systems.interface import Context, Facts
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.parts import load_autoencoder, load_unet, load_vocoder, part_heard
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples
from eeg2speech.training.feature_examples import FeatureBatch, FeatureExamples
from eeg2speech.training.features import FeatureCache
from eeg2speech.training.fit import Plan
from eeg2speech.training.mel_latents import MelLatents

SOURCE = "Liu et al. 2023, arXiv 2301.12503; Defossez et al. 2023, doi:10.1038/s42256-023-00714-5"
WIDTHS = {"demo": 64, "paper": 512}
"""Numbers of a condition; 512 is CLAP's, to which published U-Nets are conditioned."""


class EEG2SpeechSettings(BaseModel):
    """Settings of ``eeg2speech``. Those from ``guidance`` on are of sampling, and need no new training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["demo", "paper"] = "demo"
    conditioning: Literal["film", "sequence", "aligned"] = Field(
        default="aligned", description="a global vector, tokens by cross-attention, or channels beside the latents"
    )
    train_on: Literal["eeg", "speech"] = Field(default="eeg", description="which embeddings the U-Net learns from")
    tune_encoder: bool = Field(default=False, description="the brain encoder learns on with the U-Net")
    null_share: float = Field(default=0.1, ge=0, lt=1, description="share of training without condition, for guidance")
    encoder: BrainEncoderSettings = BrainEncoderSettings()
    encoder_steps: int | None = Field(default=None, ge=1, description="optimiser steps of the brain encoder")
    autoencoder: str = Field(default="demo", description="demo, a .safetensors file, a folder, or a name on the hub")
    vocoder: str = Field(default="demo", description="as autoencoder")
    unet: str = Field(default="", description="a published U-Net to begin with: a folder, or a name on the hub")
    guidance: float = Field(default=2.0, ge=0, description="1 follows the condition, more exaggerates it")
    steps: int = Field(default=10, ge=1, le=MOST_STEPS, description="of the solver")
    solver: Literal["dpm", "ddim"] = "dpm"
    candidates: int = Field(default=1, ge=1, description="drawn for each segment; the one nearest to the EEG is taken")

    @model_validator(mode="after")
    def _check(self) -> EEG2SpeechSettings:
        if self.tune_encoder and self.train_on == "speech":
            raise ValueError("tune_encoder needs train_on eeg: on speech nothing would hold the EEG's side")
        if self.train_on == "speech" and self.encoder.speech == "wav2vec2":
            raise ValueError("train_on speech is for encoders of mel spectrograms (mel, deep_mel)")
        if self.unet and self.conditioning != "film":
            raise ValueError("published U-Nets are conditioned by film")
        return self


SAMPLING = ("guidance", "steps", "solver", "candidates", "vocoder")
"""Settings that have no part in training."""
MEANINGLESS = ("encoder", "encoder_steps", "train_on", "tune_encoder", "null_share", "guidance", "candidates")
"""Settings that mean nothing without a condition."""


class _Networks(nn.Module):
    """The U-Net, and the brain encoder where there is one. ``autoencoder`` says in whose latents the U-Net works."""

    def __init__(self, diffusion: LatentDiffusion, encoder: BrainNetwork | None, autoencoder: str) -> None:
        super().__init__()
        self.diffusion, self.encoder = diffusion, encoder
        self.register_buffer("autoencoder", torch.tensor(list(bytes.fromhex(autoencoder)), dtype=torch.uint8))


class EEG2Speech(NetworkSystem):
    """Generation from EEG."""

    facts = Facts(
        title="EEG2Speech (brain encoder, latent diffusion)",
        licence="MIT",
        source=SOURCE,
        tasks=frozenset({"generation"}),
        uses_subject=True,
    )
    Settings = EEG2SpeechSettings
    settings: EEG2SpeechSettings
    network: _Networks
    shares: ClassVar[bool] = True
    plan: ClassVar[Plan] = Plan(
        steps={"demo": 200, "hour": 4_000, "full": 200_000},
        batch=8,
        segment_seconds=4.0,
        learning_rate=1e-3,
        weight_decay=1e-4,
        valid_segments=64,
        patience=1000,
        clip=1.0,
    )

    def __init__(self, context: Context, settings: BaseModel) -> None:
        assert isinstance(settings, EEG2SpeechSettings)
        if context.audio_rate != mel.RATE:
            raise BadInput("eeg2speech", "audio rate", f"{mel.RATE} Hz", f"{context.audio_rate} Hz")
        self.encoder = BrainEncoderSystem(context, settings.encoder)
        super().__init__(context, settings)

    @cached_property
    def latents(self) -> MelLatents:
        """What the U-Net works on."""
        return MelLatents(load_autoencoder(self.settings.autoencoder))

    def build(self) -> nn.Module:
        """The networks for this context."""
        unet = self._unet()
        self.encoder.renew()
        diffusion = LatentDiffusion(unet, self.settings.conditioning, self.encoder.dimension, self.latents.rate)
        fingerprint = self.latents.autoencoder.fingerprint
        if not self.facts.uses_eeg:
            # What no loss reaches is not to learn: several devices would wait for its gradient.
            diffusion.adapter.requires_grad_(False)
            return _Networks(diffusion, None, fingerprint)
        self.encoder.network.requires_grad_(False).brain.requires_grad_(self.settings.tune_encoder)
        return _Networks(diffusion, self.encoder.network, fingerprint)

    def source(self, examples: Examples, learning: bool = True) -> FeatureExamples:
        """EEG with latents and mel spectrograms, computed once."""
        return FeatureExamples(examples, FeatureCache(self.latents), whole=True)

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Also the autoencoder's weights and the brain encoder's recipe."""
        more: dict[str, Any] = {"autoencoder": self.latents.autoencoder.fingerprint}
        if self.settings.unet:
            more["unet"] = state_hash(load_unet(self.settings.unet).state_dict())
        if self.facts.uses_eeg:
            more["encoder"] = self.encoder.recipe(self._encoder_budget(budget))
        return super().recipe(budget) | more

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """The brain encoder comes first; where another system has trained the same one, it is taken up."""
        if self.network.encoder is None:
            return Training.none()
        folder = options.folder / "encoder"
        training = self.encoder.fit(train, valid, self._encoder_budget(budget), replace(options, folder=folder))
        self.network.encoder.load_state_dict(self.encoder.network.state_dict())
        self.encoder.network = self.network.encoder
        return training

    def loss(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """Mean squared error of the noise."""
        latents, spectrum = self.latents.split(batch.features.float())
        learning = self.network.training
        # Where epochs are compared, they are asked about the same noise.
        generator = None if learning else torch.Generator().manual_seed(0)
        mixed, noise, step = noisy(latents, generator)
        condition = self._condition(batch, spectrum)
        if learning:
            dropped = torch.rand(len(latents), 1, 1).to(condition.device) < self.settings.null_share
            condition = torch.where(dropped, self.network.diffusion.nothing(condition), condition)
        found = self.network.diffusion(mixed, step, condition)
        return {"loss": F.mse_loss(found.float(), noise)}

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """[B, C, N] -> [B, T]."""
        self.network.eval()
        samples = round(eeg.shape[-1] / self.context.eeg_rate * self.context.audio_rate)
        embedding = self._embedding(eeg, subject)
        drawn = [self._drawn(embedding, len(eeg), samples, generators) for _ in range(self.settings.candidates)]
        if len(drawn) == 1 or embedding is None:
            return drawn[0]
        fits = torch.stack([self._fit(embedding, wave) for wave in drawn])
        return torch.stack(drawn)[fits.argmax(0), torch.arange(len(eeg), device=eeg.device)]

    def stages(self) -> dict[str, list[nn.Module]]:
        """Brain encoder, U-Net (called once a step of the solver), autoencoder's decoder, vocoder."""
        encoder, autoencoder = self.network.encoder, self.latents.autoencoder.model
        brain: dict[str, list[nn.Module]] = {} if encoder is None else {"brain encoder": [encoder.brain]}
        return brain | {
            "U-Net": [self.network.diffusion.unet],
            "autoencoder": [autoencoder.post_quant_conv, autoencoder.decoder],
            "vocoder": [load_vocoder(self.settings.vocoder)],
        }

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether autoencoder or vocoder may have."""
        return any(part_heard(name, stimulus, study) for name in (self.settings.autoencoder, self.settings.vocoder))

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up weights; refuses those of another network, and those trained in another autoencoder's latents."""
        trained, here = state.get("autoencoder"), self.latents.autoencoder.fingerprint
        if trained is not None and bytes(trained.tolist()).hex() != here:
            found = bytes(trained.tolist()).hex()
            raise BadInput(type(self).__name__, "autoencoder", f"weights trained with autoencoder {here}", found)
        super().load_state(state)
        if self.network.encoder is not None:
            self.encoder.network = self.network.encoder

    def _unet(self) -> UNet2DConditionModel:
        settings, channels = self.settings, self.latents.channels
        if not settings.unet:
            return new_unet(SIZES[settings.size], settings.conditioning, channels, WIDTHS[settings.size])
        unet = load_unet(settings.unet)
        found = [unet.config.in_channels, unet.config.out_channels]
        if found != [channels, channels]:
            raise BadInput(settings.unet, "channels in and out", f"the autoencoder's {channels}", found)
        return unet

    @property
    def parts(self) -> dict[str, str]:
        """Hashes of the pretrained parts."""
        vocoder = load_vocoder(self.settings.vocoder).fingerprint
        return {"autoencoder": self.latents.autoencoder.fingerprint, "vocoder": vocoder}

    def _identity(self, *about: Any) -> dict[str, Any]:
        """Without settings of sampling: systems that differ in them alone are one training."""
        identity = super()._identity(*about)
        kept = {name: value for name, value in identity["settings"].items() if name not in SAMPLING}
        return identity | {"settings": kept}

    def _encoder_budget(self, budget: Budget) -> Budget:
        return Budget(budget.name, self.settings.encoder_steps or budget.steps)

    def _condition(self, batch: FeatureBatch, spectrum: Tensor) -> Tensor:
        diffusion, encoder = self.network.diffusion, self.network.encoder
        if encoder is None:
            return self._none(len(batch))
        rate = float(encoder.brain.size.rate)
        if self.settings.tune_encoder:
            return diffusion.condition(encoder.brain(batch.eeg, batch.subject), rate)
        # Frozen: its batch norms and its dropout of sensors stay as they are, too.
        encoder.eval()
        with torch.no_grad():
            if self.settings.train_on == "eeg":
                embedding = encoder.brain(batch.eeg, batch.subject)
            else:
                frames = encoder.brain.frames(batch.eeg.shape[-1] / self.context.eeg_rate)
                embedding = encoder.of_features(spectrum, mel.FRAME_RATE, frames)
        return diffusion.condition(embedding, rate)

    def _none(self, count: int) -> Tensor:
        return self.network.diffusion.null.expand(count, 1, -1)

    def _embedding(self, eeg: Tensor, subject: Tensor) -> Tensor | None:
        return self.encoder.embed_eeg(eeg, subject).float() if self.network.encoder is not None else None

    def _drawn(
        self, embedding: Tensor | None, count: int, samples: int, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """One draw of speech [B, samples]."""
        settings, diffusion = self.settings, self.network.diffusion
        frames = samples // mel.HOP
        device = diffusion.null.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            if embedding is None:
                condition, guidance = self._none(count), 1.0
            else:
                rate = float(self.encoder.network.brain.size.rate)
                condition, guidance = diffusion.condition(embedding, rate), settings.guidance
            autoencoder = self.latents.autoencoder.to(device)
            shape = autoencoder.latent_shape(frames)
            latents = sample(diffusion, condition, shape, generators, settings.steps, guidance, settings.solver)
            wave = load_vocoder(settings.vocoder).to(device)(autoencoder.decode(latents, frames).float()).float()
        return F.pad(wave, (0, samples - wave.shape[-1]))

    def _fit(self, embedding: Tensor, wave: Tensor) -> Tensor:
        """Cosine of each wave's embedding with that of the EEG, [B]."""
        heard = self.encoder.embed_speech(wave)
        return F.cosine_similarity(embedding.flatten(1), heard.flatten(1))


class EEG2SpeechBlind(EEG2Speech):
    """The same diffusion without any condition: what speech in general is worth."""

    facts = Facts(
        title="EEG2Speech without EEG",
        licence="MIT",
        source=SOURCE,
        tasks=frozenset({"generation"}),
        uses_eeg=False,
    )

    def __init__(self, context: Context, settings: BaseModel) -> None:
        for field in MEANINGLESS:
            default = EEG2SpeechSettings.model_fields[field].default
            if getattr(settings, field) != default:
                raise BadInput(
                    "eeg2speech_blind", field, f"{default} (it means nothing without EEG)", getattr(settings, field)
                )
        super().__init__(context, settings)
