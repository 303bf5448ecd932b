"""What all masking baselines share: a network that answers ``Extraction``, its losses, its start, its size.

A system is two classes around one network: an ``Extractor``, which hears the EEG, and a ``Separator``, the same network
without EEG, which is trained blind and from which the extractor starts. ``training`` says how it learns:

- ``published``: one output, negative SI-SDR of the attended talker, from random weights, as most papers do;
- ``assisted``: two outputs (attended, unattended), a start from the blind separator, a loss that forgives their order
  in part, and the attended envelope asked of the EEG branch. With minutes of training it is the only one that gets
  anywhere: from scratch a network finds the talker soon, but takes far longer to separate them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from eeg2speech.models.masking import Extraction, frame_envelope, negative_correlation, negative_si_sdr
from eeg2speech.models.resample import AtRate
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_into
from eeg2speech.training.examples import Batch, Examples
from eeg2speech.training.fit import Plan

Size = Literal["demo", "paper"]
How = Literal["assisted", "published"]
RATE = 16_000
"""Sample rate in Hz inside a network, unless it says another."""
PAPER_RATE = 14_700
"""Sample rate in Hz of the code published for the Cocktail Party data: 44.1 kHz over 3."""


class MaskingSettings(BaseModel):
    """Settings of every masking baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Size = Field(default="demo", description="paper: as published; demo: for minutes on a CPU")

    @property
    def inner_rate(self) -> int:
        """Sample rate in Hz inside, whatever the study's: windows are in samples."""
        return RATE


class ExtractorSettings(MaskingSettings):
    """Settings of those that answer with the attended talker."""

    envelope_weight: float = Field(default=5.0, ge=0, description="weight of the envelope's correlation, in dB")
    permutation_weight: float = Field(default=0.5, ge=0, le=1, description="share of the loss that forgives the order")


class PublishedMaskingSettings(MaskingSettings):
    """Settings of networks that were published for the Cocktail Party data."""

    rate: int | None = Field(
        default=None, ge=8000, description=f"Hz inside; none given: {PAPER_RATE} at size paper, else {RATE}"
    )

    @property
    def inner_rate(self) -> int:
        """Sample rate in Hz inside: the one told, the published one at size paper, or that of all others."""
        return self.rate or (PAPER_RATE if self.size == "paper" else RATE)


class PublishedSettings(ExtractorSettings, PublishedMaskingSettings):
    """Settings of their extracting form, which can be trained as published or with this suite's help."""

    training: How | None = Field(default=None, description="none given: published at size paper, else assisted")

    @property
    def how(self) -> How:
        """How it is trained."""
        return self.training or ("published" if self.size == "paper" else "assisted")


class MaskingSystem(NetworkSystem):
    """A network that answers ``Extraction``: derive, and give ``compose``."""

    Settings = MaskingSettings
    settings: MaskingSettings
    plan: ClassVar[Plan] = Plan(steps={"demo": 240, "hour": 2000, "full": 100_000}, batch=8, segment_seconds=2.0)

    def build(self) -> nn.Module:
        """The network for this context; without sensors where the system declares no EEG."""
        outer, inner = self.context.audio_rate, self.inner_rate
        network = self.compose(len(self.context.sensors) if self.facts.uses_eeg else 0, self.talkers, inner)
        return network if inner == outer else AtRate(network, outer, inner)

    @property
    def inner_rate(self) -> int:
        """Sample rate in Hz at which the network works."""
        return self.settings.inner_rate

    @abstractmethod
    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network for so many sensors (0: no EEG branch) and outputs, at an audio rate in Hz."""

    @property
    def talkers(self) -> int:
        """Outputs of the network."""
        return 1 if isinstance(self.settings, PublishedSettings) and self.settings.how == "published" else 2

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T], the first output."""
        return self.separate(mixture, eeg)[:, 0]

    def separate(self, mixture: Tensor, eeg: Tensor | None = None) -> Tensor:
        """[B, T] -> all outputs, [B, K, T]."""
        self.network.eval()
        answer: Extraction = self.network(mixture, eeg if self.facts.uses_eeg else None)
        return answer.waves


class Separator(MaskingSystem):
    """Blind separation into two talkers, trained with permutation-invariant SI-SDR (Kolbaek et al. 2017).

    As a system it answers with its first estimate, which is either talker.
    """

    plan = replace(MaskingSystem.plan, steps={"demo": 360, "hour": 5000, "full": 200_000})

    @property
    def talkers(self) -> int:
        """Both."""
        return 2

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Negative SI-SDR in dB, mean over both talkers, of the better assignment."""
        return {"loss": separation_losses(batch, self.network(batch.mixture).waves)[1].mean()}


class Extractor(MaskingSystem):
    """Extraction with EEG. ``separator`` is the same network's blind form."""

    Settings = ExtractorSettings
    settings: ExtractorSettings
    separator: ClassVar[type[Separator]]

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Start from the blind separator, so that what is left to learn is whom to follow."""
        if self.talkers == 1:
            return Training.none()
        separator = self.blind()
        training = separator.fit(train, valid, budget, replace(options, folder=options.folder / "separator"))
        load_into(self.network, dict(self.network.state_dict()) | separator.state(), type(self).__name__)
        return training

    def blind(self) -> Separator:
        """The separator of this size (and rate)."""
        shared = set(self.separator.Settings.model_fields)
        kept = {name: value for name, value in self.settings.model_dump().items() if name in shared}
        return self.separator(self.context, self.separator.Settings(**kept))

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the separator's."""
        return super().recipe(budget) | ({} if self.talkers == 1 else {"separator": self.blind().recipe(budget)})

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        return self.losses(batch, self.network(batch.mixture, batch.eeg if self.facts.uses_eeg else None))

    def losses(self, batch: Batch, answer: Extraction) -> dict[str, Tensor]:
        """Negative SI-SDR in dB of the attended talker alone, or ``assisted``."""
        if self.talkers == 1:
            return {"loss": negative_si_sdr(batch.target, answer.waves[:, 0].float()).mean()}
        return self.assisted(batch, answer)

    def assisted(self, batch: Batch, answer: Extraction) -> dict[str, Tensor]:
        """Negative SI-SDR of both talkers in dB, part of it whatever their order, and the envelope's correlation.

        Where the order is in doubt, to hedge with the mixture costs least, and what was separated would be lost again.
        The part that forgives the order keeps the talkers apart; the rest has an order to learn.
        """
        fixed, either = separation_losses(batch, answer.waves)
        share = self.settings.permutation_weight
        losses = {"loss": (1 - share) * fixed.mean() + share * either.mean(), "si_sdr": -fixed.mean()}
        if answer.envelope is None:
            return losses
        truth = frame_envelope(batch.target, batch.eeg.shape[-1])
        correlation = negative_correlation(truth, answer.envelope.float()).mean()
        losses["loss"] = losses["loss"] + self.settings.envelope_weight * correlation
        return losses | {"envelope_r": -correlation}


def separation_losses(batch: Batch, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Negative SI-SDR in dB, mean over both talkers, [B]: in the given order, and in the better one."""
    truth = torch.stack([batch.target, batch.interferer], dim=1)
    straight = negative_si_sdr(truth, outputs.float()).mean(1)
    crossed = negative_si_sdr(truth.flip(1), outputs.float()).mean(1)
    return straight, torch.minimum(straight, crossed)
