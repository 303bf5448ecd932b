"""NeuroCodec: extraction of the attended talker as generation in the latents of a frozen audio codec, guided by EEG.

The codec (Descript Audio Codec) turns the mixture into latents, a causal decoder of cross-attention and Mamba layers
predicts those of the attended talker, the codec turns them into sound. After J. Silva's NeuroCodec; written from its
description, no code was taken over. ``docs/neurocodec.md`` says what follows it and what was decided here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.models.activations import Activation
from eeg2speech.models.codec import Codec
from eeg2speech.models.discriminators import Discriminators
from eeg2speech.models.masking import frame_envelope, negative_correlation, negative_si_sdr
from eeg2speech.models.neurocodec import Clock, NeuroCodecNetwork, Output, Prediction, Sizes
from eeg2speech.models.neurocodec_stream import NeuroCodecStream, algorithmic_latency
from eeg2speech.models.spectral import MultiScaleMel
from eeg2speech.systems.codecs import codec_heard, load_codec, require_rate
from eeg2speech.systems.interface import Context, Facts
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.training.adversary import Adversary
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples
from eeg2speech.training.fit import Plan
from eeg2speech.training.latents import LatentBatch, LatentExamples

Size = Literal["demo", "paper"]
SIZES = {
    "demo": Sizes(),
    "paper": Sizes(width=256, blocks=4, heads=8, state=16, eeg_width=128, maps=8, dropout=0.1),
}
JUDGES = {"demo": 8, "paper": 32}
"""Channels of the discriminators' first layers."""
SOURCE = "NeuroCodec (J. Silva), page of the project; DAC: Kumar et al. 2023, arXiv 2306.06546"
CROP_FRAMES = 32
"""Frames that are decoded for the losses on sound (0.64 s at 50 a second); decoding all would cost most of a step."""
EDGE_FRAMES = 4
"""Of these, frames at either end that are not listened to: the decoder sees zeros beyond them."""

SEPARATION = {"size", "codec", "activation", "remix"}
"""Settings that a blind separator has a use for."""


class NeuroCodecSettings(BaseModel):
    """Settings of the whole family; every loss has its weight, every part its switch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Size = "demo"
    codec: str = Field(default="demo", description="demo, dac-16khz, dac-24khz, dac-44khz, or the path of weights")
    activation: Activation = "snake"
    causal: bool = Field(
        default=True, description="no frame sees EEG beyond look_ahead, or sound beyond the codec's own"
    )
    look_ahead: float = Field(default=0.4, ge=0, description="seconds of EEG beyond the end of a frame that it may use")
    memory: float = Field(default=2.0, gt=0, description="seconds of EEG that attention of the causal form looks back")
    output: Output = Field(default="latent", description="latent values, the same by plain MSE, direction, or codes")
    lambda_latent: float = Field(default=1.0, ge=0, description="weight of the loss on latents, or on codes")
    lambda_mel: float = Field(default=15.0, ge=0, description="weight of the multi-scale mel distance")
    lambda_si_sdr: float = Field(default=1.0, ge=0, description="weight of negative SI-SDR in dB")
    lambda_adv: float = Field(default=1.0, ge=0, description="weight of the discriminators' verdict; 0: none are made")
    lambda_fm: float = Field(
        default=2.0, ge=0, description="weight of feature matching, where there are discriminators"
    )
    adversarial_from: float = Field(
        default=0.8, ge=0, le=1, description="share of the steps before discriminators come"
    )
    envelope_weight: float = Field(default=5.0, ge=0, description="weight of the correlation of the envelope from EEG")
    permutation_weight: float = Field(default=0.5, ge=0, le=1, description="share of the loss that forgives the order")
    remix: float = Field(default=0.75, ge=0, le=1, description="share of the training windows that are mixed anew")


class _NeuroCodec(NetworkSystem):
    """What the extractor and its blind separator share."""

    Settings = NeuroCodecSettings
    settings: NeuroCodecSettings
    network: NeuroCodecNetwork
    plan: ClassVar[Plan] = Plan(
        steps={"demo": 200, "hour": 1000, "full": 60_000}, batch=8, segment_seconds=4.0, valid_segments=64
    )

    def __init__(self, context: Context, settings: BaseModel) -> None:
        assert isinstance(settings, NeuroCodecSettings)
        self.codec: Codec = load_codec(settings.codec)
        require_rate(self.codec, context.audio_rate, f"codec {settings.codec!r}")
        self._adversary: Adversary | None = None
        # The class says what holds for the default; records should say what holds for these settings.
        self.facts = replace(type(self).facts, causal=settings.causal)  # type: ignore[misc]
        super().__init__(context, settings)

    def build(self) -> nn.Module:
        """The network for this context; without sensors where the system declares no EEG."""
        settings, context = self.settings, self.context
        memory = settings.memory if settings.causal else None
        clock = Clock(self.codec.hop, self.codec.rate, context.eeg_rate, settings.look_ahead, memory)
        return NeuroCodecNetwork(
            self.codec,
            len(context.sensors) if self.facts.uses_eeg else 0,
            clock,
            SIZES[settings.size],
            settings.output,
            settings.activation,
            settings.causal,
        )

    def source(self, examples: Examples, learning: bool = True) -> LatentExamples:
        """Latents are computed once; what is validated on is never remixed."""
        return LatentExamples(examples, self.codec, self.settings.remix if learning else 0.0)

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Also the codec's weights."""
        return super().recipe(budget) | {"codec": self.codec.fingerprint}

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool:
        """Whether the codec may have."""
        return codec_heard(self.settings.codec, stimulus, study)

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T]."""
        return self.extract_heard(self.hear(mixture), mixture, eeg, subject)

    def hear(self, mixture: Tensor) -> Tensor:
        """The codec's latents of the mixture, [B, T] -> [B, D, L]."""
        return self.codec.to(mixture.device).encode(mixture)

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """From latents [B, D, L] of the mixture [B, T] -> [B, T]."""
        self._require_same_time(mixture, eeg)
        self.network.eval()
        prediction = self.network(heard, eeg if self.facts.uses_eeg else None)
        talker = self.network.choose(prediction, heard, self.codec.to(mixture.device))
        return self.codec.decode(talker, mixture.shape[-1])

    def stream(self) -> NeuroCodecStream:
        """A new stream through this system: sound and EEG in chunks in, sound out; see ``NeuroCodecStream``.

        Raises BadInput where the settings are not causal.
        """
        network = self.network.eval()
        return NeuroCodecStream(network, self.codec.to(next(network.parameters()).device))

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds; raises BadInput where the settings are not causal."""
        return algorithmic_latency(self.network, self.codec)

    def stages(self) -> dict[str, list[nn.Module]]:
        """Codec and network; a wave of more than 4 s goes through the codec's encoder in pieces, past its hooks."""
        network, codec = self.network, self.codec.model
        eeg = {} if network.eeg is None else {"EEG encoder": [network.eeg]}
        return (
            {"codec encoder": [codec.encoder]}
            | eeg
            | {
                "decoder (attention, Mamba)": [network.enter, *network.blocks, network.leave],
                "codec decoder": [codec.decoder],
            }
        )

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up weights; refuses those of another network, and those that were trained with another codec."""
        trained = state.get("codec")
        if trained is not None and bytes(trained.tolist()).hex() != self.codec.fingerprint:
            found = bytes(trained.tolist()).hex()
            raise BadInput(type(self).__name__, "codec", f"weights trained with codec {self.codec.fingerprint}", found)
        super().load_state(state)

    def _require_same_time(self, mixture: Tensor, eeg: Tensor) -> None:
        """Refuse EEG and audio whose durations differ by more than a frame, or EEG of other electrodes."""
        sensors = len(self.context.sensors)
        if eeg.shape[1] != sensors:
            raise BadInput(type(self).__name__, "eeg", f"{sensors} channels", eeg.shape[1])
        heard, measured = mixture.shape[-1] / self.context.audio_rate, eeg.shape[-1] / self.context.eeg_rate
        if abs(heard - measured) > 1 / self.codec.frame_rate:
            raise BadInput(
                type(self).__name__, "eeg", f"{heard:.3f} s, as the audio (within a frame)", f"{measured:.3f} s"
            )

    def _talkers_loss(self, prediction: Prediction, batch: LatentBatch) -> tuple[Tensor, Tensor]:
        """Distance of both talkers' latents, [B]: in the given order, and in the other one.

        For values the mean squared error of their spectrum over the talker's power, in dB, so that soft talkers count
        as much as loud ones and the last halving of an error as much as the first, or, with ``latent_mse``, just the
        mean squared error in the network's units; for directions one minus the cosine.
        """
        assert prediction.talkers is not None
        truth = self.network.normalise(batch.latents[:, 1:])
        found = prediction.talkers.float()
        if self.settings.output == "direction":
            pairs = ((F.cosine_similarity(found, t, dim=2) - 1).neg().mean((1, 2)) for t in (truth, truth.flip(1)))
        elif self.settings.output == "latent_mse":
            pairs = ((found - t).square().mean((1, 2, 3)) for t in (truth, truth.flip(1)))
        else:
            truth, found = self.network.heard(truth), self.network.heard(found)
            pairs = (_relative_error(t, found).mean(1) for t in (truth, truth.flip(1)))
        straight, crossed = pairs
        return straight, crossed

    def _sound_losses(self, normal: Tensor, waves: Tensor, mixture: Tensor) -> dict[str, Tensor]:
        """Latents in the network's units [B, D, L], true waves [B, T], mixture latents -> losses of a decoded crop."""
        settings = self.settings
        # Half of a batch is listened to: decoding is what costs most here, and every segment has its turn.
        normal, waves, mixture = (tensor[: max(1, len(tensor) // 2)] for tensor in (normal, waves, mixture))
        frames = normal.shape[-1]
        count = min(CROP_FRAMES, frames)
        # In training a random crop, else the middle one, so that validations can be compared.
        latest = frames - count
        first = int(torch.randint(latest + 1, ())) if self.network.training else latest // 2
        crop = slice(first, first + count)
        estimate = self.codec.decode(self.network.choose_from(normal[..., crop], mixture[..., crop]))
        hop = self.codec.hop
        real = waves[:, first * hop : (first + count) * hop]
        edge = EDGE_FRAMES * hop if count > 4 * EDGE_FRAMES else 0
        real, estimate = (wave[:, edge : wave.shape[-1] - edge] for wave in (real, estimate))
        losses = {}
        if settings.lambda_mel:
            losses["mel"] = self._mel.to(real.device)(real, estimate)
        if settings.lambda_si_sdr:
            # In some crops the talker pauses: a silent reference has no SI-SDR worth following.
            heard = real.square().mean(-1) > 1e-5
            losses["si_sdr"] = (negative_si_sdr(real, estimate) * heard).sum() / heard.sum().clamp_min(1)
        if self._adversary is not None and self._adversary.heard and self.network.training:
            self._adversary.judges.to(real.device)
            losses |= self._adversary.losses(real * 5, estimate * 5)
        return losses

    def _total(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        settings = self.settings
        weights = {
            "latent": settings.lambda_latent,
            "mel": settings.lambda_mel,
            "si_sdr": settings.lambda_si_sdr,
            "adversarial": settings.lambda_adv,
            "feature_matching": settings.lambda_fm,
            "envelope": settings.envelope_weight,
        }
        return {"loss": torch.stack([weights[name] * value for name, value in losses.items()]).sum()} | losses

    @property
    def _listens(self) -> bool:
        """Whether there are losses on sound. Codes have none: no gradient passes a choice."""
        settings = self.settings
        return settings.output != "codes" and max(settings.lambda_mel, settings.lambda_si_sdr, settings.lambda_adv) > 0

    @cached_property
    def _mel(self) -> MultiScaleMel:
        return MultiScaleMel(self.codec.rate)

    def _calibrate(self, examples: LatentExamples) -> None:
        """The network's units and its view of the latents, from some training mixtures and their talkers."""
        items = [examples.item(item) for item in examples.fixed(self.plan.segment_seconds, 32)]
        latents = torch.cat([item["latents"] for item in items])
        waves = torch.cat([torch.stack([item[name] for name in ("mixture", "target", "interferer")]) for item in items])
        self.network.calibrate(latents, waves)


class NeuroCodec(_NeuroCodec):
    """Extraction with EEG."""

    facts = Facts(title="NeuroCodec (frozen DAC, Mamba, EEG)", licence="MIT", source=SOURCE, causal=True)

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Start from the blind separator, so that what is left to learn is whom to follow."""
        separator = self._separator()
        training = separator.fit(train, valid, budget, replace(options, folder=options.folder / "separator"))
        own, learned = self.network.state_dict(), separator.state()
        self.network.load_state_dict(own | {name: learned[name] for name in own.keys() & learned.keys()})
        return training

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the separator's."""
        return super().recipe(budget) | {"separator": self._separator().recipe(budget)}

    def adversary(self, budget: Budget) -> Adversary | None:
        """Discriminators, unless their weight is 0."""
        settings = self.settings
        if not settings.lambda_adv or settings.output == "codes":
            self._adversary = None
            return None
        start = round(settings.adversarial_from * self.plan.steps_for(budget))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self._adversary = Adversary(Discriminators(JUDGES[settings.size]), start)
        return self._adversary

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Losses on latents or codes, on sound, and on the envelope read from the EEG, each named; weighted sum.

        A share of the loss on latents forgives the talkers' order: where it is in doubt, to hedge with the mixture
        costs least, and what was separated would be lost again.
        """
        mixture, target = batch.latents[:, 0], batch.latents[:, 1]
        self.codec.to(mixture.device)
        prediction = self.network(mixture, batch.eeg if self.facts.uses_eeg else None)
        if self.settings.output == "codes":
            losses = {"latent": self._codes_loss(prediction.hidden, target)}
        else:
            straight, crossed = self._talkers_loss(prediction, batch)
            share = self.settings.permutation_weight
            losses = {"latent": ((1 - share) * straight + share * torch.minimum(straight, crossed)).mean()}
        if self._listens:
            assert prediction.talkers is not None
            losses |= self._sound_losses(prediction.talkers[:, 0].float(), batch.target, mixture)
        if prediction.envelope is not None:
            truth = frame_envelope(batch.target, mixture.shape[-1])
            losses["envelope"] = negative_correlation(truth, prediction.envelope.float()).mean()
        return self._total(losses)

    def _codes_loss(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over codebooks; each is told what the true codes of those before it make."""
        codes = self.codec.quantise(target).codes
        losses = []
        for number in range(self.codec.books):
            so_far = self.codec.from_codes(codes[:, :number]) if number else None
            logits = self.network.logits(hidden, number, so_far)
            losses.append(F.cross_entropy(logits.flatten(0, 1).float(), codes[:, number].flatten()))
        return torch.stack(losses).mean()

    def _separator(self) -> NeuroCodecSeparator:
        """Blind, in latents or directions; codes begin from latents. Adversaries come when there is one talker.

        Settings that mean nothing without EEG are left at their defaults, so that systems which differ in them only
        share one separator.
        """
        kept = self.settings.model_dump(include=SEPARATION)
        output = "latent" if self.settings.output == "codes" else self.settings.output
        return NeuroCodecSeparator(self.context, NeuroCodecSettings(**kept, output=output, lambda_adv=0.0))


class NeuroCodecBlind(NeuroCodec):
    """The same network and losses without EEG: what the audio alone gives."""

    facts = Facts(title="NeuroCodec without EEG", licence="MIT", source=SOURCE, uses_eeg=False, causal=True)


class NeuroCodecSeparator(_NeuroCodec):
    """Blind separation of both talkers in the codec's latents, with the better of the two orders.

    As a system it answers with its first talker.
    """

    facts = Facts(
        title="NeuroCodec, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False, causal=True
    )
    plan = replace(_NeuroCodec.plan, steps={"demo": 300, "hour": 2000, "full": 100_000}, segment_seconds=2.0)

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """At random, but with the right units and view of the latents."""
        self._calibrate(self.source(train))
        return Training.none()

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Loss on both talkers' latents, in the order in which they fit better.

        Nothing is decoded: the latents are nearly linear in the sound, and a step costs a third of one that listens.
        """
        prediction = self.network(batch.latents[:, 0])
        assert prediction.talkers is not None
        straight, crossed = self._talkers_loss(prediction, batch)
        losses = {"latent": torch.minimum(straight, crossed).mean()}
        return self._total(losses)


def _relative_error(truth: Tensor, found: Tensor) -> Tensor:
    """Mean squared error over the power of the truth, in dB: [B, K, D, L] twice -> [B, K]."""
    ratio = (found - truth).square().mean((2, 3)) / truth.square().mean((2, 3)).clamp_min(1e-4)
    return 10 * torch.log10(ratio + 1e-6)
