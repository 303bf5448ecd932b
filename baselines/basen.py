"""BASEN (Zhang, Xu, Zhu and Ling 2023, "BASEN: Time-Domain Brain-Assisted Speech Enhancement Network with Convolutional
Cross Attention in Multi-talker Conditions", Interspeech, arXiv:2305.09994).

A Conv-TasNet whose temporal convolutional network is joined, after the first block of its second stack, by an EEG
encoder of depthwise convolutions, through convolutional multi-layer cross attention. What follows the paper and what
was decided is told in ``docs/basen.md``. Written from the paper and from facts of its published code; no code was taken
over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.cmca import CrossModalAttention
from eeg2speech.models.conv_tasnet import dilated_stack
from eeg2speech.models.dual_path import GlobalLayerNorm, resample_frames
from eeg2speech.models.eeg import held, required, standardise
from eeg2speech.models.masking import Bank, Extraction, FilterBank, loudness
from eeg2speech.systems.interface import Facts

from .masking import Extractor, MaskingSystem, PublishedMaskingSettings, PublishedSettings, Separator

SOURCE = "Zhang et al. 2023, Interspeech, arXiv:2305.09994"

# ``demo`` has 20 ms windows and a filter bank that starts as a Fourier transform: 20 times fewer frames, on which
# dilations up to 32 already see a second to either side. Its EEG stays at its own rate.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {
        "bank": "paired",
        "filters": 320,
        "kernel": 320,
        "stride": 160,
        "width": 64,
        "hidden": 128,
        "layers": 6,
        "stacks": 3,
        "attention": 3,
        "eeg_layers": 6,
        "eeg_kernel": 32,
        "hold": False,
    },
    "paper": {
        "bank": "linear",
        "filters": 64,
        "kernel": 32,
        "stride": 8,
        "width": 32,
        "hidden": 128,
        "layers": 8,
        "stacks": 3,
        "attention": 3,
        "eeg_layers": 8,
        "eeg_kernel": 32,
        "hold": True,
    },
}


class DepthwiseEegEncoder(nn.Module):
    """Projection of all electrodes along time, then dilated depthwise blocks: EEG [B, C, N] -> features [B, D, L].

    Args:
        sensors: electrodes C. width: channels D. kernel: of the projection, in samples. layers: blocks.
        stride: of the projection; the features are as many as audio frames where the EEG is held to the audio rate.
    """

    def __init__(self, sensors: int, width: int, kernel: int, layers: int, stride: int = 1) -> None:
        super().__init__()
        self.edge, self.stride = kernel - stride, stride
        self.projection = nn.Conv1d(sensors, width, kernel, stride=stride, bias=False)
        self.blocks = nn.ModuleList(dilated_stack(width, 2 * width, 3, layers, skip=False))

    def forward(self, eeg: Tensor) -> Tensor:
        """[B, C, N] -> [B, D, N / stride], rounded up."""
        tail = (-eeg.shape[-1]) % self.stride
        x: Tensor = self.projection(F.pad(eeg, (self.edge // 2, self.edge - self.edge // 2 + tail)))
        for block in self.blocks:
            x = x + block(x)[0]
        return x


class BasenNet(nn.Module):
    """Mixture [B, T] (and EEG [B, C, N]) -> ``Extraction``.

    Args:
        sensors: EEG channels; 0 builds the same network without an EEG branch. talkers: number of masks.
        bank, filters, kernel, stride: the filter bank (see ``FilterBank``), in samples.
        width, hidden: channels of the temporal convolutional network. layers, stacks: its blocks.
        attention: layers of cross attention. eeg_layers, eeg_kernel: of the EEG encoder.
        hold: the EEG is held to the audio rate and has the frames of the audio, as published; else it keeps its own
            rate, and its features are interpolated to the audio frames.
        gated: see ``CrossModalAttention``.
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
        layers: int,
        stacks: int,
        attention: int,
        eeg_layers: int,
        eeg_kernel: int,
        hold: bool,
        gated: bool,
    ) -> None:
        super().__init__()
        self.talkers, self.fused_after, self.hold = talkers, layers, hold
        self.bank = FilterBank(bank, filters, kernel, stride)
        self.bottleneck = nn.Sequential(GlobalLayerNorm(self.bank.bands), nn.Conv1d(self.bank.bands, width, 1))
        self.blocks = nn.ModuleList(b for _ in range(stacks) for b in dilated_stack(width, hidden, 3, layers))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(width, talkers * self.bank.bands, 1))
        self.eeg = (
            DepthwiseEegEncoder(sensors, width, eeg_kernel, eeg_layers, stride if hold else 1) if sensors else None
        )
        self.fusion = CrossModalAttention(width, attention, gated=gated) if sensors else None
        assisted = bool(sensors) and talkers > 1
        self.envelope = nn.Conv1d(width, 1, 1) if assisted else None
        self.widen = nn.Conv1d(width + 1, width, 1) if assisted else None

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T], EEG [B, C, N] or None -> estimates [B, talkers, T], envelope [B, N] or None."""
        scale = loudness(self.bank.whole(mixture))
        frames, features = self.bank.analyse(mixture / scale)
        felt, envelope = self._felt(eeg, mixture.shape[-1])
        masks = self.mask(self._separate(self.bottleneck(features), felt)).unflatten(1, (self.talkers, -1))
        waves = self.bank.synthesise(frames, masks, mixture.shape[-1]) * scale.unsqueeze(1)
        return Extraction(waves, envelope)

    def _felt(self, eeg: Tensor | None, samples: int) -> tuple[Tensor | None, Tensor | None]:
        """EEG features at a rate of their own, and the envelope [B, N] that was read from them; None without them.

        What is read is handed on as one more feature: cross attention then has a course to look for.
        """
        if self.eeg is None:
            return None, None
        normal = standardise(required(eeg, "BasenNet"))
        found: Tensor = self.eeg(held(normal, samples) if self.hold else normal)
        if self.envelope is None or self.widen is None:
            return found, None
        read = self.envelope(found)
        features = self.widen(torch.cat([found, standardise(read)], dim=1))
        return features, resample_frames(read, normal.shape[-1]).squeeze(1)

    def _separate(self, x: Tensor, felt: Tensor | None) -> Tensor:
        """[B, D, L] -> the sum of all blocks' skip paths, the EEG having come in on the way."""
        total = torch.zeros_like(x)
        for number, block in enumerate(self.blocks):
            residual, skip = block(x)
            x, total = x + residual, total + skip
            if number == self.fused_after and self.fusion is not None and felt is not None:
                x = self.fusion(x, resample_frames(felt, x.shape[-1]))
        return total


class _Basen(MaskingSystem):
    """What both share."""

    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network, its windows in samples at the rate inside."""
        return BasenNet(sensors, talkers, gated=talkers > 1, **SIZES[self.settings.size])


class BasenSeparator(_Basen, Separator):
    """The same network without EEG."""

    facts = Facts(title="BASEN, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)
    Settings = PublishedMaskingSettings
    plan = replace(Separator.plan, steps={"demo": 360, "hour": 3600, "full": 200_000})


class Basen(_Basen, Extractor):
    """Extraction with EEG."""

    facts = Facts(title="BASEN (CMCA)", licence="MIT", source=SOURCE)
    Settings = PublishedSettings
    settings: PublishedSettings
    separator = BasenSeparator
    plan = replace(Extractor.plan, steps={"demo": 240, "hour": 1800, "full": 100_000})
