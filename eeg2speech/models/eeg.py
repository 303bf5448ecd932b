"""EEG front ends for extraction networks: any number of sensors, any length, at the EEG's own rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput


def standardise(eeg: Tensor, clamp: float = 8.0) -> Tensor:
    """Zero mean and unit deviation per channel and segment, blinks and jumps clamped at ``clamp`` deviations.

    [B, C, N] in any unit -> [B, C, N]. A dead channel (no variance, whatever its offset) gives zeros. The scale of the
    EEG, which a noise control need not keep, therefore tells a network nothing.
    """
    centred = eeg - eeg.mean(-1, keepdim=True)
    deviation = centred.std(-1, keepdim=True, correction=0)
    # Below this, what moves is the rounding of the offset.
    floor = 1e-6 * eeg.abs().amax(-1, keepdim=True)
    alive = deviation > floor
    return torch.where(alive, centred / torch.where(alive, deviation, 1.0), 0.0).clamp(-clamp, clamp)


def required(eeg: Tensor | None, network: str) -> Tensor:
    """The EEG. Raises BadInput for a network that has a branch for it and was called without."""
    if eeg is None:
        raise BadInput(network, "eeg", "EEG [B, C, N] (this network has a branch for it)", "none")
    return eeg


def held(eeg: Tensor, samples: int) -> Tensor:
    """Every sample repeated until there are ``samples``, [B, C, N] -> [B, C, samples]: what published code feeds its
    networks. Both span the same time; the ratio need not be whole."""
    return F.interpolate(eeg, size=samples, mode="nearest")


class TemporalBlock(nn.Module):
    """Residual dilated convolution over time: [B, D, N] -> [B, D, N]."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, N] -> [B, D, N]."""
        return x + F.gelu(self.conv(self.norm(x)))


class EegEncoder(nn.Module):
    """Spatial mixing, then dilated temporal convolutions, and a read-out of the attended envelope.

    [B, C, N] microvolt -> features [B, D + 1, N]: D learned ones and the envelope the encoder believes to be attended,
    which an auxiliary loss can train directly (stimulus reconstruction; O'Sullivan et al. 2015). With four blocks of
    kernel 9 and dilations 1, 2, 4, 8 a feature sees 0.47 s to either side at 128 Hz, enough for the P2 of the response.
    """

    def __init__(self, sensors: int, width: int, kernel: int = 9, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.spatial = nn.Conv1d(sensors, width, 1)
        self.temporal = nn.Sequential(*(TemporalBlock(width, kernel, d) for d in dilations))
        self.norm = nn.GroupNorm(1, width)
        self.envelope = nn.Conv1d(width, 1, 1)

    def forward(self, eeg: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, N] -> features [B, D + 1, N] and the reconstructed envelope [B, N]."""
        features = self.norm(self.temporal(self.spatial(standardise(eeg))))
        envelope: Tensor = self.envelope(features)
        return torch.cat([features, standardise(envelope)], dim=1), envelope.squeeze(1)
