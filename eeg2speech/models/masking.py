"""Time-domain masking networks: learned encoder, dual-path separator, masks, decoder (Luo and Mesgarani 2019, TasNet;
Luo, Chen and Yoshioka 2020, DPRNN), with the EEG fused in every block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from eeg2speech.models.dual_path import (
    CovarianceFilm,
    DualPathBlock,
    Film,
    GlobalLayerNorm,
    modulate,
    overlap_add,
    resample_frames,
    segment,
)
from eeg2speech.models.eeg import EegEncoder, required

Bank = Literal["free", "linear", "paired"]


class Extraction(NamedTuple):
    """What every masking network answers. All but ``waves`` is for its training."""

    waves: Tensor
    """Estimates [B, K, T]: the attended talker first, then, where K is 2, the other."""
    envelope: Tensor | None = None
    """The attended envelope as read from the EEG, [B, N]."""
    aligned: tuple[Tensor, Tensor] | None = None
    """Features of EEG and of speech that belong to the same time, each [B, D, L]."""


class FilterBank(nn.Module):
    """Learned analysis and synthesis filters, and what the separator sees of their frames.

    ``free`` is TasNet's: rectified filters, one mask value a filter. ``linear`` does not rectify them, and bounds the
    masks by a sigmoid (BASEN). ``paired`` starts as a windowed Fourier transform (cosine and sine of each frequency,
    square-root Hann window) and learns on from there, shows the separator the logarithm of each pair's magnitude, and
    gives both of a pair one mask value (Pariente et al. 2020, "Filterbank design for end-to-end speech separation").
    With minutes of training it is far ahead of the others.

    Args:
        filters: number of filters, even when paired. kernel, stride: in samples; the stride divides the kernel.
    """

    def __init__(self, kind: Bank, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kind, self.paired, self.stride, self.edge = kind, kind == "paired", stride, kernel - stride
        self.analysis = nn.Conv1d(1, filters, kernel, stride=stride, bias=False)
        self.synthesis = nn.ConvTranspose1d(filters, 1, kernel, stride=stride, bias=False)
        self.bands = filters // 2 if self.paired else filters
        if self.paired:
            waves = _fourier(filters, kernel).unsqueeze(1)
            self.analysis.weight.data = waves.clone()
            self.synthesis.weight.data = waves * (2 * stride / filters)

    def whole(self, wave: Tensor) -> Tensor:
        """Zeros at the end up to a multiple of the stride, [B, T] -> [B, T']."""
        return F.pad(wave, (0, -wave.shape[-1] % self.stride))

    def analyse(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] -> frames [B, F, L], one every ``stride`` samples, and features [B, bands, L].

        The signal is padded so that every sample stands under kernel / stride frames.
        """
        frames = self.analysis(F.pad(self.whole(wave), (self.edge, self.edge)).unsqueeze(1))
        if not self.paired:
            frames = F.relu(frames) if self.kind == "free" else frames
            return frames, frames
        cosine, sine = frames.float().chunk(2, dim=1)
        magnitude = (cosine.square() + sine.square() + 1e-6).sqrt()
        # The floor, 40 dB below a typical band, keeps near-silence from filling the range of the logarithm.
        return frames, torch.log(magnitude + 1e-2)

    def synthesise(self, frames: Tensor, masks: Tensor, samples: int) -> Tensor:
        """Frames [B, F, L] under masks [B, K, bands, L] (any real number) -> waves [B, K, samples]."""
        bounded = F.relu(masks) if self.kind == "free" else torch.sigmoid(masks)
        bounded = bounded.repeat(1, 1, 2, 1) if self.paired else bounded
        masked = (bounded * frames.unsqueeze(1)).flatten(0, 1)
        waves: Tensor = self.synthesis(masked).squeeze(1)[..., self.edge : self.edge + samples]
        return torch.unflatten(waves, 0, masks.shape[:2])


def _fourier(filters: int, kernel: int) -> Tensor:
    """Cosines, then sines, of ``filters`` / 2 frequencies up to Nyquist under a square-root Hann window, [F, K]."""
    time = torch.arange(kernel) + 0.5
    frequency = torch.arange(1, filters // 2 + 1) * (kernel / filters)
    phase = 2 * math.pi * frequency.unsqueeze(1) * time / kernel
    window = torch.hann_window(kernel, periodic=True).sqrt() / math.sqrt(kernel)
    return torch.cat([phase.cos(), phase.sin()]) * window


class DualPathMasker(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``talkers`` estimates and the envelope read from the EEG.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch.
        talkers: number of masks (1 for extraction, 2 for blind separation).
        bank, filters, kernel, stride: the learned filter bank (see ``FilterBank``).
        width: channels inside the separator. hidden: RNN units a direction. blocks: dual-path blocks.
        chunk: frames a chunk (K), even. eeg_width: channels of the EEG encoder.
        fused: blocks before which the EEG comes in, by number; None: all of them.
        frugal: in training, blocks keep what they are given alone, and compute all else again for the gradient: a third
            more time, a fraction of the memory.
    """

    def __init__(
        self,
        sensors: int,
        talkers: int,
        bank: Bank,
        filters: int,
        kernel: int,
        stride: int,
        width: int,
        hidden: int,
        blocks: int,
        chunk: int,
        eeg_width: int,
        fused: Sequence[int] | None = None,
        frugal: bool = False,
    ) -> None:
        super().__init__()
        self.talkers, self.chunk, self.frugal = talkers, chunk, frugal
        self.bank = FilterBank(bank, filters, kernel, stride)
        self.bottleneck = nn.Sequential(GlobalLayerNorm(self.bank.bands), nn.Conv1d(self.bank.bands, width, 1))
        self.blocks = nn.ModuleList(DualPathBlock(width, hidden) for _ in range(blocks))
        self.eeg = EegEncoder(sensors, eeg_width) if sensors else None
        self.fused = list(range(blocks) if fused is None else fused) if sensors else []
        self.fusion = nn.ModuleList(Film(width, eeg_width + 1) for _ in self.fused)
        self.match = nn.ModuleList(CovarianceFilm(width, eeg_width) for _ in self.fused)
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(width, talkers * self.bank.bands, 1))

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None."""
        # Of the padded wave, so that zeros at the end change nothing.
        scale = loudness(self.bank.whole(mixture))
        frames, features = self.bank.analyse(mixture / scale)
        x, length = segment(self.bottleneck(features), self.chunk)
        condition, envelope = self._condition(eeg, length)
        for index, block in enumerate(self.blocks):
            if condition is not None and index in self.fused:
                x = self._fuse(self.fused.index(index), x, condition)
            x = checkpoint(block, x, use_reentrant=False) if self.frugal and self.training else block(x)
        masks = self.mask(overlap_add(x, length)).unflatten(1, (self.talkers, -1))
        return Extraction(self.bank.synthesise(frames, masks, mixture.shape[-1]) * scale.unsqueeze(1), envelope)

    def _fuse(self, index: int, x: Tensor, condition: Tensor) -> Tensor:
        """EEG features [B, E, L], the envelope last, into x [B, D, K, S]: frame by frame, then by what goes with it."""
        x = modulate(x, *(segment(g, self.chunk)[0] for g in self.fusion[index](condition)))
        return modulate(x, *self.match[index](x, segment(condition[:, -1:], self.chunk)[0]))

    def _condition(self, eeg: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
        if self.eeg is None:
            return None, None
        features, envelope = self.eeg(required(eeg, "DualPathMasker"))
        return resample_frames(features, length), envelope


def loudness(mixture: Tensor) -> Tensor:
    """Root mean square of each mixture, [B, T] -> [B, 1], never 0.

    Loudness carries no information about the target: networks divide by it, which keeps training stable, and undo that
    at the end.
    """
    return mixture.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)


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
    """Compressed loudness envelope, [B, T] -> [B, frames]: mean power a frame, to the power of 0.3."""
    power = F.adaptive_avg_pool1d(wave.square().unsqueeze(1), frames).squeeze(1)
    return power.clamp_min(1e-10).pow(0.3)
