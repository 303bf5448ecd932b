"""Time-domain masking networks: learned encoder, dual-path separator, masks, decoder (Luo and Mesgarani 2019, TasNet;
Luo, Chen and Yoshioka 2020, DPRNN), with the EEG fused in every block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.dual_path import (
    DualPathBlock,
    Film,
    GlobalLayerNorm,
    modulate,
    overlap_add,
    resample_frames,
    segment,
)
from eeg2speech.models.eeg import EegEncoder


class WaveEncoder(nn.Module):
    """Learned analysis filter bank: [B, T] -> [B, F, L], one frame every ``stride`` samples, rectified."""

    def __init__(self, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv1d(1, filters, kernel, stride=stride, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        """[B, T] -> [B, F, L]; the signal is padded so that every sample stands under kernel / stride frames."""
        edge = self.kernel - self.stride
        tail = (-wave.shape[-1]) % self.stride
        return F.relu(self.conv(F.pad(wave, (edge, edge + tail)).unsqueeze(1)))


class WaveDecoder(nn.Module):
    """Learned synthesis filter bank, the transpose of ``WaveEncoder``: [B, F, L] -> [B, T]."""

    def __init__(self, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.edge = kernel - stride
        self.conv = nn.ConvTranspose1d(filters, 1, kernel, stride=stride, bias=False)

    def forward(self, frames: Tensor, samples: int) -> Tensor:
        """[B, F, L] -> [B, samples]."""
        wave: Tensor = self.conv(frames).squeeze(1)
        return wave[..., self.edge : self.edge + samples]


class DualPathMasker(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``talkers`` estimates [B, talkers, T] and the envelope read from the EEG.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch.
        talkers: number of masks (1 for extraction, 2 for blind separation).
        filters, kernel, stride: the learned filter bank, in filters and samples.
        width: channels inside the separator. hidden: RNN units a direction. blocks: dual-path blocks.
        chunk: frames a chunk (K), even. eeg_width: channels of the EEG encoder.
    """

    def __init__(
        self,
        sensors: int,
        talkers: int,
        filters: int,
        kernel: int,
        stride: int,
        width: int,
        hidden: int,
        blocks: int,
        chunk: int,
        eeg_width: int,
    ) -> None:
        super().__init__()
        self.talkers, self.chunk = talkers, chunk
        self.encoder = WaveEncoder(filters, kernel, stride)
        self.decoder = WaveDecoder(filters, kernel, stride)
        self.bottleneck = nn.Sequential(GlobalLayerNorm(filters), nn.Conv1d(filters, width, 1))
        self.blocks = nn.ModuleList(DualPathBlock(width, hidden) for _ in range(blocks))
        self.eeg = EegEncoder(sensors, eeg_width) if sensors else None
        self.fusion = nn.ModuleList(Film(width, eeg_width + 1) for _ in range(blocks if sensors else 0))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(width, talkers * filters, 1), nn.ReLU())

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None."""
        # Loudness carries no information about the target; unit scale keeps training stable and is undone at the end.
        scale = mixture.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        frames = self.encoder(mixture / scale)
        x, length = segment(self.bottleneck(frames), self.chunk)
        condition, envelope = self._condition(eeg, length)
        for index, block in enumerate(self.blocks):
            if condition is not None:
                gamma, beta = (segment(g, self.chunk)[0] for g in self.fusion[index](condition))
                x = modulate(x, gamma, beta)
            x = block(x)
        masks = self.mask(overlap_add(x, length)).unflatten(1, (self.talkers, -1))
        masked = (masks * frames.unsqueeze(1)).flatten(0, 1)
        waves = self.decoder(masked, mixture.shape[-1]).unflatten(0, (-1, self.talkers))
        return waves * scale.unsqueeze(1), envelope

    def _condition(self, eeg: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
        if self.eeg is None:
            return None, None
        if eeg is None:
            raise ValueError("this network has an EEG branch and was called without EEG")
        features, envelope = self.eeg(eeg)
        return resample_frames(features, length), envelope


def negative_si_sdr(target: Tensor, estimate: Tensor, eps: float = 1e-8) -> Tensor:
    """Negative scale-invariant SDR in dB of ``estimate`` [..., T] against ``target`` [..., T] -> [...].

    Zero-mean as in Le Roux et al. 2019. For training only: scores come from ``eeg2speech.metrics``.
    """
    target = target - target.mean(-1, keepdim=True)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp_min(eps)
    projection = scale * target
    ratio = (projection.square().sum(-1) + eps) / ((estimate - projection).square().sum(-1) + eps)
    return -10 * torch.log10(ratio)


def negative_correlation(target: Tensor, estimate: Tensor, eps: float = 1e-8) -> Tensor:
    """Negative Pearson correlation along the last axis, [..., N] x [..., N] -> [...]."""
    target = target - target.mean(-1, keepdim=True)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    power = target.square().sum(-1) * estimate.square().sum(-1)
    return -(target * estimate).sum(-1) / power.clamp_min(eps).sqrt()


def frame_envelope(wave: Tensor, frames: int) -> Tensor:
    """Compressed loudness envelope, [B, T] -> [B, frames]: mean power a frame, to the power 0.3 (0.6 of the amplitude)."""
    power = F.adaptive_avg_pool1d(wave.square().unsqueeze(1), frames).squeeze(1)
    return power.clamp_min(1e-10).pow(0.3)
