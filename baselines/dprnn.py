"""Dual-path RNN masking network with and without EEG, and as a blind separator.

The network is that of Luo, Chen and Yoshioka 2020 ("Dual-path RNN: efficient long sequence modeling for time-domain
single-channel speech separation", ICASSP): learned encoder, segmentation with 50 % overlap, intra- and inter-chunk
bidirectional LSTMs, global layer norm, mask, overlap-add. Decided here: the EEG branch (spatial mixing and dilated
convolutions at the EEG's own rate), its fusion by FiLM in every block, a start from the blind separator, two outputs
(attended, unattended) with a loss that forgives their order in part, and an auxiliary loss that asks the branch for the
attended envelope. From scratch the network finds the talker within minutes, but takes far longer to separate them.
Written from the paper; no code was taken over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from eeg2speech.models.masking import DualPathMasker, frame_envelope, negative_correlation, negative_si_sdr
from eeg2speech.systems.interface import Facts
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_into
from eeg2speech.training.examples import Batch, Examples
from eeg2speech.training.fit import Plan

Size = Literal["demo", "full"]

# ``full`` is the paper's: its best window is 2 samples at 8 kHz, 4 samples (0.25 ms) at 16 kHz, with K = 250,
# 64 filters, 128 hidden units a direction and 6 blocks. ``demo`` has 20 ms windows and a filter bank that starts as a
# Fourier transform: 80 times fewer frames, so that it learns in minutes on a CPU.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {
        "bank": "paired",
        "filters": 320,
        "kernel": 320,
        "stride": 160,
        "width": 80,
        "hidden": 64,
        "blocks": 4,
        "chunk": 40,
        "eeg_width": 24,
    },
    "full": {
        "bank": "free",
        "filters": 64,
        "kernel": 4,
        "stride": 2,
        "width": 64,
        "hidden": 128,
        "blocks": 6,
        "chunk": 250,
        "eeg_width": 64,
    },
}

SOURCE = "Luo, Chen, Yoshioka 2020, doi:10.1109/ICASSP40776.2020.9054266"


class DprnnSettings(BaseModel):
    """Settings of the whole family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Size = "demo"


class ExtractionSettings(DprnnSettings):
    """Settings of those that answer with the attended talker."""

    envelope_weight: float = Field(default=5.0, ge=0, description="weight of the envelope's correlation, in dB")
    permutation_weight: float = Field(default=0.5, ge=0, le=1, description="share of the loss that forgives the order")


class _Dprnn(NetworkSystem):
    """What the three share: a network with two outputs, in order attended and unattended talker."""

    Settings = DprnnSettings
    settings: DprnnSettings
    plan: ClassVar[Plan] = Plan(steps={"demo": 240, "hour": 2000, "full": 100_000}, batch=8, segment_seconds=2.0)

    def build(self) -> nn.Module:
        """The network for this context; without sensors where the system declares no EEG."""
        sensors = len(self.context.sensors) if self.facts.uses_eeg else 0
        return DualPathMasker(sensors=sensors, talkers=2, **SIZES[self.settings.size])

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """[B, T] -> [B, T], the first output."""
        return self.separate(mixture, eeg)[:, 0]

    def separate(self, mixture: Tensor, eeg: Tensor | None = None) -> Tensor:
        """[B, T] -> both outputs, [B, 2, T]."""
        outputs: Tensor = self.network(mixture, eeg if self.facts.uses_eeg else None)[0]
        return outputs


class Dprnn(_Dprnn):
    """Extraction with EEG."""

    facts = Facts(title="DPRNN with EEG (FiLM in every block)", licence="MIT", source=SOURCE)
    Settings = ExtractionSettings
    settings: ExtractionSettings

    def warm_start(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Start from the blind separator, so that what is left to learn is whom to follow."""
        separator = DprnnSeparator(self.context, DprnnSettings(size=self.settings.size))
        training = separator.fit(train, valid, budget, replace(options, folder=options.folder / "separator"))
        load_into(self.network, dict(self.network.state_dict()) | separator.state(), type(self).__name__)
        return training

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """Its own and the separator's."""
        separator = DprnnSeparator(self.context, DprnnSettings(size=self.settings.size))
        return super().recipe(budget) | {"separator": separator.recipe(budget)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Negative SI-SDR of both talkers in dB, part of it whatever their order, and the envelope's correlation.

        Where the order is in doubt, to hedge with the mixture costs least, and what was separated would be lost again.
        The part that forgives the order keeps the talkers apart; the rest has an order to learn.
        """
        outputs, envelope = self.network(batch.mixture, batch.eeg if self.facts.uses_eeg else None)
        fixed, either = _separation_losses(batch, outputs)
        share = self.settings.permutation_weight
        losses = {"loss": (1 - share) * fixed.mean() + share * either.mean(), "si_sdr": -fixed.mean()}
        if envelope is None:
            return losses
        truth = frame_envelope(batch.target, batch.eeg.shape[-1])
        correlation = negative_correlation(truth, envelope.float()).mean()
        losses["loss"] = losses["loss"] + self.settings.envelope_weight * correlation
        return losses | {"envelope_r": -correlation}


class DprnnBlind(Dprnn):
    """The same network and loss without EEG: what the audio alone gives."""

    facts = Facts(title="DPRNN without EEG", licence="MIT", source=SOURCE, uses_eeg=False)


class DprnnSeparator(_Dprnn):
    """Blind separation into two talkers, trained with permutation-invariant SI-SDR (Kolbaek et al. 2017).

    As a system it answers with its first estimate, which is either talker; ``mtrf_select`` chooses between both.
    """

    facts = Facts(title="DPRNN, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)
    plan = replace(_Dprnn.plan, steps={"demo": 360, "hour": 5000, "full": 200_000})

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Negative SI-SDR in dB, mean over both talkers, of the better assignment."""
        return {"loss": _separation_losses(batch, self.network(batch.mixture)[0])[1].mean()}


def _separation_losses(batch: Batch, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Negative SI-SDR in dB, mean over both talkers, [B]: in the given order, and in the better one."""
    truth = torch.stack([batch.target, batch.interferer], dim=1)
    straight = negative_si_sdr(truth, outputs.float()).mean(1)
    crossed = negative_si_sdr(truth.flip(1), outputs.float()).mean(1)
    return straight, torch.minimum(straight, crossed)
